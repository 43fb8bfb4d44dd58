"""Feeds for tests: a pipeline of one extract and one load, rows that are staged, and tables that are read."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import asyncpg
import pyarrow as pa

from lookbook.blocks.duckdb.warehouse import DuckDBWarehouse
from lookbook.blocks.registry import Registry, feeds_schema
from lookbook.blocks.workspace import Workspace
from lookbook.tasks.tables.context import Context, Staged, stage_batch
from lookbook.tasks.tables.load import LoadResult, load
from lookbook.tasks.tables.spec.pipeline import Pipeline
from lookbook.tasks.tables.staging import INPUT, LINE, REJECT_SCHEMA, Stage, StageWriter, stage_folder

Row = dict[str, Any]
TAGS = ("_load_id", "_loaded_at")


def pipeline(**load_task: Any) -> Pipeline:
    """A pipeline of one extract and one load, whose settings are given; it may reject every row."""
    source = {"type": "file", "path": "rows.csv"}
    tasks = {
        "extract": {"source": source},
        "load": {"after": ["extract"], "table": "prices", "reject_limit": 1} | load_task,
    }
    return Pipeline.model_validate({"name": "feed", "tasks": tasks})


def context(workspace: Workspace, day: Any = 1, **load_task: Any) -> Context:
    """A run of it, for one of a month's days (any type: mypy takes settings that are unpacked for it)."""
    return Context(
        workspace, pipeline(**load_task), Path("/nowhere"), datetime(2024, 1, day, tzinfo=UTC), run_id=f"run-{day}"
    )


def stage(run: Context, rows: Sequence[Row] | pa.Table, group: str = "", rejects: Sequence[Row] = ()) -> Stage:
    """Rows as the extract of a run stages them: each with the file and the line that it stood in."""
    folder = stage_folder("raw", run.pipeline.name, "extract", stage_batch(run, "extract"), group)
    with StageWriter(run.workspace.lake, folder, run.workspace.scratch) as writer:
        table = rows if isinstance(rows, pa.Table) else pa.Table.from_pylist(list(rows))
        if table.num_columns and INPUT not in table.column_names:
            table = table.append_column(INPUT, pa.array(["rows.csv"] * table.num_rows))
            table = table.append_column(LINE, pa.array(range(2, table.num_rows + 2), pa.int64()))
        writer.write(table)
        if rejects:
            writer.reject(pa.Table.from_pylist(list(rejects), schema=REJECT_SCHEMA))
        return writer.close(inputs=("rows.csv",), delimited=dict.fromkeys(table.column_names, "."))


def load_rows(run: Context, rows: Sequence[Row] | pa.Table) -> LoadResult:
    """Stage rows and load them into one table."""
    (result,) = load(run, "load", [Staged({"": stage(run, rows)})])
    assert result.rows_in == result.rows_loaded + result.superseded + result.rejected
    return result


def table_rows(workspace: Workspace, place: str, table: str = "prices", *, tags: bool = False) -> list[Row]:
    """The rows of a pipeline's table, in the order of their values."""
    rows = _of_registry(workspace.registry, table) if place == "registry" else _of_warehouse(workspace, table)
    shown = [row if tags else {name: value for name, value in row.items() if name not in TAGS} for row in rows]
    return in_order(shown)


def _of_warehouse(workspace: Workspace, table: str) -> list[Row]:
    name = f'feeds."{table}"' if isinstance(workspace.warehouse, DuckDBWarehouse) else f"`feeds.{table}`"
    found: list[Row] = workspace.warehouse.query(f"SELECT * FROM {name}").to_pylist()
    return found


def _of_registry(registry: Registry, table: str) -> list[Row]:
    async def work(connection: asyncpg.Connection[asyncpg.Record]) -> list[Row]:
        schema = await feeds_schema(connection)
        return [dict(row) for row in await connection.fetch(f'SELECT * FROM {schema}."{table}"')]

    return registry.run(work)


def forget_feeds(registry: Registry) -> None:
    """Drop the tables of pipelines in a registry that several tests share."""

    async def work(connection: asyncpg.Connection[asyncpg.Record]) -> None:
        await connection.execute("DROP SCHEMA IF EXISTS feeds CASCADE")

    registry.run(work)


def in_order(rows: Sequence[Row]) -> list[Row]:
    """Rows in the order of their values, whatever the order of their columns."""
    return sorted(rows, key=lambda row: repr(sorted(row.items())))
