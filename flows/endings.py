"""How runs of flows wait, are tried again, are cancelled and end; and who is told of it."""

from __future__ import annotations

import asyncio
import inspect
import math
import os
from collections.abc import Awaitable, Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from datetime import datetime
from typing import Any, TypeVar
from uuid import UUID

import httpx
from prefect import Flow, get_run_logger, runtime
from prefect.blocks.core import Block
from prefect.client.orchestration import SyncPrefectClient, get_client
from prefect.client.schemas.filters import (
    FlowRunFilter,
    FlowRunFilterParentFlowRunId,
    FlowRunFilterState,
    FlowRunFilterStateType,
)
from prefect.client.schemas.objects import TERMINAL_STATES, FlowRun, State, StateType, TaskRun
from prefect.exceptions import CancelledRun, TerminationSignal
from prefect.logging import get_logger
from prefect.plugins import load_prefect_collections
from prefect.states import Cancelled, Cancelling
from prefect.tasks import Task

from lookbook.blocks.errors import LookbookError, OutOfReachError
from lookbook.blocks.registry import Registry
from lookbook.blocks.settings import read_settings
from lookbook.blocks.workspace import load_workspace
from lookbook.tasks.runs.lease import lease
from lookbook.tasks.runs.records import end_lost_run
from lookbook.tasks.tables.ledger import fail_run

Entry = TypeVar("Entry")


def is_worth_another_try(task: Task[Any, Any], run: TaskRun, state: State[Any]) -> bool:  # noqa: ARG001
    """Faults of disk and network may pass; what a user has to mend does not, nor that the run was interrupted."""
    fault = state.result(raise_on_failure=False)
    return isinstance(fault, OutOfReachError) or not isinstance(fault, (LookbookError, CancelledRun))


def is_no_interruption(task: Task[Any, Any], run: TaskRun, state: State[Any]) -> bool:  # noqa: ARG001
    """Whatever Prefect's API did not take may be taken the next time; a run that is to end sends nothing more."""
    return not isinstance(state.result(raise_on_failure=False), CancelledRun)


def max_wait() -> float:
    """Return seconds that a run waits for another one of what it works on.

    A run that a worker started waits as long as the other one renews its lease; somebody who waits is told at once.
    """
    deployed = bool(runtime.deployment.id) or "PREFECT__FLOW_RUN_ID" in os.environ
    return math.inf if deployed else 0.0


@contextmanager
def recorded_run(
    registry: Registry, name: str, start: Callable[[], Entry], failed: Callable[[str], object], *, goes_on: bool = False
) -> Iterator[Entry]:
    """Hold a lease while the block runs, and note that the run began, and how it failed where the block raises.

    Args:
        registry: where leases are kept.
        name: of the lease.
        start: notes that the run began; what it returns is handed to the block, which notes how the run ended.
        failed: is told why the block raised.
        goes_on: a run that is interrupted says nothing, and the next one goes on with what it staged.
    """
    say = get_run_logger().info
    with lease(registry, name, max_wait(), lambda who: say("Waiting: %s", who)):
        entry = start()
        try:
            yield entry
        except BaseException as error:
            interrupted = not isinstance(error, Exception)  # Ctrl-C, or Prefect's word that the run is to end
            if not (interrupted and goes_on):
                with suppress(LookbookError):  # a registry that fails too must not hide why the run failed
                    failed("interrupted" if interrupted else str(error) or type(error).__name__)
            raise


def end_family(flow: Flow[..., Any], flow_run: FlowRun, state: State[Any]) -> None:  # noqa: ARG001 - a hook's form
    """Cancel the children, and close the books on the run: a hook for `on_cancellation` and `on_crashed`.

    It may be called by the worker, seconds after the run's process was killed: it goes by what the API knows. A
    crashed run may have been started again by then: what the second try began is left alone.
    """
    crashed = state.is_crashed()
    with get_client(sync_client=True) as client:
        cancel_children(client, flow_run.id, state.timestamp if crashed else None)
        now = client.read_flow_run(flow_run.id).state
    if crashed and now is not None and not now.is_final():
        return
    place = load_workspace(flow_run.parameters.get("workspace", "local"))
    end_lost_run(place.registry, str(flow_run.id), "killed" if crashed else "cancelled")


@contextmanager
def ends_as_cancelled() -> Iterator[None]:
    """When this run's process is ended because the run is cancelled, say at once that it was.

    Its worker says so, too, but only after it started Python once more to look for hooks.
    """
    try:
        yield
    except TerminationSignal:
        with suppress(httpx.HTTPError), get_client(sync_client=True) as client:
            run = client.read_flow_run(runtime.flow_run.id)
            if run.state is not None and run.state.is_cancelling():
                client.set_flow_run_state(run.id, Cancelled(message="Its process has ended."), force=True)
        raise


def end_children_of_earlier_try() -> None:
    """Cancel what is left of an earlier try of this run, before this one begins anything.

    A machine that loses its power, and a container that is killed, take along the worker that would have done it.
    """
    if runtime.flow_run.run_count <= 1:
        return
    try:
        with get_client(sync_client=True) as client:
            cancel_children(client, UUID(runtime.flow_run.id))
    except httpx.HTTPError as error:  # they only do what is done again
        get_run_logger().warning("Batches of an earlier try could not be cancelled: %s", error)


def cancel_children(client: SyncPrefectClient, run_id: UUID, before: datetime | None = None) -> None:
    """Cancel all runs under a run that have not ended and are not being cancelled; by default, whenever created.

    Args:
        client: of Prefect's API.
        run_id: of the parent.
        before: leave alone those that were created later, by the server's clock, as those of a state are.
    """
    ended = [*TERMINAL_STATES, StateType.CANCELLING]
    living = FlowRunFilter(
        parent_flow_run_id=FlowRunFilterParentFlowRunId(any_=[run_id]),
        state=FlowRunFilterState(type=FlowRunFilterStateType(not_any_=ended)),
    )
    seen: set[object] = set()
    while children := [child for child in client.read_flow_runs(flow_run_filter=living) if child.id not in seen]:
        for child in children:
            seen.add(child.id)
            if before is None or child.created is None or child.created <= before:
                cancel(client, child)


def cancel(client: SyncPrefectClient, run: FlowRun) -> None:
    """Have a run ended by its worker; one that lived in its parent's process is ended already, and only told so."""
    if run.deployment_id:
        client.set_flow_run_state(run.id, Cancelling(message="Its parent was cancelled."))
    else:
        client.set_flow_run_state(run.id, Cancelled(message="Its parent was cancelled."), force=True)


def notify(blocks: Iterable[str], subject: str, body: str) -> None:
    """Send a message through each block; one that fails is named in the log, and hides nothing and stops no other."""
    logger = get_logger("lookbook.notifying")
    for name in blocks:
        try:
            _send(name, subject, body)
        except Exception as fault:  # noqa: BLE001 - why the run failed is what counts
            # A block's own error may hold its address, which is a secret of most services.
            logger.warning("The block %s could not notify: %s", name, type(fault).__name__)


def _send(name: str, subject: str, body: str) -> None:
    with get_client(sync_client=True) as client:
        slug = _type_of(client, name)
    # Importing them registers the types of blocks.
    import prefect.blocks.notifications  # noqa: F401, PLC0415

    load_prefect_collections()
    block: Any = Block.load(f"{slug}/{name}", _sync=True)  # type: ignore[call-arg]
    answer = block.notify(body, subject)
    if inspect.isawaitable(answer):  # blocks of others know one way only
        asyncio.run(_awaited(answer))


async def _awaited(answer: Awaitable[object]) -> None:
    await answer


def _type_of(client: SyncPrefectClient, name: str) -> str:
    """Return the slug of the type of a saved block that can notify.

    Raises:
        LookupError: there is none of this name.
    """
    wanted = {"block_documents": {"name": {"any_": [name]}}, "include_secrets": False}
    for document in client.request("POST", "/block_documents/filter", json=wanted).json():
        if "notify" in document["block_schema"]["capabilities"]:
            return str(document["block_type"]["slug"])
    raise LookupError(name)


#: Put on an error of which a run below has told.
_TOLD = "_lookbook_told"


@contextmanager
def telling(name: str, blocks: Sequence[str]) -> Iterator[None]:
    """Tell whom a spec names when the block fails; once, however many runs the error passes through."""
    try:
        yield
    except Exception as error:
        if blocks and not getattr(error, _TOLD, False):
            setattr(error, _TOLD, True)
            notify(blocks, f"Lookbook: {runtime.flow_run.name} failed", _body(name, error))
        raise


def _body(name: str, error: Exception) -> str:
    """Return what is told: errors of ours name no secret; what others say stays in the log."""
    said = str(error) if isinstance(error, LookbookError) else f"{type(error).__name__}; its log says more."
    return f"{name} failed in {runtime.flow_run.name}.\n{said}\n{runtime.flow_run.ui_url or ''}".strip()


def tell_crash(flow: Flow[..., Any], flow_run: FlowRun, state: State[Any]) -> None:  # noqa: ARG001 - a hook's form
    """Tell of a run whose process has died: a hook for `on_crashed`. The next run goes on from the ledger."""
    from lookbook.tasks.tables.spec.reading import find_spec, read_spec  # noqa: PLC0415 - slow, and every run is here

    try:
        spec = read_spec(find_spec(read_settings().pipelines, flow_run.parameters["pipeline"]))
    except (LookbookError, KeyError):
        return
    if spec.notify:
        notify(spec.notify, f"Lookbook: {flow_run.name} crashed", f"The pipeline {spec.name} crashed: {state.message}")


def end_pipeline(flow: Flow[..., Any], flow_run: FlowRun, state: State[Any]) -> None:  # noqa: ARG001 - a hook's form
    """Cancel the runs below, and close the ledger on the run: a hook for `on_cancellation`."""
    with get_client(sync_client=True) as client:
        cancel_children(client, UUID(str(flow_run.id)))
    place = load_workspace(flow_run.parameters.get("workspace") or "local")
    fail_run(place.registry, str(flow_run.id), "cancelled")
