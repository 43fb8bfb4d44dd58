"""An export from its request to its last file."""

from __future__ import annotations

import hashlib
import json
from functools import cached_property, partial
from pathlib import Path
from typing import Any

import pyarrow as pa

from lookbook.blocks.lake import Lake
from lookbook.tasks.datasets.tags import find_snapshot
from lookbook.tasks.exports.build import (
    SAMPLES_SCHEMA,
    ExportFolder,
    Making,
    PlanRows,
    build_parts,
    columns_of_files,
    making_of,
    metadata_rows,
)
from lookbook.tasks.exports.filter_columns import columns_of
from lookbook.tasks.exports.plan import (
    ExportPlan,
    Resolved,
    Selection,
    columns_looked_at,
    left_out_counts,
    plan_export,
    resolve,
    select,
)
from lookbook.tasks.exports.predictions import check_predicted, looks_at_predictions, read_predictions, with_predictions
from lookbook.tasks.exports.request import ExportRequest
from lookbook.tasks.exports.rows import EXIF, DatasetRows, read_rows
from lookbook.tasks.exports.sidecars import (
    Built,
    Counts,
    Sidecars,
    check_books,
    contact_sheet,
    croissant,
    dataset_card,
    scratch_folder,
    write_annotations,
    write_left_out,
    write_metadata,
)
from lookbook.tasks.images.jobs import DoBatches
from lookbook.tasks.runs.parameters import BATCH_SIZE

EXPORT_JSON = "export.json"


class PreparedExport:
    """An export whose request is understood and whose rows are known; nothing is selected or made yet."""

    def __init__(self, resolved: Resolved, rows: DatasetRows) -> None:
        """Take the rows of the snapshot that the request names."""
        self.resolved = resolved
        self._rows: DatasetRows | None = rows

    @property
    def id(self) -> str:
        """The export's id."""
        return self.resolved.id

    @cached_property
    def selection(self) -> Selection:
        """The rows that are exported. Those of the whole snapshot, which may be a gigabyte, are let go."""
        rows, self._rows = self._rows, None
        assert rows is not None  # noqa: S101 - this runs once
        selection = select(rows, self.resolved)
        del rows
        pa.default_memory_pool().release_unused()
        return selection


def prepare(lake: Lake, request: ExportRequest, scratch: Path | None = None) -> PreparedExport:
    """Find a request's names in its snapshot. From here on the request names that by its id: a tag may move.

    Args:
        lake: of the dataset.
        request: what is asked.
        scratch: a folder for copies of tables that are read by parts; None: the system's.

    Raises:
        UsageError: a column, an output or a recipe does not exist.
        LookbookError: there is no such dataset, or its snapshot is damaged.
    """
    manifest = find_snapshot(lake, request.dataset, request.snapshot)
    named = {*(request.columns or ()), request.label, request.stratify}
    named |= columns_of(request.filter, None) if request.filter else set()
    looked_at = partial(columns_looked_at, request)
    rows = read_rows(lake, manifest, with_exif=EXIF in named, only=looked_at, scratch=scratch)
    if request.predictions:
        rows = with_predictions(rows, read_predictions(lake, request.dataset, request.predictions))
        if looks_at_predictions(request):
            check_predicted(rows.table, request.predictions)
    pinned = request.model_copy(update={"snapshot": manifest.snapshot_id})
    return PreparedExport(resolve(pinned, manifest, rows, rows.table), rows)


def count_rows(prepared: PreparedExport) -> dict[str, Any]:
    """Return what an export would hold, without making anything: ``selected`` rows, ``exported`` and ``left_out``."""
    selection = prepared.selection
    return {
        "selected": selection.selected,
        "exported": selection.table.num_rows,
        "left_out": left_out_counts(selection, {}),
    }


def build(
    lake: Lake,
    prepared: PreparedExport,
    place: ExportFolder,
    scratch: Path | None = None,
    do: DoBatches | None = None,
    batch_size: int = BATCH_SIZE,
) -> dict[str, Any]:
    """Make an export in a place: its parts that are not there yet, then its sidecar files.

    Args:
        lake: of the dataset.
        prepared: the request.
        place: where to.
        scratch: a folder for files that grow; None: the system's.
        do: has the batches of parts done; None: in this process.
        batch_size: files in a batch. What is made does not depend on it, or on who makes it.

    Returns:
        The books, as they stand in ``export.json``, with ``made`` and ``there``: images made, and found done.

    Raises:
        LookbookError: the lake lacks an object, the place can't be written, or the books don't balance.
        StoppedError: the run was interrupted; what is done stays, and the same request goes on from there.
    """
    resolved, selection = prepared.resolved, prepared.selection
    if resolved.request.predictions:
        check_predicted(selection.table, resolved.request.predictions)
    plan = plan_export(lake, resolved, selection)
    making = making_of(resolved, plan)
    made, there = build_parts(lake, place, making, plan, do, batch_size)
    built = _built(place, resolved, making, plan)
    with scratch_folder(scratch) as folder:
        books = _write_sidecars(Sidecars(place, Path(folder)), built, selection)
    place.lake.settle()
    return books | {"made": made, "there": there}


def _built(place: ExportFolder, resolved: Resolved, making: Making, plan: ExportPlan) -> Built:
    samples = SAMPLES_SCHEMA.empty_table()
    if resolved.request.format == "csv":
        samples = samples.append_column("url", pa.nulls(0, pa.string()))
    fields = [plan.others.schema.field(name) for name in columns_of_files(plan, making.metadata)]
    empty = pa.schema([*plan.table.schema, *fields]).empty_table()
    schema = metadata_rows(making.metadata, PlanRows(empty), samples).schema
    return Built(place, resolved, making.metadata, schema, plan.parts, plan.extensions)


def _write_sidecars(sidecars: Sidecars, built: Built, selection: Selection) -> dict[str, Any]:
    place, resolved = built.place, built.resolved
    counts, told_sha256 = write_metadata(sidecars, built)
    if resolved.request.format == "coco":
        write_annotations(sidecars, built)
    planned = sum(part.stop - part.start for part in built.parts)
    check_books(selection.selected, selection.left_out.num_rows, planned, counts)
    write_left_out(sidecars, built, selection.left_out)
    sidecars.write("contact-sheet.jpg", contact_sheet(counts.thumbnails))
    books = _books(selection, counts)
    shards = {part.side: part.shards for part in built.parts}
    sidecars.write("README.md", dataset_card(resolved, built.metadata, books, shards))
    fields = pa.schema([field for field in built.schema if field.name != "url"])  # so since `EXPORT_VERSION` 1
    sidecars.write("croissant.json", croissant(resolved, fields, told_sha256, built.extensions))
    document = {"id": resolved.id} | resolved.document() | books
    sidecars.write(EXPORT_JSON, (json.dumps(document, indent=1, ensure_ascii=False) + "\n").encode())
    listed = sidecars.close()
    place.lake.settle()  # the manifest says that all of it is there, and would say so after a power cut
    manifest = {"id": resolved.id, "dataset": resolved.request.dataset, "books": books}
    manifest["files_sha256"] = hashlib.sha256(listed).hexdigest()
    place.lake.replace(f"{place.folder}manifest.json", json.dumps(manifest, indent=1).encode())
    return books


def _books(selection: Selection, counts: Counts) -> dict[str, Any]:
    return {
        "selected": selection.selected,
        "exported": counts.rows,
        "left_out": left_out_counts(selection, counts.refused),
        "images": counts.samples,
        "files": counts.files,
        "bytes": counts.size,
        "groups": selection.groups,
        "strata": selection.strata,
    }
