"""Names, types and merges are dlt's: held against dlt itself."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any

import duckdb
import pyarrow as pa
import pytest
import sqlalchemy as sa
from dlt.common.normalizers.naming.snake_case import NamingConvention
from dlt.common.schema.utils import new_table
from dlt.destinations import duckdb as dlt_duckdb
from dlt.destinations import postgres as dlt_postgres
from dlt.destinations.impl.duckdb.configuration import DuckDbCredentials
from dlt.destinations.impl.duckdb.sql_client import DuckDbSqlClient
from dlt.destinations.sql_jobs import SqlMergeFollowupJob
from dlt.sources.sql_database.schema_types import sqla_col_to_column_schema
from hypothesis import given, settings
from hypothesis import strategies as st
from sqlalchemy.dialects import mysql, postgresql

from lookbook.tasks.tables.extract.sql_source import arrow_type
from lookbook.tasks.tables.load.job import LoadJob
from lookbook.tasks.tables.load.prepare import ROW_HASH, VALID_FROM, VALID_TO
from lookbook.tasks.tables.load.statements import create_table, destination_type, merge_statements, table_columns
from lookbook.tasks.tables.spec.tasks import LoadSettings
from lookbook.tasks.tables.spec.values import LONGEST, snake_case

DLT_TYPES: dict[str, dict[str, Any]] = {
    "VARCHAR": {"data_type": "text"},
    "BIGINT": {"data_type": "bigint"},
    "DOUBLE": {"data_type": "double"},
    "BOOLEAN": {"data_type": "bool"},
    "TIMESTAMP WITH TIME ZONE": {"data_type": "timestamp"},
    "TIMESTAMP": {"data_type": "timestamp", "timezone": False},
    "DATE": {"data_type": "date"},
    "TIME": {"data_type": "time"},
    "JSON": {"data_type": "json"},
    "BLOB": {"data_type": "binary"},
    "DECIMAL(20, 3)": {"data_type": "decimal", "precision": 20, "scale": 3},
    "DECIMAL(38, 0)": {"data_type": "decimal", "precision": 38, "scale": 0},
}
HISTORY: dict[str, dict[str, Any]] = {
    ROW_HASH: {"x-row-version": True},
    VALID_FROM: {"x-valid-from": True},
    VALID_TO: {"x-valid-to": True, "x-active-record-timestamp": None},
}
#: Of a decimal of Arrow with 128 bits.
MOST_DIGITS = 38
COLUMNS = {"key": "VARCHAR", "part": "BIGINT", "value": "BIGINT", "gone": "BOOLEAN"}
ROW = st.tuples(
    st.sampled_from("abc"), st.integers(0, 1), st.none() | st.integers(0, 3), st.none() | st.booleans()
).map(list)


def dlt_name(name: str) -> str:
    try:
        return NamingConvention(LONGEST).normalize_path(name)
    except ValueError:
        return ""


@given(st.text(st.sampled_from("aAbBzZ019 _-+*@|$.éß写²") | st.characters(codec="utf-8"), max_size=90))
def test_names_are_those_that_dlt_gives(name: str) -> None:
    assert snake_case(name) == dlt_name(name)


@pytest.mark.parametrize("type_", DLT_TYPES)
def test_types_are_those_that_dlt_gives(type_: str) -> None:
    column: Any = {"name": "column"} | DLT_TYPES[type_]
    for engine, destination in (("duckdb", dlt_duckdb()), ("postgres", dlt_postgres())):
        mapper = destination.capabilities().get_type_mapper()
        wanted = mapper.to_destination_type(column, {"name": "table"})
        assert destination_type(engine, type_).replace(", ", ",") == wanted  # type: ignore[arg-type]


SQL_TYPES = [
    *(sa.Integer(), sa.BigInteger(), sa.SmallInteger(), sa.Float(), sa.Double(), sa.String(5), sa.Text(), sa.Enum("a")),
    *(sa.Numeric(), sa.Numeric(10), sa.Numeric(10, 2), sa.Numeric(10, 2, asdecimal=False), sa.Uuid(), sa.LargeBinary()),
    *(sa.Date(), sa.Time(), sa.DateTime(), sa.DateTime(timezone=True), sa.JSON(), sa.ARRAY(sa.Integer), sa.Boolean()),
    *(postgresql.JSONB(), postgresql.BYTEA(), postgresql.UUID(), postgresql.INTERVAL(), postgresql.INET()),
    *(mysql.TINYINT(), mysql.YEAR(), mysql.DECIMAL(65, 30), mysql.LONGTEXT(), mysql.BIT(), mysql.DATETIME(fsp=6)),
]
ARROW_TYPES = {
    "text": pa.string(),
    "json": pa.string(),
    "bigint": pa.int64(),
    "double": pa.float64(),
    "bool": pa.bool_(),
    "date": pa.date32(),
    "time": pa.time64("us"),
    "binary": pa.binary(),
}


@pytest.mark.parametrize("kind", SQL_TYPES, ids=repr)
def test_columns_of_databases_get_the_types_that_dlt_gives(kind: sa.types.TypeEngine[Any]) -> None:
    hint: Any = sqla_col_to_column_schema(sa.Column("c", kind), "full")
    match hint.get("data_type"):
        case "timestamp":
            wanted = pa.timestamp("us", "UTC" if hint.get("timezone") else None)
        case "decimal":
            most = hint.get("precision")
            wanted = pa.decimal128(most, hint.get("scale", 0)) if most is not None and most <= MOST_DIGITS else None
        case name:
            wanted = ARROW_TYPES.get(name)
    assert arrow_type(kind) == wanted


def dlt_statements(job: LoadJob, strategy: str) -> list[str]:
    """What dlt merges by; its client is never connected."""
    history = job.settings.strategy == "scd2"
    columns = []
    for name, type_ in table_columns(job).items():
        column = {"name": name, "nullable": True} | DLT_TYPES[type_]
        if history:
            column |= HISTORY.get(name, {})
        else:
            column |= {"primary_key": name in job.settings.primary_key, "hard_delete": name == job.settings.hard_delete}
        columns.append(column)
    hints = {
        "x-merge-strategy": "scd2" if history else strategy,
        "x-boundary-timestamp": job.loaded_at.isoformat(),
        "x-stage-data-deduplicated": True,
    }
    table: Any = new_table(job.table, write_disposition="merge", columns=columns) | hints  # type: ignore[arg-type]
    client = DuckDbSqlClient(job.schema, "landing", DuckDbCredentials(), dlt_duckdb().capabilities())
    return SqlMergeFollowupJob.generate_sql([table], client)


def job_of(**more: Any) -> LoadJob:
    given = LoadSettings(table="things", write_disposition="merge", **more)
    return LoadJob("things", COLUMNS, [], 1, "load", datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC), given, "own")


@pytest.fixture(scope="module")
def connection() -> Iterator[duckdb.DuckDBPyConnection]:
    with duckdb.connect() as opened:
        opened.execute("CREATE SCHEMA own; CREATE SCHEMA landing")
        yield opened


def after(
    connection: duckdb.DuckDBPyConnection, job: LoadJob, statements: list[str], rows: list[list[list[Any]]]
) -> list[tuple[Any, ...]]:
    """The table after a merge of the second rows into the first."""
    for schema, some in zip(("own", "landing"), rows, strict=True):
        connection.execute(
            f"DROP TABLE IF EXISTS {schema}.things; {create_table('duckdb', 'things', table_columns(job), schema)}"
        )
        for row in some:
            connection.execute(f"INSERT INTO {schema}.things VALUES ({', '.join('?' * len(row))})", row)
    for statement in statements:
        connection.execute(statement)
    return sorted(connection.execute("SELECT * FROM own.things").fetchall(), key=repr)


def one_each(rows: list[list[Any]], key: tuple[str, ...]) -> list[list[Any]]:
    """One row a key, as they are landed."""
    places = [list(COLUMNS).index(name) for name in key]
    return list({tuple(row[place] for place in places): row for row in rows}.values())


@pytest.mark.parametrize("hard_delete", [None, "gone", "value"])
@pytest.mark.parametrize("key", [("key",), ("key", "part")])
@settings(max_examples=30)
@given(before=st.lists(ROW, max_size=6), landed=st.lists(ROW, max_size=6))
def test_a_merge_by_key_leaves_what_that_of_dlt_leaves(
    connection: duckdb.DuckDBPyConnection,
    key: tuple[str, ...],
    hard_delete: str | None,
    before: list[list[Any]],
    landed: list[list[Any]],
) -> None:
    job = job_of(primary_key=key, hard_delete=hard_delete)
    rows = [one_each(before, key), one_each(landed, key)]
    for strategy in ("delete-insert", "upsert"):
        ours = after(connection, job, merge_statements(job, "landing", strategy), rows)
        assert ours == after(connection, job, dlt_statements(job, strategy), rows)


@given(before=st.lists(ROW, max_size=6), landed=st.lists(ROW, max_size=6), ended=st.lists(st.booleans(), max_size=6))
def test_a_history_is_that_of_dlt(
    connection: duckdb.DuckDBPyConnection, before: list[list[Any]], landed: list[list[Any]], ended: list[bool]
) -> None:
    job = job_of(strategy="scd2")
    then = datetime(2025, 1, 1, tzinfo=UTC)
    ends = [*ended, *[False] * 6]
    rows = [
        [[*row, repr(row), then, then if end else None] for row, end in zip(before, ends, strict=False)],
        [[*row, repr(row), None, None] for row in one_each(landed, tuple(COLUMNS))],
    ]
    ours = after(connection, job, merge_statements(job, "landing"), rows)
    assert ours == after(connection, job, dlt_statements(job, "scd2"), rows)
