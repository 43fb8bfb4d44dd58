"""Which runner each executor gets, and that errors of ours travel between processes."""

from __future__ import annotations

import pickle
import sys
from collections.abc import Iterator

import psutil
import pytest
from distributed import LocalCluster
from prefect.task_runners import ThreadPoolTaskRunner
from prefect_dask.task_runners import DaskTaskRunner

import flows.ingest  # noqa: F401 - all errors that a batch may raise
from blocks.errors import LookbookError, UsageError
from blocks.settings import Settings
from flows.fan_out import runner_for


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
    with pytest.raises(UsageError, match="extra that is not installed") as caught:
        runner_for("dask", Settings())
    assert 'pip install "lookbook[dask]"' in caught.value.way_out
