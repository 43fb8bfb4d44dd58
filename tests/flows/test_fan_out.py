"""Batches drawn a few at a time, the runner of each executor, and errors of ours that travel between processes."""

from __future__ import annotations

import logging
import pickle
import sys
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import psutil
import pyarrow as pa
import pytest
from distributed import LocalCluster
from prefect.exceptions import CancelledRun
from prefect.states import Failed
from prefect.task_runners import ThreadPoolTaskRunner
from prefect_dask.task_runners import DaskTaskRunner

import lookbook.flows.ingest  # noqa: F401 - all errors that a batch may raise
from lookbook.blocks.errors import LookbookError, OutOfReachError, UsageError
from lookbook.blocks.lake import FolderLake
from lookbook.blocks.settings import Settings
from lookbook.flows import fan_out, process_batch
from lookbook.flows.endings import is_worth_another_try
from lookbook.flows.fan_out import runner_for
from lookbook.tasks.images.jobs import open_job
from lookbook.tasks.runs.parameters import Executor

BATCHES = [f"batches/things/{number}" for number in range(5)]


def kinds(kind: type[LookbookError] = LookbookError) -> Iterator[type[LookbookError]]:
    yield kind
    for below in kind.__subclasses__():
        yield from kinds(below)


def listening() -> set[tuple[str, int]]:
    """The addresses at which this process and its children take connections."""
    own = psutil.Process()
    processes = [own, *own.children(recursive=True)]
    open_ones = [c for process in processes for c in process.net_connections("inet") if c.status == psutil.CONN_LISTEN]
    return {(connection.laddr.ip, connection.laddr.port) for connection in open_ones}


def test_errors_of_ours_travel_whole() -> None:
    assert len(list(kinds())) > 5
    for kind in kinds():
        error = kind("things: 3 of 4.", "Mend them.")
        found = pickle.loads(pickle.dumps(error))  # noqa: S301 - our own
        assert type(found) is kind
        assert (found.problem, found.way_out, str(found)) == (error.problem, error.way_out, str(error))


def test_threads_are_as_many_as_batches_may_run_on_this_machine_and_children_as_may_run_elsewhere() -> None:
    settings = Settings(batches_at_once=3, children_at_once=11)
    assert runner_for("threads", settings) == (ThreadPoolTaskRunner(max_workers=3), 3)
    assert runner_for("pool", settings) == (ThreadPoolTaskRunner(max_workers=11), 11)


def test_a_dask_cluster_that_is_given_is_used() -> None:
    runner, at_once = runner_for("dask", Settings(dask_address="tcp://127.0.0.1:8786", children_at_once=11))
    assert isinstance(runner, DaskTaskRunner)
    assert (runner.address, at_once) == ("tcp://127.0.0.1:8786", 11)


def test_a_local_cluster_listens_to_this_machine_alone_and_shares_its_processors() -> None:
    runner, at_once = runner_for("dask", Settings(batches_at_once=3, threads=8))
    assert isinstance(runner, DaskTaskRunner)
    asked = runner.cluster_kwargs
    assert (at_once, asked["n_workers"], asked["threads_per_worker"], asked["env"]) == (
        3,
        3,
        1,
        {"LOOKBOOK_THREADS": "3"},
    )
    before = listening()
    with LocalCluster(**(asked | {"n_workers": 1})):  # type: ignore[no-untyped-call]
        opened = listening() - before
    assert len(opened) >= 2, "the scheduler's and the worker's"
    assert {address for address, _ in opened} == {"127.0.0.1"}


def test_without_dask_it_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "prefect_dask.task_runners", None)
    with pytest.raises(UsageError, match="needs the extra dask, which is not installed") as caught:
        runner_for("dask", Settings())
    assert "pip install -r requirements-image.txt" in caught.value.way_out


@pytest.mark.parametrize(("executor", "on_sqlite"), [("pool", True), ("pool", False), ("threads", True)])
def test_a_work_pool_on_sqlite_is_warned_of_with_the_way_out(
    executor: Executor, on_sqlite: bool, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr("lookbook.blocks.embedded.prefect_server.is_on_sqlite", lambda _: on_sqlite)
    monkeypatch.setattr(fan_out, "get_run_logger", logging.getLogger)
    fan_out.warn_of_sqlite(executor)
    warned = "PREFECT_SERVER_DATABASE_CONNECTION_URL to a PostgreSQL" in caplog.text
    assert warned is (executor == "pool" and on_sqlite)


class Run:
    """A run whose batches end as `outcome` says: the workers', the landings and the notes about progress.

    Attributes:
        calls: what was done for each batch, in that order, as ("draw", batch).
        words: the batches of which a worker said that it can't read them.
    """

    def __init__(self, outcome: Callable[[str, str], Exception | None]) -> None:
        self.calls: list[tuple[str, str]] = []
        self.outcome = outcome
        self.words: set[str] = set()

    def submit(self, called: Any, parameters: dict[str, Any]) -> Future[None]:
        """As of a task runner; it ends at once."""
        what = {"process batch": "draw", "land batch": "land"}[called.name]
        batch = parameters["batch"]
        self.calls.append((what, batch))
        fault = self.outcome(what, batch)
        if what == "land" and fault is None:
            self.words.discard(batch)
        future: Future[None] = Future()
        future.set_exception(fault) if fault else future.set_result(None)
        return future

    def done(self, what: str) -> list[str]:
        """The batches for which that was done."""
        return [batch for called, batch in self.calls if called == what]


@pytest.fixture
def drawing(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Callable[[Run], None]:
    """Draws `BATCHES` as a pool does, by a stand-in for its workers."""

    class Runner(nullcontext[None]):
        def __init__(self, run: Run) -> None:
            super().__init__()
            self.submit = run.submit

    def draw(run: Run) -> None:
        monkeypatch.setattr(fan_out, "runner_for", lambda executor, settings: (Runner(run), 2))  # noqa: ARG005
        monkeypatch.setattr(fan_out, "ThreadPoolTaskRunner", lambda max_workers: Runner(run))  # noqa: ARG005
        monkeypatch.setattr(fan_out, "needs_landing", lambda lake, batch: batch in run.words)  # noqa: ARG005
        fan_out.draw(FolderLake(root=tmp_path), "local", BATCHES, "pool")

    monkeypatch.setattr(fan_out, "get_run_logger", lambda: logging.getLogger("test"))
    monkeypatch.setattr(fan_out, "create_progress_artifact", lambda *_, **__: "id")
    monkeypatch.setattr(fan_out, "update_progress_artifact", lambda *_: None)
    return draw


def test_a_fault_of_one_batch_stops_no_other_and_the_first_is_raised(drawing: Callable[[Run], None]) -> None:
    faults = {BATCHES[1]: OSError("the first"), BATCHES[3]: LookbookError("the second")}
    run = Run(lambda what, batch: faults.get(batch))  # noqa: ARG005
    with pytest.raises(OSError, match="the first"):
        drawing(run)
    assert run.done("draw") == BATCHES


def test_progress_that_cannot_be_told_ends_nothing(
    drawing: Callable[[Run], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object, **__: object) -> None:
        raise OSError("out of reach")

    run = Run(lambda what, batch: None)  # noqa: ARG005
    for name in ("create_progress_artifact", "update_progress_artifact", "finished_counts"):
        monkeypatch.setattr(fan_out, name, fail)
    drawing(run)
    assert run.done("draw") == BATCHES


def test_once_a_worker_left_word_what_it_could_not_read_and_all_that_follow_are_landed(
    drawing: Callable[[Run], None],
) -> None:
    landed: set[str] = set()

    def outcome(what: str, batch: str) -> Exception | None:
        if what == "land":
            landed.add(batch)
        elif batch not in landed and batch != BATCHES[0]:  # the first was drawn before
            run.words.add(batch)
            return LookbookError("its images lie on another machine")
        return None

    run = Run(outcome)
    drawing(run)
    assert sorted(run.done("land")) == BATCHES[1:]
    assert sorted(set(run.done("draw"))) == BATCHES
    assert run.calls.index(("land", BATCHES[4])) < run.calls.index(("draw", BATCHES[4]))


def test_a_batch_that_cannot_be_landed_stops_no_other(drawing: Callable[[Run], None]) -> None:
    def outcome(what: str, batch: str) -> Exception | None:
        if what == "land":
            return OSError("the source is gone") if batch == BATCHES[2] else None
        if ("land", batch) in run.calls:
            return None
        run.words.add(batch)
        return LookbookError("its images lie on another machine")

    run = Run(outcome)
    with pytest.raises(OSError, match="the source is gone"):
        drawing(run)
    assert sorted(run.done("land")) == BATCHES
    assert BATCHES[4] in run.done("draw")


def test_each_batch_is_told_of_in_the_thread_that_asked_when_it_is_done(drawing: Callable[[Run], None]) -> None:
    fault = OSError("away")
    drawing(run := Run(lambda what, batch: None))  # noqa: ARG005 - lays the stand-ins
    run.outcome = lambda what, batch: fault if batch == BATCHES[1] else None  # noqa: ARG005
    done: list[tuple[str, int]] = []

    def note(batch: str) -> None:
        done.append((batch, threading.get_ident()))
        if batch == BATCHES[3]:
            raise LookbookError("its part is damaged")

    with pytest.raises(OSError, match="away"):
        fan_out.do_all(FolderLake(root=Path("/none")), "local", BATCHES, "pool", note)
    told = [batch for batch in BATCHES if batch != BATCHES[1]]
    assert sorted(done) == [(batch, threading.get_ident()) for batch in told]
    run.outcome = lambda what, batch: None  # noqa: ARG005
    with pytest.raises(LookbookError, match="its part is damaged"):
        fan_out.do_all(FolderLake(root=Path("/none")), "local", BATCHES, "pool", note)


@pytest.mark.parametrize(("executor", "batches", "sent"), [("threads", 1, 0), ("threads", 2, 2), ("pool", 1, 1)])
def test_one_batch_alone_is_done_here_unless_others_are_to_do_it(
    drawing: Callable[[Run], None], monkeypatch: pytest.MonkeyPatch, executor: Executor, batches: int, sent: int
) -> None:
    drawing(run := Run(lambda what, batch: None))  # noqa: ARG005 - lays the stand-ins
    run.calls.clear()
    here: list[str] = []
    monkeypatch.setattr(process_batch, "do_batch", lambda _, batch: here.append(batch))
    done: list[str] = []
    fan_out.doing(FolderLake(root=Path("/none")), "local", executor)(BATCHES[:batches], done.append)
    assert (len(run.done("draw")), len(here)) == (sent, batches - sent)
    assert sorted(done) == BATCHES[:batches]


def test_a_batch_of_a_kind_that_this_version_does_not_know_is_named(tmp_path: Path) -> None:
    lake = FolderLake(root=tmp_path)
    with open_job(lake) as job:
        batch = job.add("weighing", pa.table({"number": [1]}), {})
        with pytest.raises(LookbookError, match="does not know batches of the kind weighing"):
            process_batch.do_batch(lake, batch)


def test_what_may_pass_is_tried_again_and_what_a_user_has_to_mend_is_not() -> None:
    assert fan_out.run_batch.retries == 2
    assert fan_out.run_batch.retry_condition_fn is is_worth_another_try
    faults = [OSError("x"), OutOfReachError("x"), LookbookError("x"), UsageError("x"), CancelledRun("x")]
    found = []
    for fault in faults:
        state: Any = Failed(data=fault)
        found.append(is_worth_another_try(fan_out.run_batch, None, state))  # type: ignore[arg-type]
    assert found == [True, True, False, False, False]
