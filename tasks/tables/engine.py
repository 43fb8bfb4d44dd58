"""DuckDB as an engine for SQL over staged files: bounded memory, and no other file of the machine in reach."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from itertools import groupby
from operator import itemgetter
from pathlib import Path
from typing import TYPE_CHECKING

import pyarrow as pa
import pyarrow.parquet as pq

from blocks.lake import Lake
from tasks.tables.staging import Stage

if TYPE_CHECKING:
    from duckdb import DuckDBPyConnection

#: What one statement may hold in memory; beyond, it spills to scratch.
MEMORY = "512MB"
#: What it may hold beside for each column, in megabytes: a column has vectors of its own, whatever the rows.
COLUMN_MEMORY = 0.25
#: Digits of a decimal, at the most, and of the largest integer of 64 bits.
DECIMAL_DIGITS, INTEGER_DIGITS = 38, 19


@contextmanager
def engine(
    scratch: Path, readable: Sequence[Path | str] = (), memory: str = MEMORY, *, in_order: bool = False
) -> Iterator[tuple[DuckDBPyConnection, Path]]:
    """A DuckDB in memory, and a folder of its own that it may write to; both are gone at the end.

    Statements reach that folder, the files or folders in `readable`, and nothing else.

    Args:
        scratch: a folder of this machine.
        readable: files, or folders that end with a slash.
        memory: what one statement may hold.
        in_order: rows are to be written in the order in which they are read, also into several files: by one thread.
    """
    import duckdb  # noqa: PLC0415 - late: importing the tasks is to be quick

    scratch.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=scratch, prefix="sql-") as folder:
        connection = duckdb.connect(
            config={
                "memory_limit": memory,
                "temp_directory": f"{folder}/spill",
                "autoinstall_known_extensions": "false",
                "autoload_known_extensions": "false",
            }
        )
        try:
            connection.execute("SET TimeZone = 'UTC'")
            if in_order:
                connection.execute("SET threads = 1")
            connection.execute("SET allowed_directories = $1", [[f"{folder}/"]])
            connection.execute("SET allowed_paths = $1", [[str(path) for path in readable]])
            connection.execute("SET enable_external_access = false")
            connection.execute("SET lock_configuration = true")
            yield connection, Path(folder)
        finally:
            connection.close()


def memory_for(megabytes: int, columns: int) -> str:
    """What a statement over so many columns may hold, in DuckDB's words."""
    return f"{megabytes + int(COLUMN_MEMORY * columns)}MB"


def quoted(name: str) -> str:
    """A name as SQL takes it."""
    return '"' + name.replace('"', '""') + '"'


def text(value: str) -> str:
    """A text as a literal of SQL."""
    return "'" + value.replace("'", "''") + "'"


def local_files(lake: Lake, stage: Stage, scratch: Path) -> list[Path]:
    """The files of a stage where programs can read them; copies lie in `scratch`."""
    return [lake.local_copy(file.key, scratch) for file in stage.files]


def unified(schemas: Sequence[pa.Schema]) -> dict[str, pa.DataType | None]:
    """The columns of several files in the order in which they first appear, each with the type that holds them all.

    Returns:
        Integers and floats become floats, integers and decimals decimals that hold both; what has no type in common
        becomes text, here None.
    """
    columns: dict[str, pa.DataType | None] = {}
    for schema in schemas:
        for column in schema:
            before = columns.get(column.name, column.type)
            columns[column.name] = _both(before, column.type)
    return columns


def _both(one: pa.DataType | None, other: pa.DataType) -> pa.DataType | None:
    if one is None or one.equals(other):
        return one
    if pa.types.is_null(one):
        return other
    if pa.types.is_null(other):
        return one
    return _number(one, other)


def _number(one: pa.DataType, other: pa.DataType) -> pa.DataType | None:
    kinds = (one, other)
    if all(map(pa.types.is_integer, kinds)):
        return pa.int64()
    if not all(pa.types.is_integer(kind) or pa.types.is_floating(kind) or pa.types.is_decimal(kind) for kind in kinds):
        return None
    if any(map(pa.types.is_floating, kinds)):
        return pa.float64()
    scales = [kind.scale if pa.types.is_decimal(kind) else 0 for kind in kinds]
    before = [kind.precision - kind.scale if pa.types.is_decimal(kind) else INTEGER_DIGITS for kind in kinds]
    precision = max(before) + max(scales)
    return pa.decimal128(precision, max(scales)) if precision <= DECIMAL_DIGITS else None


def make_view(connection: DuckDBPyConnection, name: str, paths: Sequence[Path]) -> None:
    """Make a view over Parquet files whose columns may differ: missing ones are null, types are unified.

    A view over no file at all has no rows, and one column ``_nothing``.
    """
    if not paths:
        connection.execute(f"CREATE VIEW {quoted(name)} AS SELECT NULL::INTEGER AS _nothing WHERE false")
        return
    schemas = [pq.read_schema(path) for path in paths]
    columns = unified(schemas)
    selects = []
    for path, schema in zip(paths, schemas, strict=True):
        parts = [_part(column, wanted, schema) for column, wanted in columns.items()]
        selects.append((", ".join(parts), str(path)))
    # Neighbours that look alike are read by one scan; the order of files stays.
    groups = [(parts, [path for _, path in alike]) for parts, alike in groupby(selects, key=itemgetter(0))]
    union = " UNION ALL ".join(
        f"SELECT {parts} FROM read_parquet([{', '.join(map(text, files))}]"  # noqa: S608
        ", union_by_name = true, hive_partitioning = false)"
        for parts, files in groups
    )
    connection.execute(f"CREATE VIEW {quoted(name)} AS {union}")


def _part(column: str, wanted: pa.DataType | None, schema: pa.Schema) -> str:
    if column not in schema.names:
        return f"NULL AS {quoted(column)}"
    found = schema.field(column).type
    if wanted is None:
        return f"CAST({quoted(column)} AS VARCHAR) AS {quoted(column)}"
    if found.equals(wanted) or pa.types.is_null(found):
        return f"{quoted(column)} AS {quoted(column)}"
    return f"CAST({quoted(column)} AS {_sql_type(wanted)}) AS {quoted(column)}"


def _sql_type(wanted: pa.DataType) -> str:
    if pa.types.is_decimal(wanted):
        return f"DECIMAL({wanted.precision}, {wanted.scale})"
    return "BIGINT" if pa.types.is_integer(wanted) else "DOUBLE"
