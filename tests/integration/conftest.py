"""Prefect servers with the deployments of this checkout."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from pathlib import Path

import fasteners
import pytest

from tests.support import debian_postgres
from tests.support.command import ROOT
from tests.support.homes import remove_home, shared_folder
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
        stack.callback(remove_home, home)
        if debian_postgres.programs() is None:
            server = replace(start_server(home, **settings), pipelines=specs)
            server.made = deploy(server)
        else:
            address = stack.enter_context(debian_postgres.cluster("prefect"))
            database = f"postgresql+asyncpg://{address}/prefect"
            settings["PREFECT_SERVER_DATABASE_CONNECTION_URL"] = database
            server = _first_or_copied(home, settings, database, specs)
        server.rest("watch/local")
        server.switch(VERIFICATION, on=False)
        yield server


def _first_or_copied(home: Path, settings: dict[str, str], database: str, specs: Path) -> Server:
    """A server on the database that the first one of this run of the tests made: migrated and deployed to once."""
    folder = shared_folder()
    copy, made = folder / "deployed.sql", folder / "deployed.json"
    with fasteners.InterProcessLock(folder / "deployed.lock"):
        if made.exists():
            debian_postgres.load(database, copy)
            # The kinds of blocks are in the copy: to look for them costs each start five seconds of a processor.
            looking = ("PREFECT_SERVER_REGISTER_BLOCKS_ON_START", "PREFECT_SERVER_MEMOIZE_BLOCK_AUTO_REGISTRATION")
            settings |= dict.fromkeys(looking, "false")
        server = replace(start_server(home, **settings), database=database, pipelines=specs)
        if made.exists():
            server.made = json.loads(made.read_text(encoding="utf-8"))
        else:
            server.made = deploy(server)
            copy.write_bytes(debian_postgres.dump(database))
            made.write_text(json.dumps(server.made), encoding="utf-8")
    return server
