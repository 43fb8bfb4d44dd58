"""Loads into tables of the lake, and what readers find there."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import duckdb
import pyarrow as pa
import pyarrow.parquet as pq

from lookbook.blocks.lake import Lake
from lookbook.tasks.tables.lake.files import relation
from lookbook.tasks.tables.lake.manifest import require_table
from lookbook.tasks.tables.load.job import LOAD_ID, LOADED_AT, TAG_COLUMNS, LoadJob
from lookbook.tasks.tables.spec.tasks import LoadSettings

ARROW = {
    "BIGINT": pa.int64(),
    "VARCHAR": pa.string(),
    "DATE": pa.date32(),
    "BOOLEAN": pa.bool_(),
    "DOUBLE": pa.float64(),
    "TIMESTAMP WITH TIME ZONE": pa.timestamp("us", tz="UTC"),
}
NOW = datetime(2026, 3, 1, 12, tzinfo=UTC)

_numbers = itertools.count()


def lake_job(
    folder: Path,
    rows: Sequence[Any],
    columns: Mapping[str, str],
    load_id: str = "l1",
    table: str = "trips",
    files: int = 1,
    **settings: Any,
) -> LoadJob:
    """A job with these rows, in so many files."""
    typed = dict(columns) | TAG_COLUMNS
    schema = pa.schema([pa.field(name, ARROW[type_]) for name, type_ in typed.items()])
    tagged = [{name: row.get(name) for name in columns} | {LOAD_ID: load_id, LOADED_AT: NOW} for row in rows]
    folder.mkdir(parents=True, exist_ok=True)
    paths = []
    share = -(-len(tagged) // files) or 1
    for start in range(0, len(tagged), share):
        paths.append(folder / f"job-{next(_numbers)}.parquet")
        pq.write_table(pa.Table.from_pylist(tagged[start : start + share], schema=schema), paths[-1])
    asked = LoadSettings(table=table, target="lake", **settings)
    return LoadJob(table, typed, paths, len(tagged), load_id, NOW, asked)


def lake_rows(lake: Lake, scratch: Path, table: str = "trips") -> list[dict[str, Any]]:
    """The rows that readers see, without tags, in the order of their texts."""
    manifest = require_table(lake, table)
    paths = {file.key: lake.local_copy(file.key, scratch / "reader") for file in manifest.files}
    with duckdb.connect() as connection:
        connection.execute("SET TimeZone = 'UTC'")
        found = connection.sql(relation(manifest, paths)).to_arrow_table().to_pylist()
    return in_order({name: value for name, value in row.items() if name not in TAG_COLUMNS} for row in found)


def in_order(rows: Any) -> list[dict[str, Any]]:
    """Rows in an order that says nothing."""
    return sorted(map(dict, rows), key=lambda row: repr(sorted(row.items())))


def data_files(lake: Lake, table: str = "trips") -> set[str]:
    """The data files that lie in the lake, listed or not."""
    return {info.key for info in lake.list(f"tables/{table}/data")}
