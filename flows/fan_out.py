"""Fan-out: the batches of a run, done by the executor that was asked for, a few at a time."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from queue import SimpleQueue
from typing import Any

from prefect import get_run_logger, task
from prefect.artifacts import create_progress_artifact, update_progress_artifact
from prefect.futures import PrefectFuture
from prefect.task_runners import TaskRunner, ThreadPoolTaskRunner

from lookbook.blocks.embedded import prefect_server
from lookbook.blocks.errors import INSTALL, UsageError
from lookbook.blocks.lake import Lake
from lookbook.blocks.settings import Settings, read_settings
from lookbook.blocks.workspace import load_workspace
from lookbook.flows import process_batch as subflow  # the module: Dask sends it by its name, and a flow by its value
from lookbook.flows.dispatch import dispatch
from lookbook.flows.endings import is_worth_another_try
from lookbook.tasks.images import jobs
from lookbook.tasks.images.batch import finished_counts
from lookbook.tasks.images.jobs import DoBatches
from lookbook.tasks.images.locators import land, needs_landing
from lookbook.tasks.images.pacing import stoppable
from lookbook.tasks.runs import progress
from lookbook.tasks.runs.parameters import Executor, WorkspaceName


@task(
    name="process batch",
    task_run_name="{batch}",
    retries=2,
    retry_delay_seconds=2,
    retry_condition_fn=is_worth_another_try,
)
def run_batch(workspace: WorkspaceName, batch: str, executor: Executor) -> None:
    """Do one batch: as a subflow run of this process, or as a run of its own on a work pool."""
    if executor == "pool":
        dispatch(workspace, batch)
    else:
        subflow.process_batch(workspace, batch)


@task(
    name="land batch",
    task_run_name="land {batch}",
    retries=2,
    retry_delay_seconds=2,
    retry_condition_fn=is_worth_another_try,
)
def land_batch(workspace: WorkspaceName, batch: str) -> None:
    """Copy the images of a batch into the lake: in the run's own process, which can read the source."""
    land(load_workspace(workspace).lake, batch)


def draw(lake: Lake, workspace: str, batch_keys: Sequence[str], executor: Executor) -> None:
    """Do all batches of an ingest, and tell by an artifact how many are done."""
    if not batch_keys:
        return
    artifact: Any = None
    with telling():
        artifact = create_progress_artifact(0.0, description=f"{len(batch_keys)} batches")
    ended = 0

    def tell(_: str) -> None:
        nonlocal ended
        ended += 1
        with telling():
            if artifact is not None:
                update_progress_artifact(artifact, 100.0 * ended / len(batch_keys))

    do_all(lake, workspace, batch_keys, executor, ended=tell)


def do_all(
    lake: Lake,
    workspace: str,
    batch_keys: Sequence[str],
    executor: Executor,
    done: Callable[[str], object] = lambda _: None,
    ended: Callable[[str], object] = lambda _: None,
) -> None:
    """Do all batches; a fault of one stops no other, and the first is raised at the end.

    Args:
        lake: that holds them.
        workspace: its name.
        batch_keys: their folders.
        executor: does them.
        done: called in this thread for each that is done, when it is; what it raises is a fault of that batch.
        ended: likewise, for each that is done or has failed.
    """
    runner, at_once = runner_for(executor, read_settings())
    here: TaskRunner[Any] = ThreadPoolTaskRunner(max_workers=at_once)
    with runner, here, stoppable():
        fan_out = _FanOut(lake, workspace, executor, runner, here)
        fan_out.waiting.extend(batch_keys)
        for _ in batch_keys:
            batch, fault = fan_out.next_ended(at_once)
            if fault is None:
                try:
                    done(batch)
                except Exception as error:  # noqa: BLE001 - raised at the end, once the other batches have ended
                    fault = error
            if fault is not None:
                fan_out.faults.append(fault)
            ended(batch)
    if fan_out.faults:
        raise fan_out.faults[0]


def doing(lake: Lake, workspace: str, executor: Executor) -> DoBatches:
    """Return what does the batches of an export, a prediction or a verification by an executor.

    One alone is done in this process, unless it is to be done elsewhere: a run of its own would cost a second.
    """

    def do(batch_keys: Sequence[str], done: Callable[[str], object]) -> None:
        if executor == "threads" and len(batch_keys) == 1:
            subflow.do_batch(lake, batch_keys[0])
            done(batch_keys[0])
        elif batch_keys:
            do_all(lake, workspace, batch_keys, executor, done)

    return do


def warn_of_sqlite(executor: Executor) -> None:
    """Warn before the work that batches of a work pool make a server on SQLite stand still: docs/executors.md."""
    if executor == "pool" and prefect_server.is_on_sqlite(read_settings().home):
        get_run_logger().warning(
            "The home's Prefect server is on SQLite, which stands still for up to a minute when batches of a work pool "
            "report at once. Set PREFECT_SERVER_DATABASE_CONNECTION_URL to a PostgreSQL and start the server anew, or "
            "use the executor threads."
        )


@contextmanager
def telling() -> Iterator[None]:
    """Nothing that only tells of the progress, or looks for more to tell, may end the batches under way."""
    try:
        yield
    except Exception as fault:  # noqa: BLE001
        get_run_logger().warning("The progress could not be told: %s: %s", type(fault).__name__, fault)


def runner_for(executor: Executor, settings: Settings) -> tuple[TaskRunner[Any], int]:
    """Return where the task of each batch runs, and how many batches are under way at once.

    Raises:
        UsageError: Dask is not installed.
    """
    if executor == "threads":
        return ThreadPoolTaskRunner(max_workers=settings.batches_at_once), settings.batches_at_once
    if executor == "pool":
        return ThreadPoolTaskRunner(max_workers=settings.children_at_once), settings.children_at_once
    try:
        from prefect_dask.task_runners import DaskTaskRunner  # noqa: PLC0415 - an extra, and slow to import
    except ImportError as error:
        raise UsageError('The executor "dask" needs the extra dask, which is not installed.', INSTALL) from error
    if settings.dask_address:
        return DaskTaskRunner(address=settings.dask_address), settings.children_at_once
    return DaskTaskRunner(cluster_kwargs=_local_cluster(settings)), settings.batches_at_once


def _local_cluster(settings: Settings) -> dict[str, Any]:
    """Return the settings of a cluster of this machine's processes, which listens to nobody else."""
    return {
        "n_workers": settings.batches_at_once,
        "threads_per_worker": 1,
        "processes": True,
        "host": "127.0.0.1",
        "dashboard_address": "127.0.0.1:0",
        "env": {"LOOKBOOK_THREADS": str(-(-settings.threads // settings.batches_at_once))},
    }


class _FanOut:
    """The batches of a run that wait and that are under way.

    Attributes:
        waiting: batches that were not sent yet.
        faults: what went wrong, in the order in which it did.
    """

    def __init__(
        self, lake: Lake, workspace: str, executor: Executor, runner: TaskRunner[Any], here: TaskRunner[Any]
    ) -> None:
        self.waiting: deque[str] = deque()
        self.faults: list[Exception] = []
        self._lake = lake
        self._workspace = workspace
        self._executor = executor
        self._runner = runner
        self._here = here
        self._elsewhere = executor != "threads"
        self._landing = False
        self._sent = 0
        self._ended: SimpleQueue[tuple[str, bool, PrefectFuture[Any]]] = SimpleQueue()

    def next_ended(self, at_once: int) -> tuple[str, Exception | None]:
        """Keep `at_once` batches under way until one of them has ended; returns it, and its fault if it has one."""
        while True:
            while self.waiting and self._sent < at_once:
                self._send(self.waiting.popleft())
            batch, landed, future = self._ended.get()
            self._sent -= 1
            try:
                future.result()
            except Exception as fault:  # noqa: BLE001 - raised at the end, once the other batches have ended
                if not landed and self._is_to_be_landed(batch):
                    self.waiting.appendleft(batch)
                    continue
                return batch, fault
            if landed:
                self._draw(batch)
                continue
            self._advance(batch)
            return batch, None

    def _send(self, batch: str) -> None:
        if self._landing:
            future = self._here.submit(land_batch, parameters={"workspace": self._workspace, "batch": batch})
            self._await(batch, True, future)
        else:
            self._draw(batch)

    def _draw(self, batch: str) -> None:
        asked = {"workspace": self._workspace, "batch": batch, "executor": self._executor}
        self._await(batch, False, self._runner.submit(run_batch, parameters=asked))

    def _await(self, batch: str, landed: bool, future: PrefectFuture[Any]) -> None:
        future.add_done_callback(lambda ended: self._ended.put((batch, landed, ended)))
        self._sent += 1

    def _is_to_be_landed(self, batch: str) -> bool:
        """Return whether no worker elsewhere can read it: then it goes again, and all that follow are landed first."""
        asked = False
        with telling():
            asked = self._elsewhere and needs_landing(self._lake, batch)
        if asked and not self._landing:
            get_run_logger().info("Workers can't reach the source: batches are landed in the lake first.")
            self._landing = True
        return asked

    def _advance(self, batch: str) -> None:
        """Batches of this process tell of each of their images themselves."""
        with telling():
            if not self._elsewhere:
                return
            if batch.startswith(f"{jobs.FOLDER}/"):
                jobs.tell(self._lake, batch)
            elif (counts := finished_counts(self._lake, batch)) is not None:
                progress.advance(counts.images)
