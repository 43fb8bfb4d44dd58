"""How a feed's run ends badly: whom it tells, and what the ledger says of it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any
from uuid import UUID

from prefect import Flow, runtime
from prefect.client.orchestration import get_client
from prefect.client.schemas.objects import FlowRun, State

from lookbook.blocks.errors import LookbookError
from lookbook.blocks.settings import read_settings
from lookbook.blocks.workspace import load_workspace
from lookbook.flows.cancellation import cancel_children
from lookbook.flows.notifying import notify
from lookbook.tasks.tables.ledger import fail_run
from lookbook.tasks.tables.spec.reading import find_spec, read_spec

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
    """Hook for `on_crashed`: the process of a run has died. The ledger stays: the next run goes on from there."""
    try:
        spec = read_spec(find_spec(read_settings().pipelines, flow_run.parameters["pipeline"]))
    except (LookbookError, KeyError):
        return
    if spec.notify:
        notify(spec.notify, f"Lookbook: {flow_run.name} crashed", f"The pipeline {spec.name} crashed: {state.message}")


def end_feed(flow: Flow[..., Any], flow_run: FlowRun, state: State[Any]) -> None:  # noqa: ARG001 - a hook's form
    """Hook for `on_cancellation`: cancel the runs below, and close the ledger on the run."""
    with get_client(sync_client=True) as client:
        cancel_children(client, UUID(str(flow_run.id)))
    place = load_workspace(flow_run.parameters.get("workspace") or "local")
    fail_run(place.registry, str(flow_run.id), "cancelled")
