"""What all tests share."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

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
