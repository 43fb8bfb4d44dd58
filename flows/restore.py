"""Take a dataset back: an older snapshot is published once more, and registry and warehouse follow."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

from prefect import flow, get_run_logger, runtime
from prefect.artifacts import create_markdown_artifact

from lookbook.blocks.workspace import load_workspace
from lookbook.flows.endings import end_family, recorded_run
from lookbook.flows.ingest import announce_published, catch_up, index_in_registry, load_warehouse
from lookbook.tasks.datasets.restore import restore_snapshot
from lookbook.tasks.runs.parameters import DatasetName, SnapshotName, WorkspaceName
from lookbook.tasks.runs.records import end_run, start_run


@flow(
    name="restore",
    flow_run_name="restore-{dataset}",
    on_cancellation=[end_family],
    on_crashed=[end_family],
)
def restore(dataset: DatasetName, snapshot: SnapshotName, workspace: WorkspaceName = "local") -> dict[str, Any]:
    """Publish a new snapshot that equals an older one; where the current one does, nothing is published.

    Returns:
        The summary of the snapshot that is current then: ``restored_from`` names the older one, ``published`` says
        whether it is new, ``note`` why not.
    """
    started = datetime.now(UTC)
    place = load_workspace(workspace)
    registry, run_id = place.registry, str(runtime.flow_run.id)
    with recorded_run(
        registry,
        f"dataset/{dataset}",
        lambda: start_run(registry, run_id, dataset, f"restore:{snapshot}"),
        lambda why: end_run(registry, run_id, None, why),
    ):
        catch_up(place, workspace, dataset)
        restored = restore_snapshot(place, dataset, snapshot, started)
        if restored.published:
            index_in_registry(workspace, dataset)
            load_warehouse(workspace, dataset)
        end_run(registry, run_id, restored.summary, None)
    if restored.published:  # after the lease is given back: what follows may want it
        announce_published(workspace, dataset)
    said = restored.note or f"{restored.summary['snapshot']} equals {restored.summary['restored_from']}, and is current"
    create_markdown_artifact(f"{said}.", key=f"{dataset.replace('_', '-')}-restored", description="What was restored")
    get_run_logger().info("%s: %s.", dataset, said)
    return restored.summary | {"note": restored.note}
