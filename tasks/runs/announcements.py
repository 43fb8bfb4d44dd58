"""The events that automations listen to: a source has changed, a snapshot is published, a table was loaded."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import httpx
from prefect.client.orchestration import get_client
from prefect.events import Event, RelatedResource, Resource

from lookbook.blocks.errors import LookbookError

SOURCE_CHANGED = "lookbook.source.changed"
SNAPSHOT_PUBLISHED = "lookbook.snapshot.published"
TABLE_LOADED = "lookbook.table.loaded"
FILES_ARRIVED = "lookbook.files.arrived"
EXPORT_FINISHED = "lookbook.export.finished"


def announce_change(source: str, dataset: str, workspace: str, related: Sequence[str] = ()) -> None:
    """Say that a source has changed: what listens starts an ingest.

    Sending it twice is harmless, because an ingest that finds nothing new publishes nothing.

    Args:
        source: what is to be ingested.
        dataset: into which dataset.
        workspace: of which workspace.
        related: ids of the flow runs that the event belongs to; the UI shows it with them.

    Raises:
        LookbookError: the API did not take it.
    """
    payload = {"source": source, "dataset": dataset, "workspace": workspace}
    _send(SOURCE_CHANGED, f"lookbook.source.{dataset}", source, payload, related)


def announce_snapshot(dataset: str, workspace: str, snapshot: str, related: Sequence[str] = ()) -> None:
    """Say that a snapshot is published: what listens verifies, aggregates, exports.

    Args:
        dataset: of which dataset.
        workspace: in which workspace.
        snapshot: its id.
        related: ids of the flow runs that the event belongs to; the UI shows it with them.

    Raises:
        LookbookError: the API did not take it.
    """
    payload = {"dataset": dataset, "workspace": workspace, "snapshot": snapshot}
    _send(SNAPSHOT_PUBLISHED, f"lookbook.dataset.{dataset}", dataset, payload, related)


def announce_table(table: Mapping[str, Any], pipeline: str, workspace: str, date: str, related: Sequence[str]) -> None:
    """Say that a table was loaded, or made of loaded ones.

    Sending it twice is harmless, as loading it twice is.

    Args:
        table: its ``table``, ``place`` and counts.
        pipeline: that loaded it.
        workspace: in which workspace.
        date: that the run was about.
        related: ids of the flow runs that the event belongs to; the UI shows it with them.

    Raises:
        LookbookError: the API did not take it.
    """
    name = f"{table['place']}.{table['table']}"
    payload = {"pipeline": pipeline, "workspace": workspace, "date": date} | dict(table)
    _send(TABLE_LOADED, f"lookbook.table.{name}", name, payload, related, {"lookbook.pipeline": pipeline})


def announce_files(name: str, pattern: str, workspace: str, related: Sequence[str]) -> None:
    """Say that new files have come to rest: what listens starts a pipeline.

    Args:
        name: of what is started by them, as ``pipeline.prices``.
        pattern: of their paths.
        workspace: of which workspace.
        related: ids of the flow runs that the event belongs to; the UI shows it with them.

    Raises:
        LookbookError: the API did not take it.
    """
    payload = {"files": pattern, "workspace": workspace}
    _send(FILES_ARRIVED, f"lookbook.files.{name}", pattern, payload, related)


def announce_export(
    dataset: str, workspace: str, snapshot: str, export: str, uri: str, related: Sequence[str] = ()
) -> None:
    """Say that an export is complete.

    Args:
        dataset: of which dataset.
        workspace: in which workspace.
        snapshot: id of the snapshot.
        export: id of the export.
        uri: where it lies.
        related: ids of the flow runs that the event belongs to; the UI shows it with them.

    Raises:
        LookbookError: the API did not take it.
    """
    payload = {"dataset": dataset, "workspace": workspace, "snapshot": snapshot, "export": export, "uri": uri}
    _send(EXPORT_FINISHED, f"lookbook.export.{export}", f"{dataset}/{export}", payload, related)


def _send(
    name: str,
    resource: str,
    shown: str,
    payload: dict[str, Any],
    related: Sequence[str],
    labels: Mapping[str, str] = {},
) -> None:
    """Send an event to Prefect's API and wait until it is taken there.

    Prefect's own ``emit_event`` hands it to a thread and returns: whoever goes on from there may be wrong.
    """
    event = Event(
        event=name,
        resource=Resource({"prefect.resource.id": resource, "prefect.resource.name": shown} | dict(labels)),
        related=[
            RelatedResource({"prefect.resource.id": f"prefect.flow-run.{run}", "prefect.resource.role": "flow-run"})
            for run in related
        ],
        payload=payload,
    )
    try:
        with get_client(sync_client=True) as client:
            client.request("POST", "/events", json=[event.model_dump(mode="json")])
    except (httpx.HTTPError, OSError, RuntimeError) as error:
        raise LookbookError(
            f"Prefect's API did not take the event {name} of {shown}: {type(error).__name__}.",
            "See that the server of PREFECT_API_URL runs, and run it again.",
        ) from error
