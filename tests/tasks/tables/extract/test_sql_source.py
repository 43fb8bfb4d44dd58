"""Databases as sources: PostgreSQL (from the wheel and Debian's), MariaDB, SQLite; each as it is."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterator
from contextlib import ExitStack
from datetime import UTC, date, datetime, time
from decimal import Decimal
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import sqlalchemy as sa
from prefect_sqlalchemy import AsyncSqlAlchemyConnector, ConnectionComponents, SqlAlchemyConnector
from pydantic import SecretStr

from lookbook.blocks.errors import LookbookError, OutOfReachError
from lookbook.blocks.workspace import Workspace
from lookbook.tasks.tables.context import Staged
from lookbook.tasks.tables.extract import extract, sql_source
from lookbook.tasks.tables.extract.sql_source import engine_of, opened
from tests.support import mariadb
from tests.support.debian_postgres import PASSWORD
from tests.support.extracting import context_of, load_task, run_and_commit, values_of
from tests.support.registries import Servers, servers
from tests.support.sets import sampled

Blocks = dict[str, Any]
KINDS = ("embedded", "debian", "mariadb", "sqlite")


@pytest.fixture(scope="module")
def databases() -> Iterator[dict[str, Any]]:
    """What connectors say of each database, started when it is first asked for."""
    with ExitStack() as ending:
        yield {"ending": ending, "servers": ending.enter_context(servers())}


@pytest.fixture
def blocks(monkeypatch: pytest.MonkeyPatch) -> Blocks:
    """Blocks by name, as if they were saved."""
    saved: Blocks = {}
    monkeypatch.setattr(sql_source, "load_connector", saved.__getitem__)
    return saved


def connector_of(kind: str, databases: dict[str, Any], folder: Path) -> Any:
    """A block for a database of this kind."""
    started: Servers = databases["servers"]
    if kind == "sqlite":
        return SqlAlchemyConnector(connection_info=f"sqlite:///{folder}/shop.sqlite")
    if kind == "embedded":
        return SqlAlchemyConnector(connection_info=started.url("embedded", "postgres").replace("://", "+psycopg2://"))
    if kind == "debian":
        return started.connector("postgres")
    if not mariadb.is_installed():
        pytest.skip("Debian's mariadb-server is not installed")
    if "port" not in databases:
        databases["port"] = databases["ending"].enter_context(mariadb.server())
    parts = {"username": mariadb.USER, "password": SecretStr(mariadb.PASSWORD), "database": mariadb.DATABASE}
    return AsyncSqlAlchemyConnector(
        connection_info=ConnectionComponents(
            driver="mysql+aiomysql", host="127.0.0.1", port=databases["port"], query={"charset": "utf8mb4"}, **parts
        )
    )


@pytest.fixture(params=sampled(KINDS, fast=["embedded", "mariadb", "sqlite"]))
def database(
    request: pytest.FixtureRequest, databases: dict[str, Any], blocks: Blocks, tmp_path: Path
) -> Iterator[sa.Engine]:
    """An engine for an empty database that the connector ``shop`` names."""
    blocks["shop"] = connector_of(request.param, databases, tmp_path)
    with opened("shop") as engine:
        _drop_all(engine)
        yield engine
        _drop_all(engine)


def _drop_all(engine: sa.Engine) -> None:
    metadata = sa.MetaData()
    metadata.reflect(engine)
    metadata.drop_all(engine)


def run(engine: sa.Engine, *statements: str) -> None:
    with engine.begin() as connection:
        for statement in statements:
            connection.exec_driver_sql(statement.replace("%", "%%") if engine.dialect.name != "sqlite" else statement)


def context(workspace: Workspace, folder: Path, states: Any = None, load: Any = None, **source: Any) -> Any:
    tasks = {"extract": {"source": {"type": "sql", "connector": "shop", **source}}, "load": load or load_task()}
    params = {"low": 2, "name": "x"}
    return context_of(workspace, folder, tasks, states, params=params)


def schema_of(workspace: Workspace, staged: Staged) -> dict[str, pa.DataType]:
    (file,) = staged.groups[""].files
    found = pq.read_schema(workspace.lake.local_copy(file.key, workspace.scratch))
    return {field.name: field.type for field in found if not field.name.startswith("_")}


@pytest.fixture
def prices(database: sa.Engine) -> sa.Engine:
    run(
        database,
        "CREATE TABLE prices (id INTEGER PRIMARY KEY, name VARCHAR(40), price DECIMAL(10, 2), day DATE)",
        *(f"INSERT INTO prices VALUES ({n}, 'name {n} é', {n}.50, '2026-01-0{n}')" for n in range(1, 10)),
        "INSERT INTO prices VALUES (10, NULL, NULL, NULL)",
    )
    return database


def test_a_table_is_read_in_chunks(prices: sa.Engine, workspace: Workspace, tmp_path: Path) -> None:
    staged = extract(context(workspace, tmp_path, table="prices", chunk_size=3), "extract")
    rows = values_of(workspace, staged)
    assert [row["id"] for row in rows] == list(range(1, 11))
    assert rows[0]["name"] == "name 1 é"
    assert set(rows[9]) == {"id"}
    assert staged.groups[""].inputs == ("sql://shop/prices",)
    if prices.dialect.name != "sqlite":  # which keeps decimals as floats, and dates as text
        assert schema_of(workspace, staged)["price"] == pa.decimal128(10, 2)
        assert (rows[0]["price"], rows[0]["day"]) == (Decimal("1.50"), date(2026, 1, 1))


def test_a_query_gets_the_date_and_params(prices: sa.Engine, workspace: Workspace, tmp_path: Path) -> None:
    query = "SELECT id, price, :logical_date AS at FROM prices WHERE id > :low AND name <> :name ORDER BY id;"
    staged = extract(context(workspace, tmp_path, query=query), "extract")
    rows = values_of(workspace, staged)
    assert [row["id"] for row in rows] == list(range(3, 10))
    assert "2026-03-01" in str(rows[0]["at"])
    if prices.dialect.name != "sqlite":
        assert rows[0]["price"] == Decimal("3.50")
        assert pa.types.is_decimal(schema_of(workspace, staged)["price"])


@pytest.mark.usefixtures("prices")
def test_a_query_that_names_what_nobody_knows_is_an_error(workspace: Workspace, tmp_path: Path) -> None:
    with pytest.raises(LookbookError, match=r":nope.*\n.*:low, :name, :logical_date"):
        extract(context(workspace, tmp_path, query="SELECT :nope"), "extract")


@pytest.mark.usefixtures("prices")
def test_columns_of_one_name_get_numbers(workspace: Workspace, tmp_path: Path) -> None:
    query = "SELECT a.id, b.id FROM prices a JOIN prices b ON a.id = b.id WHERE a.id = 1"
    assert values_of(workspace, extract(context(workspace, tmp_path, query=query), "extract")) == [{"id": 1, "id_2": 1}]


@pytest.mark.usefixtures("prices")
@pytest.mark.parametrize("missing", [{"table": "nope"}, {"query": "SELECT * FROM nope"}, {"query": "SELEC 1"}])
def test_errors_are_the_databases_words(workspace: Workspace, tmp_path: Path, missing: dict[str, str]) -> None:
    with pytest.raises(LookbookError, match="sql://shop/") as caught:
        extract(context(workspace, tmp_path, **missing), "extract")
    assert "hunter2" not in str(caught.value)


def test_names_are_identifiers_and_no_sql(database: sa.Engine, workspace: Workspace, tmp_path: Path) -> None:
    quoted = database.dialect.identifier_preparer.quote_identifier
    run(
        database,
        f"CREATE TABLE {quoted('Order')} ({quoted('select')} INTEGER, {quoted('A b')} INTEGER)",
        f"INSERT INTO {quoted('Order')} VALUES (1, 2)",
    )
    task = load_task(incremental={"cursor": "select"})
    staged, states = run_and_commit(context(workspace, tmp_path, table="Order", load=task))
    assert values_of(workspace, staged) == [{"select": 1, "A b": 2}]
    run(database, f"INSERT INTO {quoted('Order')} VALUES (2, 3)")
    staged, _ = run_and_commit(context(workspace, tmp_path, states, table="Order", load=task))
    assert values_of(workspace, staged) == [{"select": 2, "A b": 3}]


@pytest.fixture
def asked() -> Iterator[list[str]]:
    """The statements that databases get."""
    statements: list[str] = []

    def note(*arguments: Any) -> None:
        statements.append(arguments[2])

    sa.event.listen(sa.Engine, "before_cursor_execute", note)
    yield statements
    sa.event.remove(sa.Engine, "before_cursor_execute", note)


@pytest.mark.parametrize("source", [{"table": "prices"}, {"query": "SELECT * FROM prices WHERE id < 100 ORDER BY id;"}])
@pytest.mark.parametrize("cursor", ["id", "day", "price"])
def test_only_what_is_new_is_asked_for(
    prices: sa.Engine, asked: list[str], workspace: Workspace, tmp_path: Path, source: Any, cursor: str
) -> None:
    load = load_task(incremental={"cursor": cursor, "on_missing": "exclude"})
    staged, states = run_and_commit(context(workspace, tmp_path, load=load, **source))
    assert len(values_of(workspace, staged)) == (10 if cursor == "id" else 9)
    run(prices, "INSERT INTO prices VALUES (11, 'new', 9.50, '2026-01-09')", "DELETE FROM prices WHERE id = 3")
    run(prices, "INSERT INTO prices VALUES (12, 'newer', 12.25, '2026-01-12')")
    asked.clear()
    staged, states = run_and_commit(context(workspace, tmp_path, states, load=load, **source))
    assert [row["id"] for row in values_of(workspace, staged)] == [11, 12]
    if prices.dialect.name != "sqlite" or cursor == "id":
        assert any(">=" in statement for statement in asked)
    staged, _ = run_and_commit(context(workspace, tmp_path, states, load=load, **source))
    assert values_of(workspace, staged) == []


def test_a_lag_is_asked_for_too(database: sa.Engine, workspace: Workspace, tmp_path: Path) -> None:
    kind = "TIMESTAMP" if database.dialect.name == "postgresql" else "DATETIME"
    run(
        database,
        f"CREATE TABLE events (id INTEGER PRIMARY KEY, at {kind})",
        "INSERT INTO events VALUES (1, '2026-01-01 10:00:00'), (2, '2026-01-01 12:00:00')",
    )
    load = load_task(incremental={"cursor": "at", "lag": "1h"}, write_disposition="merge", primary_key="id")
    _, states = run_and_commit(context(workspace, tmp_path, table="events", load=load))
    run(database, "INSERT INTO events VALUES (3, '2026-01-01 11:00:00'), (4, '2026-01-01 10:59:59')")
    staged, _ = run_and_commit(context(workspace, tmp_path, states, table="events", load=load))
    assert [row["id"] for row in values_of(workspace, staged)] == [2, 3]


@pytest.mark.usefixtures("prices")
def test_missing_values_of_the_cursor_are_seen(workspace: Workspace, tmp_path: Path) -> None:
    load = load_task(incremental={"cursor": "day", "on_missing": "include"})
    _, states = run_and_commit(context(workspace, tmp_path, table="prices", load=load))
    staged, _ = run_and_commit(context(workspace, tmp_path, states, table="prices", load=load))
    assert [row["id"] for row in values_of(workspace, staged)] == [10]
    load = load_task(incremental={"cursor": "day"})
    with pytest.raises(LookbookError, match="line 10 has no value in day"):
        extract(context(workspace, tmp_path, table="prices", load=load), "extract")


def test_a_database_that_does_not_answer_may_later(blocks: Blocks, workspace: Workspace, tmp_path: Path) -> None:
    for driver in ("postgresql+psycopg2", "mysql+pymysql"):
        blocks["shop"] = SqlAlchemyConnector(connection_info=f"{driver}://me:hunter2@127.0.0.1:9/shop")
        with pytest.raises(OutOfReachError, match="OperationalError") as caught:
            extract(context(workspace, tmp_path, table="prices"), "extract")
        assert "hunter2" not in str(caught.value)


@pytest.mark.parametrize("driver", ["mssql+pyodbc", "oracle+oracledb", "nonsense+x"])
def test_a_driver_that_is_not_installed_is_named(
    blocks: Blocks, workspace: Workspace, tmp_path: Path, driver: str
) -> None:
    blocks["shop"] = SqlAlchemyConnector(connection_info=f"{driver}://me:hunter2@db/shop")
    with pytest.raises(LookbookError, match=f"{driver.replace('+', '.')}, which is not installed"):
        extract(context(workspace, tmp_path, table="prices"), "extract")


def test_arguments_of_an_async_driver_are_not_passed_on(blocks: Blocks, workspace: Workspace, tmp_path: Path) -> None:
    url = "postgresql+asyncpg://me:hunter2@db/shop"
    blocks["shop"] = AsyncSqlAlchemyConnector(connection_info=url, connect_args={"server_settings": {}})
    with pytest.raises(LookbookError, match="server_settings"):
        extract(context(workspace, tmp_path, table="prices"), "extract")


def naive(hour: int, minute: int, second: int, microsecond: int = 0) -> datetime:
    return datetime.combine(date(2026, 1, 2), time(hour, minute, second, microsecond))


def one_row(engine: sa.Engine, *statements: str, workspace: Workspace, folder: Path, **source: Any) -> Any:
    """The first row of a table ``kinds``, and the types of its columns."""
    run(engine, *statements)
    staged = extract(context(workspace, folder, **source), "extract")
    return values_of(workspace, staged)[0], schema_of(workspace, staged)


PG = """CREATE TABLE kinds (i SMALLINT, b BIGINT, r REAL, d DOUBLE PRECISION, n NUMERIC(12, 4), free NUMERIC, t TEXT,
    c CHAR(3), yes BOOLEAN, day DATE, clock TIME, at TIMESTAMP, zoned TIMESTAMPTZ, bytes BYTEA, u UUID, j JSON,
    jb JSONB, l INTEGER[], texts TEXT[], span INTERVAL, ip INET, e TEXT)"""
PG_ROW = """INSERT INTO kinds VALUES (1, 9007199254740993, 1.5, 0.1, 12345678.0001, 1.123456789012345678, 'é', 'ab',
    true, '2026-01-02', '10:11:12', '2026-01-02 10:11:12.123456', '2026-01-02 10:11:12+02', '\\x00ff',
    'a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11', '{"a": 1.10}', '{"a": [1, null]}', '{1,NULL,3}', '{"a,b","c"}',
    '1 day 2 hours', '10.0.0.1', NULL)"""


@pytest.mark.parametrize("source", [{"table": "kinds"}, {"query": "SELECT * FROM kinds"}])
def test_types_of_postgresql(
    databases: dict[str, Any], blocks: Blocks, workspace: Workspace, tmp_path: Path, source: Any
) -> None:
    blocks["shop"] = connector_of("embedded", databases, tmp_path)
    with opened("shop") as engine:
        run(engine, "DROP TABLE IF EXISTS kinds", PG)
        row, types = one_row(engine, PG_ROW, workspace=workspace, folder=tmp_path, **source)
    assert row == {
        "i": 1, "b": 9007199254740993, "r": 1.5, "d": 0.1, "n": Decimal("12345678.0001"),
        "free": Decimal("1.123456789012345678"), "t": "é", "c": "ab ", "yes": True, "day": date(2026, 1, 2),
        "clock": time(10, 11, 12), "at": naive(10, 11, 12, 123456),
        "zoned": datetime(2026, 1, 2, 8, 11, 12, tzinfo=UTC), "bytes": b"\x00\xff",
        "u": "a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11", "j": '{"a": 1.10}', "jb": '{"a": [1, null]}', "l": "[1,null,3]",
        "texts": '["a,b","c"]', "span": "1 day 02:00:00", "ip": "10.0.0.1",
    }  # fmt: skip
    assert types["n"] == pa.decimal128(12, 4)
    assert types["zoned"] == pa.timestamp("us", "UTC")
    assert types["at"] == pa.timestamp("us")


#: Each with its text as PostgreSQL says it: Python's dates, times and lengths of time cannot hold it.
NO_WORD = {
    "DATE": ["infinity", "-infinity", "0044-03-15 BC", "10000-01-01"],
    "TIMESTAMP": ["infinity", "-infinity", "0044-03-15 01:02:03 BC", "294276-12-31 23:59:59.999999"],
    "TIMESTAMPTZ": ["infinity", "-infinity"],
    "TIME": ["24:00:00"],
    "TIMETZ": ["10:11:12+02", "24:00:00+00"],
    "INTERVAL": ["1 mon", "1 year 2 mons 3 days 04:05:06.789", "-00:00:01", "30 days"],
    "BIT(5)": ["00101"],
    "VARBIT": ["1"],
    "NUMERIC": ["NaN", "Infinity", "1" * 40],
    "NUMERIC(12, 4)": ["NaN"],
    "DATE[]": ["{infinity,2026-01-02}"],
    "INTERVAL[]": ['{"1 mon","30 days"}'],
    "TIME[]": ["{24:00:00}"],
    "DATERANGE": ["[2026-01-02,infinity)"],
}


@pytest.mark.parametrize("source", [{"table": "kinds"}, {"query": "SELECT * FROM kinds ORDER BY n"}])
def test_what_python_has_no_word_for_is_text(
    databases: dict[str, Any], blocks: Blocks, workspace: Workspace, tmp_path: Path, source: Any
) -> None:
    blocks["shop"] = connector_of("embedded", databases, tmp_path)
    values = [(f"c{number}", kind, texts) for number, (kind, texts) in enumerate(NO_WORD.items())]
    columns = ", ".join(f"{name} {kind}" for name, kind, _ in values)
    rows = [
        (number, [texts[number] if number < len(texts) else None for *_, texts in values])
        for number in range(max(map(len, NO_WORD.values())))
    ]
    with opened("shop") as engine:
        run(engine, "DROP TABLE IF EXISTS kinds", f"CREATE TABLE kinds (n INTEGER, {columns})")
        for number, texts in rows:
            written = ", ".join("NULL" if text is None else f"'{text}'" for text in texts)
            run(engine, f"INSERT INTO kinds VALUES ({number}, {written})")
        staged = extract(context(workspace, tmp_path, **source), "extract")
    assert staged.groups[""].delimited == {}, "a text of a database is no number that nobody declared"
    found = values_of(workspace, staged)
    for name, kind, expected in values:
        told = [row[name] for row in found if name in row]
        if kind.endswith("[]"):
            assert [json.loads(value) for value in told] == [
                text.strip("{}").replace('"', "").split(",") for text in expected
            ]
        else:
            assert told == expected, kind


def test_a_date_stays_one_beside_what_is_none(
    databases: dict[str, Any], blocks: Blocks, workspace: Workspace, tmp_path: Path
) -> None:
    blocks["shop"] = connector_of("embedded", databases, tmp_path)
    with opened("shop") as engine:
        run(engine, "DROP TABLE IF EXISTS kinds", "CREATE TABLE kinds (day DATE, clock TIME)")
        run(engine, "INSERT INTO kinds VALUES ('2026-01-02', '24:00'), ('infinity', '10:11:12')")
        staged = extract(context(workspace, tmp_path, table="kinds"), "extract")
    assert values_of(workspace, staged) == [
        {"day": "2026-01-02", "clock": "24:00:00"},
        {"day": "infinity", "clock": "10:11:12"},
    ]


@pytest.mark.parametrize("source", [{"table": "kinds"}, {"query": "SELECT * FROM kinds"}])
def test_types_of_mariadb(
    databases: dict[str, Any], blocks: Blocks, workspace: Workspace, tmp_path: Path, source: Any
) -> None:
    blocks["shop"] = connector_of("mariadb", databases, tmp_path)
    with opened("shop") as engine:
        row, types = one_row(
            engine,
            "DROP TABLE IF EXISTS kinds",
            "CREATE TABLE kinds (i SMALLINT, big BIGINT UNSIGNED, r FLOAT, d DOUBLE, n DECIMAL(12, 4), t TEXT,"
            " yes BOOLEAN, day DATE, clock TIME(3), more TIME, at DATETIME(6), stamp TIMESTAMP, bytes BLOB, j JSON,"
            " e ENUM('a', 'b'), y YEAR, nothing DATETIME)",
            "INSERT INTO kinds VALUES (1, 18446744073709551615, 1.5, 0.1, 12345678.0001, 'é', true, '2026-01-02',"
            " '10:11:12.345', '-100:00:01', '2026-01-02 10:11:12.123456', '2026-01-02 10:11:12', x'00ff',"
            """ '{"a": 1.10}', 'b', 2026, NULL)""",
            workspace=workspace,
            folder=tmp_path,
            **source,
        )
    assert row == {
        "i": 1, "big": "18446744073709551615", "r": 1.5, "d": 0.1, "n": Decimal("12345678.0001"), "t": "é", "yes": 1,
        "day": date(2026, 1, 2), "clock": "10:11:12.345000", "more": "-100:00:01",
        "at": naive(10, 11, 12, 123456), "stamp": naive(10, 11, 12),
        "bytes": b"\x00\xff", "j": '{"a": 1.10}', "e": "b", "y": 2026,
    }  # fmt: skip
    assert pa.types.is_decimal(types["n"])


def test_types_of_sqlite_are_those_of_its_values(
    databases: dict[str, Any], blocks: Blocks, workspace: Workspace, tmp_path: Path
) -> None:
    blocks["shop"] = connector_of("sqlite", databases, tmp_path)
    with sqlite3.connect(tmp_path / "shop.sqlite") as connection:
        connection.execute("CREATE TABLE kinds (n INTEGER, d DATE, b BLOB, mixed DATETIME)")
        connection.executemany(
            "INSERT INTO kinds VALUES (?, ?, ?, ?)", [(1, "01/02/2026", b"\0", 1), (2.5, None, None, "x")]
        )
    staged = extract(context(workspace, tmp_path, table="kinds"), "extract")
    assert values_of(workspace, staged) == [
        {"n": 1.0, "d": "01/02/2026", "b": b"\0", "mixed": "1"},
        {"n": 2.5, "mixed": "x"},
    ]


def test_columns_that_change_their_types_between_chunks_become_wider(
    databases: dict[str, Any], blocks: Blocks, workspace: Workspace, tmp_path: Path
) -> None:
    blocks["shop"] = connector_of("sqlite", databases, tmp_path)
    with sqlite3.connect(tmp_path / "shop.sqlite") as connection:
        connection.execute("CREATE TABLE kinds (v)")
        connection.executemany("INSERT INTO kinds VALUES (?)", [(None,), (1,), (1.5,), ("x",), (2,)])
    staged = extract(context(workspace, tmp_path, table="kinds", chunk_size=1), "extract")
    assert [row.get("v") for row in values_of(workspace, staged)] == [None, 1, 1.5, "x", "2"]


def test_an_engine_reads_json_as_its_text() -> None:
    engine = engine_of("shop", sa.make_url("sqlite://"), {})
    with engine.connect() as connection:
        assert connection.execute(sa.select(sa.literal(json.dumps({"a": 1}), sa.String()))).scalar() == '{"a": 1}'


def test_the_password_has_signs_that_urls_quote() -> None:
    assert set("%/?#@:") <= set(PASSWORD) & set(mariadb.PASSWORD)
