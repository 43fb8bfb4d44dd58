"""Prefect servers with the deployments of this checkout."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from pathlib import Path

import pytest

from tests.support import debian_postgres
from tests.support.command import ROOT
from tests.support.homes import remove_home
from tests.support.prefect_processes import Server, deploy, start_server

#: Whose runs cost each ingest of a test five seconds; who wants it switches it on.
VERIFICATION = "lookbook: snapshot published → verify"


@pytest.fixture(scope="module")
def server_without_workers(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """One of a module's own, for tests that start workers, kill them, or need to be alone with them."""
    with deployed_server(tmp_path_factory.mktemp("alone") / "home") as server:
        yield server


@contextmanager
def deployed_server(home: Path) -> Iterator[Server]:
    """A server with the deployments of this checkout while the block runs.

    It lives on PostgreSQL where Debian's is installed: SQLite locks itself up for a minute now and then when several
    runs report at once. Its specs are a copy of those that are shipped, beside which tests put their own.
    """
    shipped, specs = ROOT / "deployments", home.parent / "pipelines"
    shutil.copytree(shipped / "pipelines", specs)
    shutil.copy(shipped / "orchestrate.yaml", specs.parent)
    with ExitStack() as stack:
        settings = {"PREFECT_SERVER_SERVICES_EVENT_PERSISTER_FLUSH_INTERVAL": "1"}
        database = ""
        if debian_postgres.programs() is not None:
            address = stack.enter_context(debian_postgres.cluster("prefect"))
            database = f"postgresql+asyncpg://{address}/prefect"
            settings["PREFECT_SERVER_DATABASE_CONNECTION_URL"] = database
        stack.callback(remove_home, home)
        server = replace(start_server(home, **settings), database=database, pipelines=specs)
        server.made = deploy(server)
        server.rest("watch/local")
        server.switch(VERIFICATION, on=False)
        yield server
