"""Requests of exports: their names found in a snapshot, and what a run of the deployment is told."""

from __future__ import annotations

from typing import Any

from lookbook.deployments.api.loaded import LoadedSnapshot
from lookbook.deployments.api.snapshots import Snapshots
from lookbook.tasks.exports.export import Prepared, count_rows, prepare
from lookbook.tasks.exports.filter_columns import columns_of
from lookbook.tasks.exports.finished import Finished, find_finished
from lookbook.tasks.exports.plan import resolve
from lookbook.tasks.exports.request import ExportRequest
from lookbook.tasks.exports.rows import EXIF

DEPLOYMENT = "export-dataset/local"
#: A finished export of so many files and bytes is read before it is called done; a larger one by a run.
MOST_FILES, MOST_BYTES = 10_000, 256 * 1024 * 1024


def prepared_request(snapshots: Snapshots, request: ExportRequest) -> Prepared:
    """Return a request that names its snapshot, with its columns and values found there.

    Raises:
        Problem: there is no such dataset or snapshot.
        UsageError: a column, a value, an output or a recipe cannot be meant.
    """
    loaded = snapshots.load(request.dataset, request.snapshot)
    pinned = request.model_copy(update={"snapshot": loaded.manifest.snapshot_id})
    named = {*(pinned.columns or ()), pinned.label, pinned.stratify}
    named |= columns_of(pinned.filter, None) if pinned.filter else set()
    if EXIF in named or pinned.predictions:
        return prepare(snapshots.lake, pinned)
    return Prepared(resolve(pinned, loaded.manifest, loaded.rows, loaded.table), loaded.rows)


def counted(loaded: LoadedSnapshot, prepared: Prepared) -> dict[str, Any]:
    """Return what an export would hold; counted once for equal requests."""
    return loaded.kept(("count", prepared.id), lambda: count_rows(prepared))


def finished_already(snapshots: Snapshots, export_id: str) -> Finished | None:
    """Return the export, if it is there and whole."""
    found = find_finished(snapshots.lake, export_id)
    if found is None or found.books["files"] > MOST_FILES or found.books["bytes"] > MOST_BYTES:
        return None
    return found if found.is_whole() else None


def run_parameters(request: ExportRequest, workspace: str) -> dict[str, Any]:
    """Return what a run of the deployment is told."""
    values = request.model_dump(mode="json", by_alias=True, exclude={"predictions"}) | {"workspace": workspace}
    sides = ",".join(f"{name}={share!r}" for name, share in (request.split or {}).items())
    told = {"predictions": request.predictions} if request.predictions else {}
    return values | told | {"split": sides or None, "columns": request.columns or []}
