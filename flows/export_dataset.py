"""Export images of a dataset, made into what a training needs, with their metadata and their books."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from prefect import flow, get_run_logger, runtime, task
from prefect.artifacts import (
    create_markdown_artifact,
    create_progress_artifact,
    create_table_artifact,
    update_progress_artifact,
)

from lookbook.blocks.workspace import load_workspace
from lookbook.flows.endings import (
    end_children_of_earlier_try,
    end_family,
    is_no_interruption,
    is_worth_another_try,
    max_wait,
)
from lookbook.flows.fan_out import doing, telling, warn_of_sqlite
from lookbook.tasks.datasets.gc import reading
from lookbook.tasks.exports.export import prepare
from lookbook.tasks.exports.places import Exported, export_to_folder, export_to_lake
from lookbook.tasks.exports.predictions import load_model, predict
from lookbook.tasks.exports.request import (
    Augment,
    Columns,
    Copies,
    ExactShares,
    ExportRequest,
    FilterWanted,
    FormatWanted,
    IdsWanted,
    LabelColumn,
    ModelFile,
    Out,
    Predictions,
    QuoteFormulas,
    RecipeWanted,
    Seed,
    ShardSize,
    Shuffle,
    SnapshotId,
    SplitWanted,
    Stratify,
    TextWanted,
    Where,
    check_out,
    request_of,
)
from lookbook.tasks.runs.announcements import announce_export
from lookbook.tasks.runs.parameters import BATCH_SIZE, BatchSize, DatasetName, Executor, WorkspaceName
from lookbook.tasks.runs.progress import listening


@task(
    name="export",
    task_run_name="export",
    retries=2,
    retry_delay_seconds=2,
    retry_condition_fn=is_worth_another_try,
    persist_result=False,
)
def export_images(
    workspace: WorkspaceName,
    request: ExportRequest,
    out: str | None,
    model: str | None,
    executor: Executor,
    batch_size: BatchSize,
) -> tuple[Exported, str]:
    """Make the export, or find it done; with the id of its snapshot."""
    place = load_workspace(workspace)
    do, scratch = doing(place.lake, workspace, executor), place.scratch / "exports"
    with reading(place, request.dataset, request.snapshot, str(runtime.flow_run.id), max_wait()) as manifest:
        request = request.model_copy(update={"snapshot": manifest.snapshot_id})
        if model is not None:
            request = predict(place.lake, request, load_model(Path(model)), do)
        prepared = prepare(place.lake, request)
        with _logged_progress():
            if out is None:
                exported = export_to_lake(place.lake, prepared, scratch, do, batch_size)
            else:
                by_way_of = None if executor == "threads" else scratch
                exported = export_to_folder(place.lake, prepared, Path(out), do, batch_size, by_way_of=by_way_of)
    return exported, prepared.resolved.manifest.snapshot_id


@task(name="announce export", retries=2, retry_delay_seconds=2, retry_condition_fn=is_no_interruption)
def announce_finished(workspace: WorkspaceName, dataset: DatasetName, snapshot: str, export: str, uri: str) -> None:
    """Send the event of the export."""
    announce_export(dataset, workspace, snapshot, export, uri, related=[str(runtime.flow_run.id)])


@flow(
    name="export-dataset",
    flow_run_name="export-{dataset}",
    on_cancellation=[end_family],
    on_crashed=[end_family],
)
def export_dataset(
    dataset: DatasetName,
    workspace: WorkspaceName = "local",
    snapshot: SnapshotId = None,
    where: Where = [],  # noqa: B006 - nothing changes it, and Prefect's form shows it
    text: TextWanted = None,
    ids: IdsWanted = [],  # noqa: B006
    filter: FilterWanted = None,  # noqa: A002 - its name in requests
    recipe: RecipeWanted = "originals",
    format: FormatWanted = "imagefolder",  # noqa: A002
    split: SplitWanted = None,
    stratify: Stratify = None,
    exact_shares: ExactShares = False,
    label: LabelColumn = None,
    columns: Columns = [],  # noqa: B006
    copies: Copies = 1,
    augment: Augment = "first",
    seed: Seed = 0,
    shuffle: Shuffle = False,
    shard_size: ShardSize = 1000,
    quote_formulas: QuoteFormulas = False,
    predictions: Predictions = None,
    model: ModelFile = None,
    out: Out = None,
    executor: Executor = "threads",
    batch_size: BatchSize = BATCH_SIZE,
) -> dict[str, Any]:
    """Export a dataset: filtered, drawn by a recipe, split, packed, described. The same request gives the same bytes.

    Returns:
        The export's id, where it lies, whether it was there, and its books.
    """
    request = request_of(dataset, locals())
    check_out(out)
    end_children_of_earlier_try()
    warn_of_sqlite(executor)
    exported, snapshot_id = export_images(workspace, request, out, model, executor, batch_size)
    announce_finished(workspace, dataset, snapshot_id, exported.id, exported.uri)
    summary = {
        "export": exported.id,
        "dataset": dataset,
        "snapshot": snapshot_id,
        "format": format,
        "uri": exported.uri,
        "answered": exported.answered,
        **exported.books,
    }
    _describe(summary)
    return summary


@contextmanager
def _logged_progress() -> Iterator[None]:
    """Say in the log, and by an artifact, how far the export is, in images and bytes, at every tenth of it."""
    say = _Tenths()
    with listening(announce=say.total_is, advance=say.images_done, wrote=say.bytes_there):
        yield


class _Tenths:
    """Counts images and bytes, and says so in the log and by an artifact, which the API reads."""

    def __init__(self) -> None:
        self._log: Callable[..., None] = get_run_logger().info
        self._total, self._images, self._bytes, self._told = 0, 0, 0, 0
        self._artifact: Any = None
        self._counting = threading.Lock()  # several batches of this process tell at once

    def total_is(self, images: int) -> None:
        self._total = images
        with telling():
            self._artifact = create_progress_artifact(0.0, description=f"{images} images")

    def bytes_there(self, size: int) -> None:
        with self._counting:
            self._bytes += size

    def images_done(self, images: int) -> None:
        with self._counting:
            self._images += images
            tenth = 10 * self._images // self._total if self._total else 10
            if tenth <= self._told:
                return
            self._told = tenth
            told = f"{self._images} of {self._total} images, {self._bytes / 1e6:.1f} MB"
            percent = min(100.0 * self._images / max(self._total, 1), 100.0)
        self._log(told)
        with telling():
            if self._artifact is not None:
                update_progress_artifact(self._artifact, percent, description=told)


def _describe(summary: dict[str, Any]) -> None:
    """Make the artifacts that the UI shows with the run: what was exported."""
    key = summary["dataset"].replace("_", "-")
    answered = " It was there, and nothing was made." if summary["answered"] else ""
    text = f"Export `{summary['export']}` of `{summary['snapshot']}` in `{summary['uri']}`.{answered}"
    create_markdown_artifact(text, key=f"{key}-export", description="Where the export lies")
    rows = [{"what": "selected", "count": summary["selected"]}, {"what": "exported", "count": summary["exported"]}]
    rows += [{"what": f"left out: {reason}", "count": count} for reason, count in summary["left_out"].items()]
    rows += [{"what": f"images: {side}", "count": count} for side, count in summary["images"].items()]
    create_table_artifact(rows, key=f"{key}-export-books", description="Rows chosen, exported and left out")
