"""A MariaDB of Debian's own, with its data in a temporary folder, on a free port."""

from __future__ import annotations

import os
import pwd
import shutil
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from lookbook.blocks.embedded.prefect_server import free_port, is_free

USER, PASSWORD, DATABASE = "lookbook", "hunter2 %/?#@:", "shop"  # of nothing but these servers
_INITIALISE = f"""
CREATE DATABASE {DATABASE};
CREATE USER '{USER}'@'%' IDENTIFIED BY '{PASSWORD}';
GRANT ALL ON {DATABASE}.* TO '{USER}'@'%';
"""


def is_installed() -> bool:
    """Whether Debian's package mariadb-server is there, and whoever runs this may start it."""
    return _program("mariadbd") is not None and _program("mariadb-install-db") is not None and _user() is not None


@contextmanager
def server() -> Iterator[int]:
    """A running server with an empty `DATABASE` for `USER`; its port."""
    folder = Path(tempfile.mkdtemp(prefix="lookbook-mariadb-"))
    try:
        (folder / "initialise.sql").write_text("".join(f"{line}\n" for line in _INITIALISE.split("\n") if line))
        for path in (folder, folder / "initialise.sql"):
            _give(path)
        data = folder / "data"
        _run(folder, "mariadb-install-db", "--no-defaults", f"--datadir={data}", "--skip-test-db")
        with _started(folder, data) as port:
            yield port
    finally:
        shutil.rmtree(folder, ignore_errors=True)


@contextmanager
def _started(folder: Path, data: Path) -> Iterator[int]:
    port = free_port()
    options = [
        "--no-defaults", f"--datadir={data}", f"--port={port}", "--bind-address=127.0.0.1", f"--socket={folder}/socket",
        f"--pid-file={folder}/pid", "--skip-name-resolve", "--character-set-server=utf8mb4",
        "--innodb-flush-log-at-trx-commit=0", f"--init-file={folder}/initialise.sql",
    ]  # fmt: skip
    with (folder / "log").open("wb") as log:
        process = subprocess.Popen(
            [*_as_user(), _program("mariadbd") or "", *options], stdout=log, stderr=log, cwd=folder
        )
    try:
        deadline = time.monotonic() + 60
        while is_free(port):
            assert process.poll() is None, (folder / "log").read_text()
            assert time.monotonic() < deadline, "MariaDB does not listen"
            time.sleep(0.05)
        yield port
    finally:
        _stop(folder, process)


def _stop(folder: Path, process: subprocess.Popen[bytes]) -> None:
    """End the server by its own id: that of the process here may be of the program that changed the user."""
    with_id = folder / "pid"
    if with_id.exists():
        os.kill(int(with_id.read_text()), 15)
    else:
        process.terminate()
    process.wait(60)


def _run(folder: Path, program: str, *arguments: str) -> None:
    command = [*_as_user(), _program(program) or "", *arguments]
    subprocess.run(command, check=True, cwd=folder, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, timeout=120)


def _program(name: str) -> str | None:
    return shutil.which(name, path=f"{os.environ['PATH']}:/usr/sbin")


def _user() -> str | None:
    """Who runs it: MariaDB refuses root, and Debian's package brings a user for it."""
    if os.geteuid():
        return ""
    try:
        return pwd.getpwnam("mysql").pw_name
    except KeyError:
        return None


def _as_user() -> list[str]:
    return ["runuser", "-u", user, "--"] if (user := _user()) else []


def _give(path: Path) -> None:
    if user := _user():
        entry = pwd.getpwnam(user)
        os.chown(path, entry.pw_uid, entry.pw_gid)
