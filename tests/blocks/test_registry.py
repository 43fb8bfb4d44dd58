"""The registry's schema, its bulk writes, and what a user reads when it cannot be reached."""

from __future__ import annotations

import asyncio
import subprocess
import sys
import uuid
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, TypeAlias

import asyncpg
import pytest
from alembic.config import Config
from alembic.script import ScriptDirectory
from pydantic import SecretStr

import blocks.migrations
from blocks.embedded import postgres
from blocks.errors import LookbookError
from blocks.migrations import HEAD
from blocks.registry import Registry, copy_rows
from tasks.datasets.registry_index import INDEXED

ROOT = Path(__file__).parents[2]

Connection: TypeAlias = "asyncpg.Connection[asyncpg.Record]"


def address_of(registry: Registry, database: str) -> str:
    assert registry.home is not None
    address = postgres.start(registry.home)
    return f"postgresql://postgres@/{database}?host={address.socket_folder}&port={address.port}"


def execute(url: str, sql: str) -> None:
    async def work() -> None:
        connection = await asyncpg.connect(url)
        try:
            await connection.execute(sql)
        finally:
            await connection.close()

    asyncio.run(work())


@pytest.fixture
def empty_url(registry: Registry) -> Iterator[str]:
    """The URL of a database without any schema of ours."""
    name = f"empty_{uuid.uuid4().hex}"
    execute(address_of(registry, "postgres"), f"CREATE DATABASE {name}")
    yield address_of(registry, name)
    execute(address_of(registry, "postgres"), f"DROP DATABASE {name} WITH (FORCE)")


def columns_of(registry: Registry) -> dict[str, set[str]]:
    """The columns of every table of the registry."""

    async def work(connection: Connection) -> dict[str, set[str]]:
        rows = await connection.fetch(
            "SELECT table_name, column_name FROM information_schema.columns WHERE table_schema = 'lookbook'"
        )
        found: dict[str, set[str]] = {}
        for row in rows:
            found.setdefault(row["table_name"], set()).add(row["column_name"])
        return found

    return registry.run(work)


def test_head_is_the_newest_step_that_alembic_finds() -> None:
    config = Config()
    config.set_main_option("script_location", str(Path(blocks.migrations.__file__).parent))
    assert ScriptDirectory.from_config(config).get_heads() == [HEAD]


UPGRADE = """
import asyncio, sys
from blocks.migrations import upgrade
from alembic import command
from sqlalchemy.ext import asyncio as _
print("ready", flush=True)
sys.stdin.readline()
asyncio.run(upgrade(sys.argv[1]))
"""


def test_many_that_find_an_empty_database_at_once_make_one_schema(empty_url: str) -> None:
    others = [
        subprocess.Popen(
            [sys.executable, "-c", UPGRADE, empty_url],
            cwd=ROOT,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for _ in range(2)
    ]
    for other in others:
        assert other.stdout is not None
        assert other.stdout.readline() == "ready\n"
    registry = Registry(url=SecretStr(empty_url))
    with ThreadPoolExecutor(6) as pool:
        for other in others:
            assert other.stdin is not None
            other.stdin.write("go\n")
            other.stdin.flush()
        found = list(pool.map(lambda _: columns_of(registry), range(6)))
    for other in others:
        _, errors = other.communicate(timeout=60)
        assert other.returncode == 0, errors
    assert all(each == found[0] for each in found), "nobody works on a half-made schema"

    async def versions(connection: Connection) -> list[Any]:
        return [row[0] for row in await connection.fetch("SELECT version_num FROM lookbook.alembic_version")]

    assert registry.run(versions) == [HEAD]


def test_the_tables_have_the_columns_that_are_written(empty_url: str) -> None:
    tables = columns_of(Registry(url=SecretStr(empty_url)))
    for name, (_, columns, _) in INDEXED.items():
        assert tables[name] == {"dataset", *columns}
    assert {"run_id", "owner", "status", "summary", "error"} <= tables["runs"]
    assert tables["leases"] == {"name", "owner", "expires_at"}
    assert {"dataset", "source", "seen", "announced"} <= tables["watches"]
    assert tables["current_snapshots"] == {"dataset", "snapshot_id", "announced"}


def test_a_schema_that_is_up_to_date_is_left_alone(empty_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    registry = Registry(url=SecretStr(empty_url))
    before = columns_of(registry)

    async def never(dsn: str) -> None:
        raise AssertionError(f"upgraded again: {dsn}")

    monkeypatch.setattr("blocks.registry.upgrade", never)
    assert columns_of(registry) == before


def test_copied_rows_come_back_as_they_were_but_for_nul(empty_url: str) -> None:
    rows = [
        ("fashion", "r-1", "row", "styles.csv:2", "rule", "écran 写真 🧥", "a\x00b\x00"),
        ("fashion", "r-2", "row", "tab\tnew\nline", "", "\\N and \\. and 'quotes'", ""),
    ]
    assets = [("fashion", "a.jpg", "loaded", None, None, None, 2**40, None, None, True)]
    columns = ["dataset", "reject_id", "kind", "locator", "rule", "message", "raw"]

    async def work(connection: Connection) -> tuple[list[asyncpg.Record], list[asyncpg.Record]]:
        await copy_rows(connection, "rejects", columns, rows)
        await copy_rows(connection, "assets", ["dataset", *INDEXED["assets"][1]], assets)
        return (
            await connection.fetch(f"SELECT {', '.join(columns)} FROM lookbook.rejects ORDER BY reject_id"),
            await connection.fetch(f"SELECT dataset, {', '.join(INDEXED['assets'][1])} FROM lookbook.assets"),
        )

    rejects, held = Registry(url=SecretStr(empty_url)).run(work)
    assert tuple(rejects[0]) == (*rows[0][:-1], "a\ufffdb\ufffd")
    assert tuple(rejects[1]) == rows[1]
    assert [tuple(row) for row in held] == assets


def test_a_failing_copy_writes_no_row(empty_url: str) -> None:
    registry = Registry(url=SecretStr(empty_url))

    async def twice(connection: Connection) -> None:
        await copy_rows(connection, "current_snapshots", ["dataset", "snapshot_id"], [("a", "1"), ("a", "2")])

    async def count(connection: Connection) -> Any:
        return await connection.fetchval("SELECT count(*) FROM lookbook.current_snapshots")

    with pytest.raises(LookbookError, match="UniqueViolationError"):
        registry.run(twice)
    assert registry.run(count) == 0


@pytest.mark.parametrize(
    "url",
    [
        "postgresql://user:hunter2@127.0.0.1:1/lookbook",
        "postgresql://user:hunter2@/lookbook?host=/no/such/folder",
        "mysql://user:hunter2@127.0.0.1/lookbook",
    ],
    ids=["port", "socket", "scheme"],
)
def test_a_registry_out_of_reach_is_said_so_without_its_password(url: str) -> None:
    with pytest.raises(LookbookError, match="cannot be reached") as caught:
        Registry(url=SecretStr(url)).run(lambda connection: connection.fetchval("SELECT 1"))
    assert caught.value.way_out
    assert "hunter2" not in str(caught.value)
    assert "hunter2" not in repr(Registry(url=SecretStr(url)))


def test_a_database_that_is_not_there_is_said_so(registry: Registry) -> None:
    url = address_of(registry, "no_such_database").replace("postgres@", "postgres:hunter2@", 1)
    with pytest.raises(LookbookError, match="no_such_database") as caught:
        Registry(url=SecretStr(url)).run(lambda connection: connection.fetchval("SELECT 1"))
    assert "hunter2" not in str(caught.value)


def test_a_block_without_url_and_home_says_what_it_lacks() -> None:
    with pytest.raises(LookbookError, match="neither a url nor a home"):
        Registry().run(lambda connection: connection.fetchval("SELECT 1"))


def test_the_connection_is_closed_whatever_happens(registry: Registry) -> None:
    held: list[Connection] = []

    async def fail(connection: Connection) -> None:
        held.append(connection)
        raise ValueError("broken")

    with pytest.raises(ValueError, match="broken"):
        registry.run(fail)
    assert held[0].is_closed()


@pytest.mark.parametrize("spelling", ["postgres://", "postgresql://"])
def test_any_spelling_and_option_that_postgresql_knows_will_do(empty_url: str, spelling: str) -> None:
    url = empty_url.replace("postgresql://", spelling, 1) + "&sslmode=disable"
    assert Registry(url=SecretStr(url)).run(lambda connection: connection.fetchval("SELECT 1")) == 1


@pytest.mark.parametrize("password", ["se#cret", "se/cret", "se?cret", "se[ret"])
def test_no_piece_of_a_password_that_was_not_quoted_is_printed(password: str) -> None:
    url = SecretStr(f"postgresql://user:{password}@127.0.0.1:1/lookbook")
    with pytest.raises(LookbookError, match="cannot be reached") as caught:
        Registry(url=url).run(lambda connection: connection.fetchval("SELECT 1"))
    assert "cret" not in str(caught.value)
    assert "ret@" not in str(caught.value)


def test_a_registry_can_be_asked_from_a_running_loop(registry: Registry) -> None:
    async def notebook() -> Any:
        return registry.run(lambda connection: connection.fetchval("SELECT 1"))

    assert asyncio.run(notebook()) == 1
