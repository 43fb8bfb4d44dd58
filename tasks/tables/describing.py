"""All that is known of one table: its schema, partitions, freshness, and where its rows come from."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import asyncpg

from lookbook.blocks.duckdb.warehouse import DuckDBWarehouse
from lookbook.blocks.errors import LookbookError
from lookbook.blocks.registry import Registry
from lookbook.blocks.workspace import Workspace
from lookbook.tasks.datasets.follow import parquet_columns
from lookbook.tasks.runs.catalogue import TableEntry
from lookbook.tasks.tables.catalogue_listing import GONE, Listed, as_document, found_tables
from lookbook.tasks.tables.lake_query import lake_views
from lookbook.tasks.tables.reading import name_parts

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
        entry = replace(entry, columns=parquet_columns(workspace.lake, view.keys[0]))
    if entry.place == "warehouse" and entry.rows is None and isinstance(workspace.warehouse, DuckDBWarehouse):
        counted = workspace.warehouse.query(f"SELECT count(*) AS rows FROM {entry.name}")  # noqa: S608 - quoted
        entry = replace(entry, rows=counted["rows"][0].as_py())
    return entry


def _loads(registry: Registry, entry: TableEntry) -> list[dict[str, Any]]:
    """Return the last loads of a feed's table."""
    table = _parts(entry.name)[-1]

    async def work(connection: asyncpg.Connection[asyncpg.Record]) -> list[dict[str, Any]]:
        rows = await connection.fetch(
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

    return registry.run(work)
