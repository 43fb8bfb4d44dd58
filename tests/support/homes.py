"""Homes for tests: their books are emptied, their servers are stopped and all that they left is removed."""

from __future__ import annotations

import os
import shutil
import tempfile
from pathlib import Path

import asyncpg

from lookbook.blocks.embedded import postgres, prefect_server
from lookbook.blocks.registry import Registry


def shared_folder() -> Path:
    """A folder of all processes of this run of the tests; removed at its end."""
    folder = Path(tempfile.gettempdir(), f"lookbook-tests-{os.environ['RUN_OF_TESTS']}")
    folder.mkdir(mode=0o700, exist_ok=True)
    return folder


def remove_home(home: Path) -> None:
    """Stop the servers of a home and remove it, with what lies outside of it."""
    prefect_server.stop(home)
    postgres.stop(home)
    if os.geteuid() == 0:
        shutil.rmtree(postgres.data_folder(home).parent, ignore_errors=True)
    shutil.rmtree(home, ignore_errors=True)


def forget_books(registry: Registry) -> None:
    """Leave no rows in a registry, and no tables of pipelines."""

    async def empty(connection: asyncpg.Connection[asyncpg.Record]) -> None:
        tables = "runs, snapshots, current_snapshots, assets, products, rejects, loads, leases, watches"
        tables += ", feed_states, feed_inputs, feed_runs, feed_loads, feed_rejects, tables"
        tables += ", api_keys, api_runs, lake"
        # To truncate makes new files for each, which takes twice as long.
        emptied = "; ".join(f"DELETE FROM lookbook.{name.strip()}" for name in tables.split(","))
        await connection.execute(f"{emptied}; DROP SCHEMA IF EXISTS feeds CASCADE")

    registry.run(empty)
