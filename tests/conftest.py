"""What all tests share."""

from __future__ import annotations

import gc
import os
import shutil
import tempfile
import uuid
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import psutil
import pytest
from hypothesis import settings
from playwright.sync_api import Browser
from xdist.scheduler import LoadScopeScheduling

from lookbook.blocks.registry import PostgresRegistry, Registry
from lookbook.blocks.workspace import Workspace, local_workspace
from tests.support.browser import chromium
from tests.support.homes import forget_books, remove_home, shared_folder

REAL_ARCHIVE = Path(__file__).parents[2] / "shared" / "data" / "fashion-small-1000.zip"

#: Tests that wait the longest come first, so that the short ones fill what is left.
TURNS = ("tests/integration/server/", "tests/integration/home/", "tests/integration/", "")

#: Of tests outside of tests/integration; 0 is the others'.
NICENESS = 5

_skipped: list[str] = []
_left: list[str] = []

# Who names no home of his own finds none, and starts no server in that of the developer.
os.environ["LOOKBOOK_HOME"] = "/dev/null/home"

# All that the tests start carries this: what is left of it at the end is found by it.
os.environ.setdefault("RUN_OF_TESTS", uuid.uuid4().hex)

# The tests' modules make millions of objects that stay: to look for garbage among them takes a tenth of the time.
gc.disable()

# Hypothesis would fail an example that takes 200 ms, as any does now and then on a busy machine.
settings.register_profile("lookbook", deadline=None)
settings.load_profile("lookbook")


class ByServerOrFile(LoadScopeScheduling):  # type: ignore[misc]
    """Give a folder of tests/integration, whose tests share a server, to one process; all other tests file by file.

    The longest of them goes to two, each with a server of its own: by itself it takes as long as all others together.
    """

    def _split_scope(self, nodeid: str) -> str:
        file = nodeid.partition("::")[0]
        folder, _, name = file.rpartition("/")
        if folder == "tests/integration/server":
            return f"{folder}, {'first' if name < 'test_o' else 'second'} half of the alphabet"
        return folder if folder.startswith("tests/integration/") else file


@pytest.hookimpl(optionalhook=True)  # without xdist there is nothing to share out
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> ByServerOrFile:
    """Share out the tests in the order in which they are collected."""
    config.option.loadscopereorder = False
    return ByServerOrFile(config, log)


def pytest_make_parametrize_id(val: object, argname: str) -> str | None:
    """Keep bytes out of the names of tests: an archive holds the time, and each process would collect other tests."""
    return argname if isinstance(val, bytes) else None


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Put the tests into the order of their turns, and what was imported aside from the garbage."""
    items.sort(key=lambda item: next(turn for turn, start in enumerate(TURNS) if item.nodeid.startswith(start)))
    gc.freeze()
    gc.enable()


def pytest_runtest_setup(item: pytest.Item) -> None:
    """From the first test on that starts no servers, let the other processes go first: theirs take the longest."""
    if not item.nodeid.startswith("tests/integration/"):
        os.nice(max(0, NICENESS - os.nice(0)))


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
    """A process that a test leaves running is a failure; where everything is installed (CI), so is a skipped test."""
    if hasattr(session.config, "workerinput"):  # one of several processes: the others may be at work
        return
    _left.extend(_end_what_is_left())
    shutil.rmtree(shared_folder())
    if _left or (os.environ.get("LOOKBOOK_NO_SKIPS") and _skipped):
        session.exitstatus = pytest.ExitCode.TESTS_FAILED


def _end_what_is_left() -> Iterator[str]:
    """End what tests have started and not ended; each with its test and its command."""
    found = {}
    for process in psutil.process_iter():
        with suppress(psutil.Error, OSError):
            variables = process.environ()
            if variables.get("RUN_OF_TESTS") == os.environ["RUN_OF_TESTS"] and "PYTEST_CURRENT_TEST" in variables:
                found[process] = f"{variables['PYTEST_CURRENT_TEST']}: {' '.join(process.cmdline())[:200]}"
    for process in psutil.wait_procs(found, timeout=10)[1]:  # some are about to end
        if "multiprocessing.resource_tracker" in found[process]:  # ends with the process that it serves
            continue
        yield found[process]
        with suppress(psutil.Error):
            process.kill()


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Say why the session failed."""
    for line in _left:
        terminalreporter.write_line(f"LEFT RUNNING by {line}", red=True)
    if os.environ.get("LOOKBOOK_NO_SKIPS") and _skipped:
        terminalreporter.write_line(f"LOOKBOOK_NO_SKIPS is set, but {len(_skipped)} tests were skipped.", red=True)


@pytest.fixture(scope="session")
def registry() -> Iterator[Registry]:
    """A registry with its own PostgreSQL, for all tests of a session."""
    home = Path(tempfile.mkdtemp(prefix="lookbook-tests-"))
    yield PostgresRegistry(home=home)
    remove_home(home)


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    """A browser for the pages of a module's tests."""
    with chromium() as browser:
        yield browser


@pytest.fixture
def workspace(tmp_path: Path, registry: Registry) -> Workspace:
    """An empty workspace: a lake, a warehouse, and a registry without rows."""
    place = replace(local_workspace(tmp_path / "home"), registry=registry)
    forget_books(registry)
    return place
