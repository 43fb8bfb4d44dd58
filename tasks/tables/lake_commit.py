"""The commit of a load into a table of the lake: files, then the manifest, then CURRENT; then what is left over goes.

Before a load writes files it notes their names under ``writing/``. Where it is killed, the next try of the same load
finds them there, and removes those that no manifest lists.
"""

from __future__ import annotations

import hashlib
import uuid
from collections.abc import Iterable
from datetime import UTC, datetime, timedelta

from pydantic import BaseModel, ValidationError

from lookbook.blocks.errors import ObjectNotFoundError, SwapConflictError
from lookbook.blocks.lake import Lake
from lookbook.blocks.registry import raised
from lookbook.tasks.tables.lake_changes import Change
from lookbook.tasks.tables.lake_files import future_key, store_files
from lookbook.tasks.tables.lake_manifest import (
    CurrentSnapshot,
    CurrentTable,
    DataFile,
    TableManifest,
    current_key,
    manifest_key,
    read_current,
    read_manifest,
    table_folder,
)
from lookbook.tasks.tables.load.job import LoadJob

#: What a load noted so long ago it does not write any more.
GRACE = timedelta(days=1)


class Writing(BaseModel):
    """What a load is about to write."""

    load_id: str
    started_at: datetime
    keys: list[str]


def commit_change(lake: Lake, job: LoadJob, current: CurrentSnapshot | None, change: Change) -> None:
    """Make a change the table that readers see.

    Raises:
        SwapConflictError: another load was quicker; what this one wrote is removed.
        LeaseLostError: the table was changed by the run that took a lease of this one; nothing was written.
    """
    fences = raised(current.fences if current else {})
    now = datetime.now(UTC)
    snapshot_id = f"{now:%Y%m%dT%H%M%S}{now.microsecond // 1000:03d}Z-{uuid.uuid4().hex[:8]}"
    note = f"{table_folder(job.table)}/writing/{snapshot_id}.json"
    keys = [future_key(job.table, change.partition_by, file) for file in change.added]
    if keys:
        lake.put(note, Writing(load_id=job.load_id, started_at=now, keys=keys).model_dump_json().encode())
    manifest = _manifest(lake, job, current, change, snapshot_id, now)
    text = manifest.model_dump_json().encode()
    lake.put(manifest_key(job.table, snapshot_id), text)
    lake.settle()
    content = CurrentTable(snapshot_id=snapshot_id, manifest_sha256=hashlib.sha256(text).hexdigest(), fences=fences)
    pointer = content.model_dump_json(exclude_defaults=True).encode()
    try:
        lake.swap(current_key(job.table), pointer, current.version if current else None)
    except SwapConflictError:
        _withdraw(lake, manifest, keys)
        lake.remove(note)
        raise
    _sweep(lake, manifest, current.manifest if current else None)
    if keys:
        lake.remove(note)


def _manifest(
    lake: Lake, job: LoadJob, current: CurrentSnapshot | None, change: Change, snapshot_id: str, now: datetime
) -> TableManifest:
    """Write the new files, and list them with those that stay."""
    layouts = list(current.manifest.layouts) if current and change.kept else []
    if change.layout not in layouts:
        layouts.append(change.layout)
    added = store_files(lake, job.table, change.partition_by, change.added, layouts.index(change.layout))
    return TableManifest(
        table=job.table,
        snapshot_id=snapshot_id,
        created_at=now,
        previous=current.manifest.snapshot_id if current else None,
        load_id=job.load_id,
        columns=change.columns,
        partition_by=change.partition_by,
        layouts=layouts,
        files=[*change.kept, *added],
    )


def _withdraw(lake: Lake, manifest: TableManifest, keys: Iterable[str]) -> None:
    """Remove what a load wrote that lost: unless it is listed, because the answer to its swap was lost on the way."""
    listed = _listed(lake, manifest.table)
    for key in keys:
        if key not in listed:
            lake.remove(key)
    if not listed & set(keys):
        lake.remove(manifest_key(manifest.table, manifest.snapshot_id))


def _listed(lake: Lake, table: str) -> set[str]:
    """Return the files that the current snapshot and the one before it list."""
    current = read_current(lake, table)
    if current is None:
        return set()
    before = read_manifest(lake, table, current.manifest.previous) if current.manifest.previous else None
    return _keys(current.manifest) | _keys(before)


def _keys(manifest: TableManifest | None) -> set[str]:
    return {file.key for file in manifest.files} if manifest else set()


def _sweep(lake: Lake, manifest: TableManifest, before: TableManifest | None) -> None:
    """Remove what no reader can be reading any more: snapshots before the last two, and files of killed loads.

    The manifest of a snapshot goes after its files: who is killed in between is followed by the next load.
    """
    listed = _keys(manifest) | _keys(before)
    former = before.previous if before else None
    while former and (old := read_manifest(lake, manifest.table, former)) is not None:
        _remove(lake, (file for file in old.files if file.key not in listed))
        lake.remove(manifest_key(manifest.table, former))
        former = old.previous
    for info in list(lake.list(f"{table_folder(manifest.table)}/writing")):
        note = _read_note(lake, info.key)
        if note is not None and (note.load_id == manifest.load_id or note.started_at < datetime.now(UTC) - GRACE):
            for key in note.keys:
                if key not in listed:
                    lake.remove(key)
            lake.remove(info.key)


def _remove(lake: Lake, files: Iterable[DataFile]) -> None:
    for file in files:
        lake.remove(file.key)


def _read_note(lake: Lake, key: str) -> Writing | None:
    try:
        return Writing.model_validate_json(lake.get(key))
    except (ObjectNotFoundError, ValidationError):
        return None
