"""Tables of pipelines in BigQuery.

Rows are uploaded into a table of their own, which bills nothing; then one script, one transaction, gets them into the
table. Tables are made and widened before it: a transaction cannot. So who is killed leaves a column without values, or
before the first load an empty table; the next load finds them.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

import sqlglot
from sqlglot import exp

from lookbook.blocks.bigquery.sql import DUCKDB_TYPES, OLD_NAMES, literal, quoted
from lookbook.blocks.bigquery.staging import LEFTOVERS_STAND, LandedRows, commit_fenced, landed_files
from lookbook.blocks.bigquery.warehouse import BigQueryWarehouse
from lookbook.blocks.duckdb.queries import engine
from lookbook.blocks.sql_text import literal as duckdb_literal
from lookbook.blocks.sql_text import quoted as duckdb_name
from lookbook.blocks.sql_types import JSON
from lookbook.blocks.warehouse import FEEDS_SCHEMA
from lookbook.tasks.runs.catalogue import TableState
from lookbook.tasks.tables.load import statements as sql
from lookbook.tasks.tables.load.job import LoadJob, check_written
from lookbook.tasks.tables.load.prepare import FILE_BYTES

if TYPE_CHECKING:
    from google.cloud.bigquery import SchemaField, Table

    from lookbook.blocks.bigquery.client import Store

#: What the landing table's schema is called until statements are placed.
LANDING = "landing"
#: Of a NUMERIC: before the point and behind it.
NUMERIC_DIGITS = (29, 9)
_UNSIZED = {"NUMERIC": (38, 9), "BIGNUMERIC": (76, 38)}


class BigQueryTables:
    """The dataset of pipelines of a warehouse in BigQuery.

    Args:
        warehouse: the block.
        scratch: a folder of this machine.
    """

    place = "warehouse"

    def __init__(self, warehouse: BigQueryWarehouse, scratch: Path) -> None:
        self._warehouse, self._scratch = warehouse, scratch

    def state(self, table: str) -> TableState | None:
        """See `Destination.state`. It is looked up, and bills nothing."""
        with self._warehouse.feeding() as store:
            found = store.table(self._warehouse.feeds_dataset, table)
            return TableState(_columns(found), found.num_rows or 0, found.num_bytes) if found is not None else None

    def load(self, job: LoadJob) -> int | None:
        """See `Destination.load`."""
        with self._warehouse.feeding() as store, ExitStack() as stack:
            self._make(store, job)
            landed = stack.enter_context(landing(store, job, self._scratch)) if job.files else None
            rows = landed.rows if landed is not None else 0
            merges = job.settings.write_disposition == "merge"
            check_written(job, rows, job.rows, fewer=merges)
            statements = self._merge(job, landed) if merges else self._insert(store, job, landed)
            script = [*statements, *sql.list_load(job, rows)]
            placed = [self._placed(store, statement, landed) for statement in script]
            commit_fenced(store, placed)
            return job.rows - rows

    def _make(self, store: Store, job: LoadJob) -> None:
        """Make the tables that are not there, and add columns that the job brings."""
        found = store.tables(self._warehouse.feeds_dataset, [sql.LOADS, job.table])
        made = [sql.create_table("duckdb", sql.LOADS, sql.LOADS_COLUMNS)] if found[sql.LOADS] is None else []
        table = found[job.table]
        made += sql.evolve_table("duckdb", job, _columns(table) if table is not None else None)
        for statement in made:
            store.execute(self._placed(store, statement, None))

    def _insert(self, store: Store, job: LoadJob, landed: LandedRows | None) -> list[str]:
        """Return the statements of an append or a replace."""
        before = store.execute(self._placed(store, sql.listed_loads(job), None))
        listed = next(iter(before.result(retry=store.retry, timeout=store.job_seconds, job_retry=None)))[0]
        columns = ", ".join(map(duckdb_name, job.columns))
        source = f"{duckdb_name(LANDING)}.{duckdb_name(job.table)}"
        inserted = f"INSERT INTO {sql.qualified(job.table)} ({columns}) SELECT {columns} FROM {source}"  # noqa: S608 - quoted
        return [*sql.delete_before(job, listed), *([inserted] if landed is not None else [])]

    def _merge(self, job: LoadJob, landed: LandedRows | None) -> list[str]:
        """Return the statements of a merge."""
        return sql.merge_statements(job, LANDING) if landed is not None else []

    def _placed(self, store: Store, statement: str, landed: LandedRows | None) -> str:
        """Return a statement in BigQuery's words, with its tables where they lie and its times as what they are."""
        tree = sqlglot.parse_one(statement, read="duckdb")
        for table in list(tree.find_all(exp.Table)):
            if table.db == LANDING and landed is not None:
                _place(table, store.client.project, store.staging, landed.name)
            elif table.db == FEEDS_SCHEMA:
                _place(table, store.client.project, self._warehouse.feeds_dataset, table.name)
        for value in list(tree.find_all(exp.Literal)):
            if value.is_string and _INSTANT.fullmatch(value.name) and not isinstance(value.parent, exp.Cast):
                value.replace(exp.cast(value.copy(), "TIMESTAMPTZ", dialect="duckdb"))
        return _wide_decimals(tree).sql("bigquery", unsupported_level=sqlglot.ErrorLevel.RAISE, comments=False)


#: How a merge writes the time at which a version of a row begins or ends.
_INSTANT = re.compile(r"\d{4}-\d{2}-\d{2}[ T]\d{2}:\d{2}:\d{2}(\.\d+)?\+00:00")


@contextmanager
def landing(store: Store, job: LoadJob, scratch: Path) -> Iterator[LandedRows]:
    """Yield the rows of a job in a table of staging that has the types of the job's table; gone at the end."""
    wanted = sql.table_columns(job)
    with engine(scratch, job.files) as (connection, folder):
        connection.execute(
            f"COPY (SELECT {_plain(wanted)} FROM ({_source(job)})) TO {duckdb_literal(str(folder / 'upload'))}"  # noqa: S608 - quoted
            f" (FORMAT parquet, FILE_SIZE_BYTES {FILE_BYTES}, FILENAME_PATTERN 'rows_{{i}}')"
        )
        with (
            landed_files(store, sorted((folder / "upload").iterdir())) as landed,
            _typed(store, landed, wanted) as typed,
        ):
            yield typed


@contextmanager
def _typed(store: Store, landed: LandedRows, wanted: Mapping[str, str]) -> Iterator[LandedRows]:
    """Yield the rows with the types wanted: in the same table, or in another one where a file cannot bring them."""
    types = {name: _bigquery_type(type_) for name, type_ in wanted.items()}
    if landed.columns == types:
        yield landed
        return
    name = f"{landed.name}_typed"
    values = ", ".join(_converted(column, landed.columns[column], type_) for column, type_ in types.items())
    expires = (datetime.now(UTC) + LEFTOVERS_STAND).isoformat(sep=" ", timespec="seconds")
    try:
        store.execute(
            f"CREATE TABLE {store.address(store.staging, name)}"  # noqa: S608 - names are quoted
            f" OPTIONS (expiration_timestamp = TIMESTAMP {literal(expires)})"
            f" AS SELECT {values} FROM {store.address(store.staging, landed.name)}"
        )
        yield LandedRows(name, types, landed.rows)
    finally:
        store.drop(store.staging, name)


def _bigquery_type(type_: str) -> str:
    return _wide_decimals(exp.DataType.build(type_, dialect="duckdb")).sql("bigquery")


def _wide_decimals(tree: exp.Expr) -> exp.Expr:
    """Decimals of more digits than a NUMERIC holds, 29 before and 9 behind the point, as BIGNUMERIC."""
    for kind in list(tree.find_all(exp.DataType)):
        if kind.this == exp.DataType.Type.DECIMAL and len(kind.expressions) == len(NUMERIC_DIGITS):
            precision, scale = (int(digits.name) for digits in kind.expressions)
            if precision - scale > NUMERIC_DIGITS[0] or scale > NUMERIC_DIGITS[1]:
                kind.set("this", exp.DataType.Type.BIGDECIMAL)
    return tree


def _converted(column: str, before: str, after: str) -> str:
    name = quoted(column)
    if before == after:
        return name
    if after == "JSON":
        return f"PARSE_JSON({name}) AS {name}"
    return f"CAST({name} AS {after}) AS {name}"


def _plain(columns: Mapping[str, str]) -> str:
    """Return columns as a Parquet file can bring them to BigQuery, which reads no JSON from it."""
    return ", ".join(
        f"CAST({duckdb_name(name)} AS VARCHAR) AS {duckdb_name(name)}" if type_ == JSON else duckdb_name(name)
        for name, type_ in columns.items()
    )


def _source(job: LoadJob) -> str:
    """Return a SELECT of the rows to be landed."""
    files = ", ".join(duckdb_literal(str(path)) for path in job.files)
    if job.settings.write_disposition != "merge":
        return f"SELECT * FROM read_parquet([{files}], hive_partitioning = false)"  # noqa: S608 - quoted
    options = "hive_partitioning = false, filename = true, file_row_number = true"
    return sql.landed_rows(job, f"read_parquet([{files}], {options})")


def _place(table: exp.Table, project: str, dataset: str, name: str) -> None:
    for part, value in (("catalog", project), ("db", dataset), ("this", name)):
        table.set(part, exp.to_identifier(value, quoted=True))


def _columns(table: Table) -> dict[str, str]:
    return {field.name: _type(field) for field in table.schema}


def _type(field: SchemaField) -> str:
    if field.field_type in _UNSIZED:
        precision, scale = _UNSIZED[field.field_type]
        return f"DECIMAL({field.precision or precision}, {field.scale or (0 if field.precision else scale)})"
    return DUCKDB_TYPES.get(OLD_NAMES.get(field.field_type, field.field_type), field.field_type)
