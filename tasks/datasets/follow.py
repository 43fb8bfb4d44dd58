"""Registry and warehouse follow CURRENT: whatever lags behind is brought up to it."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

import asyncpg
import pyarrow as pa

from lookbook.blocks.errors import LookbookError
from lookbook.blocks.registry import Registry
from lookbook.blocks.warehouse import SnapshotLoad
from lookbook.blocks.workspace import Workspace
from lookbook.tasks.datasets.lease import warehouse_lease
from lookbook.tasks.datasets.manifest import (
    TABLES,
    DamagedSnapshotError,
    Manifest,
    is_whole,
    read_published,
    read_table,
)
from lookbook.tasks.datasets.registry_index import index_snapshot, indexed_snapshot
from lookbook.tasks.tables.dataset_tables import register_snapshot
from lookbook.tasks.tables.models import load_models


def catch_up(workspace: Workspace, dataset: str) -> list[str]:
    """Bring registry and warehouse up to CURRENT; says which of them lagged behind.

    A damaged snapshot is left alone: the run that asks publishes a whole one in its place.
    """
    published = read_published(workspace.lake, dataset)
    if published is None or not is_whole(workspace.lake, published.manifest):
        return []
    manifest = published.manifest
    lagging: list[str] = []
    with suppress(DamagedSnapshotError):  # of the right size, but not what the manifest lists: known once it is read
        if indexed_snapshot(workspace.registry, dataset) != manifest.snapshot_id:
            index(workspace, manifest)
            lagging.append("registry")
        if workspace.warehouse.current_snapshots().get(dataset) != manifest.snapshot_id:
            load(workspace, manifest)
            lagging.append("warehouse")
    return lagging


def index(workspace: Workspace, manifest: Manifest) -> None:
    """Write a snapshot into the registry."""
    index_snapshot(workspace.registry, manifest, snapshot_tables(workspace, manifest))


def load(workspace: Workspace, manifest: Manifest) -> None:
    """Load a snapshot into the warehouse, and note the load and its tables in the registry.

    Datasets share the warehouse's tables, and a load may remake one: loads wait for each other. Who also holds a
    dataset's lease took it before.
    """
    with warehouse_lease(workspace.registry), snapshot_load(workspace, manifest) as job:
        models = load_models()
        workspace.warehouse.load_snapshot(job, models)
        register_snapshot(workspace, manifest, job.load_id, [*job.tables, *(model.name for model in models)])
    note_load(workspace.registry, job, {f.name: f.rows for f in manifest.files if f.rows is not None})


@contextmanager
def snapshot_load(workspace: Workspace, manifest: Manifest) -> Iterator[SnapshotLoad]:
    """Yield the load of a snapshot's Parquet files, where the warehouse can read them.

    In the lake as they stand, if it can read them there: local files always, a bucket's objects if the warehouse reads
    buckets. Else they are copied to scratch, for as long as the block runs.

    Raises:
        LookbookError: they are to be copied, and the folder for scratch can't be made or written.
    """
    keys = {name: f"{manifest.folder}/{name}.parquet" for name in TABLES}
    addresses = {name: workspace.lake.uri(key) for name, key in keys.items()}
    far = any(address.startswith("gs://") for address in addresses.values())
    with ExitStack() as stack:
        if far and not workspace.warehouse.reads_buckets:
            copies = stack.enter_context(_folder_for_copies(workspace.scratch))
            addresses = {name: str(workspace.lake.local_copy(key, Path(copies))) for name, key in keys.items()}
        yield SnapshotLoad(
            dataset=manifest.dataset,
            snapshot_id=manifest.snapshot_id,
            load_id=f"{manifest.dataset}-{manifest.snapshot_id}",
            tables=addresses,
        )


def _folder_for_copies(scratch: Path) -> tempfile.TemporaryDirectory[str]:
    try:
        scratch.mkdir(parents=True, exist_ok=True)  # a saved workspace's may be new to this machine
        return tempfile.TemporaryDirectory(dir=scratch, prefix="load-")
    except OSError as error:
        raise LookbookError(
            f"The folder for scratch, {scratch}, cannot be used: {error.strerror or error}.",
            "Name one in the workspace's block that this machine may write to, with space left.",
        ) from error


def snapshot_tables(workspace: Workspace, manifest: Manifest) -> dict[str, pa.Table]:
    """Return all tables of a snapshot."""
    return {name: read_table(workspace.lake, manifest, name) for name in TABLES}


def note_load(registry: Registry, job: SnapshotLoad, rows: Mapping[str, int | None]) -> None:
    """Note in the registry what was loaded."""

    async def work(connection: asyncpg.Connection[asyncpg.Record]) -> None:
        await connection.execute(
            "INSERT INTO loads (load_id, dataset, snapshot_id, rows) VALUES ($1, $2, $3, $4::jsonb)"
            " ON CONFLICT (load_id) DO UPDATE SET loaded_at = now(), rows = excluded.rows",
            job.load_id,
            job.dataset,
            job.snapshot_id,
            json.dumps(dict(rows)),
        )

    registry.run(work)
