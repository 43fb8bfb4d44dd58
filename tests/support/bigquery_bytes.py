"""The bytes that a query of the BigQuery stand-in reads, by BigQuery's sizes of types.

Sizes: https://cloud.google.com/bigquery/pricing#data (a text is two bytes and its UTF-8, a number eight, a bool one).
"""

from __future__ import annotations

from typing import Any

from sqlglot import exp

from tests.support.bigquery_catalog import Catalog, quoted
from tests.support.bigquery_engine import Statement, parse

MEGABYTE = 1 << 20
#: For each table that a query reads.
BILLED_AT_LEAST = 10 * MEGABYTE

_FIXED = {"BOOLEAN": 1, "NUMERIC": 16, "BIGNUMERIC": 32}


def bytes_read(catalog: Catalog, statement: Statement) -> int:
    """Bytes of the columns that a statement names, in all tables that it reads; of all columns, where it says ``*``."""
    return _of_tree(catalog, statement.tree, statement.tables)


def _of_tree(catalog: Catalog, tree: exp.Expr, tables: tuple[tuple[str, str], ...]) -> int:
    names = {column.name.lower() for column in tree.find_all(exp.Column)}
    starred = any(star.find_ancestor(exp.Count) is None for star in tree.find_all(exp.Star))
    total = 0
    for dataset, name in tables:
        table = catalog.tables.get((dataset, name))
        if table is None:
            continue
        if table.query is not None:
            for inner in parse(catalog, table.properties["view"]["query"], None):
                total += _of_tree(catalog, inner.tree, inner.tables)
            continue
        fields = [field for field in catalog.fields(dataset, name) if starred or field["name"].lower() in names]
        total += _bytes_of(catalog, dataset, name, fields)
    return total


def _bytes_of(catalog: Catalog, dataset: str, name: str, fields: list[dict[str, Any]]) -> int:
    sizes = ["sum(0)"]
    for field in fields:
        column = quoted(field["name"])
        size = str(_FIXED.get(field["type"], 8))
        if field["type"] in {"STRING", "BYTES", "RECORD", "JSON"} or field.get("mode") == "REPEATED":
            size = f"2 + strlen(CAST({column} AS VARCHAR))"
        sizes.append(f"coalesce(sum(CASE WHEN {column} IS NOT NULL THEN {size} END), 0)")
    ((total,),) = catalog.duckdb.execute(
        f"SELECT coalesce({' + '.join(sizes)}, 0) FROM {quoted(dataset, name)}"
    ).fetchall()
    return int(total)
