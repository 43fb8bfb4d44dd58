"""The main flow: a source becomes a published snapshot, a registry, a warehouse and a report."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, suppress
from datetime import UTC, datetime
from typing import Any

from prefect import flow, get_run_logger, runtime, task
from prefect.artifacts import create_markdown_artifact, create_table_artifact

from blocks.errors import LookbookError
from blocks.workspace import load_workspace
from flows.cancellation import end_children_of_earlier_try, end_family
from flows.fan_out import draw, is_worth_another_try
from tasks.datasets import follow
from tasks.datasets.announcements import announce_snapshot
from tasks.datasets.conclusion import Conclusion, conclude
from tasks.datasets.lease import lease
from tasks.datasets.manifest import require_published
from tasks.datasets.recovery import clear_batches
from tasks.datasets.runs import end_run, start_run
from tasks.datasets.survey import Request, take_stock
from tasks.images.progress import announce
from tasks.images.recipe import Recipe, RecipeOrDefault
from tasks.parameters import (
    BATCH_SIZE,
    BatchSize,
    DatasetName,
    Executor,
    Limit,
    RejectLimit,
    SourceUri,
    WorkspaceName,
)

#: Seconds that a run of a deployment waits for another run of its dataset.
PATIENCE = 3600.0


@task(name="index in registry", retries=2, retry_delay_seconds=2, retry_condition_fn=is_worth_another_try)
def index_in_registry(workspace: WorkspaceName, dataset: DatasetName) -> None:
    """Write the current snapshot into the registry."""
    place = load_workspace(workspace)
    follow.index(place, require_published(place.lake, dataset).manifest)


@task(name="load warehouse", retries=2, retry_delay_seconds=2, retry_condition_fn=is_worth_another_try)
def load_warehouse(workspace: WorkspaceName, dataset: DatasetName) -> None:
    """Load the current snapshot into the warehouse."""
    place = load_workspace(workspace)
    follow.load(place, require_published(place.lake, dataset).manifest)


@flow(
    name="ingest",
    flow_run_name="ingest-{dataset}",
    on_cancellation=[end_family],
    on_crashed=[end_family],
)
def ingest(
    source: SourceUri,
    dataset: DatasetName,
    workspace: WorkspaceName = "local",
    recipe: RecipeOrDefault = None,
    limit: Limit = None,
    batch_size: BatchSize = BATCH_SIZE,
    reject_limit: RejectLimit = 0.1,
    executor: Executor = "threads",
) -> dict[str, Any]:
    """Turn an image collection with its catalogue into a verified, versioned dataset.

    Returns:
        The summary: counts of images and rows by outcome, outputs drawn, speed, and where the report lies.
    """
    end_children_of_earlier_try()
    started = datetime.now(UTC)
    place = load_workspace(workspace)
    request = Request(place, source, dataset, recipe or Recipe(), limit, batch_size, reject_limit)
    with _alone(request), _recorded(request) as record:
        for lagging in follow.catch_up(place, dataset):
            get_run_logger().warning("The %s lagged behind CURRENT and was brought up to it.", lagging)
        survey = take_stock(request)
        count = len(survey.batches)
        get_run_logger().info("%d images found, %d batches to do", len(survey.images), count)
        announce(sum(len(items) for items in survey.plan.batches))
        draw(place.lake, workspace, survey.batches, executor)
        conclusion = conclude(request, survey, started)
        record.update(conclusion.summary)
        if conclusion.published:
            _spread(workspace, dataset, conclusion)
            clear_batches(place.lake, dataset)
    _describe(conclusion, dataset)
    if conclusion.note:
        get_run_logger().warning("Not published: %s.", conclusion.note)
    return conclusion.summary


def _alone(request: Request) -> AbstractContextManager[None]:
    """The lease on the dataset: a scheduled run waits for it, somebody who waits is told at once."""
    patience = PATIENCE if runtime.deployment.id else 0
    say = get_run_logger().info
    return lease(
        request.workspace.registry, f"dataset/{request.dataset}", patience, lambda who: say("Waiting: %s", who)
    )


@contextmanager
def _recorded(request: Request) -> Iterator[dict[str, Any]]:
    """Note the run in the registry, and how it ended: the body fills in the summary."""
    registry, run_id = request.workspace.registry, str(runtime.flow_run.id)
    start_run(registry, run_id, request.dataset, request.source)
    summary: dict[str, Any] = {}
    try:
        yield summary
    except BaseException as error:
        interrupted = not isinstance(error, Exception)  # Ctrl-C, or Prefect's word that the run is to end
        with suppress(LookbookError):  # a registry that fails too must not hide why the run failed
            said = "interrupted" if interrupted else str(error) or type(error).__name__
            end_run(registry, run_id, summary or None, said)
        raise
    end_run(registry, run_id, summary, None)


def _describe(conclusion: Conclusion, dataset: str) -> None:
    """The report in short and the outcomes, as artifacts that the UI shows with the run."""
    key = dataset.replace("_", "-")
    create_markdown_artifact(conclusion.markdown, key=f"{key}-report", description="The report in short")
    outcomes = [
        {"of": kind, "outcome": outcome, "count": count}
        for kind in ("images", "rows", "outputs")
        for outcome, count in conclusion.summary[kind].items()
    ]
    create_table_artifact(outcomes, key=f"{key}-outcomes", description="The books: found, and each outcome")


def _spread(workspace: str, dataset: str, conclusion: Conclusion) -> None:
    """Registry, warehouse and event follow the new snapshot."""
    index_in_registry(workspace, dataset)
    load_warehouse(workspace, dataset)
    announce_snapshot(dataset, workspace, conclusion.summary["snapshot"], related=[str(runtime.flow_run.id)])
