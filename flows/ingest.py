"""The main flow: a source becomes a published snapshot, a registry, a warehouse and a report."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from typing import Any

from prefect import flow, get_run_logger, runtime, task
from prefect.artifacts import (
    create_markdown_artifact,
    create_progress_artifact,
    create_table_artifact,
    update_progress_artifact,
)
from prefect.client.schemas.objects import State, TaskRun
from prefect.events import emit_event
from prefect.futures import as_completed
from prefect.task_runners import ThreadPoolTaskRunner
from prefect.tasks import Task

from blocks.errors import LookbookError
from blocks.settings import read_settings
from blocks.workspace import load_workspace
from flows.process_batch import process_batch
from tasks.datasets import follow
from tasks.datasets.conclusion import Conclusion, conclude
from tasks.datasets.lease import lease
from tasks.datasets.manifest import require_published
from tasks.datasets.recovery import clear_batches
from tasks.datasets.runs import end_run, start_run
from tasks.datasets.survey import Request, Survey, take_stock
from tasks.images.pacing import stoppable
from tasks.images.progress import announce
from tasks.images.recipe import Recipe, RecipeOrDefault
from tasks.parameters import BATCH_SIZE, BatchSize, DatasetName, Limit, RejectLimit, SourceUri, WorkspaceName


def _is_worth_another_try(task: Task[Any, Any], run: TaskRun, state: State[Any]) -> bool:  # noqa: ARG001
    """Faults of disk and network may pass; what a user has to mend does not."""
    return not isinstance(state.result(raise_on_failure=False), LookbookError)


@task(
    name="process batch",
    task_run_name="{batch}",
    retries=2,
    retry_delay_seconds=2,
    retry_condition_fn=_is_worth_another_try,
)
def run_batch(workspace: WorkspaceName, batch: str) -> dict[str, int]:
    """Run the subflow of one batch: Prefect maps tasks, not flows."""
    return process_batch(workspace, batch)


@task(name="index in registry", retries=2, retry_delay_seconds=2, retry_condition_fn=_is_worth_another_try)
def index_in_registry(workspace: WorkspaceName, dataset: DatasetName) -> None:
    """Write the current snapshot into the registry."""
    place = load_workspace(workspace)
    follow.index(place, require_published(place.lake, dataset).manifest)


@task(name="load warehouse", retries=2, retry_delay_seconds=2, retry_condition_fn=_is_worth_another_try)
def load_warehouse(workspace: WorkspaceName, dataset: DatasetName) -> None:
    """Load the current snapshot into the warehouse."""
    place = load_workspace(workspace)
    follow.load(place, require_published(place.lake, dataset).manifest)


@flow(
    name="ingest",
    flow_run_name="ingest-{dataset}",
    task_runner=ThreadPoolTaskRunner(max_workers=read_settings().batches_at_once),  # type: ignore[arg-type]
)
def ingest(
    source: SourceUri,
    dataset: DatasetName,
    workspace: WorkspaceName = "local",
    recipe: RecipeOrDefault = None,
    limit: Limit = None,
    batch_size: BatchSize = BATCH_SIZE,
    reject_limit: RejectLimit = 0.1,
) -> dict[str, Any]:
    """Turn an image collection with its catalogue into a verified, versioned dataset.

    Returns:
        The summary: counts of images and rows by outcome, outputs drawn, speed, and where the report lies.
    """
    started = datetime.now(UTC)
    place = load_workspace(workspace)
    request = Request(place, source, dataset, recipe or Recipe(), limit, batch_size, reject_limit)
    with lease(place.registry, f"dataset/{dataset}"), _recorded(request) as record:
        for lagging in follow.catch_up(place, dataset):
            get_run_logger().warning("The %s lagged behind CURRENT and was brought up to it.", lagging)
        survey = take_stock(request)
        _draw(survey, workspace)
        conclusion = conclude(request, survey, started)
        record.update(conclusion.summary)
        if conclusion.published:
            _spread(workspace, dataset, conclusion)
            clear_batches(place.lake, dataset)
    _describe(conclusion, dataset)
    if conclusion.note:
        get_run_logger().warning("Not published: %s.", conclusion.note)
    return conclusion.summary


@contextmanager
def _recorded(request: Request) -> Iterator[dict[str, Any]]:
    """Note the run in the registry, and how it ended: the body fills in the summary."""
    registry, run_id = request.workspace.registry, str(runtime.flow_run.id)
    start_run(registry, run_id, request.dataset, request.source)
    summary: dict[str, Any] = {}
    try:
        yield summary
    except BaseException as error:
        interrupted = isinstance(error, KeyboardInterrupt)
        with suppress(LookbookError):  # a registry that fails too must not hide why the run failed
            said = "interrupted" if interrupted else str(error) or type(error).__name__
            end_run(registry, run_id, summary or None, said)
        raise
    end_run(registry, run_id, summary, None)


def _draw(survey: Survey, workspace: str) -> None:
    """Fan out over the batches and wait for all of them; the first fault is raised at the end."""
    count = len(survey.batches)
    get_run_logger().info("%d images found, %d batches to do", len(survey.images), count)
    announce(sum(len(items) for items in survey.plan.batches))
    if not count:
        return
    progress = create_progress_artifact(0.0, description=f"{count} batches")
    futures = run_batch.map(workspace, survey.batches)
    faults: list[Exception] = []
    with stoppable():
        for done, future in enumerate(as_completed(list(futures)), start=1):
            try:
                future.result()
            except Exception as fault:  # noqa: BLE001 - raised below, once the other batches have ended
                faults.append(fault)
            update_progress_artifact(progress, 100.0 * done / count)  # type: ignore[arg-type]
    if faults:
        raise faults[0]


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
    emit_event(
        "lookbook.snapshot.published",
        resource={"prefect.resource.id": f"lookbook.dataset.{dataset}", "prefect.resource.name": dataset},
        payload={"dataset": dataset, "workspace": workspace, "snapshot": conclusion.summary["snapshot"]},
    )
