"""SQL in other dialects than DuckDB's, in which the models are written."""

from __future__ import annotations

from functools import cache

import sqlglot
from sqlglot import exp


@cache
def translate(sql: str, dialect: str) -> str:
    """Return a model's SELECT in another engine's dialect.

    Args:
        sql: the SELECT in DuckDB's dialect.
        dialect: the engine, as sqlglot names it: ``bigquery``, ``postgres`` …

    Raises:
        sqlglot.errors.ParseError: it is no SQL of DuckDB.
        sqlglot.errors.UnsupportedError: the engine has no words for it.
    """
    return sqlglot.transpile(
        sql, read="duckdb", write=dialect, unsupported_level=sqlglot.ErrorLevel.RAISE, comments=False
    )[0]


@cache
def tables_read(sql: str) -> frozenset[str]:
    """Return the tables that a SELECT in DuckDB's dialect names, without its own common table expressions."""
    tree = sqlglot.parse_one(sql, read="duckdb")
    return frozenset(table.name for table in tree.find_all(exp.Table)) - {cte.alias for cte in tree.find_all(exp.CTE)}
