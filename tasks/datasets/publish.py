"""Publishing: the files of a snapshot, then its manifest, then CURRENT, the one commit."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from typing import Any

from lookbook.blocks.errors import LookbookError, SwapConflictError
from lookbook.blocks.lake import Lake
from lookbook.blocks.registry import raised
from lookbook.tasks.datasets.manifest import Current, Manifest, Published, SnapshotFile, read_published
from lookbook.tasks.datasets.names import current_key
from lookbook.tasks.images.parquet import to_parquet


def write_tables(lake: Lake, folder: str, tables: Mapping[str, Any]) -> list[SnapshotFile]:
    """Write each table as ``<name>.parquet`` into the snapshot's folder."""
    return [
        write_file(lake, folder, f"{name}.parquet", to_parquet(table), rows=len(table))
        for name, table in tables.items()
    ]


def write_file(lake: Lake, folder: str, name: str, data: bytes, rows: int | None = None) -> SnapshotFile:
    """Write one file of a snapshot and note its size and checksum for the manifest."""
    if not lake.put(f"{folder}/{name}", data):
        raise LookbookError(f"{folder}/{name} stands already: two runs chose one snapshot id.", "Run again.")
    return SnapshotFile(name=name, size=len(data), sha256=hashlib.sha256(data).hexdigest(), rows=rows)


def commit(lake: Lake, manifest: Manifest, before: Published | None) -> None:
    """Write the manifest, make all of it durable, and swap CURRENT: from here on readers see this snapshot.

    Args:
        lake: where to.
        manifest: lists every file of the snapshot; all of them are written.
        before: what CURRENT named when this run started, None for a first snapshot.

    Raises:
        SwapConflictError: another run published in between.
        LeaseLostError: the same, and it was the run that took a lease of this one.
    """
    fences = raised(before.fences if before else {})
    text = json.dumps(manifest.model_dump(mode="json"), indent=1, sort_keys=True).encode()
    lake.put(f"{manifest.folder}/manifest.json", text)
    lake.settle()
    checksum = hashlib.sha256(text).hexdigest()
    current = Current(snapshot_id=manifest.snapshot_id, manifest_sha256=checksum, fences=fences)
    pointer = current.model_dump_json(exclude_defaults=True).encode()
    try:
        lake.swap(current_key(manifest.dataset), pointer, before.version if before else None)
    except SwapConflictError:
        now = read_published(lake, manifest.dataset)
        raised(now.fences if now else {})
        raise
