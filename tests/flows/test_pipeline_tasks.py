"""A run of a pipeline: its tasks, the one commit at the end, and what becomes of it when something fails."""

from __future__ import annotations

import logging
import os
import sys
import time
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest

import lookbook.flows.endings
import lookbook.flows.pipeline
from lookbook.blocks.errors import LeaseLostError, LookbookError
from lookbook.blocks.registry import unfenced
from lookbook.blocks.workspace import Workspace
from lookbook.flows.pipeline import PipelineRun, run_pipeline
from lookbook.tasks.runs.lease import LeaseHeldError, lease
from lookbook.tasks.tables import ledger
from lookbook.tasks.tables.context import Context, Staged
from lookbook.tasks.tables.spec.pipeline import Pipeline
from lookbook.tasks.tables.staging import Stage, StagedFile

DATE = datetime(2026, 3, 1, tzinfo=UTC)
SPEC = Pipeline.model_validate(
    {
        "name": "prices",
        "params": {"shop": "north"},
        "tasks": {
            "extract": {"source": {"type": "file", "path": "a.csv"}, "skip_unchanged": True},
            "other": {"source": {"type": "file", "path": "b.csv"}},
            "clean": {"after": ["extract"], "sql": "a.sql"},
            "load": {"after": ["clean", "other"], "table": "prices"},
            "alone": {"after": ["clean"], "table": "alone"},
        },
    }
)


def loaded(table: str, rows: int, rejected: int = 0) -> SimpleNamespace:
    """What a load says of a table."""
    counts = {"rows_loaded": rows, "rejected": rejected, "superseded": 0, "rows": rows, "discarded": {}, "replaced": {}}
    return SimpleNamespace(place="warehouse", table=table, **counts)


def stage(rows: int, **more: Any) -> Staged:
    made = Stage("raw/x", (StagedFile("raw/x/0.parquet", rows, 1),), state={"rows": rows})
    return Staged({"": made}, **more)


class Runner:
    """In the place of Prefect's task runner: tasks are called as functions, in threads."""

    def __init__(self, max_workers: int) -> None:
        self._pool = ThreadPoolExecutor(max_workers)
        self.tasks: list[Any] = []

    def __enter__(self) -> Runner:
        return self

    def __exit__(self, *_: object) -> None:
        self._pool.shutdown()

    def submit(self, task: Any, parameters: dict[str, Any], wait_for: list[Future[Any]]) -> Future[Any]:
        assert parameters == {}, "rows are no parameters of Prefect's"
        assert all(one.done() for one in wait_for)
        Parts.submitted.append(task)
        return self._pool.submit(task.fn)


class Parts:
    """What the tasks do in these tests, and what others hear of it."""

    submitted: list[Any] = []  # noqa: RUF012 - of one test

    def __init__(self) -> None:
        self.results: dict[str, Any] = {"extract": stage(3), "other": stage(2), "clean": stage(3)}
        self.done: list[str] = []
        self.announced: list[str] = []
        self.registered: list[Any] = []
        self.committed: list[tuple[str, str]] = []
        self.contexts: list[Context] = []
        Parts.submitted = []

    def run(self, context: Context, name: str, inputs: dict[str, Any], results: dict[str, Any]) -> Any:
        self.contexts.append(context)
        assert set(inputs) == set(context.pipeline.tasks[name].after) <= set(results)
        found = self.results.get(name)
        if isinstance(found, BaseException):
            raise found
        self.done.append(name)
        if found is None:
            rows = sum(one.groups[""].rows for one in inputs.values())
            return [loaded(name, rows)]
        return found

    async def commit_inputs(self, connection: Any, pipeline: str, task: str, inputs: Any) -> None:
        assert pipeline == "prices"
        assert connection.is_in_transaction()
        self.committed.append((task, inputs))


@pytest.fixture
def parts(workspace: Workspace, monkeypatch: pytest.MonkeyPatch) -> Iterator[Parts]:
    """The flow without a server, and tasks that only count."""
    found = Parts()
    extract, catalogue = ModuleType("extract"), ModuleType("catalogue")
    extract.__dict__.update(taken_inputs=lambda _, staged: staged.groups[""].folder, commit_inputs=found.commit_inputs)
    catalogue.__dict__.update(register=lambda _, entries: found.registered.append(entries))
    monkeypatch.setitem(sys.modules, "lookbook.tasks.tables.extract", extract)
    monkeypatch.setitem(sys.modules, "lookbook.tasks.runs.catalogue", catalogue)
    for module, name, value in (
        (lookbook.flows.pipeline, "ThreadPoolTaskRunner", Runner),
        (lookbook.flows.pipeline, "run_step", found.run),
        (lookbook.flows.pipeline, "get_run_logger", lambda: logging.getLogger("tests")),
        (lookbook.flows.endings, "get_run_logger", lambda: logging.getLogger("tests")),
        (lookbook.flows.pipeline, "load_workspace", lambda _: workspace),
        (lookbook.flows.pipeline, "describe", lambda _: None),
        (lookbook.flows.endings, "max_wait", lambda: 0.0),
        (
            lookbook.flows.pipeline,
            "announce_tables",
            lambda *_: found.announced.extend(table["table"] for table in _[3]),
        ),
        (lookbook.flows.pipeline, "entries", lambda *_: ["entries"]),
    ):
        monkeypatch.setattr(module, name, value)
    with as_run("run-1", monkeypatch):
        yield found


@contextmanager
def as_run(run_id: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setattr(lookbook.flows.pipeline, "runtime", SimpleNamespace(flow_run=SimpleNamespace(id=run_id)))
    yield


def run(**params: Any) -> Any:
    return run_pipeline(PipelineRun(SPEC, Path("/specs"), DATE, params, "local"))


def test_all_is_done_committed_and_told(parts: Parts, workspace: Workspace) -> None:
    summary = run(shop="south")
    assert sorted(parts.done) == ["alone", "clean", "extract", "load", "other"]
    assert summary["status"] == "completed"
    assert {row["task"]: (row["rows_in"], row["rows_out"]) for row in summary["tasks"]} == {
        "extract": (None, 3),
        "other": (None, 2),
        "clean": (3, 3),
        "load": (5, 5),
        "alone": (3, 3),
    }
    assert ledger.read_states(workspace.registry, "prices") == {"extract": {"rows": 3}, "other": {"rows": 2}}
    assert sorted(parts.committed) == [("extract", "raw/x"), ("other", "raw/x")]
    assert sorted(parts.announced) == ["alone", "load"]
    assert parts.registered == [["entries"]]
    context = parts.contexts[0]
    assert (context.params, context.generation, context.run_id) == ({"shop": "south"}, 0, "run-1")
    digest = ledger.params_digest({"shop": "south"})
    assert (ledger.read_run(workspace.registry, "prices", DATE, digest) or {})["status"] == "completed"
    run()
    assert parts.contexts[-1].states == {"extract": {"rows": 3}, "other": {"rows": 2}}
    run()
    assert parts.contexts[-1].generation == 1


@pytest.mark.usefixtures("parts")
@pytest.mark.parametrize("embedded", [True, False])
def test_a_home_with_its_own_postgresql_removes_what_earlier_runs_staged_a_week_ago(
    workspace: Workspace, monkeypatch: pytest.MonkeyPatch, *, embedded: bool
) -> None:
    monkeypatch.setattr(type(workspace.registry), "is_embedded", embedded)
    old = {
        f"{kind}/prices/extract/1/{name}" for kind in ("raw", "transformed") for name in ("0.parquet", "manifest.json")
    }
    young = {"raw/prices/extract/2/manifest.json"}
    others = {"raw/fares/extract/1/manifest.json"}
    for key in old | young | others:
        workspace.lake.put(key, b"")
    for key in old | others:
        os.utime(workspace.lake.uri(key), (time.time() - 8 * 86_400,) * 2)
    run()
    there = {info.key for top in ("raw", "transformed") for info in workspace.lake.list(top)}
    assert there == young | others | (set() if embedded else old)


def test_what_is_unchanged_is_made_for_what_needs_it_and_nothing_more(parts: Parts) -> None:
    parts.results["extract"] = stage(3, unchanged=True)
    summary = run()
    outcomes = {row["task"]: row["outcome"] for row in summary["tasks"]}
    assert outcomes == {"extract": "unchanged", "other": "done", "clean": "done", "load": "done", "alone": "skipped"}


def test_a_run_with_nothing_new_ends_as_skipped_and_says_why(parts: Parts, workspace: Workspace) -> None:
    parts.results |= {"extract": stage(3, unchanged=True), "other": stage(2, unchanged=True)}
    state = run()
    assert (state.type.value, state.name) == ("COMPLETED", "Skipped")
    assert state.message == "Nothing new: extract, other brought what is loaded already."
    assert sorted(parts.done) == ["extract", "other"]
    assert parts.announced == parts.registered == []
    row = ledger.read_run(workspace.registry, "prices", DATE, "")
    assert row is not None
    assert row["status"] == "skipped"
    assert row["summary"]["why"] == state.message


@pytest.mark.parametrize("broken", ["extract", "clean", "load"])
def test_a_failure_commits_nothing_and_starts_nothing_more(parts: Parts, workspace: Workspace, broken: str) -> None:
    parts.results[broken] = LookbookError(f"{broken} breaks.")
    with pytest.raises(LookbookError, match=f"{broken} breaks"):
        run()
    after = {name for name in SPEC.tasks if broken in set(SPEC.upstream(name))}
    assert not after & set(parts.done)
    assert ledger.read_states(workspace.registry, "prices") == {}
    assert not parts.committed
    assert not parts.announced
    row = ledger.read_run(workspace.registry, "prices", DATE, "")
    assert row is not None
    assert (row["status"], row["error"]) == ("failed", f"{broken} breaks.")


@pytest.mark.parametrize("part", ["describe_none", "announce_tables"])
def test_a_run_that_cannot_tell_of_its_tables_commits_nothing_and_is_done_again(
    parts: Parts, workspace: Workspace, monkeypatch: pytest.MonkeyPatch, part: str
) -> None:
    def fail(*_: object) -> None:
        raise LookbookError("The API did not take it.")

    with monkeypatch.context() as patch:
        patch.setattr(lookbook.flows.pipeline, "announce_tables" if part == "announce_tables" else "entries", fail)
        with pytest.raises(LookbookError, match="did not take"):
            run()
    assert ledger.read_states(workspace.registry, "prices") == {}
    run()
    assert len(parts.committed) == 2


def test_a_run_that_is_interrupted_goes_on_in_its_generation(parts: Parts, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(lookbook.flows.pipeline, "commit_run", interrupt, raising=False)
        patch.setattr(ledger, "commit_run", interrupt)
        with pytest.raises(KeyboardInterrupt):
            run()
    run()
    assert parts.contexts[-1].generation == 0


def test_rows_that_are_lost_fail_the_run(parts: Parts, workspace: Workspace) -> None:
    parts.results["load"] = [loaded("prices", 3, rejected=1)]
    with pytest.raises(LookbookError, match=r"tasks.load took 5 rows, and 4 are accounted for"):
        run()
    assert ledger.read_states(workspace.registry, "prices") == {}


def test_two_runs_of_a_pipeline_are_kept_apart(parts: Parts, workspace: Workspace) -> None:
    with lease(workspace.registry, "pipeline/prices"), pytest.raises(LeaseHeldError):
        run()
    assert parts.done == []


def test_a_run_that_lost_its_lease_while_it_stood_still_commits_nothing(
    parts: Parts, workspace: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    ran: list[Any] = []

    def stand_still(context: Context, name: str, *given: Any) -> Any:
        if name == "load" and not ran:
            ran.append(None)
            with unfenced():
                workspace.registry.run(expire)
                with as_run("run-2", monkeypatch):
                    ran[0] = run()
            monkeypatch.setattr(
                lookbook.flows.pipeline, "runtime", SimpleNamespace(flow_run=SimpleNamespace(id="run-1"))
            )
        return parts.run(context, name, *given)

    async def expire(connection: Any) -> None:
        await connection.execute("UPDATE lookbook.leases SET expires_at = now() - interval '1 second'")

    monkeypatch.setattr(lookbook.flows.pipeline, "run_step", stand_still)
    with pytest.raises(LeaseLostError, match="pipeline/prices: this run stood still"):
        run()
    assert ran[0]["status"] == "completed"
    found = ledger.read_run(workspace.registry, "prices", DATE, "") or {}
    assert (found["run_id"], found["status"]) == ("run-2", "completed")


@pytest.mark.usefixtures("parts")
def test_each_task_is_prefects_with_its_own_name_and_retries(monkeypatch: pytest.MonkeyPatch) -> None:
    spec = SPEC.model_dump(mode="json", by_alias=True, exclude_unset=True)
    spec["tasks"]["clean"] |= {"retries": 2, "retry_delay": "30s", "timeout": "2m"}
    monkeypatch.setattr(sys.modules[__name__], "SPEC", Pipeline.model_validate(spec))
    run()
    found = {task.name: task for task in Parts.submitted}
    assert set(found) == set(spec["tasks"])
    clean = found["clean"]
    assert (clean.retries, clean.retry_delay_seconds, clean.timeout_seconds) == (2, 30, 120)
    assert (found["load"].retries, found["load"].timeout_seconds) == (0, None)
    assert not any(task.persist_result for task in found.values()), "rows stay in this process"
