"""Judge again what a snapshot refused: after an upgrade of a decoder, or with a limit lifted."""

from __future__ import annotations

from typing import Annotated, Any

from prefect import flow, get_run_logger

from lookbook.blocks.workspace import load_workspace
from lookbook.flows.endings import end_family
from lookbook.flows.ingest import publish_source
from lookbook.tasks.datasets.inventory import Request
from lookbook.tasks.datasets.publish import FinishedRun
from lookbook.tasks.datasets.replay import Replay, find_rejects, replay_request, replayed_counts
from lookbook.tasks.images.recipe import Recipe
from lookbook.tasks.runs.parameters import DatasetName, Executor, Rules, Within, WorkspaceName, described

LiftedRecipe = Annotated[
    Recipe | None, described("Recipe", "That of the snapshot with limits lifted. None: that of the snapshot.")
]


@flow(
    name="replay",
    flow_run_name="replay-{dataset}",
    on_cancellation=[end_family],
    on_crashed=[end_family],
)
def replay(
    dataset: DatasetName,
    rules: Rules = [],  # noqa: B006 - nothing changes it, and Prefect's form shows it
    workspace: WorkspaceName = "local",
    recipe: LiftedRecipe = None,
    executor: Executor = "threads",
    within: Within = [],  # noqa: B006 - as above
) -> dict[str, Any]:
    """Judge the image rejects of the current snapshot again; what became good is published as a new snapshot.

    Returns:
        The summary of the ingest that did it; ``replayed`` says how the rejects ended, ``note`` why nothing was
        published.
    """
    place = load_workspace(workspace)
    found = find_rejects(place, dataset, rules)
    if not found.rules:
        note = f"nothing to do: {found.manifest.snapshot_id} has no rejected image"
        counts = replayed_counts(place, found, published=False)
        return found.manifest.summary | {"published": False, "replayed": counts, "note": note}
    judged: list[Replay] = []

    def asked() -> Request:  # under the lease: another run may have published since
        judged.append(find_rejects(place, dataset, rules))
        return replay_request(place, judged[0], recipe, within)

    def told(finished: FinishedRun) -> dict[str, Any]:
        counts = replayed_counts(place, judged[0], finished.published)
        return {"replayed": counts, "note": finished.note}

    source = f"replay:{','.join(sorted(found.rules))}"
    summary = publish_source(place, workspace, dataset, source, executor, asked, told).summary
    get_run_logger().info("%s: %s", dataset, summary["replayed"])
    return summary
