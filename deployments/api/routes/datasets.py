"""Datasets and their snapshots."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any

import pyarrow as pa
from fastapi import APIRouter, Path, Response

from lookbook.blocks.errors import LookbookError
from lookbook.deployments.api import models
from lookbook.deployments.api.access import IngestSubmitter, Reader
from lookbook.deployments.api.problems import (
    CursorQuery,
    DatasetPath,
    ListLimit,
    PageCursor,
    Problem,
    SnapshotPath,
    problems,
    query_digest,
    read_cursor,
    start_of,
)
from lookbook.deployments.api.products import is_facet
from lookbook.deployments.api.services import Shared
from lookbook.deployments.api.shown import dataset_path, json_answer
from lookbook.deployments.api.snapshots import LoadedSnapshot, Snapshots
from lookbook.tasks.datasets.checks import Checks, read_checks, set_checks
from lookbook.tasks.datasets.manifest import Manifest
from lookbook.tasks.datasets.tags import TAG, Tag, read_tags, remove_tag, set_tag

router = APIRouter(prefix="/datasets", tags=["datasets"])

TagPath = Annotated[str, Path(pattern=TAG, description="Name of a tag.")]


@router.get("", response_model=models.Datasets, responses=problems())
def list_datasets(shared: Shared, _: Reader) -> Response:
    """List the datasets of the workspace, by name."""
    return json_answer({"items": [_dataset(shared.snapshots, name) for name in shared.snapshots.datasets()]})


@router.get("/{name}", response_model=models.Dataset, responses=problems(404))
def show_dataset(name: DatasetPath, shared: Shared, _: Reader) -> Response:
    """Show a dataset with its current snapshot."""
    shared.snapshots.current(name)
    return json_answer(_dataset(shared.snapshots, name))


@router.get("/{name}/snapshots", response_model=models.SnapshotPage, responses=problems(400, 404))
def list_snapshots(
    name: DatasetPath, shared: Shared, _: Reader, cursor: CursorQuery = None, limit: ListLimit = 50
) -> Response:
    """List the snapshots of a dataset, newest first."""
    given, digest = read_cursor(cursor) if cursor else None, query_digest("snapshots", name)
    chain = shared.snapshots.chain(name)
    current, start = chain[0].snapshot_id, start_of(given, digest)
    if given is not None:  # what was published since comes before the first page, not into this one
        chain = _from(chain, given.snapshot_id)
    page = chain[start : start + limit]
    more = len(chain) > start + limit
    following = PageCursor(chain[0].snapshot_id, digest, start + limit).text() if more else None
    tags, published = shared.snapshots.tags(name), {each.snapshot_id for each in chain}
    found = shared.snapshots.candidates(name) if given is None else []
    candidates = [_snapshot(each, current, tags) for each in found if each.snapshot_id not in published]
    items = [_snapshot(each, current, tags) for each in page]
    return json_answer({"items": items, "candidates": candidates, "next": following})


@router.get("/{name}/snapshots/{snapshot}", response_model=models.SnapshotDetail, responses=problems(404))
def show_snapshot(name: DatasetPath, snapshot: SnapshotPath, shared: Shared, _: Reader) -> Response:
    """Show a snapshot with its recipe and columns. ``current`` is the one that readers see."""
    loaded, current = shared.snapshots.load(name, snapshot), shared.snapshots.current(name).snapshot_id
    return json_answer(_detail(loaded, current, shared.snapshots.tags(name)))


@router.get("/{name}/tags", response_model=models.Tags, responses=problems(404))
def list_tags(name: DatasetPath, shared: Shared, _: Reader) -> Response:
    """List the tags of a dataset, by name."""
    shared.snapshots.current(name)
    return json_answer({"items": [_tag(name, each, tag) for each, tag in shared.snapshots.tags(name).items()]})


@router.put("/{name}/tags/{tag}", response_model=models.Tags, responses=problems(400, 404, 413, 415))
def put_tag(
    name: DatasetPath, tag: TagPath, body: models.TagBody, shared: Shared, principal: IngestSubmitter
) -> Response:
    """Let a tag name a snapshot, and list all tags. One that names another snapshot is moved if the body says so."""
    found = shared.snapshots.manifest(name, body.snapshot)
    set_tag(shared.snapshots.lake, name, tag, found.snapshot_id, move=body.move)
    shared.snapshots.forget_tags(name)
    return list_tags(name, shared, principal)


@router.delete("/{name}/tags/{tag}", response_model=models.Tags, responses=problems(404))
def delete_tag(name: DatasetPath, tag: TagPath, shared: Shared, principal: IngestSubmitter) -> Response:
    """Remove a tag, and list those that are left; the snapshot stays."""
    shared.snapshots.current(name)
    if tag not in read_tags(shared.snapshots.lake, name):
        raise Problem(404, "no-tag", f"{name} has no such tag.", f"See {dataset_path(name, 'tags')}.")
    remove_tag(shared.snapshots.lake, name, tag)
    shared.snapshots.forget_tags(name)
    return list_tags(name, shared, principal)


@router.get("/{name}/checks", response_model=models.ChecksBody, responses=problems())
def show_checks(name: DatasetPath, shared: Shared, _: Reader) -> Response:
    """Show the checks that each ingest of a dataset, which may be still to come, has to pass before it publishes."""
    return json_answer({"checks": [each.model_dump() for each in read_checks(shared.snapshots.lake, name)]})


@router.put("/{name}/checks", response_model=models.ChecksBody, responses=problems(400, 413, 415))
def put_checks(name: DatasetPath, body: Checks, shared: Shared, principal: IngestSubmitter) -> Response:
    """Let these checks hold from the next ingest on, in place of all others."""
    set_checks(shared.snapshots.lake, name, body)
    return show_checks(name, shared, principal)


@router.delete("/{name}/checks", response_model=models.ChecksBody, responses=problems())
def delete_checks(name: DatasetPath, shared: Shared, principal: IngestSubmitter) -> Response:
    """Remove the checks of a dataset: what is ingested is published."""
    set_checks(shared.snapshots.lake, name, None)
    return show_checks(name, shared, principal)


def _from(chain: list[Manifest], snapshot_id: str) -> list[Manifest]:
    for place, manifest in enumerate(chain):
        if manifest.snapshot_id == snapshot_id:
            return chain[place:]
    raise Problem(410, "gone", "The snapshot of this cursor is gone.", "Begin again without a cursor.")


def _dataset(snapshots: Snapshots, name: str) -> dict[str, Any]:
    """Return one dataset; a damaged one is listed with its fault and hides no other."""
    row: dict[str, Any] = dict.fromkeys(("snapshot", "created_at", "images", "rows", "fault"))
    row |= {"name": name, "href": dataset_path(name)}
    try:
        manifest = snapshots.current(name)
    except LookbookError:
        return row | {"fault": "its snapshot is damaged; lookbook verify says how"}
    return row | {
        "snapshot": manifest.snapshot_id,
        "created_at": manifest.created_at,
        "images": manifest.summary["images"]["found"],
        "rows": manifest.summary["rows"]["found"],
    }


def _tag(dataset: str, name: str, tag: Tag) -> dict[str, Any]:
    href = dataset_path(dataset, "snapshots", tag.snapshot)
    return {"tag": name, "snapshot": tag.snapshot, "tagged_at": tag.tagged_at, "href": href}


def _snapshot(manifest: Manifest, current: str, tags: Mapping[str, Tag]) -> dict[str, Any]:
    return {
        "id": manifest.snapshot_id,
        "current": manifest.snapshot_id == current,
        "created_at": manifest.created_at,
        "source": manifest.source,
        "digest": manifest.digest,
        "previous": manifest.previous,
        "restored_from": manifest.restored_from,
        "tags": [name for name, tag in tags.items() if tag.snapshot == manifest.snapshot_id],
        "checks": manifest.summary.get("checks", []),
        "images": manifest.summary["images"],
        "rows": manifest.summary["rows"],
        "href": dataset_path(manifest.dataset, "snapshots", manifest.snapshot_id),
    }


def _detail(loaded: LoadedSnapshot, current: str, tags: Mapping[str, Tag]) -> dict[str, Any]:
    manifest, rows = loaded.manifest, loaded.rows
    return _snapshot(manifest, current, tags) | {
        "dataset": manifest.dataset,
        "outputs": list(manifest.recipe.outputs),
        "recipe": manifest.recipe.model_dump(mode="json"),
        "versions": manifest.versions,
        "columns": [
            {
                "name": field.name,
                "type": _kind(field.type),
                "catalogue": field.name in rows.catalogue,
                "facet": is_facet(field.type),
            }
            for field in rows.table.schema
        ],
        "display_name": rows.display_name,
        "label": rows.label,
        "products": rows.table.num_rows,
    }


def _kind(kind: pa.DataType) -> str:
    kinds = (
        (pa.types.is_string, "text"),
        (pa.types.is_large_string, "text"),
        (pa.types.is_boolean, "boolean"),
        (pa.types.is_integer, "integer"),
        (pa.types.is_floating, "number"),
        (pa.types.is_temporal, "time"),
    )
    return next((name for is_one, name in kinds if is_one(kind)), "other")
