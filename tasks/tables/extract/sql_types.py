"""The types of a database's columns as Arrow's; values that Python cannot hold, as their text."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Sequence
from typing import Any

import pyarrow as pa
from sqlalchemy import Column, inspect
from sqlalchemy.engine import Connection
from sqlalchemy.exc import SAWarning
from sqlalchemy.types import TypeEngine

#: PyMySQL's and psycopg2's numbers of the decimal types.
_DECIMALS = {"mysql": (0, 246), "mariadb": (0, 246), "postgresql": (1700,)}
_DIGITS = 38
_TYPES = {
    "text": pa.string(),
    "json": pa.string(),
    "bigint": pa.int64(),
    "double": pa.float64(),
    "bool": pa.bool_(),
    "date": pa.date32(),
    "time": pa.time64("us"),
    "binary": pa.binary(),
}
#: PostgreSQL's numbers of types with those of their arrays (pg_type.dat), and what psycopg2 makes of their values.
_LOSSY = {
    "DATE": (1082, 1182, "PYDATE"),
    "TIMESTAMP": (1114, 1115, "PYDATETIME"),
    "TIMESTAMPTZ": (1184, 1185, "PYDATETIMETZ"),
    "TIME": (1083, 1183, "PYTIME"),
    "TIMETZ": (1266, 1270, None),  # Arrow's times have no zone
    "INTERVAL": (1186, 1187, None),  # Python's know no months
    "TSRANGE": (3908, 3909, None),
    "TSTZRANGE": (3910, 3911, None),
    "DATERANGE": (3912, 3913, None),
}
#: psycopg2 takes these for the last and the first day that Python knows, and for midnight at the day's beginning.
_TAKEN_FOR_OTHERS = ("infinity", "-infinity", "24:00")

Cast = Callable[[str | None, Any], Any]


def table_types(connection: Connection, table: str, schema: str | None) -> dict[str, pa.DataType]:
    """Return the types of a table's columns as far as they are known.

    SQLite knows none: a column takes whatever it is given.

    Raises:
        NoSuchTableError: there is no such table.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", SAWarning)  # of types that SQLAlchemy does not know
        columns = inspect(connection).get_columns(table, schema)
    if connection.dialect.name == "sqlite":
        return {}
    known = {column["name"]: arrow_type(column["type"]) for column in columns}
    return {name: kind for name, kind in known.items() if kind is not None}


def arrow_type(kind: TypeEngine[Any]) -> pa.DataType | None:
    """Return the type that dlt gives to one of SQLAlchemy, as Arrow's; None: the values tell."""
    from dlt.sources.sql_database.schema_types import sqla_col_to_column_schema  # noqa: PLC0415 - takes a second

    hint = sqla_col_to_column_schema(Column("c", kind), "full") or {"name": "c"}
    if hint.get("data_type") == "timestamp":
        return pa.timestamp("us", "UTC" if hint.get("timezone") else None)
    if hint.get("data_type") == "decimal":
        return _decimal(hint.get("precision"), hint.get("scale"))
    return _TYPES.get(hint.get("data_type") or "")


def query_types(dialect: str, description: Sequence[Sequence[Any]] | None) -> list[pa.DataType | None]:
    """Return the types of a result's columns: those of decimals, which values do not tell.

    Args:
        dialect: name of the database's.
        description: of the columns, by PEP 249.
    """
    known = _DECIMALS.get(dialect, ())
    return [_decimal(entry[4], entry[5]) if entry[1] in known else None for entry in description or ()]


def _decimal(precision: int | None, scale: int | None) -> pa.DataType | None:
    if not precision or precision > _DIGITS or not 0 <= (scale or 0) <= precision:
        return None
    return pa.decimal128(precision, scale or 0)


def keep_exact(connection: Any, _record: object = None) -> None:  # noqa: ANN401 - psycopg2 has no types
    """Let a connection of psycopg2 give dates, times and intervals that Python cannot hold as their text."""
    from psycopg2 import DataError, extensions  # noqa: PLC0415 - only PostgreSQL needs it

    faults = (DataError, ValueError, OverflowError)  # before the year 1, after 9999
    for name, (number, array, known) in _LOSSY.items():
        cast = _exact(getattr(extensions, known), faults) if known else _as_written
        one = extensions.new_type((number,), name, cast)
        for kind in (one, extensions.new_array_type((array,), f"{name}[]", one)):
            extensions.register_type(kind, connection)


def _as_written(value: str | None, _cursor: object) -> str | None:
    return value


def _exact(known: Cast, faults: tuple[type[Exception], ...]) -> Cast:
    def cast(value: str | None, cursor: object) -> Any:  # noqa: ANN401 - a date, a time, or text
        if value is None or value.startswith(_TAKEN_FOR_OTHERS):
            return value
        try:
            return known(value, cursor)
        except faults:
            return value

    return cast
