"""Predictions: what a model says of a dataset's images, stored beside its snapshots and told as columns."""

from __future__ import annotations

import hashlib
import io
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from itertools import islice

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from lookbook.blocks.errors import LookbookError, ObjectNotFoundError
from lookbook.blocks.lake import Lake
from lookbook.tasks.datasets.manifest import Manifest
from lookbook.tasks.exports.draw_job import Job, ask, processes
from lookbook.tasks.exports.filter_columns import columns_of
from lookbook.tasks.exports.models import Model
from lookbook.tasks.exports.plan import DIGEST, KEY, with_objects
from lookbook.tasks.exports.recipes import ORIGINALS
from lookbook.tasks.exports.request import ExportRequest
from lookbook.tasks.exports.resolve import find_snapshot, resolve
from lookbook.tasks.exports.rows import Rows, read_rows
from lookbook.tasks.exports.samples import AHEAD, in_order, read_checked
from lookbook.tasks.exports.select import select
from lookbook.tasks.images.decode import Rejected
from lookbook.tasks.images.pacing import check_not_stopped, stoppable
from lookbook.tasks.images.parquet import from_parquet, to_parquet

LABEL, SCORE, EMBEDDING = "predicted_label", "predicted_score", "embedding"
#: Whether a row's content was shown to the model: no column of an export.
PREDICTED = ":predicted"
#: Contents in a file of predictions: what a killed run has to do again, at the most.
CHUNK = 2000

SCHEMA = pa.schema(
    [
        pa.field("sha256", pa.string()),
        pa.field("label", pa.string()),
        pa.field("score", pa.float32()),
        pa.field("embedding", pa.list_(pa.float32())),
        pa.field("rule", pa.string()),  # why an image could not be drawn for the model, else null
    ]
)


def folder_of(dataset: str, digest: str) -> str:
    """Return where the predictions of a model lie."""
    return f"datasets/{dataset}/predictions/{digest}"


def read_predictions(lake: Lake, dataset: str, digest: str) -> pa.Table:
    """Return all stored predictions of a model, each content once.

    Raises:
        LookbookError: one of their files is damaged.
    """
    keys = sorted(info.key for info in lake.list(folder_of(dataset, digest)) if info.key.endswith(".parquet"))
    tables = []
    for key in keys:
        try:
            tables.append(from_parquet(lake.get(key))[0].cast(SCHEMA))
        except ObjectNotFoundError:
            continue
        except (pa.ArrowException, ValueError) as error:
            raise LookbookError(f"{key} is damaged.", "Remove it, and export with --predict again.") from error
    table = pa.concat_tables(tables) if tables else SCHEMA.empty_table()
    _, first = np.unique(np.asarray(table["sha256"].to_pylist(), object), return_index=True)
    return table.take(pa.array(np.sort(first), pa.int64()))


def with_predictions(rows: Rows, found: pa.Table) -> Rows:
    """Return the rows with the columns `LABEL`, `SCORE`, `EMBEDDING` and `PREDICTED`."""
    places = pc.index_in(rows.table["sha256"], value_set=found["sha256"])
    table = rows.table.append_column(PREDICTED, pc.is_valid(places))
    for name, column in ((LABEL, "label"), (SCORE, "score"), (EMBEDDING, "embedding")):
        table = table.append_column(name, found[column].take(places))
    return replace(rows, table=table)


def check_predicted(table: pa.Table, digest: str) -> None:
    """See that every image of some rows was shown to the model.

    Raises:
        LookbookError: one was not; an export without it would be another one later, under the same id.
    """
    loaded = pc.fill_null(pc.not_equal(table["image_outcome"], "rejected"), False)
    missing = pc.sum(pc.and_(loaded, pc.invert(table[PREDICTED]))).as_py() or 0
    if missing:
        raise LookbookError(
            f"{missing} images have no stored prediction of the model {digest}.",
            "Give the model itself: --predict model.onnx.",
        )


def looks_at_predictions(request: ExportRequest) -> bool:
    """Return whether the filter names what a model says."""
    return request.filter is not None and bool(columns_of(request.filter, None) & {LABEL, SCORE, EMBEDDING})


def predict(lake: Lake, request: ExportRequest, model: Model) -> ExportRequest:
    """Ask a model about the images that a request may need it for, and store what it says.

    That are all images of the snapshot if its filter looks at predictions, else those that it chooses.

    Returns:
        The request, with the model's digest.
    """
    asked = request.model_copy(update={"predictions": model.digest})
    manifest = find_snapshot(lake, request)
    rows = with_predictions(read_rows(lake, manifest), read_predictions(lake, request.dataset, model.digest))
    if looks_at_predictions(request):
        good = pc.fill_null(pc.not_equal(rows.table["image_outcome"], "rejected"), False)
        table = rows.table.filter(good)
    else:
        table = select(rows, resolve(asked, manifest, rows, rows.table.schema)).table
    table = table.filter(pc.invert(table[PREDICTED]))
    _predict_rows(lake, manifest, table, model)
    return asked


def _predict_rows(lake: Lake, manifest: Manifest, table: pa.Table, model: Model) -> None:
    """Predict the contents of some rows, in the order of their hashes, and store them chunk by chunk."""
    table = with_objects(lake, manifest, table, ORIGINALS)
    named = {row["sha256"]: row for row in table.select(["sha256", KEY, DIGEST]).to_pylist()}
    contents = iter(sorted(named))
    with ThreadPoolExecutor(AHEAD, thread_name_prefix="predict") as pool, stoppable():
        while chunk := list(islice(contents, CHUNK)):
            job = Job(recipe=model.spec.recipe(), limits=manifest.recipe, seed=0)
            places = [(named[sha256][KEY], named[sha256][DIGEST], sha256) for sha256 in chunk]
            data = to_parquet(pa.concat_tables(_batches(lake, places, job, model, pool)))
            name = hashlib.sha256(" ".join(chunk).encode()).hexdigest()[:32]
            lake.replace(f"{folder_of(manifest.dataset, model.digest)}/{name}.parquet", data)


def _batches(
    lake: Lake, places: Sequence[tuple[str, str, str]], job: Job, model: Model, pool: ThreadPoolExecutor
) -> Iterator[pa.Table]:
    renderers = processes()

    def drawn(place: tuple[str, str, str]) -> NDArray[np.float32] | str:
        check_not_stopped()
        key, digest, sha256 = place
        try:
            found = ask(renderers, read_checked(lake, key, digest), job, sha256, 0, small=False)
        except Rejected as reject:
            return reject.rule
        return np.asarray(np.load(io.BytesIO(found.files[0].data), allow_pickle=False), np.float32)

    made = in_order(pool, drawn, places, AHEAD)
    while batch := list(islice(made, model.spec.batch_size)):
        images = [result for _, result in batch if not isinstance(result, str)]
        answers = model.ask(images) if images else None
        at = 0
        rows = []
        for (_, _, sha256), result in batch:
            row: dict[str, object] = {"sha256": sha256, "rule": result if isinstance(result, str) else None}
            if answers is not None and not isinstance(result, str):
                row |= {"label": answers.labels[at], "score": answers.scores[at]}
                row["embedding"] = None if answers.embeddings is None else answers.embeddings[at].tolist()
                at += 1
            rows.append(row)
        yield pa.Table.from_pylist(rows, schema=SCHEMA)
