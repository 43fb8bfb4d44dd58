"""What all tests share."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import asyncpg
import pytest

from blocks.registry import PostgresRegistry, Registry
from blocks.workspace import Workspace, local_workspace
from tests.support.homes import remove_home

REAL_ARCHIVE = Path(__file__).parents[2] / "shared" / "data" / "fashion-small-1000.zip"

_skipped: list[str] = []


@pytest.fixture(scope="session")
def real_archive() -> Path:
    """1,000 real product photos with their styles.csv."""
    if not REAL_ARCHIVE.exists():
        pytest.skip("the real product photos are not here: ../shared/data/fashion-small-1000.zip")
    return REAL_ARCHIVE


def pytest_runtest_logreport(report: pytest.TestReport) -> None:
    """Note what was skipped."""
    if report.skipped and not hasattr(report, "wasxfail"):
        _skipped.append(report.nodeid)


def pytest_sessionfinish(session: pytest.Session) -> None:
    """Where everything is installed (CI), a skipped test is a failed one."""
    if os.environ.get("LOOKBOOK_NO_SKIPS") and _skipped:
        session.exitstatus = pytest.ExitCode.TESTS_FAILED


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Say why the session failed."""
    if os.environ.get("LOOKBOOK_NO_SKIPS") and _skipped:
        terminalreporter.write_line(f"LOOKBOOK_NO_SKIPS is set, but {len(_skipped)} tests were skipped.", red=True)


@pytest.fixture(scope="session")
def registry() -> Iterator[Registry]:
    """A registry with its own PostgreSQL, for all tests of a session."""
    home = Path(tempfile.mkdtemp(prefix="lookbook-tests-"))
    yield PostgresRegistry(home=home)
    remove_home(home)


@pytest.fixture
def workspace(tmp_path: Path, registry: Registry) -> Workspace:
    """An empty workspace: a lake, a warehouse, and a registry without rows."""
    place = replace(local_workspace(tmp_path / "home"), registry=registry)

    async def empty(connection: asyncpg.Connection[asyncpg.Record]) -> None:
        tables = "runs, snapshots, current_snapshots, assets, products, rejects, loads, leases, watches"
        tables += ", feed_states, feed_inputs, feed_runs, feed_loads, feed_rejects, tables"
        tables += ", api_keys, api_runs"
        names = ", ".join(f"lookbook.{name.strip()}" for name in tables.split(","))
        await connection.execute(f"TRUNCATE {names}")
        await connection.execute("DROP SCHEMA IF EXISTS feeds CASCADE")

    registry.run(empty)
    return place
