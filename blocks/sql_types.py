"""The types that columns of tables have, and what each engine calls them. Elsewhere DuckDB's names stand for them."""

from __future__ import annotations

from typing import NamedTuple


class ColumnType(NamedTuple):
    """A type as specs and each engine name it."""

    spec: str
    duckdb: str
    postgres: str
    bigquery: str


#: Decimals are written with their digits, and are in none of these rows.
TYPES = (
    ColumnType("text", "VARCHAR", "varchar", "STRING"),
    ColumnType("bigint", "BIGINT", "bigint", "INT64"),
    ColumnType("double", "DOUBLE", "double precision", "FLOAT64"),
    ColumnType("bool", "BOOLEAN", "boolean", "BOOL"),
    ColumnType("timestamp", "TIMESTAMP WITH TIME ZONE", "timestamp with time zone", "TIMESTAMP"),
    ColumnType("datetime", "TIMESTAMP", "timestamp without time zone", "DATETIME"),
    ColumnType("date", "DATE", "date", "DATE"),
    ColumnType("time", "TIME", "time without time zone", "TIME"),
    ColumnType("json", "JSON", "jsonb", "JSON"),
    ColumnType("binary", "BLOB", "bytea", "BYTES"),
)
TEXT, INTEGER, FLOAT, BOOL, INSTANT, DATETIME, DATE, TIME, JSON, BINARY = (type_.duckdb for type_ in TYPES)
