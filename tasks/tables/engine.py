"""DuckDB as an engine for SQL over staged files: bounded memory, and no other file of the machine in reach."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
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


@contextmanager
def engine(
    scratch: Path, readable: Sequence[Path | str] = (), memory: str = MEMORY
) -> Iterator[tuple[DuckDBPyConnection, Path]]:
    """A DuckDB in memory, and a folder of its own that it may write to; both are gone at the end.

    Statements reach that folder, the files or folders in `readable`, and nothing else.

    Args:
        scratch: a folder of this machine.
        readable: files, or folders that end with a slash.
        memory: what one statement may hold.
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
            connection.execute("SET allowed_directories = $1", [[f"{folder}/"]])
            connection.execute("SET allowed_paths = $1", [[str(path) for path in readable]])
            connection.execute("SET enable_external_access = false")
            connection.execute("SET lock_configuration = true")
            yield connection, Path(folder)
        finally:
            connection.close()


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
        Integers and floats become floats; what has no type in common becomes text, here None.
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
    numbers = [pa.types.is_integer(each) or pa.types.is_floating(each) for each in (one, other)]
    if all(numbers):
        return pa.int64() if all(pa.types.is_integer(each) for each in (one, other)) else pa.float64()
    return None


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
    groups: dict[str, list[str]] = {}
    for parts_of_file, path_of_file in selects:  # files that look alike are read by one scan
        groups.setdefault(parts_of_file, []).append(path_of_file)
    union = " UNION ALL ".join(
        f"SELECT {parts} FROM read_parquet([{', '.join(map(text, files))}], union_by_name = true)"  # noqa: S608
        for parts, files in groups.items()
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
    return f"CAST({quoted(column)} AS {'BIGINT' if pa.types.is_integer(wanted) else 'DOUBLE'}) AS {quoted(column)}"
