"""The registry's contract, on each kind of server: its schema, its bulk writes, its bounds, the lease in it."""

from __future__ import annotations

import asyncio
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, TypeAlias

import asyncpg
import pytest

import lookbook.tasks.runs.lease
from lookbook.blocks.errors import LookbookError, StatementTimeoutError
from lookbook.blocks.migrations import HEAD, script
from lookbook.blocks.registry import Registry, copy_rows
from lookbook.tasks.datasets.follow import INDEXED
from lookbook.tasks.runs.lease import LeaseHeldError, lease, living_owners, this_process
from tests.support.prefect_processes import wait_for
from tests.support.registries import Place, execute

ROOT = Path(__file__).parents[2]

Connection: TypeAlias = "asyncpg.Connection[asyncpg.Record]"


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


def one(registry: Registry, sql: str, *values: Any) -> Any:
    """What a SELECT of one value gives."""
    return registry.run(lambda connection: connection.fetchval(sql, *values))


MIGRATE = """
import asyncio, sys
import asyncpg
from alembic import command
from lookbook.blocks.migrations import upgrade

async def main():
    connection = await asyncpg.connect(sys.argv[1], statement_cache_size=0)
    async with connection.transaction():
        await upgrade(connection)
        print(await connection.fetchval("SELECT count(*) FROM lookbook.runs"))
    await connection.close()

print("ready", flush=True)
sys.stdin.readline()
asyncio.run(main())
"""


def test_many_that_find_an_empty_database_at_once_make_one_schema(empty: Place) -> None:
    others = [
        subprocess.Popen(
            [sys.executable, "-c", MIGRATE, empty.url],
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
    with ThreadPoolExecutor(6) as pool:
        for other in others:
            assert other.stdin is not None
            other.stdin.write("go\n")
            other.stdin.flush()
        found = list(pool.map(lambda _: columns_of(empty.registry()), range(6)))
    for other in others:
        counted, errors = other.communicate(timeout=60)
        assert (other.returncode, counted) == (0, "0\n"), errors
    assert all(each == found[0] for each in found), "nobody works on a half-made schema"
    assert one(empty.registry(), "SELECT array_agg(version_num) FROM lookbook.alembic_version") == [HEAD]


def test_a_schema_of_any_earlier_step_is_brought_up_to_date(empty: Place) -> None:
    whole = columns_of(empty.registry())
    execute(empty.url, "DROP SCHEMA lookbook CASCADE")
    execute(empty.url, f"CREATE SCHEMA lookbook; SET search_path TO lookbook; {script(None, '0001')}")
    assert columns_of(empty.registry()) == whole
    assert one(empty.registry(), "SELECT version_num FROM lookbook.alembic_version") == HEAD


def test_the_tables_have_the_columns_that_are_written(empty: Place) -> None:
    tables = columns_of(empty.registry())
    for name, (_, columns, _) in INDEXED.items():
        assert tables[name] == {"dataset", *columns}
    assert {"run_id", "owner", "status", "summary", "error"} <= tables["runs"]
    assert tables["leases"] == {"name", "owner", "expires_at", "counter"}
    assert {"dataset", "source", "seen", "announced"} <= tables["watches"]
    assert tables["current_snapshots"] == {"dataset", "snapshot_id", "announced"}


def test_a_schema_that_is_up_to_date_is_left_alone(empty: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    registry = empty.registry()
    before = columns_of(registry)

    async def never(connection: Connection, lake: object) -> str:
        raise AssertionError(f"upgraded again: {connection} {lake}")

    monkeypatch.setattr("lookbook.blocks.registry.settle_schema", never)
    assert columns_of(registry) == before


def test_copied_rows_come_back_as_they_were_but_for_nul(empty: Place) -> None:
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

    rejects, held = empty.registry().run(work)
    assert tuple(rejects[0]) == (*rows[0][:-1], "a\ufffdb\ufffd")
    assert tuple(rejects[1]) == rows[1]
    assert [tuple(row) for row in held] == assets


COUNT = "SELECT count(*) FROM lookbook.current_snapshots"


def test_what_fails_writes_no_row(empty: Place) -> None:
    registry = empty.registry()

    async def twice(connection: Connection) -> None:
        await copy_rows(connection, "current_snapshots", ["dataset", "snapshot_id"], [("b", "1")])
        await copy_rows(connection, "current_snapshots", ["dataset", "snapshot_id"], [("a", "1"), ("a", "2")])

    with pytest.raises(LookbookError, match="UniqueViolationError"):
        registry.run(twice)
    assert one(registry, COUNT) == 0


def test_a_thousand_rows_of_many_threads_all_arrive(empty: Place) -> None:
    """More clients than the pooler has connections: what one leaves on a connection must not reach the next."""
    registry = empty.registry(connections=10)

    def write(number: int) -> int:
        async def work(connection: Connection) -> int:
            rows = [(f"{number}-{row}", "s") for row in range(50)]
            await copy_rows(connection, "current_snapshots", ["dataset", "snapshot_id"], rows)
            written = await connection.fetchval(f"{COUNT} WHERE dataset LIKE $1", f"{number}-%")
            return int(written)

        return registry.run(work)

    with ThreadPoolExecutor(20) as pool:
        assert list(pool.map(write, range(20))) == [50] * 20
    assert one(registry, COUNT) == 1000


def test_processes_that_number_their_statements_alike_do_not_meet(
    empty: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A pooler gives one the connection of the other, with all that was left on it."""
    registry = empty.registry()
    one(registry, COUNT)
    for _ in range(5):
        monkeypatch.setattr(asyncpg.connection, "_uid", 0)  # as in a process that has just begun
        assert one(registry, f"{COUNT} WHERE dataset = $1", "shoes") == 0


def test_a_process_never_holds_more_connections_than_it_may(empty: Place) -> None:
    registry = empty.registry(connections=2)
    one(registry, COUNT)
    both = threading.Barrier(2)

    async def work(connection: Connection) -> int:
        both.wait(60)  # were there less than two at a time, nobody would come
        return int(
            await connection.fetchval("SELECT count(*) FROM pg_stat_activity WHERE datname = current_database()")
        )

    with ThreadPoolExecutor(12) as pool:
        counts = list(pool.map(lambda _: empty.registry(connections=2).run(work), range(12)))
    assert max(counts) <= 2


def test_a_statement_that_takes_too_long_is_ended_and_named(empty: Place) -> None:
    with pytest.raises(StatementTimeoutError, match="took more than 1 seconds for one statement") as caught:
        one(empty.registry(statement_seconds=1), "SELECT pg_sleep(100)")
    assert "statement_seconds" in caught.value.way_out
    assert one(empty.registry(statement_seconds=7), "SHOW statement_timeout") == "7s"
    assert one(empty.registry(), COUNT) == 0


def test_a_time_out_stays_with_its_transaction(empty: Place) -> None:
    assert one(empty.registry(statement_seconds=7), "SHOW statement_timeout") == "7s"

    async def fresh() -> Any:
        connection = await asyncpg.connect(empty.url, statement_cache_size=0)
        try:
            async with connection.transaction():
                return await connection.fetchval("SHOW statement_timeout")
        finally:
            await connection.close()

    assert asyncio.run(fresh()) == "0"


def test_the_connection_is_closed_whatever_happens(empty: Place) -> None:
    held: list[Connection] = []

    async def fail(connection: Connection) -> None:
        held.append(connection)
        raise ValueError("broken")

    with pytest.raises(ValueError, match="broken"):
        empty.registry().run(fail)
    assert held[0].is_closed()


def test_a_registry_can_be_asked_from_a_running_loop(empty: Place) -> None:
    async def notebook() -> Any:
        return one(empty.registry(), COUNT)

    assert asyncio.run(notebook()) == 0


def test_a_lease_is_held_by_one_renewed_and_given_back(empty: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lookbook.tasks.runs.lease, "RENEWAL", 0.05)
    registry = empty.registry()
    ends = "SELECT expires_at FROM lookbook.leases WHERE name = 'dataset/shoes'"
    with lease(registry, "dataset/shoes"):
        with pytest.raises(LeaseHeldError), lease(registry, "dataset/shoes"):
            pytest.fail("two hold it")
        assert living_owners(registry) == {"dataset/shoes": this_process()}
        first = one(registry, ends)
        wait_for("the lease is renewed", lambda: one(registry, ends) > first)
    assert living_owners(registry) == {}
