"""The runs in the registry: when, what, and how each ended."""

from __future__ import annotations

import os
import subprocess
import sys
from datetime import UTC, datetime, timedelta
from typing import Any

import psutil
import pytest

from lookbook.blocks.registry import Registry
from lookbook.blocks.workspace import Workspace
from lookbook.tasks.runs.lease import Owner, this_process
from lookbook.tasks.runs.records import end_lost_run, end_run, list_runs, start_run

SUMMARY = {"dataset": "things", "snapshot": "s-1", "published": True, "images": {"found": 3, "loaded": 3}}


@pytest.fixture
def books(workspace: Workspace) -> Registry:
    """A registry without runs."""
    return workspace.registry


def by_id(registry: Registry, dataset: str | None = None) -> dict[str, dict[str, Any]]:
    return {run["run_id"]: run for run in list_runs(registry, dataset)}


def change_owner(registry: Registry, run_id: str, owner: Owner) -> None:
    async def work(connection: Any) -> None:
        await connection.execute("UPDATE lookbook.runs SET owner = $2 WHERE run_id = $1", run_id, str(owner))

    registry.run(work)


def dead_process() -> Owner:
    process = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
    owner = Owner(this_process().host, process.pid, psutil.Process(process.pid).create_time())
    process.kill()
    process.wait()
    return owner


def test_a_run_under_way_has_no_end(books: Registry) -> None:
    before = datetime.now(UTC) - timedelta(seconds=1)
    start_run(books, "run-1", "things", "/photos/écran")
    run = by_id(books)["run-1"]
    assert (run["dataset"], run["source"], run["status"]) == ("things", "/photos/écran", "running")
    assert before <= datetime.fromisoformat(run["started_at"]) <= datetime.now(UTC)
    assert (run["ended_at"], run["summary"], run["error"], run["snapshot_id"]) == (None, None, None, None)
    assert run["published"] is False


def test_a_completed_run_has_its_summary(books: Registry) -> None:
    start_run(books, "run-1", "things", "/photos")
    end_run(books, "run-1", SUMMARY, None)
    run = by_id(books)["run-1"]
    assert (run["status"], run["snapshot_id"], run["published"], run["error"]) == ("completed", "s-1", True, None)
    assert run["summary"] == SUMMARY
    assert datetime.fromisoformat(run["ended_at"]) >= datetime.fromisoformat(run["started_at"])


def test_a_failed_run_has_its_error_without_nul(books: Registry) -> None:
    start_run(books, "run-1", "things", "/photos")
    end_run(books, "run-1", None, "cannot read a\x00b\nsecond line")
    run = by_id(books)["run-1"]
    assert (run["status"], run["error"]) == ("failed", "cannot read a\ufffdb\nsecond line")
    assert (run["published"], run["summary"], run["snapshot_id"]) == (False, None, None)


def test_runs_are_listed_newest_first_and_by_dataset(books: Registry) -> None:
    for number, dataset in enumerate(["things", "others", "things"]):
        start_run(books, f"run-{number}", dataset, "/photos")
    assert [run["run_id"] for run in list_runs(books, None)] == ["run-2", "run-1", "run-0"]
    assert [run["run_id"] for run in list_runs(books, "things")] == ["run-2", "run-0"]
    assert list_runs(books, "nobody") == []


def test_ending_a_run_leaves_the_others_alone(books: Registry) -> None:
    for number in (1, 2):
        start_run(books, f"run-{number}", "things", "/photos")
    end_run(books, "run-1", SUMMARY, None)
    assert by_id(books)["run-2"]["status"] == "running"


def test_runs_whose_process_died_are_noted_as_killed_by_the_next(books: Registry) -> None:
    for name in ("killed", "elsewhere", "alive", "done", "failed"):
        start_run(books, name, "things", "/photos")
    dead = dead_process()
    end_run(books, "done", SUMMARY, None)
    end_run(books, "failed", None, "broken")
    for name in ("killed", "done", "failed"):
        change_owner(books, name, dead)
    change_owner(books, "elsewhere", Owner("elsewhere", dead.pid, dead.started))
    start_run(books, "next", "others", "/photos")
    runs = by_id(books)
    assert {name: run["status"] for name, run in runs.items()} == {
        "killed": "killed",
        "elsewhere": "running",
        "alive": "running",
        "done": "completed",
        "failed": "failed",
        "next": "running",
    }
    assert "ended without a word" in runs["killed"]["error"]
    assert runs["failed"]["error"] == "broken"


def test_a_process_id_that_is_used_again_does_not_keep_a_run_alive(books: Registry) -> None:
    start_run(books, "old", "things", "/photos")
    mine = psutil.Process()
    change_owner(books, "old", Owner(this_process().host, os.getpid(), mine.create_time() - 1000))
    start_run(books, "next", "things", "/photos")
    assert by_id(books)["old"]["status"] == "killed"


def test_a_run_that_cannot_say_so_itself_any_more_is_ended_by_another(books: Registry) -> None:
    start_run(books, "run-1", "things", "/photos")
    start_run(books, "run-2", "things", "/photos")
    end_run(books, "run-2", SUMMARY, None)
    for run_id in ("run-1", "run-2", "run-3"):
        end_lost_run(books, run_id, "cancelled")
    found = by_id(books)
    assert (found["run-1"]["status"], found["run-1"]["error"]) == ("failed", "cancelled")
    assert found["run-1"]["ended_at"] is not None
    assert (found["run-2"]["status"], found["run-2"]["error"]) == ("completed", None)
