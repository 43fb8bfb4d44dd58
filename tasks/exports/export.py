"""An export from its request to its last file."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow.compute as pc

from lookbook.blocks.lake import Lake
from lookbook.tasks.datasets.manifest import find_snapshot
from lookbook.tasks.exports.build import (
    SAMPLES_SCHEMA,
    ExportFolder,
    Packer,
    build_parts,
    describe,
    extension_of,
    metadata_rows,
)
from lookbook.tasks.exports.filter_columns import columns_of
from lookbook.tasks.exports.plan import (
    KEY,
    Resolved,
    Selection,
    left_out_counts,
    plan_export,
    resolve,
    select,
)
from lookbook.tasks.exports.predictions import check_predicted, looks_at_predictions, read_predictions, with_predictions
from lookbook.tasks.exports.request import ExportRequest
from lookbook.tasks.exports.rows import EXIF, DatasetRows, read_rows
from lookbook.tasks.exports.sidecars import (
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

EXPORT_JSON = "export.json"


@dataclass(frozen=True)
class PreparedExport:
    """An export whose request is understood and whose rows are known; nothing is selected or made yet."""

    resolved: Resolved
    rows: DatasetRows

    @property
    def id(self) -> str:
        """The export's id."""
        return self.resolved.id


def prepare(lake: Lake, request: ExportRequest) -> PreparedExport:
    """Find a request's names in its snapshot.

    Raises:
        UsageError: a column, an output or a recipe does not exist.
        LookbookError: there is no such dataset, or its snapshot is damaged.
    """
    manifest = find_snapshot(lake, request.dataset, request.snapshot)
    named = {*(request.columns or ()), request.label, request.stratify}
    named |= columns_of(request.filter, None) if request.filter else set()
    rows = read_rows(lake, manifest, with_exif=EXIF in named)
    if request.predictions:
        rows = with_predictions(rows, read_predictions(lake, request.dataset, request.predictions))
        if looks_at_predictions(request):
            check_predicted(rows.table, request.predictions)
    return PreparedExport(resolve(request, manifest, rows, rows.table), rows)


def count_rows(prepared: PreparedExport) -> dict[str, Any]:
    """Return what an export would hold, without making anything: ``selected`` rows, ``exported`` and ``left_out``."""
    selection = select(prepared.rows, prepared.resolved)
    return {
        "selected": selection.selected,
        "exported": selection.table.num_rows,
        "left_out": left_out_counts(selection, {}),
    }


def build(lake: Lake, prepared: PreparedExport, place: ExportFolder, scratch: Path | None = None) -> dict[str, Any]:
    """Make an export in a place: its parts that are not there yet, then its sidecar files.

    Args:
        lake: of the dataset.
        prepared: the request.
        place: where to.
        scratch: a folder for files that grow; None: the system's.

    Returns:
        The books, as they stand in ``export.json``, with ``made`` and ``there``: images made, and found done.

    Raises:
        LookbookError: the lake lacks an object, the place can't be written, or the books don't balance.
        StoppedError: the run was interrupted; what is done stays, and the same request goes on from there.
    """
    resolved = prepared.resolved
    selection = select(prepared.rows, resolved)
    if resolved.request.predictions:
        check_predicted(selection.table, resolved.request.predictions)
    plan = plan_export(lake, resolved, selection)
    packer = Packer(lake, resolved, plan, describe(resolved, plan))
    made, there = build_parts(place, lake, packer)
    with scratch_folder(scratch) as folder:
        books = _write_sidecars(Sidecars(place, Path(folder)), place, packer, selection)
    place.lake.settle()
    return books | {"made": made, "there": there}


def _write_sidecars(sidecars: Sidecars, place: ExportFolder, packer: Packer, selection: Selection) -> dict[str, Any]:
    counts, told_sha256 = write_metadata(sidecars, place, packer)
    if packer.resolved.request.format == "coco":
        write_annotations(sidecars, place, packer)
    check_books(selection.selected, selection.left_out.num_rows, packer.plan.table.num_rows, counts)
    write_left_out(sidecars, place, packer, selection.left_out)
    sidecars.write("contact-sheet.jpg", contact_sheet(counts.thumbnails))
    books = _books(selection, counts)
    shards = {part.side: part.shards for part in packer.plan.parts}
    sidecars.write("README.md", dataset_card(packer.resolved, packer.metadata, books, shards))
    schema = metadata_rows(packer.metadata, packer.plan, SAMPLES_SCHEMA.empty_table()).schema
    sidecars.write("croissant.json", croissant(packer.resolved, schema, told_sha256, _extensions(packer)))
    document = {"id": packer.resolved.id} | packer.resolved.document() | books
    sidecars.write(EXPORT_JSON, (json.dumps(document, indent=1, ensure_ascii=False) + "\n").encode())
    listed = sidecars.close()
    place.lake.settle()  # the manifest says that all of it is there, and would say so after a power cut
    manifest = {"id": packer.resolved.id, "dataset": packer.resolved.request.dataset, "books": books}
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


def _extensions(packer: Packer) -> list[str]:
    """Return the extensions of the files of images."""
    if packer.resolved.recipe:
        return [packer.resolved.recipe.extension]
    return sorted({extension_of(key) for key in pc.unique(packer.plan.table[KEY]).to_pylist()})
