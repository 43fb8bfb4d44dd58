"""The tables of image datasets in the catalogue: Parquet files of snapshots, and what the warehouse makes of them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import replace
from typing import Any

import asyncpg
import pyarrow as pa
import pyarrow.parquet as pq
from pydantic import JsonValue

from lookbook.blocks.duckdb.warehouse import DuckDBWarehouse
from lookbook.blocks.lake import Lake
from lookbook.blocks.workspace import Workspace
from lookbook.tasks.datasets.manifest import Manifest
from lookbook.tasks.tables.catalogue import SCHEMAS, TableEntry, read_entries, sql_name, write_entries


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
    own = {file.name.removesuffix(".parquet"): file.rows for file in manifest.files if file.rows is not None}

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
    found = []
    for file in manifest.files:
        if file.rows is not None:
            key = f"{manifest.folder}/{file.name}"
            found.append(
                TableEntry(
                    place="lake",
                    name=sql_name(SCHEMAS["lake"], manifest.dataset, file.name.removesuffix(".parquet")),
                    kind="dataset",
                    columns=parquet_columns(lake, key) if with_columns else {},
                    rows=file.rows,
                    bytes=file.size,
                    fresh_at=manifest.created_at,
                )
            )
    return found


def parquet_columns(lake: Lake, key: str) -> dict[str, str]:
    """Return the columns of a Parquet file, with their types in DuckDB's words."""
    import duckdb  # noqa: PLC0415 - late: importing the tasks is to be quick

    empty = pq.read_schema(pa.BufferReader(lake.get(key))).empty_table()
    with duckdb.connect() as connection:
        relation = connection.from_arrow(empty)
        return dict(zip(relation.columns, map(str, relation.types), strict=True))


def _counted(workspace: Workspace, names: Iterable[str]) -> Mapping[str, int]:
    """Return the rows of views, where counting costs nothing."""
    parts = [f"SELECT '{name}' AS name, count(*) AS rows FROM {name}" for name in names]  # noqa: S608 - names of ours
    if not parts or not isinstance(workspace.warehouse, DuckDBWarehouse):
        return {}
    found = workspace.warehouse.query(" UNION ALL ".join(parts)).to_pylist()
    return {row["name"]: row["rows"] for row in found}


def _with(before: TableEntry | None, source: dict[str, JsonValue]) -> list[JsonValue]:
    """Return the inputs of a table with those of one dataset in place of what they were."""
    kept = [one for one in (before.inputs if before else ()) if isinstance(one, dict)]
    return [*(one for one in kept if one.get("dataset") != source["dataset"]), source]


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
