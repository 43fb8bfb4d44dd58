"""Readers while a table is written: they see it before or after, never empty or mixed."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator
from contextlib import contextmanager

import asyncpg
import pytest

from lookbook.blocks.workspace import Workspace
from tests.support.feeds import Row, context, load_rows
from tests.support.sets import sampled

ROWS = 20_000
SUMMARY = "SELECT count(*), min(version), max(version) FROM feeds.prices"


def batch(version: int, rows: int = ROWS) -> list[Row]:
    """Rows of one version."""
    return [{"id": number, "version": version} for number in range(rows)]


@contextmanager
def polling(workspace: Workspace, place: str, seen: set[tuple[int, ...]]) -> Iterator[None]:
    """A reader that looks at the table all the while."""
    ended, faults = threading.Event(), []

    def poll() -> None:
        try:
            while not ended.is_set():
                seen.add(look(workspace, place))
        except BaseException as error:  # noqa: BLE001 - shown in the test
            faults.append(error)

    thread = threading.Thread(target=poll)
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join()
    assert not faults
    seen.add(look(workspace, place))


def look(workspace: Workspace, place: str) -> tuple[int, ...]:
    """Number of rows, lowest and highest version."""
    if place == "warehouse":
        return tuple(workspace.warehouse.query(SUMMARY).to_pylist()[0].values())

    async def work(connection: asyncpg.Connection[asyncpg.Record]) -> tuple[int, ...]:
        return tuple(await connection.fetchrow(SUMMARY) or ())

    return workspace.registry.run(work)


def test_a_replace_is_seen_whole_or_not_at_all(workspace: Workspace, place: str) -> None:
    settings = {"target": place, "write_disposition": "replace"}
    load_rows(context(workspace, **settings), batch(1))
    seen: set[tuple[int, ...]] = set()
    with polling(workspace, place, seen):
        for version in (2, 3):
            load_rows(context(workspace, day=version, **settings), batch(version))
    assert seen <= {(ROWS, version, version) for version in (1, 2, 3)}
    assert (ROWS, 3, 3) in seen


@pytest.mark.parametrize("disposition", sampled(["append", "merge"], fast=["merge"]))
def test_a_batch_is_seen_whole_or_not_at_all(workspace: Workspace, place: str, disposition: str) -> None:
    settings = {"target": place, "write_disposition": disposition, "primary_key": ["id", "version"]}
    load_rows(context(workspace, **settings), batch(1))
    seen: set[tuple[int, ...]] = set()
    with polling(workspace, place, seen):
        load_rows(context(workspace, day=2, **settings), batch(2))
        load_rows(context(workspace, day=2, **settings), batch(2))
    assert seen <= {(ROWS, 1, 1), (2 * ROWS, 1, 2)}


def test_a_reader_with_one_snapshot_sees_the_table_of_its_time(workspace: Workspace) -> None:
    settings = {"target": "registry", "write_disposition": "replace"}
    load_rows(context(workspace, **settings), batch(1, rows=10))

    async def read() -> None:
        address = workspace.registry.address()
        reader = await asyncpg.connect(address.dsn)
        try:
            async with reader.transaction(isolation="repeatable_read"):
                await reader.fetchval("SELECT 1")  # its snapshot is taken; the table is not looked at yet
                await asyncio.to_thread(load_rows, context(workspace, day=2, **settings), batch(2, rows=5))
                assert tuple(await reader.fetchrow(SUMMARY) or ()) == (10, 1, 1)
            assert tuple(await reader.fetchrow(SUMMARY) or ()) == (5, 2, 2)
        finally:
            await reader.close()

    asyncio.run(read())
