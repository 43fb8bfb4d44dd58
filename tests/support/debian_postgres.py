"""A PostgreSQL of Debian's own, with a cluster in a temporary folder: for what the embedded one cannot carry."""

from __future__ import annotations

import os
import pwd
import shutil
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import psutil

from lookbook.blocks.embedded.prefect_server import free_port, is_free

PASSWORD = "hunter2 %/?#@:ü"  # noqa: S105 - of nothing but these servers; each character is one that a URL has to quote


def programs() -> Path | None:
    """The folder of the newest PostgreSQL that is installed, None where there is none."""
    found = sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb"), key=lambda path: int(path.parents[1].name))
    return found[-1].parent if found else None


def pgbouncer() -> str | None:
    """The program, None where it is not installed."""
    return shutil.which("pgbouncer", path=f"{os.environ['PATH']}:/usr/sbin")


@contextmanager
def cluster(*databases: str) -> Iterator[str]:
    """A running server with these databases, on a free port; yields its address as ``user@host:port``."""
    with _folder() as folder, _server(folder, ["-A", "trust"], "") as port:
        for name in databases:
            _run(folder, "createdb", "-h", "127.0.0.1", "-p", str(port), "-U", "lookbook", name)
        yield f"lookbook@127.0.0.1:{port}"


def dump(url: str) -> bytes:
    """All that a database holds, as text."""
    binaries = programs()
    assert binaries is not None
    return subprocess.check_output([binaries / "pg_dump", url.replace("+asyncpg", "")], timeout=120)


def load(url: str, text: Path) -> None:
    """Fill an empty database with what `dump` gave of another one."""
    binaries = programs()
    assert binaries is not None
    address, stop = url.replace("+asyncpg", ""), ["--set", "ON_ERROR_STOP=1"]
    command = [str(binaries / "psql"), "--quiet", *stop, "--file", str(text), address]
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL, timeout=120)


@dataclass(frozen=True)
class Guarded:
    """A server that asks for a password and speaks TLS only.

    Attributes:
        certificate: of the authority that signed the server's, which is made out to 127.0.0.1.
        folder: of its user, for what else runs as that one.
    """

    port: int
    certificate: Path
    folder: Path


@contextmanager
def guarded_cluster() -> Iterator[Guarded]:
    """A running server that lets nobody in without TLS and the `PASSWORD` of ``lookbook``."""
    with _folder() as folder:
        certificate = make_certificates(folder)
        password = folder / "password"
        password.write_text(PASSWORD, encoding="utf-8")
        _give_to_postgres(*folder.iterdir())
        options = "-c ssl=on -c ssl_cert_file=../server.pem -c ssl_key_file=../server.key"
        with _server(folder, ["-A", "scram-sha-256", "--pwfile", str(password)], options) as port:
            yield Guarded(port, certificate, folder)


@contextmanager
def pooler(server: Guarded, connections: int = 2) -> Iterator[int]:
    """A pgbouncer in transaction mode before `server`, with so few connections that clients share them; its port."""
    port, program = free_port(), pgbouncer()
    assert program is not None
    users, settings = server.folder / "users.txt", server.folder / "pgbouncer.ini"
    users.write_text(f'"lookbook" "{PASSWORD}"\n', encoding="utf-8")
    settings.write_text(
        f"[databases]\n* = host=127.0.0.1 port={server.port}\n[pgbouncer]\nlisten_addr = 127.0.0.1\n"
        f"listen_port = {port}\nunix_socket_dir =\nauth_type = scram-sha-256\nauth_file = {users}\n"
        f"pool_mode = transaction\ndefault_pool_size = {connections}\nserver_tls_sslmode = require\n"
        "max_client_conn = 100\n",
        encoding="utf-8",
    )
    _give_to_postgres(users, settings)
    with (server.folder / "pgbouncer.log").open("wb") as log:
        process = subprocess.Popen([*_as_postgres(), program, str(settings)], stdout=log, stderr=log, cwd=server.folder)
    try:
        deadline = time.monotonic() + 30
        while is_free(port):
            assert process.poll() is None, (server.folder / "pgbouncer.log").read_text()
            assert time.monotonic() < deadline, "pgbouncer does not listen"
            time.sleep(0.05)
        yield port
    finally:
        family = [*psutil.Process(process.pid).children(), psutil.Process(process.pid)]
        for each in family:
            each.terminate()
        process.wait(30)


def make_certificates(folder: Path, name: str = "server") -> Path:
    """An authority of its own, and a certificate for 127.0.0.1 that it signed; returns the authority's."""
    authority, key = folder / f"{name}-authority.pem", folder / f"{name}-authority.key"
    short = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-days", "2", "-batch"]
    signed = ["-CA", str(authority), "-CAkey", str(key), "-addext", "subjectAltName=IP:127.0.0.1"]
    own = ["-out", str(folder / f"{name}.pem"), "-keyout", str(folder / f"{name}.key"), "-subj", "/CN=127.0.0.1"]
    for arguments in (["-out", str(authority), "-keyout", str(key), "-subj", "/CN=tests"], [*own, *signed]):
        subprocess.run(["openssl", "req", "-x509", *short, *arguments], check=True, capture_output=True, timeout=60)
    return authority


@contextmanager
def _folder() -> Iterator[Path]:
    folder = Path(tempfile.mkdtemp(prefix="lookbook-pg-"))
    try:
        _give_to_postgres(folder)
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


@contextmanager
def _server(folder: Path, initialise: list[str], options: str) -> Iterator[int]:
    data, port = folder / "data", free_port()
    _run(folder, "initdb", "-D", str(data), "-U", "lookbook", "-E", "UTF8", "--no-sync", *initialise)
    if options:
        (data / "pg_hba.conf").write_text("hostssl all all 127.0.0.1/32 scram-sha-256\n")
    options = f"-h 127.0.0.1 -p {port} -k {folder} -c fsync=off {options}"
    _run(folder, "pg_ctl", "-D", str(data), "-w", "-t", "60", "-l", str(folder / "log"), "-o", options, "start")
    try:
        yield port
    finally:
        _run(folder, "pg_ctl", "-D", str(data), "-w", "-m", "immediate", "stop")


def _run(folder: Path, program: str, *arguments: str) -> None:
    binaries = programs()
    assert binaries is not None
    command = [*_as_postgres(), str(binaries / program), *arguments]
    subprocess.run(command, check=True, cwd=folder, stdout=subprocess.DEVNULL, timeout=120)


def _as_postgres() -> list[str]:
    """PostgreSQL refuses to run as root; Debian's package brings a user for it."""
    return ["runuser", "-u", "postgres", "--"] if os.geteuid() == 0 else []


def _give_to_postgres(*paths: Path) -> None:
    if os.geteuid() == 0:
        user = pwd.getpwnam("postgres")
        for path in paths:
            os.chown(path, user.pw_uid, user.pw_gid)
