"""A PostgreSQL of Debian's own, with a cluster in a temporary folder: for what the embedded one cannot carry."""

from __future__ import annotations

import os
import pwd
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from blocks.embedded.prefect_server import free_port


def programs() -> Path | None:
    """The folder of the newest PostgreSQL that is installed, None where there is none."""
    found = sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb"), key=lambda path: int(path.parents[1].name))
    return found[-1].parent if found else None


@contextmanager
def cluster(*databases: str) -> Iterator[str]:
    """A running server with these databases, on a free port; yields its address as ``user@host:port``."""
    binaries = programs()
    assert binaries is not None
    folder = Path(tempfile.mkdtemp(prefix="lookbook-pg-"))
    data, port = folder / "data", free_port()
    if os.geteuid() == 0:  # PostgreSQL refuses to run as root; Debian's package brings a user for it
        user = pwd.getpwnam("postgres")
        os.chown(folder, user.pw_uid, user.pw_gid)

    def run(program: str, *arguments: str) -> None:
        as_user = ["runuser", "-u", "postgres", "--"] if os.geteuid() == 0 else []
        command = [*as_user, str(binaries / program), *arguments]
        subprocess.run(command, check=True, cwd=folder, stdout=subprocess.DEVNULL, timeout=120)

    try:
        run("initdb", "-D", str(data), "-U", "lookbook", "-A", "trust", "-E", "UTF8", "--no-sync")
        options = f"-h 127.0.0.1 -p {port} -k {folder} -c fsync=off"
        run("pg_ctl", "-D", str(data), "-w", "-t", "60", "-l", str(folder / "log"), "-o", options, "start")
        try:
            for name in databases:
                run("createdb", "-h", "127.0.0.1", "-p", str(port), "-U", "lookbook", name)
            yield f"lookbook@127.0.0.1:{port}"
        finally:
            run("pg_ctl", "-D", str(data), "-w", "-m", "immediate", "stop")
    finally:
        shutil.rmtree(folder, ignore_errors=True)
