"""The event that says: a source has changed. What listens to it starts an ingest."""

from __future__ import annotations

from collections.abc import Sequence

import httpx
from prefect.client.orchestration import get_client
from prefect.events import Event, RelatedResource, Resource

from blocks.errors import LookbookError

SOURCE_CHANGED = "lookbook.source.changed"


def announce_change(source: str, dataset: str, workspace: str, related: Sequence[str] = ()) -> None:
    """Send the event to Prefect's API and wait until it is taken there.

    Prefect's own ``emit_event`` hands it to a thread and returns: whoever remembers then that it was announced may
    be wrong. Sending it twice is harmless, because an ingest that finds nothing new publishes nothing.

    Args:
        source: what is to be ingested.
        dataset: into which dataset.
        workspace: of which workspace.
        related: ids of the flow runs that the event belongs to; the UI shows it with them.

    Raises:
        LookbookError: the API did not take it.
    """
    event = Event(
        event=SOURCE_CHANGED,
        resource=Resource({"prefect.resource.id": f"lookbook.source.{dataset}", "prefect.resource.name": source}),
        related=[
            RelatedResource({"prefect.resource.id": f"prefect.flow-run.{run}", "prefect.resource.role": "flow-run"})
            for run in related
        ],
        payload={"source": source, "dataset": dataset, "workspace": workspace},
    )
    try:
        with get_client(sync_client=True) as client:
            client.request("POST", "/events", json=[event.model_dump(mode="json")])
    except (httpx.HTTPError, OSError, RuntimeError) as error:
        raise LookbookError(
            f"Prefect's API did not take the event {SOURCE_CHANGED} of {source}: {type(error).__name__}.",
            "It is sent again at the next look. See that the server of PREFECT_API_URL runs.",
        ) from error
