"""Homes whose servers serve all tests of this folder: starting one costs ten seconds."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest

from tests.support import debian_postgres
from tests.support.homes import remove_home
from tests.support.prefect_processes import Server, deploy, start_server


@pytest.fixture(scope="session")
def shared_home(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A home that tests share; each uses dataset names of its own."""
    home = tmp_path_factory.mktemp("shared") / "home with space ü"
    yield home
    remove_home(home)


@pytest.fixture(scope="session")
def prefect(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A Prefect server with the deployments of this checkout and one worker of the pool ``lookbook``.

    All tests of this folder share it, so each uses dataset names of its own, deletes the schedules that it makes and
    leaves the worker alone: who needs several workers or kills one takes `server_without_workers`.
    """
    with deployed_server(tmp_path_factory.mktemp("prefect") / "home") as server, server.worker(name="session"):
        yield server


@pytest.fixture(scope="session")
def server_without_workers(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """Another one, for tests that start workers of their own, kill them, or need to be alone with them.

    It lives on PostgreSQL where Debian's is installed: SQLite locks itself up for a minute now and then when many
    batches report at once, and these tests watch the time.
    """
    home = tmp_path_factory.mktemp("alone") / "home"
    with ExitStack() as stack:
        settings = {}
        if debian_postgres.programs() is not None:
            address = stack.enter_context(debian_postgres.cluster("prefect"))
            settings["PREFECT_SERVER_DATABASE_CONNECTION_URL"] = f"postgresql+asyncpg://{address}/prefect"
        yield stack.enter_context(deployed_server(home, **settings))


@contextmanager
def deployed_server(home: Path, **settings: str) -> Iterator[Server]:
    """A server with the deployments of this checkout while the block runs; `settings` are its environment."""
    try:
        server = start_server(home, **settings)
        deploy(server)
        rest(server, "watch/local")
        yield server
    finally:
        remove_home(home)


def rest(server: Server, deployment: str) -> None:
    """Switch its schedules off: a process that looks at the inbox each minute takes time from what is tested."""
    found = server.deployment(deployment)
    for schedule in found["schedules"]:
        server.patch(f"/deployments/{found['id']}/schedules/{schedule['id']}", {"active": False})
