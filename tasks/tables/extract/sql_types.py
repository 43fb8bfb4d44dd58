"""The types of a database's columns as Arrow's, where the database names them."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
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


def table_types(connection: Connection, table: str, schema: str | None) -> dict[str, pa.DataType]:
    """The types of a table's columns as far as they are known.

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
    """The type that dlt gives to one of SQLAlchemy, as Arrow's; None: the values tell."""
    from dlt.sources.sql_database.schema_types import sqla_col_to_column_schema  # noqa: PLC0415 - takes a second

    hint = sqla_col_to_column_schema(Column("c", kind), "full") or {"name": "c"}
    if hint.get("data_type") == "timestamp":
        return pa.timestamp("us", "UTC" if hint.get("timezone") else None)
    if hint.get("data_type") == "decimal":
        return _decimal(hint.get("precision"), hint.get("scale"))
    return _TYPES.get(hint.get("data_type") or "")


def query_types(dialect: str, description: Sequence[Sequence[Any]] | None) -> list[pa.DataType | None]:
    """The types of a result's columns: those of decimals, which values do not tell.

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
