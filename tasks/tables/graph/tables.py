"""The rows of the tables that a graph's entities are made of, read batch by batch, as often as needed."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import date, datetime, time
from decimal import Decimal
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from lookbook.blocks.errors import LookbookError, UsageError
from lookbook.blocks.lake import Lake
from lookbook.blocks.workspace import Workspace
from lookbook.tasks.tables.context import Staged
from lookbook.tasks.tables.engine import quoted
from lookbook.tasks.tables.staging import INPUT, LINE

#: Rows that are held at a time.
_BATCH = 4096

#: Columns by name, in rows of one order, over and over.
Batches = Callable[[], Iterator[dict[str, list[Any]]]]


def table_batches(
    workspace: Workspace, table: str, columns: Sequence[str], inputs: Mapping[str, Staged], scratch: Path
) -> Batches:
    """Return the rows of a table: a task's result, or feeds.name, warehouse.name, lake.name.

    Args:
        workspace: where tables lie.
        table: as the spec names it.
        columns: that are read; each once.
        inputs: results of tasks.
        scratch: a folder of this machine for copies.

    Raises:
        LookbookError: there is no such table, or it lacks a column.
    """
    schema, dot, name = table.partition(".")
    if not dot:
        if table not in inputs:
            raise UsageError(f"There is no result of a task {table}; there are {', '.join(inputs) or 'none'}.")
        return _staged(workspace.lake, table, columns, inputs[table], scratch)
    if schema in {"feeds", "warehouse"}:
        return _fetched(workspace.warehouse.read_columns(table, columns))
    if schema == "lake":
        return _fetched(_lake_table(workspace, name, columns))
    raise UsageError(
        f"{table} is no table of a graph.", "Name a task in its after, or feeds.NAME, warehouse.NAME, lake.NAME."
    )


def _lake_table(workspace: Workspace, name: str, columns: Sequence[str]) -> pa.Table:
    from lookbook.tasks.tables.query import query  # noqa: PLC0415 - late: importing the tasks is to be quick

    order = ", ".join(str(n) for n in range(1, len(columns) + 1))
    source = ".".join(map(quoted, name.split(".")))
    return query(
        workspace,
        f"SELECT {', '.join(map(quoted, columns))} FROM lake.{source} ORDER BY {order}",  # noqa: S608
    )


def _fetched(table: pa.Table) -> Batches:
    def batches() -> Iterator[dict[str, list[Any]]]:
        for batch in table.to_batches(max_chunksize=_BATCH):
            yield batch.to_pydict()

    return batches


def _staged(lake: Lake, name: str, columns: Sequence[str], staged: Staged, scratch: Path) -> Batches:
    """The rows of all groups of a result, with where they come from; a file that lacks a column has nulls there."""
    keys = [file.key for _, stage in sorted(staged.groups.items()) for file in stage.files]
    paths = [lake.local_copy(key, scratch) for key in keys]
    present = list(dict.fromkeys(column for path in paths for column in pq.read_schema(path).names))
    missing = [column for column in columns if column not in present]
    if paths and missing:
        raise LookbookError(
            f"{name} has no column {missing[0]}; it has {', '.join(present)}.", "Name one of these in the spec."
        )
    columns = [*columns, *(column for column in (INPUT, LINE) if column in present and column not in columns)]

    def batches() -> Iterator[dict[str, list[Any]]]:
        for path in paths:
            with pq.ParquetFile(path) as file:
                own = [column for column in columns if column in file.schema_arrow.names]
                if not own:
                    yield {column: [None] * file.metadata.num_rows for column in columns}
                    continue
                for batch in file.iter_batches(batch_size=_BATCH, columns=own):
                    yield dict.fromkeys(columns, [None] * batch.num_rows) | batch.to_pydict()

    return batches


def as_text(value: Any) -> str | None:  # noqa: ANN401 - whatever a column holds
    """Return a value as a key or label: a whole number is the same whatever its type; nothing and blanks are None."""
    if value is None or isinstance(value, str):
        text = value
    elif isinstance(value, bool):
        text = str(value).lower()
    elif isinstance(value, float):
        text = None if value != value else str(int(value)) if value.is_integer() else repr(value)  # noqa: PLR0124 - NaN
    elif isinstance(value, Decimal):
        text = f"{value:f}".rstrip("0").rstrip(".") if value.as_tuple().exponent else f"{value:f}"
    elif isinstance(value, date | datetime | time):
        text = value.isoformat()
    elif isinstance(value, bytes):
        text = value.decode("utf-8", errors="replace")
    elif isinstance(value, list | dict):
        text = json.dumps(value, sort_keys=True, default=str, ensure_ascii=False)
    else:
        text = str(value)
    return text if text is not None and text.strip() else None
