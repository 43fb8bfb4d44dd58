"""The ledger of pipelines: generations, the one commit, what was done."""

from __future__ import annotations

import subprocess
import sys
from datetime import UTC, datetime
from typing import Any

import asyncpg
import psutil
import pytest

from lookbook.blocks.errors import LookbookError
from lookbook.blocks.registry import Registry
from lookbook.blocks.settings import this_host
from lookbook.blocks.workspace import Workspace
from lookbook.tasks.runs.lease import Owner
from lookbook.tasks.tables import ledger

DATE = datetime(2026, 3, 1, 9, tzinfo=UTC)


@pytest.fixture
def books(workspace: Workspace) -> Registry:
    return workspace.registry


def begin(books: Registry, run_id: str = "run-1", date: datetime = DATE) -> ledger.RunEntry:
    return ledger.start_run(books, "prices", date, "", run_id)


def own(books: Registry, owner: str) -> None:
    """Let the runs be those of another process."""

    async def work(connection: asyncpg.Connection[asyncpg.Record]) -> None:
        await connection.execute("UPDATE lookbook.feed_runs SET owner = $1", owner)

    books.run(work)


def dead() -> str:
    process = subprocess.Popen([sys.executable, "-c", "pass"])
    started = psutil.Process(process.pid).create_time()
    process.wait()
    return str(Owner(this_host(), process.pid, started))


def test_a_run_after_one_that_ended_has_the_next_generation(books: Registry) -> None:
    first = begin(books)
    assert first.generation == 0
    ledger.commit_run(books, first, "completed", {}, {})
    second = begin(books, "run-2")
    assert second.generation == 1
    ledger.fail_run(books, "run-2", "no")
    assert begin(books, "run-3").generation == 2


def test_a_run_that_was_killed_or_is_started_once_more_goes_on_in_its_generation(books: Registry) -> None:
    begin(books)
    assert begin(books).generation == 0, "the same run of Prefect's, started once more"
    own(books, dead())
    assert begin(books, "run-2").generation == 0
    own(books, str(Owner("elsewhere", 1, 0.0)))
    assert begin(books, "run-3").generation == 1, "who knows whether that one still writes"


def test_what_extracts_know_and_how_the_run_ended_are_written_together_or_not_at_all(books: Registry) -> None:
    entry = begin(books)

    async def breaks(connection: ledger.Connection) -> None:
        await connection.execute("SELECT 1")
        raise LookbookError("It breaks at the last.")

    states: dict[str, dict[str, Any]] = {"extract": {"seen": "a\x00b"}}
    with pytest.raises(LookbookError, match="at the last"):
        ledger.commit_run(books, entry, "completed", {"rows": 1}, states, (breaks,))
    assert ledger.read_states(books, "prices") == {}
    assert (ledger.read_run(books, "prices", DATE, "") or {})["status"] == "running"
    ledger.commit_run(books, entry, "completed", {"rows": 1}, states)
    assert ledger.read_states(books, "prices") == {"extract": {"seen": "a\ufffdb"}}
    found = ledger.read_run(books, "prices", DATE, "")
    assert found is not None
    assert (found["status"], found["summary"], found["error"]) == ("completed", {"rows": 1}, None)


def test_a_run_whose_date_another_has_taken_over_commits_nothing(books: Registry) -> None:
    lost = begin(books)
    begin(books, "run-2")
    with pytest.raises(LookbookError, match="another run"):
        ledger.commit_run(books, lost, "completed", {}, {"extract": {"seen": 1}})
    assert ledger.read_states(books, "prices") == {}


def test_a_state_that_another_run_has_moved_meanwhile_stays_as_that_left_it(books: Registry) -> None:
    later = DATE.replace(day=2)
    first, second = begin(books), begin(books, "run-2", later)
    known = ledger.read_states(books, "prices")
    ledger.commit_run(books, second, "completed", {}, {"extract": {"seen": 2}}, (), known)
    with pytest.raises(LookbookError, match="another run has moved what extract knows"):
        ledger.commit_run(books, first, "completed", {}, {"extract": {"seen": 1}}, (), known)
    assert ledger.read_states(books, "prices") == {"extract": {"seen": 2}}
    assert (ledger.read_run(books, "prices", DATE, "") or {})["status"] == "running"
    known = ledger.read_states(books, "prices")
    ledger.commit_run(books, first, "completed", {}, {"extract": {"seen": 3}}, (), known)
    assert ledger.read_states(books, "prices") == {"extract": {"seen": 3}}


def test_failing_leaves_alone_what_has_ended(books: Registry) -> None:
    entry = begin(books)
    ledger.commit_run(books, entry, "skipped", {}, {})
    ledger.fail_run(books, "run-1", "cancelled")
    assert (ledger.read_run(books, "prices", DATE, "") or {})["status"] == "skipped"


def test_dates_are_done_by_parameters(books: Registry) -> None:
    later = DATE.replace(day=2)
    ledger.commit_run(books, begin(books), "completed", {}, {})
    ledger.commit_run(books, begin(books, "run-2", later), "skipped", {}, {})
    begin(books, "run-3", DATE.replace(day=3))
    assert ledger.done_dates(books, "prices") == {DATE, later}
    assert ledger.done_dates(books, "prices", ledger.params_digest({"shop": "south"})) == set()
    assert ledger.date_of_run(books, "run-2") == later
    assert ledger.date_of_run(books, "run-9") is None
    assert ledger.last_runs(books)["prices"]["run_id"] == "run-3"


def test_progress_is_kept_for_whoever_goes_on_and_gone_for_a_new_run(books: Registry) -> None:
    entry = begin(books)
    ledger.note_progress(books, entry, {"steps": {"a": "done"}})
    ledger.fail_run(books, "run-1", "no")
    begin(books, "run-2")
    assert (ledger.read_run(books, "prices", DATE, "") or {})["summary"] == {"steps": {"a": "done"}}
    ledger.commit_run(books, ledger.RunEntry("prices", DATE, "", "run-2"), "completed", {"steps": {}}, {})
    begin(books, "run-3")
    assert (ledger.read_run(books, "prices", DATE, "") or {})["summary"] is None
