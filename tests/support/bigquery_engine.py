"""BigQuery's SQL on DuckDB: read as BigQuery would, checked where DuckDB is more lenient, written for DuckDB."""

from __future__ import annotations

import re
from dataclasses import dataclass

import duckdb
import pyarrow as pa
import sqlglot
from sqlglot import exp

from tests.support.bigquery_catalog import Catalog, Refused, Table, quoted
from tests.support.bigquery_layout import layout
from tests.support.bigquery_types import Field, coerces, rest_fields, sql_type

#: Words of DuckDB that sqlglot would take for BigQuery's.
_FOREIGN = re.compile(
    r"\b(VARCHAR|BIGINT|DOUBLE|TRY_CAST|COUNT_IF|CONCAT_WS|EXCEPT\s+ALL|INTERSECT\s+ALL|EXCLUDE|READ_PARQUET|STRFTIME"
    r"|EPOCH_US|LIST_VALUE|REGEXP_MATCHES)\s*[(,)\s]",
    re.IGNORECASE,
)
#: Functions that have one name in both, and that sqlglot does not know.
_PLAIN = frozenset({"ERROR"})
_TEXTS = re.compile(r"'(?:[^'\\]|\\.)*'|\"(?:[^\"\\]|\\.)*\"|`[^`]*`|--[^\n]*")


@dataclass
class Outcome:
    """What a statement did: its kind, its rows, the rows that it changed."""

    kind: str
    rows: pa.Table | None = None
    dml: dict[str, int] | None = None


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
    local = {cte.alias for cte in tree.find_all(exp.CTE)}
    tables = []
    for table in tree.find_all(exp.Table):
        if not table.db and table.name in local:
            continue
        if not table.db and default_dataset is None:
            message = f'Table "{table.name}" must be qualified with a dataset (e.g. dataset.table).'
            raise Refused(400, "invalidQuery", message)
        if table.catalog and table.catalog != catalog.project:
            raise Refused(403, "accessDenied", f"Access Denied: Project {table.catalog}: User does not have access")
        table.set("catalog", None)
        table.set("db", exp.to_identifier(table.db or default_dataset, quoted=True))
        table.set("this", exp.to_identifier(table.name, quoted=True))
        tables.append((table.db, table.name))
    for number in list(tree.find_all(exp.Literal)):
        if number.parent is not None:
            number.replace(_with_floats(number))
    return Statement(tree, text, _kind(tree), tuple(dict.fromkeys(tables)))


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
    kinds = {exp.Insert: "INSERT", exp.Update: "UPDATE", exp.Delete: "DELETE", exp.Merge: "MERGE"}
    for node, kind in kinds.items():
        if isinstance(tree, node):
            return kind
    if isinstance(tree, exp.Query):
        return "SELECT"
    raise Refused(400, "invalidQuery", f"Statement not supported: {tree.sql('bigquery')[:60]}")


def run(catalog: Catalog, statement: Statement) -> Outcome:
    """Run one statement."""
    _check_tables(catalog, statement)
    try:
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
        sql = to_duckdb(select)
        found = catalog.rows(f"SELECT * FROM ({sql}) LIMIT 0")
    except duckdb.Error as error:
        raise Refused(400, "invalidQuery", str(error).splitlines()[0]) from error
    plain = [one.unalias() for one in select.selects] if isinstance(select, exp.Select) else []
    fields = rest_fields(found.schema)
    if len(plain) == len(fields):
        for field, value in zip(fields, plain, strict=True):
            if isinstance(value, exp.Null):
                field["untyped"] = True
    return fields


def to_duckdb(tree: exp.Expr) -> str:
    """A statement in DuckDB's dialect."""
    return tree.sql("duckdb")


def _with_floats(node: exp.Literal) -> exp.Expr:
    """A number with a point is FLOAT64 in BigQuery, and DECIMAL in DuckDB."""
    if not node.is_string and not node.name.isdigit():
        return exp.cast(node.copy(), "double")
    return node


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
