"""Statements of BigQuery's SQL, run on DuckDB, and checked where DuckDB is more lenient."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import duckdb
import pyarrow as pa
from sqlglot import exp

from tests.support.bigquery_catalog import Catalog, Refused, Table, quoted
from tests.support.bigquery_layout import layout
from tests.support.bigquery_parsing import Statement
from tests.support.bigquery_types import Field, coerces, sql_type


@dataclass
class Outcome:
    """What a statement did: its kind, its rows, the rows that it changed."""

    kind: str
    rows: pa.Table | None = None
    dml: dict[str, int] | None = None


def run_script(catalog: Catalog, statements: Sequence[Statement]) -> Iterator[Outcome]:
    """Run one statement after the other; a transaction that is not committed changes nothing.

    https://cloud.google.com/bigquery/docs/transactions#transaction_scope: no DDL on what stays.
    """
    open_ = False
    try:
        for statement in statements:
            if statement.kind in {"BEGIN_TRANSACTION", "COMMIT_TRANSACTION"}:
                if open_ == (statement.kind == "BEGIN_TRANSACTION"):
                    raise Refused(400, "invalidQuery", "Transaction control statement in the wrong place")
                open_ = not open_
                catalog.duckdb.execute("BEGIN" if open_ else "COMMIT")
                continue
            if open_ and statement.kind.startswith(("CREATE", "DROP", "ALTER")):
                raise Refused(400, "invalidQuery", f"{statement.kind} is not supported within a transaction")
            yield run(catalog, statement)
    finally:
        if open_:
            catalog.duckdb.execute("ROLLBACK")


def run(catalog: Catalog, statement: Statement) -> Outcome:
    """Run one statement."""
    _check_tables(catalog, statement)
    try:
        if statement.kind == "TRUNCATE_TABLE":
            catalog.duckdb.execute(f"DELETE FROM {quoted(*statement.tables[0])}")
            return Outcome(statement.kind)
        if isinstance(statement.tree, exp.Create):
            return _create(catalog, statement)
        if isinstance(statement.tree, exp.Drop):
            return _drop(catalog, statement)
        if statement.kind == "ALTER_TABLE":
            _alter(catalog, statement.tree)
            return Outcome(statement.kind)
        if statement.kind == "SELECT":
            return Outcome("SELECT", catalog.rows(to_duckdb(statement.tree)))
        return Outcome(statement.kind, dml=_change(catalog, statement))
    except duckdb.Error as error:
        raise Refused(400, "invalidQuery", str(error).splitlines()[0]) from error


def select_fields(catalog: Catalog, select: exp.Expr) -> list[Field]:
    """The columns that a SELECT gives; a column of plain NULLs is `untyped`."""
    try:
        fields = catalog.columns(to_duckdb(select))
    except duckdb.Error as error:
        raise Refused(400, "invalidQuery", str(error).splitlines()[0]) from error
    plain = [one.unalias() for one in select.selects] if isinstance(select, exp.Select) else []
    if len(plain) == len(fields):
        for field, value in zip(fields, plain, strict=True):
            if isinstance(value, exp.Null):
                field["untyped"] = True
    return fields


def to_duckdb(tree: exp.Expr) -> str:
    """A statement in DuckDB's dialect."""
    return tree.sql("duckdb")


def _check_tables(catalog: Catalog, statement: Statement) -> None:
    made = isinstance(statement.tree, (exp.Create, exp.Drop)) and statement.tables[:1]
    for dataset, name in statement.tables:
        if made and (dataset, name) == made[0]:
            if not statement.kind.endswith("_SCHEMA"):
                catalog.dataset(dataset)
            continue
        catalog.table(dataset, name)


def _alter(catalog: Catalog, tree: exp.Expr) -> None:
    """DuckDB takes one change a statement."""
    for action in tree.args["actions"]:
        single = tree.copy()
        single.set("actions", [action.copy()])
        catalog.duckdb.execute(to_duckdb(single))
    catalog.refresh_views()


def _create(catalog: Catalog, statement: Statement) -> Outcome:
    tree, (dataset, name) = statement.tree, statement.tables[0]
    if tree.args["kind"] == "SCHEMA":
        if dataset not in catalog.datasets or not tree.args.get("exists"):
            catalog.create_dataset(dataset, {})
        return Outcome(statement.kind)
    replaces = bool(tree.args.get("replace"))
    if catalog.has(dataset, name) and not replaces:
        if tree.args.get("exists"):
            return Outcome(statement.kind)
        raise Refused(409, "duplicate", f"Already Exists: Table {catalog.project}:{dataset}.{name}")
    before = catalog.tables.get((dataset, name))
    properties = layout(tree)
    if before and before.query is None and tree.args["kind"] == "TABLE":
        same = all(
            before.properties.get(one) == properties.get(one) for one in ("timePartitioning", "rangePartitioning")
        )
        if not same:
            raise Refused(400, "invalidQuery", "Cannot replace a table with a different partitioning spec")
    plain = tree.copy()
    plain.set("properties", None)
    if tree.args["kind"] == "VIEW":
        query = to_duckdb(tree.expression)
        catalog.duckdb.execute(f"CREATE OR REPLACE VIEW {quoted(dataset, name)} AS {query}")
        text = re.split(r"\bAS\b", statement.text, maxsplit=1, flags=re.IGNORECASE)[1].strip()
        properties["view"] = {"query": text, "useLegacySql": False}
        catalog.tables[dataset, name] = Table(properties, query)
        catalog.refresh_views()
    else:
        catalog.duckdb.execute(to_duckdb(plain))
        catalog.tables[dataset, name] = Table(properties)
        _check_layout(catalog, dataset, name)
        catalog.refresh_views()
    return Outcome(statement.kind)


def _check_layout(catalog: Catalog, dataset: str, name: str) -> None:
    """Refuse columns that a table cannot be clustered by, or that it does not have."""
    fields = {field["name"].lower(): field for field in catalog.fields(dataset, name)}
    properties = catalog.tables[dataset, name].properties
    clustered = properties.get("clustering", {}).get("fields", [])
    partitioned = [properties["timePartitioning"]["field"]] if "timePartitioning" in properties else []
    for column in [*clustered, *partitioned]:
        field = fields.get(column.lower())
        if field is None or field.get("mode") == "REPEATED" or field["type"] in {"FLOAT", "RECORD", "BYTES"}:
            catalog.drop(dataset, name)
            raise Refused(400, "invalidQuery", f"The table cannot be partitioned or clustered by {column}")


def _drop(catalog: Catalog, statement: Statement) -> Outcome:
    dataset, name = statement.tables[0]
    if statement.kind == "DROP_SCHEMA":
        if dataset in catalog.datasets or not statement.tree.args.get("exists"):
            catalog.drop_dataset(dataset, contents=bool(statement.tree.args.get("cascade")))
        return Outcome(statement.kind)
    if not catalog.has(dataset, name) and statement.tree.args.get("exists"):
        return Outcome(statement.kind)
    is_view = catalog.table(dataset, name).query is not None
    if is_view != (statement.tree.args["kind"] == "VIEW"):
        raise Refused(400, "invalidQuery", f"{dataset}.{name} is {'a view' if is_view else 'no view'}")
    catalog.drop(dataset, name)
    return Outcome(statement.kind)


def _change(catalog: Catalog, statement: Statement) -> dict[str, int]:
    """Rows that a statement inserted, updated and deleted."""
    tree, kind = statement.tree, statement.kind
    if isinstance(tree, (exp.Update, exp.Delete)) and tree.args.get("where") is None:
        raise Refused(400, "invalidQuery", f"{kind} must have a WHERE clause")
    if isinstance(tree, exp.Insert):
        _check_insert(catalog, tree, statement.tables[0])
    if kind == "MERGE":
        found = catalog.duckdb.execute(to_duckdb(tree) + " RETURNING merge_action").fetchall()
        actions = [action for (action,) in found]
        counts = {name: actions.count(name) for name in ("INSERT", "UPDATE", "DELETE")}
    else:
        ((count,),) = catalog.duckdb.execute(to_duckdb(tree)).fetchall()
        counts = {kind: int(count)}
    names = {"INSERT": "insertedRowCount", "UPDATE": "updatedRowCount", "DELETE": "deletedRowCount"}
    return {names[action]: count for action, count in counts.items()}


def _check_insert(catalog: Catalog, tree: exp.Insert, target: tuple[str, str]) -> None:
    """DuckDB casts in silence what BigQuery refuses."""
    fields = {field["name"].lower(): field for field in catalog.fields(*target)}
    names = [column.name for column in tree.this.expressions] if isinstance(tree.this, exp.Schema) else list(fields)
    unknown = [name for name in names if name.lower() not in fields]
    if unknown:
        message = f"Column {unknown[0]} is not present in table {catalog.project}.{'.'.join(target)}"
        raise Refused(400, "invalidQuery", message)
    if not isinstance(tree.expression, exp.Query) or isinstance(tree.expression, exp.Values):
        return
    given = select_fields(catalog, tree.expression)
    if len(given) != len(names):
        raise Refused(
            400, "invalidQuery", f"Inserted row has wrong column count; Has {len(given)}, expected {len(names)}"
        )
    for n, (field, name) in enumerate(zip(given, names, strict=True), 1):
        wanted = fields[name.lower()]
        if not coerces(field, wanted):
            raise Refused(
                400,
                "invalidQuery",
                f"Query column {n} has type {sql_type(field)} which cannot be inserted into column {name},"
                f" which has type {sql_type(wanted)}",
            )
