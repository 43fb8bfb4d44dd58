"""The catalogue held against the places: nothing that is there is hidden because nobody registered it."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, replace
from typing import Any

import asyncpg

from lookbook.blocks.duckdb.warehouse import DuckDBWarehouse
from lookbook.blocks.errors import LookbookError
from lookbook.blocks.lake import Lake
from lookbook.blocks.registry import Registry, feeds_schema
from lookbook.blocks.warehouse import FEEDS_SCHEMA, Warehouse, WarehouseTable
from lookbook.blocks.workspace import Workspace
from lookbook.tasks.datasets.follow import parquet_columns, snapshot_entries
from lookbook.tasks.datasets.manifest import read_published
from lookbook.tasks.runs.catalogue import SCHEMAS, TableEntry, read_entries, sql_name
from lookbook.tasks.tables.lake.manifest import FOLDER, TableManifest, read_current
from lookbook.tasks.tables.query import lake_views, name_parts

#: So long the list waits for a warehouse that somebody is writing to; then it says what was registered.
MAX_WAIT = 2.0
NOT_REGISTERED, GONE = "not registered", "gone"

Key = tuple[str, str]


@dataclass(frozen=True)
class Listed:
    """A table of the catalogue.

    Attributes:
        note: what is odd about it: it is there and not registered, or registered and gone, or damaged.
    """

    entry: TableEntry
    note: str = ""


def list_tables(workspace: Workspace) -> list[dict[str, Any]]:
    """Return all tables: name, place, kind, columns, partitions, rows, bytes, fresh_at, note.

    Rows, bytes and freshness of what lies in the lake are those of its manifests; a warehouse that is being written to
    is not waited for.
    """
    return [
        {
            "name": each.entry.name,
            "place": each.entry.place,
            "kind": each.entry.kind,
            "columns": len(each.entry.columns),
            "partitions": len(each.entry.partitions),
            "rows": each.entry.rows,
            "bytes": each.entry.bytes,
            "fresh_at": each.entry.fresh_at.isoformat(timespec="seconds") if each.entry.fresh_at else None,
            "note": each.note,
        }
        for each in found_tables(workspace)
    ]


def found_tables(workspace: Workspace) -> list[Listed]:
    """Return the entries of the catalogue with what the places say now, sorted by name."""
    known, in_registry = workspace.registry.run(_of_registry)
    known = [_renamed(entry, workspace.warehouse.feeds_schema) for entry in known]
    tables = {(entry.place, entry.name): Listed(entry, GONE) for entry in known}
    for entry, fault in _of_lake(workspace.lake):
        tables[entry.place, entry.name] = _merged(tables.get((entry.place, entry.name)), entry, fault)
    for entry in in_registry:
        tables[entry.place, entry.name] = _merged(tables.get((entry.place, entry.name)), entry)
    try:
        of_warehouse = _patient(workspace.warehouse).tables()
    except LookbookError:
        of_warehouse = None
    tables |= _of_warehouse(tables, of_warehouse, workspace.warehouse.readers_schema)
    return sorted(tables.values(), key=lambda each: (each.entry.name, each.entry.place))


def _renamed(entry: TableEntry, feeds_schema: str) -> TableEntry:
    """Return an entry under the name that this warehouse's queries have for it: a dataset of BigQuery may have any."""
    schema, _, table = entry.name.partition(".")
    if (entry.place, schema) != ("warehouse", FEEDS_SCHEMA):
        return entry
    return replace(entry, name=f"{feeds_schema}.{table}")


def _merged(registered: Listed | None, found: TableEntry, fault: str = "") -> Listed:
    """Return what is registered, with what the place says now."""
    if registered is None:
        return Listed(found, fault or NOT_REGISTERED)
    known = registered.entry
    if fault:
        return Listed(known, fault)
    now = replace(
        known,
        columns=found.columns or known.columns,
        partitions=found.partitions,
        rows=known.rows if found.rows is None else found.rows,
        bytes=known.bytes if found.bytes is None else found.bytes,
        fresh_at=found.fresh_at or known.fresh_at,
    )
    return Listed(now)


def _of_lake(lake: Lake) -> Iterator[tuple[TableEntry, str]]:
    """Yield the tables in the lake, each with its fault, if it has one."""
    for table in lake.folders(FOLDER):
        entry = TableEntry("lake", sql_name(SCHEMAS["lake"], table), "feed", {})
        try:
            current = read_current(lake, table)
        except LookbookError as error:
            yield entry, error.problem
            continue
        if current is not None:
            yield _of_manifest(entry, current.manifest), ""
    for dataset in lake.folders("datasets"):
        try:
            published = read_published(lake, dataset)
        except LookbookError as error:
            yield TableEntry("lake", sql_name(SCHEMAS["lake"], dataset, "images"), "dataset", {}), error.problem
            continue
        if published is not None:
            for entry in snapshot_entries(lake, published.manifest, with_columns=False):
                yield entry, ""


def _of_manifest(entry: TableEntry, manifest: TableManifest) -> TableEntry:
    return replace(
        entry,
        columns=manifest.columns,
        partitions=manifest.partitions(),
        rows=manifest.rows,
        bytes=manifest.size,
        fresh_at=manifest.created_at,
        load_id=manifest.load_id,
    )


async def _of_registry(
    connection: asyncpg.Connection[asyncpg.Record],
) -> tuple[list[TableEntry], list[TableEntry]]:
    """Return the entries of the catalogue, and the tables of pipelines that lie in the registry's own PostgreSQL."""
    rows = await connection.fetch(
        "SELECT table_name, column_name, data_type FROM information_schema.columns WHERE table_schema = $1"
        " ORDER BY table_name, ordinal_position",
        await feeds_schema(connection),
    )
    columns: dict[str, dict[str, str]] = {}
    for table, column, type_ in rows:
        if not table.startswith("_"):  # an engine's own
            columns.setdefault(table, {})[column] = type_
    found = [
        TableEntry("registry", sql_name(SCHEMAS["registry"], table), "feed", types) for table, types in columns.items()
    ]
    return await read_entries(connection), found


def _of_warehouse(
    tables: Mapping[Key, Listed], there: Mapping[str, WarehouseTable] | None, readers_schema: str
) -> dict[Key, Listed]:
    """Return the warehouse's tables; where it could not be asked, what was registered."""
    if there is None:
        return {key: Listed(each.entry) for key, each in tables.items() if key[0] == "warehouse"}
    found = {}
    for name, table in there.items():
        schema, _, bare = name.partition(".")
        if bare.startswith("_"):  # an engine's own
            continue
        entry = _unregistered(sql_name(schema, bare), table, readers_schema)
        found["warehouse", entry.name] = _merged(tables.get(("warehouse", entry.name)), entry)
    return found


def _unregistered(name: str, table: WarehouseTable, readers_schema: str) -> TableEntry:
    """Return what is known of a table of the warehouse that the catalogue does not know."""
    kind = "dataset" if name.startswith(f"{readers_schema}.") else "feed"
    return TableEntry("warehouse", name, kind, table.columns, rows=table.rows, bytes=table.size)  # type: ignore[arg-type]


def _patient(warehouse: Warehouse) -> Warehouse:
    if isinstance(warehouse, DuckDBWarehouse) and warehouse.lock_timeout_seconds > MAX_WAIT:
        return warehouse.model_copy(update={"lock_timeout_seconds": MAX_WAIT})
    return warehouse


def as_document(entry: TableEntry) -> dict[str, Any]:
    """Return an entry as plain values."""
    fresh = entry.fresh_at.isoformat(timespec="seconds") if entry.fresh_at else None
    return asdict(entry) | {"fresh_at": fresh}


#: So many loads of a table are told, the newest first.
MOST_LOADS = 20


def describe(workspace: Workspace, name: str) -> dict[str, Any]:
    """Return a table: name, place, kind, columns with types, partitions, rows, bytes, fresh_at, note, lineage.

    Its lineage is the run that made it, its last load, its inputs, and its last loads with theirs.

    Args:
        workspace: where it is.
        name: as `list_tables` says, or only its last part where no other table has it.

    Raises:
        LookbookError: there is no such table, or several.
    """
    listed = _chosen(found_tables(workspace), name)
    entry = _completed(workspace, listed)
    told = as_document(entry)
    lineage = {"run_id": told.pop("run_id"), "load_id": told.pop("load_id"), "inputs": told.pop("inputs")}
    columns = [{"name": column, "type": type_} for column, type_ in told.pop("columns").items()]
    loads = _loads(workspace.registry, entry) if entry.kind != "dataset" else []
    return told | {"columns": columns, "note": listed.note, "lineage": lineage | {"loads": loads}}


def _chosen(tables: list[Listed], name: str) -> Listed:
    parts = _parts(name)
    exact = [each for each in tables if _parts(each.entry.name) == parts]
    found = exact or [each for each in tables if parts and _parts(each.entry.name)[-len(parts) :] == parts]
    if len(found) == 1:
        return found[0]
    if not found:
        raise LookbookError(f"{name}: no such table.", '"lookbook tables" names those that there are.')
    named = ", ".join(each.entry.name for each in found)
    raise LookbookError(f"{name}: {len(found)} tables have this name.", f"Name one of them in full: {named}.")


def _parts(name: str) -> tuple[str, ...]:
    return tuple(part.lower() for part in name_parts(name))


def _completed(workspace: Workspace, listed: Listed) -> TableEntry:
    """Return an entry with its columns and rows, where the list left them out because they cost something."""
    entry = listed.entry
    if listed.note == GONE:
        return entry
    if entry.place == "lake" and entry.kind == "dataset" and not entry.columns:
        (view,) = lake_views(workspace.lake, [name_parts(entry.name)])
        entry = replace(entry, columns=parquet_columns(workspace.lake, view.keys[:1])[view.keys[0]])
    if entry.place == "warehouse" and entry.rows is None and isinstance(workspace.warehouse, DuckDBWarehouse):
        counted = workspace.warehouse.query(f"SELECT count(*) AS rows FROM {entry.name}")  # noqa: S608 - quoted
        entry = replace(entry, rows=counted["rows"][0].as_py())
    return entry


def _loads(registry: Registry, entry: TableEntry) -> list[dict[str, Any]]:
    """Return the last loads of a pipeline's table."""
    table = _parts(entry.name)[-1]

    rows = registry.fetch(
        "SELECT load_id, pipeline, task, run_id, rows, rejected, inputs, loaded_at FROM feed_loads"
        " WHERE place = $1 AND table_name = $2 ORDER BY loaded_at DESC LIMIT $3",
        entry.place,
        table,
        MOST_LOADS,
    )
    return [
        dict(row)
        | {
            "inputs": json.loads(row["inputs"]),
            "loaded_at": row["loaded_at"].isoformat(timespec="seconds"),
        }
        for row in rows
    ]
