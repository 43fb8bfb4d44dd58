"""A run that is cancelled, interrupted or killed takes the runs of its batches along."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager, suppress
from datetime import datetime
from typing import Any
from uuid import UUID

import httpx
from prefect import Flow, get_run_logger, runtime
from prefect.client.orchestration import SyncPrefectClient, get_client
from prefect.client.schemas.filters import (
    FlowRunFilter,
    FlowRunFilterParentFlowRunId,
    FlowRunFilterState,
    FlowRunFilterStateType,
)
from prefect.client.schemas.objects import TERMINAL_STATES, FlowRun, State, StateType
from prefect.exceptions import TerminationSignal
from prefect.states import Cancelled, Cancelling

from lookbook.blocks.workspace import load_workspace
from lookbook.tasks.runs.records import end_lost_run


def end_family(flow: Flow[..., Any], flow_run: FlowRun, state: State[Any]) -> None:  # noqa: ARG001 - a hook's form
    """Hook for `on_cancellation` and `on_crashed`: cancel the children, and close the books on the run.

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
