"""The main flow: a source becomes a published snapshot, a registry, a warehouse and a report."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

from prefect import flow, get_run_logger, runtime, task
from prefect.artifacts import create_markdown_artifact, create_table_artifact

from lookbook.blocks.workspace import Workspace, load_workspace
from lookbook.flows.endings import (
    end_children_of_earlier_try,
    end_family,
    is_no_interruption,
    is_worth_another_try,
    recorded_run,
)
from lookbook.flows.fan_out import draw, warn_of_sqlite
from lookbook.tasks.datasets import follow
from lookbook.tasks.datasets.checks import told
from lookbook.tasks.datasets.follow import note_announced, unannounced_snapshot
from lookbook.tasks.datasets.forgetting import resume
from lookbook.tasks.datasets.gc import end_removal
from lookbook.tasks.datasets.inventory import (
    Listing,
    Request,
    clear_batches,
    inputs_digest,
    list_source,
    take_inventory,
)
from lookbook.tasks.datasets.manifest import require_published
from lookbook.tasks.datasets.publish import FailedChecksError, FinishedRun, finalize, sweep_unfinished, unchanged
from lookbook.tasks.datasets.sources.kaggle import drop
from lookbook.tasks.datasets.unpublished import RejectNotes, noting_rejects
from lookbook.tasks.images.batch import end_sweep
from lookbook.tasks.images.recipe import Recipe, RecipeOrDefault
from lookbook.tasks.runs.announcements import announce_snapshot
from lookbook.tasks.runs.lease import Hold
from lookbook.tasks.runs.parameters import (
    BATCH_SIZE,
    BatchSize,
    DatasetName,
    DropDownload,
    Executor,
    ImageColumn,
    KeyColumn,
    Limit,
    RejectLimit,
    SourceUri,
    Within,
    WorkspaceName,
)
from lookbook.tasks.runs.progress import announce, listening
from lookbook.tasks.runs.records import end_run, start_run


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


@task(name="announce snapshot", retries=2, retry_delay_seconds=2, retry_condition_fn=is_no_interruption)
def announce_published(workspace: WorkspaceName, dataset: DatasetName) -> None:
    """Send the event of the current snapshot, unless it was sent."""
    registry = load_workspace(workspace).registry
    snapshot = unannounced_snapshot(registry, dataset)
    if snapshot is not None:
        # First the event, then the note: killed in between, the next run announces it again.
        announce_snapshot(dataset, workspace, snapshot, related=[str(runtime.flow_run.id)])
        note_announced(registry, dataset, snapshot)


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
    drop_download: DropDownload = False,
    key: KeyColumn = None,
    image_column: ImageColumn = None,
    within: Within = [],  # noqa: B006 - nothing changes it, and Prefect's form shows it
) -> dict[str, Any]:
    """Turn an image collection with its catalogue into a verified, versioned dataset.

    Returns:
        The summary: counts of images and rows by outcome, outputs drawn, speed, and where the report lies.
    """
    place = load_workspace(workspace)
    request = Request(
        *(place, source, dataset, recipe or Recipe(), limit, batch_size, reject_limit, within, key, image_column)
    )
    finished = publish_source(place, workspace, dataset, source, executor, lambda: request)
    if drop_download:
        drop(finished.summary["source"], place.scratch)
    return finished.summary


def publish_source(
    place: Workspace,
    workspace: WorkspaceName,
    dataset: DatasetName,
    source: str,
    executor: Executor,
    asked: Callable[[], Request],
    told: Callable[[FinishedRun], dict[str, Any]] = lambda _: {},
) -> FinishedRun:
    """Do all that publishes a snapshot of a source, under the dataset's lease.

    Args:
        place: the workspace.
        workspace: its name.
        dataset: what is published.
        source: as the run is recorded.
        executor: draws the batches.
        asked: returns what is asked for, once the lease is held.
        told: returns what the summary is to say further.
    """
    end_children_of_earlier_try()
    warn_of_sqlite(executor)
    started = datetime.now(UTC)
    registry, run_id = place.registry, str(runtime.flow_run.id)
    record: dict[str, Any] = {}
    with (
        recorded_run(
            registry,
            f"dataset/{dataset}",
            lambda: start_run(registry, run_id, dataset, source),
            lambda why: end_run(registry, run_id, record or None, why),
        ),
        noting_rejects(request := asked(), run_id, started) as notes,
    ):
        catch_up(place, workspace, dataset)
        get_run_logger().info("Listing %s", request.source)
        with listening(download=_download_log()):
            listing = list_source(request)
        inputs = inputs_digest(request, listing)
        try:
            finished = unchanged(request, listing, inputs, started) or _make_snapshot(
                request, listing, workspace, executor, notes, started
            )
        except FailedChecksError as error:
            record.update(error.finished.summary)
            _describe(error.finished, dataset)
            raise
        notes.ended(finished.note if finished.changed else "")
        if finished.published or not finished.changed:
            finished.summary["inputs"] = inputs
        finished.summary.update(told(finished))
        record.update(finished.summary)
        if finished.published:
            index_in_registry(workspace, dataset)
            load_warehouse(workspace, dataset)
            clear_batches(place.lake, dataset)
        end_run(registry, run_id, record, None)
    if finished.published:  # after the lease is given back: what follows may want it
        announce_published(workspace, dataset)
    _describe(finished, dataset)
    if finished.note:
        get_run_logger().warning("Not published: %s.", finished.note)
    return finished


def _make_snapshot(
    request: Request,
    listing: Listing,
    workspace: WorkspaceName,
    executor: Executor,
    notes: RejectNotes,
    started: datetime,
) -> FinishedRun:
    """Do the work that is left on what was listed, and publish; raises as `finalize`."""
    inventory = take_inventory(request, listing)
    notes.found(inventory)
    found, batches = inventory.file_counts["images"], inventory.batches
    get_run_logger().info("%d images found; batches to do: %d", found, len(batches))
    announce(inventory.work["todo"])
    draw(request.workspace.lake, workspace, batches, executor)
    return finalize(request, inventory, started)


def _download_log() -> Callable[[int, int], None]:
    """Says in the log how far the download of a source is, at every tenth of it."""
    logger, told = get_run_logger(), [-1]

    def log(done: int, total: int) -> None:
        tenth = 10 * done // total if total else 10
        if tenth > told[0]:
            told[0] = tenth
            logger.info("Downloading: %d of %d MB", done // 10**6, total // 10**6)

    return log


def catch_up(place: Workspace, workspace: WorkspaceName, dataset: DatasetName) -> None:
    """Do what a run that was killed left undone: before it swapped CURRENT, or after; its lease is held by now."""
    logger, hold = get_run_logger(), Hold(place.registry, f"dataset/{dataset}")
    end_sweep(place.lake)
    if end_removal(place, dataset, hold):
        logger.warning("%s was being removed by a run that was killed: what it left is removed now.", dataset)
    for unfinished in sweep_unfinished(place.lake, dataset):
        logger.warning("%s was not finished by its run, and was never published: its files are removed.", unfinished)
    if resume(place, dataset, hold):
        logger.warning("A run that was to forget something was killed: it is gone from the dataset's snapshots now.")
        logger.warning('"lookbook forget %s" does the rest: exports, originals and outputs, and the proof.', dataset)
    for lagging in follow.catch_up(place, dataset):
        logger.warning("The %s lagged behind CURRENT and was brought up to it.", lagging)
    snapshot = unannounced_snapshot(place.registry, dataset)
    if snapshot is not None:
        logger.warning("%s was published, but its run ended before it was announced: it is announced now.", snapshot)
        announce_published(workspace, dataset)


def _describe(finished: FinishedRun, dataset: str) -> None:
    """Make the artifacts that the UI shows with the run: the report in short and the outcomes."""
    key = dataset.replace("_", "-")
    create_markdown_artifact(finished.markdown, key=f"{key}-report", description="The report in short")
    outcomes = [
        {"of": kind, "outcome": outcome, "count": count}
        for kind in ("images", "rows", "outputs")
        for outcome, count in finished.summary[kind].items()
    ]
    for check in finished.summary["checks"]:
        if check["outcome"] != "passed":
            get_run_logger().warning("The check %s %s", told(check), check["outcome"])
    create_table_artifact(outcomes, key=f"{key}-outcomes", description="The books: found, and each outcome")
