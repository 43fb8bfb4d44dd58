"""The values of a cursor as numbers that can be compared: numbers as they are, dates and times since 1970."""

from __future__ import annotations

import atexit
import math
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from functools import lru_cache
from typing import TYPE_CHECKING, Literal, TypeAlias

import pyarrow as pa
import pyarrow.compute as pc

from lookbook.blocks.errors import LookbookError

if TYPE_CHECKING:
    from duckdb import DuckDBPyConnection

#: What a cursor counts: numbers, or microseconds since 1970 in UTC; a time without a zone counts as UTC.
CursorKind: TypeAlias = Literal["number", "time"]
#: The value of a cursor as it stands in its source, for those that can compare it themselves.
Exact: TypeAlias = int | float | Decimal | date | datetime


def kind_of(column: pa.ChunkedArray, name: str) -> CursorKind | None:
    """Return what a column counts; None: it has no value that tells.

    Raises:
        LookbookError: its type is none that grows.
    """
    kind = column.type
    if pa.types.is_integer(kind) or pa.types.is_floating(kind) or pa.types.is_decimal(kind):
        return "number"
    if pa.types.is_date(kind) or pa.types.is_timestamp(kind):
        return "time"
    if pa.types.is_null(kind) or column.null_count == len(column):
        return None
    if not pa.types.is_string(kind):
        raise LookbookError(f"incremental.cursor {name} is of type {kind}.", "Name a number, a date or a time.")
    values = column.drop_null()
    parsed = {kind: len(values) - _of_text(values, kind).null_count for kind in ("number", "time")}
    if not any(parsed.values()):
        return None
    return "number" if parsed["number"] >= parsed["time"] else "time"


def keys_of(column: pa.ChunkedArray, kind: CursorKind) -> pa.Array:
    """Return the values as float64 (numbers) or int64 (times); null where there is none of this kind."""
    found = column.type
    if pa.types.is_string(found):
        return _of_text(column, kind)
    if pa.types.is_null(found):
        return pa.nulls(len(column), pa.float64() if kind == "number" else pa.int64())
    if pa.types.is_temporal(found) != (kind == "time"):
        raise LookbookError(
            f"incremental.cursor is of type {found}, and was a {kind} before.", "Name the column that it was."
        )
    if kind == "number":
        keys = _one(column.cast(pa.float64(), safe=False))
        return pc.if_else(pc.is_finite(keys), keys, pa.scalar(None, pa.float64()))
    if pa.types.is_date(found):
        column = column.cast(pa.date32())
    zone = column.type.tz if pa.types.is_timestamp(found) else None
    return _one(column.cast(pa.timestamp("us", zone), safe=False).cast(pa.int64()))


def _of_text(column: pa.ChunkedArray, kind: CursorKind) -> pa.Array:
    value = "TRY_CAST(trim(v) AS DOUBLE)" if kind == "number" else "TRY_CAST(trim(v) AS TIMESTAMPTZ)"
    key = value if kind == "number" else f"epoch_us({value})"
    with _duckdb().cursor() as connection:
        connection.register("texts", pa.table({"v": column}))
        statement = f"SELECT CASE WHEN isfinite({value}) THEN {key} END AS k FROM texts"  # noqa: S608
        keys: pa.Table = connection.sql(statement).to_arrow_table()
        return _one(keys.column("k"))


@lru_cache(maxsize=1)
def _duckdb() -> DuckDBPyConnection:
    import duckdb  # noqa: PLC0415 - late: importing the tasks is to be quick

    connection = duckdb.connect(config={"threads": 1})
    connection.execute("SET GLOBAL TimeZone = 'UTC'")
    atexit.register(_duckdb.cache_clear)  # what lives longer than the interpreter is called leaked on stderr
    return connection


def _one(column: pa.ChunkedArray) -> pa.Array:
    """Return a column as one array."""
    return pa.concat_arrays(column.chunks) if column.num_chunks else pa.array([], column.type)


def exact_value(value: object) -> str | None:
    """Return a cursor's value as text from which `exact_of` makes it again; None of a text."""
    match value:
        case datetime():
            return f"datetime:{value.isoformat()}"
        case date():
            return f"date:{value.isoformat()}"
        case Decimal():
            return f"decimal:{value}"
        case bool():
            return None
        case int() | float():
            return f"{type(value).__name__}:{value!r}"
        case _:
            return None


def exact_of(text: str) -> Exact:
    """Return the value that `exact_value` wrote."""
    kind, _, value = text.partition(":")
    match kind:
        case "int":
            return int(value)
        case "float":
            return float(value)
        case "decimal":
            return Decimal(value)
        case "datetime":
            return datetime.fromisoformat(value)
        case _:
            return date.fromisoformat(value)


def behind(key: float | int, lag: timedelta | None, kind: CursorKind) -> float | int:
    """Return a key so far before another one; of a number, as many as the lag has seconds."""
    if lag is None:
        return key
    if kind == "number":
        return key - lag.total_seconds()
    return key - math.ceil(lag / timedelta(microseconds=1))


def exact_behind(value: Exact, lag: timedelta | None) -> Exact:
    """Return the same of an exact value."""
    if lag is None:
        return value
    if isinstance(value, datetime):
        return value - lag
    if isinstance(value, date):
        return (datetime.combine(value, datetime.min.time(), UTC) - lag).date()
    seconds = lag.total_seconds()
    if isinstance(value, int):
        return math.floor(value - Decimal(seconds))
    return value - Decimal(seconds) if isinstance(value, Decimal) else value - seconds
