"""Arrow tables as they come from Parquet and from functions: nested columns as everywhere else, plain types."""

from __future__ import annotations

from collections.abc import Iterator
from decimal import Decimal
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from lookbook.tasks.tables.extract.pieces import SEPARATOR, Piece, UnreadableError, located, text_of, to_array

#: Rows that are read at a time, and bytes.
ROWS, BUFFER = 32_768, 2**20
_PLAIN = {
    pa.large_string(): pa.string(),
    pa.string_view(): pa.string(),
    pa.large_binary(): pa.binary(),
    pa.binary_view(): pa.binary(),
    pa.float16(): pa.float32(),
    pa.date64(): pa.date32(),
    pa.time32("s"): pa.time64("us"),
    pa.time32("ms"): pa.time64("us"),
    pa.timestamp("s"): pa.timestamp("us"),
    pa.timestamp("ms"): pa.timestamp("us"),
}


def read_parquet(path: Path, address: str) -> Iterator[Piece]:
    """Yield the rows of a Parquet file, in bounded memory; the line of a row is its number, from 1.

    Raises:
        UnreadableError: it is none, or damaged.
    """
    try:
        with pq.ParquetFile(path, buffer_size=BUFFER, pre_buffer=False) as file:
            done = 0
            for batch in file.iter_batches(ROWS):
                rows = plain(pa.Table.from_batches([batch]))
                numbers = pa.array(np.arange(done + 1, done + rows.num_rows + 1), pa.int64())
                done += rows.num_rows
                yield Piece(located(rows, address, numbers))
    except (pa.ArrowException, OSError, ValueError) as error:
        raise UnreadableError("damaged_file", f"it is no Parquet file, or damaged ({type(error).__name__})") from error


def plain(table: pa.Table) -> pa.Table:
    """Return the table with scalar columns: structs are flattened, lists and maps JSON, dictionaries values."""
    names: list[str] = []
    columns: list[pa.ChunkedArray] = []
    for name, column in zip(table.column_names, table.columns, strict=True):
        for flat_name, flat_column in _flat(name, column):
            names.append(flat_name)
            columns.append(_scalar(flat_column))
    if not names:  # rows without columns are rows all the same
        names, columns = ["column_1"], [pa.chunked_array([pa.nulls(table.num_rows)])]
    return pa.Table.from_arrays(columns, names=names)


def _flat(name: str, column: pa.ChunkedArray) -> Iterator[tuple[str, pa.ChunkedArray]]:
    if isinstance(column.type, pa.BaseExtensionType):
        column = _stored(column)
    if not pa.types.is_struct(column.type):
        yield name, column
        return
    for index, inner in enumerate(column.type):
        yield from _flat(f"{name}{SEPARATOR}{inner.name}", pc.struct_field(column, [index]))


def _stored(column: pa.ChunkedArray) -> pa.ChunkedArray:
    """Return what an extension type stores; a UUID as text."""
    if column.type.extension_name == "arrow.uuid":
        return pa.chunked_array([pa.array([text_of(value) for value in column.to_pylist()], pa.string())])
    return pa.chunked_array([chunk.storage for chunk in column.chunks], column.type.storage_type)


def _scalar(column: pa.ChunkedArray) -> pa.ChunkedArray:
    kind = column.type
    if pa.types.is_dictionary(kind):
        return _scalar(column.cast(kind.value_type))
    if kind in _PLAIN or pa.types.is_fixed_size_binary(kind):
        return column.cast(_PLAIN.get(kind, pa.binary()))
    if pa.types.is_nested(kind) or pa.types.is_duration(kind) or pa.types.is_interval(kind):
        return pa.chunked_array([pa.array([text_of(_simple(value)) for value in column.to_pylist()], pa.string())])
    if pa.types.is_timestamp(kind):
        return _time(column)
    if pa.types.is_uint64(kind) or (pa.types.is_decimal(kind) and not pa.types.is_decimal128(kind)):
        return _number(column)
    return column


def _simple(value: object) -> object:
    """Return a map's pairs as an object, where its keys are text."""
    if isinstance(value, list) and value and all(isinstance(pair, tuple) and len(pair) == 2 for pair in value):  # noqa: PLR2004
        return {str(key): inner for key, inner in value}
    return value


def _time(column: pa.ChunkedArray) -> pa.ChunkedArray:
    """In microseconds and UTC; as text where that would lose nanoseconds, which no table has."""
    zone = None if column.type.tz is None else "UTC"
    try:
        return column.cast(pa.timestamp("us", zone))
    except pa.ArrowInvalid:
        return column.cast(pa.timestamp(column.type.unit, zone)).cast(pa.string())


def _number(column: pa.ChunkedArray) -> pa.ChunkedArray:
    kind = pa.int64() if pa.types.is_uint64(column.type) else pa.decimal128(38, column.type.scale)
    try:
        return column.cast(kind)
    except (pa.ArrowInvalid, pa.ArrowNotImplementedError):
        values = [None if value is None else Decimal(value) for value in column.to_pylist()]
        return pa.chunked_array([to_array(values)])
