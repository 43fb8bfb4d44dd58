"""SQL over staged files by DuckDB: types that hold all values of several files, views, and memory for it."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Mapping, Sequence
from itertools import groupby
from operator import itemgetter
from pathlib import Path
from typing import TYPE_CHECKING

import pyarrow as pa
import pyarrow.parquet as pq

from lookbook.blocks.lake import Lake
from lookbook.blocks.sql_text import literal, quoted
from lookbook.tasks.tables.staging import INPUT, LINE, Stage

if TYPE_CHECKING:
    from duckdb import DuckDBPyConnection

#: What it may hold beside for each column, in megabytes: a column has vectors of its own, whatever the rows.
COLUMN_MEMORY = 0.25
#: Digits of a decimal, at the most, and of the largest integer of 64 bits.
DECIMAL_DIGITS, INTEGER_DIGITS = 38, 19
#: Up to here, there is a double for every integer.
DOUBLE_INTEGERS = 2**53
_BY_NAME = "union_by_name = true, hive_partitioning = false"


def memory_for(megabytes: int, columns: int) -> str:
    """Give the memory limit of a statement over so many columns, as DuckDB writes it."""
    return f"{megabytes + int(COLUMN_MEMORY * columns)}MB"


def local_files(lake: Lake, stage: Stage, scratch: Path) -> list[Path]:
    """Return the files of a stage where programs can read them; copies lie in `scratch`."""
    return [lake.local_copy(file.key, scratch) for file in stage.files]


def unified(schemas: Sequence[pa.Schema]) -> dict[str, pa.DataType | None]:
    """Return the columns of several files, in order of appearance, each with the type that holds all its values.

    Returns:
        Integers and floats become floats, integers and decimals decimals that hold both; what has no type in common
        becomes text, here None: so do decimals and floats, since neither holds all of the other. For integers that no
        float is equal to see `unified_files`.
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
        return None if any(map(pa.types.is_decimal, kinds)) else pa.float64()
    scales = [kind.scale if pa.types.is_decimal(kind) else 0 for kind in kinds]
    before = [kind.precision - kind.scale if pa.types.is_decimal(kind) else INTEGER_DIGITS for kind in kinds]
    precision = max(before) + max(scales)
    return pa.decimal128(precision, max(scales)) if precision <= DECIMAL_DIGITS else None


def unified_files(paths: Sequence[Path]) -> dict[str, pa.DataType | None]:
    """Unify the columns of several Parquet files, as `unified`; integers beyond 2^53 beside floats become text."""
    schemas = [pq.read_schema(path) for path in paths]
    columns = unified(schemas)
    for name, kind in columns.items():
        if kind is not None and pa.types.is_floating(kind):
            whole = [path for path, schema in zip(paths, schemas, strict=True) if _has_integers(schema, name)]
            if any(_beyond_double(path, name) for path in whole):
                columns[name] = None
    return columns


def _has_integers(schema: pa.Schema, name: str) -> bool:
    return name in schema.names and pa.types.is_integer(schema.field(name).type)


def _beyond_double(path: Path, column: str) -> bool:
    """Tell from a file's statistics whether a column may hold integers that no double equals."""
    metadata = pq.read_metadata(path)
    place = metadata.schema.names.index(column)
    chunks = [metadata.row_group(group).column(place) for group in range(metadata.num_row_groups)]
    for chunk in chunks:
        told = chunk.statistics
        if told is None or not told.has_min_max:
            if told is None or told.null_count != chunk.num_values:
                return True
        elif max(abs(told.min), abs(told.max)) > DOUBLE_INTEGERS:
            return True
    return False


def told_apart(columns: Iterable[str]) -> dict[str, str]:
    """Return for each column, the name by which SQL tells it from the others: SQL takes ``code`` and ``Code`` for one.

    Returns:
        The column's own name; of those that differ in case only, each with a number (``Code_1``, ``code_2``), so that
        none is found under the name of another. `INPUT` and `LINE` keep theirs.
    """
    given = list(columns)
    spellings: dict[bytes, list[str]] = {}
    for column in given:
        spellings.setdefault(_folded(column), []).append(column)
    used = set(spellings)
    names: dict[str, str] = {}
    for alike in spellings.values():
        several = [column for column in sorted(alike) if column not in (INPUT, LINE)] if len(alike) > 1 else []
        names |= {column: column for column in alike if column not in several}
        for number, column in enumerate(several, 1):
            free = (f"{column}_{count}" for count in itertools.count(number))
            names[column] = next(name for name in free if _folded(name) not in used)
            used.add(_folded(names[column]))
    return {column: names[column] for column in given}


def _folded(name: str) -> bytes:
    """Return a name as DuckDB compares it: only A to Z have another case."""
    return name.encode("utf-8", "surrogatepass").lower()


def scan(paths: Sequence[Path], columns: Sequence[str], names: Mapping[str, str]) -> str:
    """Return SQL for Parquet files of the same columns, under the `names` that tell them apart.

    DuckDB finds columns by their names without case: where that would find another one, a file is read by places.
    """
    if all(names[column] == column for column in columns):
        return f"read_parquet([{', '.join(literal(str(path)) for path in paths)}], {_BY_NAME})"
    shown = ", ".join(quoted(names[column]) for column in columns)
    files = [f"FROM read_parquet({literal(str(path))}, hive_partitioning = false) AS file({shown})" for path in paths]
    return f"({' UNION ALL '.join(files)})"


def make_view(connection: DuckDBPyConnection, name: str, paths: Sequence[Path]) -> dict[str, str]:
    """Make a view over Parquet files whose columns may differ: missing ones are null, types are unified.

    A view over no file at all has no rows, and one column ``_nothing``.

    Returns:
        For each column of the files, its name in the view; see `told_apart`.
    """
    if not paths:
        connection.execute(f"CREATE VIEW {quoted(name)} AS SELECT NULL::INTEGER AS _nothing WHERE false")
        return {}
    schemas = [pq.read_schema(path) for path in paths]
    columns = unified_files(paths)
    names = told_apart(columns)
    # Neighbours of one schema are read by one scan, the order of files stays; of several, DuckDB would unify the types.
    scans = [
        (schema, [path for _, path in files])
        for schema, files in groupby(zip(schemas, paths, strict=True), key=itemgetter(0))
    ]
    union = " UNION ALL ".join(
        f"SELECT {', '.join(_part(column, names[column], wanted, schema) for column, wanted in columns.items())}"  # noqa: S608 - quoted
        f" FROM {scan(files, schema.names, names)}"
        for schema, files in scans
    )
    connection.execute(f"CREATE VIEW {quoted(name)} AS {union}")
    return names


def _part(column: str, name: str, wanted: pa.DataType | None, schema: pa.Schema) -> str:
    if column not in schema.names:
        return f"NULL AS {quoted(name)}"
    found = schema.field(column).type
    if wanted is None:
        return f"CAST({quoted(name)} AS VARCHAR) AS {quoted(name)}"
    if found.equals(wanted) or pa.types.is_null(found):
        return f"{quoted(name)} AS {quoted(name)}"
    return f"CAST({quoted(name)} AS {_sql_type(wanted)}) AS {quoted(name)}"


def _sql_type(wanted: pa.DataType) -> str:
    if pa.types.is_decimal(wanted):
        return f"DECIMAL({wanted.precision}, {wanted.scale})"
    return "BIGINT" if pa.types.is_integer(wanted) else "DOUBLE"
