"""BigQuery's SQL as BigQuery would read it: what it would refuse is refused, though DuckDB would take it."""

from __future__ import annotations

import re
from dataclasses import dataclass

import sqlglot
from sqlglot import exp

from tests.support.bigquery_catalog import Catalog, Refused
from tests.support.bigquery_types import NUMERIC_SCALE, NUMERIC_WHOLE, sql_type

#: Words of DuckDB that sqlglot would take for BigQuery's.
_FOREIGN = re.compile(
    r"\b(VARCHAR|BIGINT|DOUBLE|TRY_CAST|COUNT_IF|CONCAT_WS|EXCEPT\s+ALL|INTERSECT\s+ALL|EXCLUDE|READ_PARQUET|STRFTIME"
    r"|EPOCH_US|LIST_VALUE|REGEXP_MATCHES)\s*[(,)\s]",
    re.IGNORECASE,
)
#: Functions that have one name in both, and that sqlglot does not know.
_PLAIN = frozenset({"ERROR"})
_TEXTS = re.compile(r"'(?:[^'\\]|\\.)*'|\"(?:[^\"\\]|\\.)*\"|`[^`]*`|--[^\n]*")


@dataclass(frozen=True)
class Statement:
    """One statement, and the tables that it reads or writes, by dataset and name."""

    tree: exp.Expr
    text: str
    kind: str
    tables: tuple[tuple[str, str], ...]


def parse(catalog: Catalog, sql: str, default_dataset: str | None) -> list[Statement]:
    """The statements of a script. Refused: what is no SQL of BigQuery, and tables that are not there."""
    foreign = _FOREIGN.search(_TEXTS.sub("''", sql) + " ")
    if foreign:
        raise Refused(400, "invalidQuery", f"Syntax error: Unexpected {foreign[1]}; or type or function not found")
    try:
        trees = [tree for tree in sqlglot.parse(sql, read="bigquery") if tree is not None]
    except sqlglot.errors.SqlglotError as error:
        raise Refused(400, "invalidQuery", f"Syntax error: {str(error).splitlines()[0]}") from error
    if not trees:
        raise Refused(400, "required", "Required parameter is missing: query")
    texts = [sql] if len(trees) == 1 else [tree.sql("bigquery") for tree in trees]
    return [_statement(catalog, tree, text, default_dataset) for tree, text in zip(trees, texts, strict=True)]


def _statement(catalog: Catalog, tree: exp.Expr, text: str, default_dataset: str | None) -> Statement:
    unknown = next((one for one in tree.find_all(exp.Anonymous) if one.name.upper() not in _PLAIN), None)
    if unknown is not None:
        raise Refused(400, "invalidQuery", f"Function not found: {unknown.name}")
    _check_numerics(tree)
    local = {cte.alias for cte in tree.find_all(exp.CTE)}
    tables = []
    for table in list(tree.find_all(exp.Table)):
        if not table.db and table.name in local:
            continue
        if not table.db and default_dataset is None:
            message = f'Table "{table.name}" must be qualified with a dataset (e.g. dataset.table).'
            raise Refused(400, "invalidQuery", message)
        if table.catalog and table.catalog != catalog.project:
            raise Refused(403, "accessDenied", f"Access Denied: Project {table.catalog}: User does not have access")
        if table.name.upper() == "INFORMATION_SCHEMA.COLUMNS":
            table.replace(_information_schema(catalog, table))
            continue
        table.set("catalog", None)
        table.set("db", exp.to_identifier(table.db or default_dataset, quoted=True))
        table.set("this", exp.to_identifier(table.name, quoted=True))
        tables.append((table.db, table.name))
    for number in list(tree.find_all(exp.Literal)):
        if number.parent is not None:
            number.replace(_with_floats(number))
    return Statement(tree, text, _kind(tree), tuple(dict.fromkeys(tables)))


def _check_numerics(tree: exp.Expr) -> None:
    for kind in tree.find_all(exp.DataType):
        digits = [int(one.name) for one in kind.expressions] if kind.this == exp.DataType.Type.DECIMAL else []
        scale = (digits[1:] or [0])[0]
        if digits and (digits[0] - scale > NUMERIC_WHOLE or scale > NUMERIC_SCALE):
            raise Refused(400, "invalidQuery", f"In {kind.sql('bigquery')}, P or S is beyond what NUMERIC holds")


def _information_schema(catalog: Catalog, table: exp.Table) -> exp.Expr:
    """The columns of a dataset's tables, as a table of values."""
    names = [
        "table_catalog",
        "table_schema",
        "table_name",
        "column_name",
        "ordinal_position",
        "is_nullable",
        "data_type",
    ]
    catalog.dataset(table.db)
    rows = [
        (catalog.project, table.db, name, field["name"], n, "YES", sql_type(field))
        for dataset, name in catalog.tables
        if dataset == table.db
        for n, field in enumerate(catalog.fields(dataset, name), 1)
    ]
    values = exp.values(rows or [tuple([None] * len(names))], alias="found", columns=names)
    return exp.select("*").from_(values).where("table_name IS NOT NULL").subquery(table.alias or "columns")


def _kind(tree: exp.Expr) -> str:
    if isinstance(tree, exp.Create):
        return (
            "CREATE_TABLE_AS_SELECT"
            if tree.args["kind"] == "TABLE" and tree.expression
            else f"CREATE_{tree.args['kind']}"
        )
    if isinstance(tree, exp.Drop):
        return f"DROP_{tree.args['kind']}"
    if isinstance(tree, exp.Alter):
        return "ALTER_TABLE"
    kinds = {
        exp.Insert: "INSERT",
        exp.Update: "UPDATE",
        exp.Delete: "DELETE",
        exp.Merge: "MERGE",
        exp.TruncateTable: "TRUNCATE_TABLE",
        exp.Transaction: "BEGIN_TRANSACTION",
        exp.Commit: "COMMIT_TRANSACTION",
    }
    for node, kind in kinds.items():
        if isinstance(tree, node):
            return kind
    if isinstance(tree, exp.Query):
        return "SELECT"
    raise Refused(400, "invalidQuery", f"Statement not supported: {tree.sql('bigquery')[:60]}")


def _with_floats(node: exp.Literal) -> exp.Expr:
    """A number with a point is FLOAT64 in BigQuery, and DECIMAL in DuckDB."""
    if not node.is_string and not node.name.isdigit():
        return exp.cast(node.copy(), "double")
    return node
