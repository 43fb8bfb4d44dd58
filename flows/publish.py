"""Publish a candidate by hand: what checks kept back becomes the current snapshot; registry and warehouse follow."""

from __future__ import annotations

from typing import Any

from prefect import flow, get_run_logger, runtime
from prefect.artifacts import create_markdown_artifact

from lookbook.blocks.workspace import load_workspace
from lookbook.flows.endings import end_family, recorded_run
from lookbook.flows.ingest import announce_published, catch_up, index_in_registry, load_warehouse
from lookbook.tasks.datasets.inventory import clear_batches
from lookbook.tasks.datasets.publish import publish_candidate
from lookbook.tasks.runs.parameters import CandidateName, DatasetName, WorkspaceName
from lookbook.tasks.runs.records import end_run, start_run


@flow(
    name="publish",
    flow_run_name="publish-{dataset}",
    on_cancellation=[end_family],
    on_crashed=[end_family],
)
def publish(
    dataset: DatasetName, candidate: CandidateName = None, workspace: WorkspaceName = "local"
) -> dict[str, Any]:
    """Publish the candidate of a dataset although checks failed; what is current already is not published again.

    Returns:
        The summary of the snapshot that is current then: ``overridden`` names the checks that failed, ``published``
        says whether it is new, ``note`` why not.
    """
    place = load_workspace(workspace)
    registry, run_id = place.registry, str(runtime.flow_run.id)
    with recorded_run(
        registry,
        f"dataset/{dataset}",
        lambda: start_run(registry, run_id, dataset, f"publish:{candidate or 'candidate'}"),
        lambda why: end_run(registry, run_id, None, why),
    ):
        catch_up(place, workspace, dataset)
        summary, note = publish_candidate(place, dataset, candidate)
        if not note:
            index_in_registry(workspace, dataset)
            load_warehouse(workspace, dataset)
            clear_batches(place.lake, dataset)
        end_run(registry, run_id, summary, None)
    if not note:  # after the lease is given back: what follows may want it
        announce_published(workspace, dataset)
    broken = ", ".join(summary["overridden"])
    said = note or f"{summary['snapshot']} is current, although these checks failed: {broken}"
    create_markdown_artifact(f"{said}.", key=f"{dataset.replace('_', '-')}-published", description="What was published")
    get_run_logger().info("%s: %s.", dataset, said)
    return summary | {"note": note}
