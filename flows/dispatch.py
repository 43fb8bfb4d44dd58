"""Batches as runs of a deployment on a work pool: sent, watched, and what became of each.

Whether a run is dead, its parent doesn't decide: the automations of `make deploy` do, as for all runs. Here is what
Prefect lacks: more than one try, and a word where nobody takes a run.
"""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from enum import Enum
from typing import Any, TypeVar

import httpx
from prefect import get_run_logger, runtime
from prefect.client.orchestration import SyncPrefectClient, get_client
from prefect.client.schemas.filters import (
    FlowRunFilter,
    FlowRunFilterDeploymentId,
    FlowRunFilterState,
    FlowRunFilterStateType,
    WorkerFilter,
    WorkerFilterStatus,
)
from prefect.client.schemas.objects import FlowRun, StateType
from prefect.deployments import run_deployment
from prefect.exceptions import ObjectNotFound

from lookbook.blocks.errors import LookbookError, OutOfReachError, UsageError
from lookbook.flows.endings import cancel
from lookbook.tasks.images.pacing import StoppedError, pause

#: Seconds that a run may wait with no worker online. A worker counts as online for 90 s after its last word.
UNTAKEN = 60.0
#: Seconds that a run may wait while workers are online, and no batch at all is under way.
CROWDED = 600.0


@dataclass(frozen=True)
class ChildRun:
    """What is seen of a run.

    Attributes:
        state: the type of its state, as ``RUNNING``.
        message: of its state.
        unchanged: seconds since its state changed.
        workers: whether a worker of its pool is online.
        crowded: seconds that it waits while no batch at all, of whichever run, is under way.
        pool: the name of that pool.
    """

    state: str
    message: str = ""
    unchanged: float = 0.0
    workers: bool = True
    crowded: float = 0.0
    pool: str = ""


class Action(Enum):
    """What to do: wait on; it is done; start it again; or give up."""

    WAIT = "wait"
    DONE = "done"
    AGAIN = "again"
    GIVE_UP = "give up"


def next_action(child: ChildRun) -> tuple[Action, str]:
    """Return what to do about a run, and why."""
    match child.state:
        case "COMPLETED":
            return Action.DONE, ""
        case "FAILED" | "CRASHED":
            error = own_error(child.message)
            passes = error is None or isinstance(error, OutOfReachError)
            return (Action.AGAIN if passes else Action.GIVE_UP), child.message or "its process died"
        case "CANCELLED":
            return Action.GIVE_UP, "it was cancelled"
        case "SCHEDULED" if not child.workers and child.unchanged > UNTAKEN:
            return Action.GIVE_UP, "no worker takes it"
        case "SCHEDULED" if child.workers and child.crowded > CROWDED:  # those that wait may have taken all places
            return Action.GIVE_UP, "the workers are busy with other runs"
        case _:
            return Action.WAIT, ""


def fault_of(child: ChildRun, why: str, batch: str) -> LookbookError:
    """Return the error to raise for a run that was given up."""
    if child.state == "SCHEDULED" and child.workers:
        return LookbookError(
            f"The workers of the work pool {child.pool} are busy with other runs, and with no batch since "
            f"{child.crowded / 60:.0f} minutes; or the pool is paused.",
            f"Raise a worker's --limit, or start another one: prefect worker start --pool {child.pool}",
        )
    if child.state == "SCHEDULED":
        return LookbookError(
            f"No worker takes runs of the work pool {child.pool}.",
            f"Start one: prefect worker start --pool {child.pool}",
        )
    return own_error(child.message) or LookbookError(f"{batch}: {why}.", "Run again: it goes on from here.")


def own_error(message: str) -> LookbookError | None:
    """Return the error of ours that the message of a failed state tells of; None where it was another fault."""
    names = "|".join(sorted({error.__name__ for error in _errors(LookbookError)}, key=len, reverse=True))
    found = re.search(rf"\b({names}): (.*)", message, re.DOTALL)
    if found is None:
        return None
    problem, _, way_out = found[2].partition("\n")
    kind = OutOfReachError if found[1] == OutOfReachError.__name__ else LookbookError
    return kind(problem, way_out)


def _errors(kind: type[LookbookError]) -> Iterator[type[LookbookError]]:
    yield kind
    for below in kind.__subclasses__():
        yield from _errors(below)


#: Runs of one batch before it is given up.
ATTEMPTS = 3
#: Seconds between looks at a run: the first one, and the longest.
FIRST_PAUSE, LONGEST_PAUSE = 1.0, 3.0
#: Seconds between looks at what changes slowly: workers, other batches.
SLOW = 15.0
#: Seconds that Prefect's API may be out of reach.
OUT_OF_REACH = 120.0

Answer = TypeVar("Answer")


def dispatch(workspace: str, batch: str) -> None:
    """Have a batch done by a worker of a work pool; returns when it is.

    A run that dies, or fails by a fault that may pass, is followed by another one, up to `ATTEMPTS`.

    Raises:
        UsageError: the deployment is missing.
        LookbookError: the run's own error; or nobody takes it; or it was cancelled; or all attempts failed.
        OutOfReachError: Prefect's API did not answer for `OUT_OF_REACH` seconds.
        StoppedError: the run that sends was interrupted: the child is cancelled.
    """
    why = ""
    for attempt in range(1, ATTEMPTS + 1):
        with get_client(sync_client=True) as client:
            child = _Watched(client, _patiently(lambda: _start(workspace, batch, attempt)))  # noqa: B023 - called here
            action, why = _follow(child)
            if action is Action.DONE:
                return
            if action is Action.GIVE_UP:
                if child.seen.state == "SCHEDULED":  # or a worker that comes later would do it
                    _cancel(child)
                raise fault_of(child.seen, why, batch)
        get_run_logger().warning("%s, attempt %d: %s", batch, attempt, why)
    raise LookbookError(
        f"{batch}: its run failed {ATTEMPTS} times; the last time: {why}", "The runs' logs in Prefect's UI say more."
    )


def _start(workspace: str, batch: str, attempt: int) -> FlowRun:
    """Return a new run; or, when this attempt was made before (the task was retried), the one of then."""
    name = f"process-batch/{runtime.deployment.name or 'local'}"
    key = f"{runtime.flow_run.id}/{runtime.task_run.id}/{batch}/{attempt}"
    try:
        return run_deployment(  # type: ignore[return-value]
            name,
            parameters={"workspace": workspace, "batch": batch},
            flow_run_name=batch,
            timeout=0,
            idempotency_key=key,
        )
    except ObjectNotFound as error:
        raise UsageError(
            f'The executor "pool" sends batches to the deployment {name}, and this Prefect server has none.',
            "Run `make deploy`, or use another executor.",
        ) from error


def _follow(child: _Watched) -> tuple[Action, str]:
    """Look at a run until something is to be done about it."""
    wait = FIRST_PAUSE
    try:
        while True:
            action, why = next_action(_patiently(child.look, child.reset_timers))
            if action is not Action.WAIT:
                return action, why
            child.say_if_it_waits()
            pause(wait)
            wait = min(LONGEST_PAUSE, wait * 1.2)
    except StoppedError:
        _cancel(child)
        raise


def _patiently(ask: Callable[[], Answer], reset_timers: Callable[[], None] = lambda: None) -> Answer:
    """Ask Prefect's API again and again while it is out of reach; `reset_timers` is called each time that it was.

    Raises:
        OutOfReachError: it was for `OUT_OF_REACH` seconds.
        httpx.HTTPStatusError: it refuses, which asking again does not change.
        StoppedError: the run was interrupted.
    """
    since = time.monotonic()
    while True:
        try:
            return ask()
        except httpx.HTTPError as error:
            if isinstance(error, httpx.HTTPStatusError) and error.response.is_client_error:
                raise
            reset_timers()
            if time.monotonic() - since > OUT_OF_REACH:
                raise OutOfReachError(
                    f"Prefect's API is out of reach: {error}.", "See that its server runs."
                ) from error
        pause(LONGEST_PAUSE)


def _cancel(child: _Watched) -> None:
    """Cancel a run, if the API can be asked: who gives up or is interrupted waits for nothing."""
    try:
        cancel(child.client, child.run)
    except httpx.HTTPError as error:
        get_run_logger().warning("%s could not be cancelled: %s", child.run.name, error)


class _Watched:
    """A run that is looked at again and again, by this machine's clock alone: others may be wrong."""

    def __init__(self, client: SyncPrefectClient, run: FlowRun) -> None:
        self.client = client
        self.run = run
        self.seen = ChildRun("SCHEDULED")
        self._state: Any = None
        self._changed = self._moved = time.monotonic()
        self._slow_look = 0.0
        self._workers = True
        self._told = False

    def look(self) -> ChildRun:
        """Return what is seen of it now."""
        now = time.monotonic()
        self.run = self.client.read_flow_run(self.run.id)
        state = self.run.state
        if state is None:
            return self.seen
        if state.type != self._state:  # Late is still Scheduled
            self._state, self._changed = state.type, now
        if state.type == StateType.SCHEDULED and now - self._slow_look > SLOW:
            self._slow_look = now
            self._look_around(now)
        self.seen = ChildRun(
            state.type.value,
            state.message or "",
            now - self._changed,
            self._workers,
            now - max(self._changed, self._moved),
            self.run.work_pool_name or "",
        )
        return self.seen

    def _look_around(self, now: float) -> None:
        workers = _is_worker_online(self.client, self.run.work_pool_name or "")
        if workers and not self._workers:
            self._changed = now
        self._workers = workers
        if _is_any_under_way(self.client, self.run):
            self._moved = now

    def say_if_it_waits(self) -> None:
        """Tell, once, that workers have no place: the only one may be taken by the run that waits."""
        if not self._told and self.seen.state == "SCHEDULED" and self.seen.unchanged > UNTAKEN:
            self._told = True
            get_run_logger().info(
                "%s waits: the workers of the pool %s have no free place.", self.run.name, self.seen.pool
            )

    def reset_timers(self) -> None:
        """Start all timers anew: the API was out of reach, and what was not heard may have been said."""
        self._changed = self._moved = time.monotonic()


def _is_worker_online(client: SyncPrefectClient, pool: str) -> bool:
    online = WorkerFilter(status=WorkerFilterStatus(any_=["ONLINE"]))
    try:
        return bool(client.read_workers_for_work_pool(pool, online, limit=1))
    except ObjectNotFound:
        return False


def _is_any_under_way(client: SyncPrefectClient, run: FlowRun) -> bool:
    """Return whether a worker is at work on a batch, of this parent or of another one."""
    states = [StateType.PENDING, StateType.RUNNING, StateType.CANCELLING]
    found = client.count_flow_runs(
        flow_run_filter=FlowRunFilter(
            deployment_id=FlowRunFilterDeploymentId(any_=[run.deployment_id] if run.deployment_id else []),
            state=FlowRunFilterState(type=FlowRunFilterStateType(any_=states)),
        )
    )
    return found > 0
