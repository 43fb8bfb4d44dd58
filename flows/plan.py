"""Tell what an ingest would do: a look at the source, for the page and the API; nothing is drawn or written."""

from __future__ import annotations

from typing import Any

from prefect import flow, get_run_logger
from prefect.artifacts import Artifact, create_markdown_artifact

from lookbook.blocks.workspace import load_workspace
from lookbook.tasks.datasets.estimate import PLAN_ARTIFACT, estimate, plan_lines
from lookbook.tasks.datasets.inventory import Request
from lookbook.tasks.images.recipe import Recipe, RecipeOrDefault
from lookbook.tasks.runs.parameters import (
    BATCH_SIZE,
    BatchSize,
    DatasetName,
    ImageColumn,
    KeyColumn,
    Limit,
    RejectLimit,
    SourceUri,
    Within,
    WorkspaceName,
)


@flow(name="plan", flow_run_name="plan-{dataset}")
def plan(
    source: SourceUri,
    dataset: DatasetName,
    workspace: WorkspaceName = "local",
    recipe: RecipeOrDefault = None,
    limit: Limit = None,
    batch_size: BatchSize = BATCH_SIZE,
    reject_limit: RejectLimit = 0.1,
    key: KeyColumn = None,
    image_column: ImageColumn = None,
    within: Within = [],  # noqa: B006 - nothing changes it, and Prefect's form shows it
) -> dict[str, Any]:
    """Tell what an ingest would do now: files, outputs, bytes, requests, time and, in a bucket, the price.

    Returns:
        What `lookbook plan --json` prints; the run has it as an artifact, too.
    """
    place = load_workspace(workspace)
    get_run_logger().info("Listing %s", source)
    asked = Request(
        *(place, source, dataset, recipe or Recipe(), limit, batch_size, reject_limit, within, key, image_column)
    )
    found = estimate(asked)
    _describe(found, dataset.replace("_", "-"))
    return found


def _describe(found: dict[str, Any], key: str) -> None:
    """Make the artifacts: lines for people, and the document, which the API reads."""
    title, *lines = plan_lines(found)
    text = "\n".join(f"- **{name}**: {said}" for name, said in lines)
    create_markdown_artifact(f"{title[1]}\n\n{text}\n", key=f"{key}-planned", description="What an ingest would do")
    Artifact(type=PLAN_ARTIFACT, data=found, description="The same, as JSON").create()
    get_run_logger().info("%s: %s.", *title)
