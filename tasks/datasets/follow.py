"""Registry and warehouse follow CURRENT: whatever lags behind is brought up to it, tables of the catalogue included."""

from __future__ import annotations

import json
import tempfile
from collections.abc import AsyncIterable, AsyncIterator, Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import asyncpg
import pyarrow as pa
import pyarrow.parquet as pq
from pydantic import JsonValue

from lookbook.blocks.duckdb.warehouse import DuckDBWarehouse
from lookbook.blocks.lake import Lake
from lookbook.blocks.registry import Registry, copy_rows
from lookbook.blocks.sql_text import parquet_files
from lookbook.blocks.warehouse import SnapshotLoad
from lookbook.blocks.workspace import Workspace, scratch_folder
from lookbook.tasks.datasets.differences import Tables, batches_of, count_rows
from lookbook.tasks.datasets.manifest import (
    TABLES,
    DamagedSnapshotError,
    Manifest,
    is_whole,
    local_table,
    read_published,
    read_table,
)
from lookbook.tasks.datasets.schemas import load_models
from lookbook.tasks.runs.catalogue import SCHEMAS, TableEntry, read_entries, sql_name, write_entries
from lookbook.tasks.runs.lease import warehouse_lease

#: What DuckDB may hold of a table that it sorts; the rest goes to a folder of the system's.
MEMORY = "400MB"
#: Rows of registry and snapshot that are compared at once.
ROWS_AT_ONCE = 5000

ASSET_COLUMNS = ["key", "outcome", "duplicate_of", "rule", "sha256", "bytes", "original_key", "product_key", "orphan"]
PRODUCT_COLUMNS = ["file", "line", "product_key", "outcome", "missing_reason", "image_key"]
REJECT_COLUMNS = ["reject_id", "kind", "locator", "rule", "message", "raw"]

#: Registry table → (table of the snapshot, columns, how many of them make the key).
INDEXED: dict[str, tuple[str, list[str], int]] = {
    "assets": ("images", ASSET_COLUMNS, 1),
    "products": ("products", PRODUCT_COLUMNS, 2),
    "rejects": ("rejects", REJECT_COLUMNS, 1),
}


def indexed_snapshot(registry: Registry, dataset: str) -> str | None:
    """Return the snapshot of `dataset` that the registry holds."""
    return registry.fetchval(  # type: ignore[no-any-return]
        "SELECT snapshot_id FROM current_snapshots WHERE dataset = $1", dataset
    )


def index_snapshot(registry: Registry, manifest: Manifest, tables: Tables) -> None:
    """Replace what the registry holds of this dataset by a snapshot. Doing it twice changes nothing."""

    async def work(connection: Any) -> None:  # noqa: ANN401
        async with connection.transaction():
            for name, (table, columns, _) in INDEXED.items():
                await connection.execute(f"DELETE FROM {name} WHERE dataset = $1", manifest.dataset)  # noqa: S608
                batches = batches_of(tables[table], columns)
                rows = ((manifest.dataset, *row) for batch in batches for row in _rows(batch, columns))
                await copy_rows(connection, name, ["dataset", *columns], rows)
            await _note_snapshot(connection, manifest, tables)

    registry.run(work)


async def _note_snapshot(connection: Any, manifest: Manifest, tables: Tables) -> None:  # noqa: ANN401
    await connection.execute(
        "INSERT INTO snapshots (dataset, snapshot_id, digest, created_at, images, products)"
        " VALUES ($1, $2, $3, $4, $5, $6) ON CONFLICT (dataset, snapshot_id) DO NOTHING",
        manifest.dataset,
        manifest.snapshot_id,
        manifest.digest,
        manifest.created_at,
        count_rows(tables["images"]),
        count_rows(tables["products"]),
    )
    await connection.execute(
        "INSERT INTO current_snapshots (dataset, snapshot_id) VALUES ($1, $2)"
        " ON CONFLICT (dataset) DO UPDATE SET snapshot_id = excluded.snapshot_id",
        manifest.dataset,
        manifest.snapshot_id,
    )


def unannounced_snapshot(registry: Registry, dataset: str) -> str | None:
    """Return the snapshot that the registry holds, where it was not announced yet: its run was killed before."""
    return registry.fetchval(  # type: ignore[no-any-return]
        "SELECT snapshot_id FROM current_snapshots WHERE dataset = $1 AND announced IS DISTINCT FROM snapshot_id",
        dataset,
    )


def note_announced(registry: Registry, dataset: str, snapshot_id: str) -> None:
    """Note that a snapshot was announced."""
    registry.execute("UPDATE current_snapshots SET announced = $2 WHERE dataset = $1", dataset, snapshot_id)


def registry_differences(registry: Registry, manifest: Manifest, tables: Tables) -> list[str]:
    """Return one line for each row that the registry lacks, has too many, or holds otherwise than the snapshot.

    Both sides are read in the order of their keys, a few thousand rows at a time.

    Args:
        registry: that follows.
        manifest: of the snapshot.
        tables: of it, or the files that they lie in.
    """

    async def work(connection: Any) -> list[str]:  # noqa: ANN401
        lines: list[str] = []
        for name, (table, columns, key_width) in INDEXED.items():
            order = ", ".join(f'CAST({column} AS text) COLLATE "C"' for column in columns[:key_width])
            held = connection.cursor(
                f"SELECT {', '.join(columns)} FROM {name} WHERE dataset = $1 ORDER BY {order}",  # noqa: S608 - our names
                manifest.dataset,
                prefetch=ROWS_AT_ONCE,
            )
            with _in_order(tables[table], columns, key_width) as expected:
                found = [each async for each in _compare(key_width, expected, held)]
            lines += [f"registry: {name} row {':'.join(map(str, key))} {what}" for key, what in sorted(found)]
        return lines

    current = indexed_snapshot(registry, manifest.dataset)
    if current != manifest.snapshot_id:
        return [f"registry: it holds snapshot {current}, CURRENT is {manifest.snapshot_id}"]
    return registry.run(work)


@contextmanager
def _in_order(
    table: pa.Table | Sequence[Path], columns: list[str], key_width: int
) -> Iterator[Iterator[tuple[Any, ...]]]:
    """Yield the rows of a table as PostgreSQL keeps them, in the order of their keys as bytes of UTF-8."""
    import duckdb  # noqa: PLC0415 - late: importing the tasks is to be quick

    with (
        tempfile.TemporaryDirectory(prefix="lookbook-compare-") as folder,
        duckdb.connect(config={"memory_limit": MEMORY, "temp_directory": folder}) as connection,
    ):
        if isinstance(table, pa.Table):
            connection.register("given", table)
        else:
            connection.sql(f"FROM {parquet_files(table)}").create_view("given")
        order = ", ".join(f"replace(CAST({name} AS VARCHAR), chr(0), chr(65533))" for name in columns[:key_width])
        rows = connection.sql(f"SELECT {', '.join(columns)} FROM given ORDER BY {order}")  # noqa: S608 - our names
        yield (row for batch in rows.to_arrow_reader(ROWS_AT_ONCE) for row in _rows(batch, columns))


async def _compare(
    key_width: int, expected: Iterator[tuple[Any, ...]], held: AsyncIterable[Sequence[Any]]
) -> AsyncIterator[tuple[tuple[Any, ...], str]]:
    """Yield the keys of rows that are on one side alone, or differ, of two sides in the order of their keys."""

    def place(row: tuple[Any, ...] | None) -> tuple[str, ...]:
        return tuple(map(str, row[:key_width])) if row is not None else ()

    want = next(expected, None)
    async for record in held:
        have = tuple(record)
        while want is not None and place(want) < place(have):
            yield want[:key_width], "is missing"
            want = next(expected, None)
        if want is None or place(want) > place(have):
            yield have[:key_width], "is not in the snapshot"
            continue
        if want != have:
            yield want[:key_width], "differs"
        want = next(expected, None)
    while want is not None:
        yield want[:key_width], "is missing"
        want = next(expected, None)


def _rows(table: pa.Table | pa.RecordBatch, columns: list[str]) -> Iterator[tuple[Any, ...]]:
    """Yield rows as PostgreSQL keeps them: its text holds no NUL."""
    for values in zip(*(table.column(name).to_pylist() for name in columns), strict=True):
        yield tuple(v.replace("\x00", "\ufffd") if isinstance(v, str) else v for v in values)


def register_snapshot(workspace: Workspace, manifest: Manifest, load_id: str, tables: Iterable[str]) -> None:
    """Register what the load of a snapshot has written: its tables in the lake and in the warehouse.

    The warehouse's tables hold the rows of all datasets: an entry there names each of them, with its snapshot.

    Args:
        workspace: in which the snapshot is current.
        manifest: of the snapshot.
        load_id: of its load into the warehouse.
        tables: what was loaded, and made of it.
    """
    schema = workspace.warehouse.readers_schema
    there = workspace.warehouse.tables()
    names = {table: f"{schema}.{table}" for table in tables if f"{schema}.{table}" in there}
    counts = _counted(workspace, names.values())
    own = manifest.rows

    async def work(connection: asyncpg.Connection[asyncpg.Record]) -> None:
        run_id = await _run_id(connection, manifest)
        source: dict[str, JsonValue] = {
            "dataset": manifest.dataset,
            "snapshot": manifest.snapshot_id,
            "source": manifest.source,
            "run_id": run_id,
        }
        before = {entry.name: entry for entry in await read_entries(connection) if entry.place == "warehouse"}
        entries = [
            replace(entry, run_id=run_id, load_id=load_id, inputs=[source])
            for entry in snapshot_entries(workspace.lake, manifest)
        ]
        for table, name in names.items():
            inputs = _with(before.get(name), source | {"rows": own.get(table)})
            rows = counts.get(name, _sum(inputs))
            entry = TableEntry("warehouse", name, "dataset", there[name].columns, rows=rows, inputs=inputs)
            entries.append(replace(entry, fresh_at=manifest.created_at, run_id=run_id, load_id=load_id))
        await write_entries(connection, entries)

    workspace.registry.run(work)


def snapshot_entries(lake: Lake, manifest: Manifest, *, with_columns: bool = True) -> list[TableEntry]:
    """Return the tables of a snapshot that its manifest knows, and their columns if asked for."""
    first = {table: manifest.key(files[0]) for table, files in manifest.tables.items()}  # all have the same columns
    columns = parquet_columns(lake, [*first.values()] if with_columns else [])
    return [
        TableEntry(
            place="lake",
            name=sql_name(SCHEMAS["lake"], manifest.dataset, table),
            kind="dataset",
            columns=columns.get(first[table], {}),
            rows=manifest.rows[table],
            bytes=sum(file.size for file in files),
            fresh_at=manifest.created_at,
        )
        for table, files in manifest.tables.items()
    ]


def parquet_columns(lake: Lake, keys: Collection[str]) -> dict[str, dict[str, str]]:
    """Return the columns of each of these Parquet files, with their types in DuckDB's words."""
    import duckdb  # noqa: PLC0415 - late: importing the tasks is to be quick

    if not keys:
        return {}
    with duckdb.connect() as connection:
        empty = {key: pq.read_schema(pa.BufferReader(lake.get(key))).empty_table() for key in keys}
        relations = {key: connection.from_arrow(table) for key, table in empty.items()}
        return {key: dict(zip(one.columns, map(str, one.types), strict=True)) for key, one in relations.items()}


def _counted(workspace: Workspace, names: Iterable[str]) -> Mapping[str, int]:
    """Return the rows of views, where counting costs nothing."""
    parts = [f"SELECT '{name}' AS name, count(*) AS rows FROM {name}" for name in names]  # noqa: S608 - names of ours
    if not parts or not isinstance(workspace.warehouse, DuckDBWarehouse):
        return {}
    found = workspace.warehouse.query(" UNION ALL ".join(parts)).to_pylist()
    return {row["name"]: row["rows"] for row in found}


def _with(before: TableEntry | None, source: dict[str, JsonValue]) -> list[JsonValue]:
    """Return the inputs of a table with those of one dataset in place of what they were."""
    return [*(_without(before, source["dataset"]) if before else ()), source]


def _without(entry: TableEntry, dataset: JsonValue) -> list[JsonValue]:
    return [one for one in entry.inputs if isinstance(one, dict) and one.get("dataset") != dataset]


def _sum(inputs: Iterable[JsonValue]) -> int | None:
    rows = [one.get("rows") for one in inputs if isinstance(one, dict)]
    known = [count for count in rows if isinstance(count, int)]
    return sum(known) if len(known) == len(rows) else None


async def _run_id(connection: asyncpg.Connection[asyncpg.Record], manifest: Manifest) -> str | None:
    """Return the run that published a snapshot; while it is still at work, that is the one which runs."""
    found: Any = await connection.fetchval(
        "SELECT run_id FROM runs WHERE dataset = $1 AND (status = 'running' OR snapshot_id = $2)"
        " ORDER BY published AND snapshot_id IS NOT DISTINCT FROM $2 DESC, started_at DESC LIMIT 1",
        manifest.dataset,
        manifest.snapshot_id,
    )
    return str(found) if found else None


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
        if not _is_loaded(workspace, manifest):
            load(workspace, manifest)
            lagging.append("warehouse")
    return lagging


def _is_loaded(workspace: Workspace, manifest: Manifest) -> bool:
    """Return whether the warehouse holds a snapshot and `load` came to its end, which notes it last."""
    if workspace.warehouse.current_snapshots().get(manifest.dataset) != manifest.snapshot_id:
        return False
    noted = "SELECT true FROM loads WHERE dataset = $1 AND snapshot_id = $2"
    return workspace.registry.fetchrow(noted, manifest.dataset, manifest.snapshot_id) is not None


def index(workspace: Workspace, manifest: Manifest) -> None:
    """Write a snapshot into the registry.

    Raises:
        DamagedSnapshotError: a table of it is missing or damaged.
        LookbookError: the lake is a bucket, and the folder for scratch can't be used.
    """
    with scratch_folder(workspace.scratch, "index-") as folder:
        names = {table for table, _, _ in INDEXED.values()}
        tables = {name: local_table(workspace.lake, manifest, name, Path(folder)) for name in names}
        index_snapshot(workspace.registry, manifest, tables)


def load(workspace: Workspace, manifest: Manifest) -> None:
    """Load a snapshot into the warehouse, and note the load and its tables in the registry.

    Datasets share the warehouse's tables, and a load may remake one: loads wait for each other. Who also holds a
    dataset's lease took it before.
    """
    with warehouse_lease(workspace.registry), snapshot_load(workspace, manifest) as job:
        models = load_models()
        workspace.warehouse.load_snapshot(job, models)
        register_snapshot(workspace, manifest, job.load_id, [*job.tables, *(model.name for model in models)])
    note_load(workspace.registry, job, manifest.rows)


@contextmanager
def snapshot_load(workspace: Workspace, manifest: Manifest) -> Iterator[SnapshotLoad]:
    """Yield the load of a snapshot's Parquet files, where the warehouse can read them.

    In the lake as they stand, if it can read them there: local files always, a bucket's objects if the warehouse reads
    buckets. Else they are copied to scratch, for as long as the block runs.

    Raises:
        LookbookError: they are to be copied, and the folder for scratch can't be made or written.
    """
    lake, keys = workspace.lake, {name: manifest.keys(name) for name in TABLES}
    addresses = {name: [lake.uri(key) for key in of] for name, of in keys.items()}
    far = any(address.startswith("gs://") for of in addresses.values() for address in of)
    with ExitStack() as stack:
        if far and not workspace.warehouse.reads_buckets:
            copies = Path(stack.enter_context(scratch_folder(workspace.scratch, "load-")))
            addresses = {name: [str(lake.local_copy(key, copies)) for key in of] for name, of in keys.items()}
        yield SnapshotLoad(
            dataset=manifest.dataset,
            snapshot_id=manifest.snapshot_id,
            load_id=f"{manifest.dataset}-{manifest.snapshot_id}",
            tables=addresses,
        )


def snapshot_tables(workspace: Workspace, manifest: Manifest) -> dict[str, pa.Table]:
    """Return all tables of a snapshot."""
    return {name: read_table(workspace.lake, manifest, name) for name in TABLES}


def note_load(registry: Registry, job: SnapshotLoad, rows: Mapping[str, int | None]) -> None:
    """Note in the registry what was loaded."""
    registry.execute(
        "INSERT INTO loads (load_id, dataset, snapshot_id, rows) VALUES ($1, $2, $3, $4::jsonb)"
        " ON CONFLICT (load_id) DO UPDATE SET loaded_at = now(), rows = excluded.rows",
        job.load_id,
        job.dataset,
        job.snapshot_id,
        json.dumps(dict(rows)),
    )


def forget_dataset(workspace: Workspace, dataset: str, *, runs: bool = True) -> None:
    """Remove all rows of a dataset from warehouse and registry. Twice changes nothing.

    Args:
        workspace: where it lived.
        dataset: its name.
        runs: those of its runs and watches, too.
    """
    with warehouse_lease(workspace.registry):
        workspace.warehouse.remove_dataset(dataset, load_models())

    async def work(connection: asyncpg.Connection[asyncpg.Record]) -> None:
        for table in (*INDEXED, "snapshots", "current_snapshots", "loads", *(("runs", "watches") if runs else ())):
            await connection.execute(f"DELETE FROM {table} WHERE dataset = $1", dataset)  # noqa: S608 - our names
        own = [sql_name(SCHEMAS["lake"], dataset, table) for table in TABLES]
        await connection.execute("DELETE FROM tables WHERE place = 'lake' AND name = ANY($1::text[])", own)
        shared = []
        for entry in await read_entries(connection):
            inputs = _without(entry, dataset)
            if entry.place == "warehouse" and len(inputs) < len(entry.inputs):
                shared.append(replace(entry, inputs=inputs, rows=_sum(inputs)))
        await write_entries(connection, shared)

    workspace.registry.run(work)
