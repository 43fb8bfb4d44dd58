"""A Prefect server of this home's own, for where no other is configured. Imports no Prefect."""

from __future__ import annotations

import contextlib
import json
import os
import secrets
import signal
import socket
import subprocess
import sys
import threading
import time
import tomllib
import urllib.error
import urllib.request
from pathlib import Path

import fasteners
import psutil

from lookbook.blocks.errors import LookbookError
from lookbook.blocks.settings import make_home

#: Seconds to the first answer; about 10 on two cores, more on a busy machine. A server that runs has as many to answer.
START_TIMEOUT = 120
ATTEMPTS = 3
#: Who signs in to a home's server.
USER = "lookbook"

#: Seconds between two heartbeats of a run. How long one may be silent follows from it; prefect.yaml and compose.yaml
#: say the same.
HEARTBEAT = 60

#: What keeps the server's database from growing without end: runs go after 30 days (the books keep theirs, in the
#: registry), events after 7, heartbeats after one. The places that runs take under a deployment's limit lie in files:
#: a restart loses those in memory, Prefect's default, and a run that can't renew its own ends as Crashed. Whoever
#: sets one of these in the environment has the last word.
UPKEEP = {
    "PREFECT_SERVER_CONCURRENCY_LEASE_STORAGE": "prefect.server.concurrency.lease_storage.filesystem",
    "PREFECT_SERVER_SERVICES_DB_VACUUM_ENABLED": "events,flow_runs",
    "PREFECT_SERVER_SERVICES_DB_VACUUM_RETENTION_PERIOD": str(30 * 86400),
    "PREFECT_SERVER_SERVICES_DB_VACUUM_EVENT_RETENTION_OVERRIDES": '{"prefect.flow-run.heartbeat": 86400}',
    "PREFECT_SERVER_EVENTS_RETENTION_PERIOD": "P7D",
    "PREFECT_FLOWS_HEARTBEAT_FREQUENCY": str(HEARTBEAT),
}

#: The one authority that the clients of a home's server trust: nobody, for they speak plain HTTP on this machine. By
#: itself each client reads those of the whole world first, 40 ms of a processor, and a run makes a dozen clients.
NOBODY = Path(__file__).with_name("nobody.pem")

# A lock file keeps processes apart, and only those: POSIX grants it to each thread of one.
_starting = threading.Lock()


def configured_api_url(home: Path) -> str | None:
    """Return the API that the user's own Prefect settings name: the environment first, then the active profile.

    None where they name none, or the server of this home, whose profile lies in the home.
    """
    if url := os.environ.get("PREFECT_API_URL"):
        return None if url.rstrip("/").replace("//localhost:", "//127.0.0.1:") == running(home) else url
    folder = Path(os.environ.get("PREFECT_HOME", "~/.prefect")).expanduser()
    if folder.absolute() == home / "prefect":
        return None
    profiles = Path(os.environ.get("PREFECT_PROFILES_PATH", folder / "profiles.toml"))
    try:
        saved = tomllib.loads(profiles.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    active = os.environ.get("PREFECT_PROFILE", saved.get("active", ""))
    url = saved.get("profiles", {}).get(active, {}).get("PREFECT_API_URL")
    return str(url) if url else None


def environment(home: Path) -> dict[str, str]:
    """Give the settings of a Prefect that lives in this home and sends no telemetry.

    With no server it starts none of its own: whoever needs one calls `start`.
    """
    own = {
        "PREFECT_HOME": str(home / "prefect"),
        "PREFECT_PROFILE": "ephemeral",
        "PREFECT_SERVER_ALLOW_EPHEMERAL_MODE": "false",
        "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
        "PREFECT_SERVER_UI_SHOW_PROMOTIONAL_CONTENT": "false",
        "DO_NOT_TRACK": "1",
        "PREFECT_API_SSL_CERT_FILE": str(NOBODY),
    } | {name: os.environ.get(name, value) for name, value in UPKEEP.items()}
    key = auth_string(home)
    return own | {"PREFECT_API_AUTH_STRING": key} if key else own


def auth_string(home: Path) -> str | None:
    """Read the key that this home's server asks for, as ``user:password``; None before its first start."""
    try:
        return (home / "prefect" / "auth").read_text(encoding="utf-8").strip() or None
    except OSError:
        return None


def sign_in_path(home: Path) -> str:
    """Give the path that signs a browser in to the UI of this home's server."""
    return f"/sign-in#{auth_string(home) or ''}"


def start(home: Path, port: int | None = None, *, sign_in: bool = True) -> str:
    """Start the server of this home, or find the one that runs already; returns the URL of its API.

    Its database is SQLite under the home, or the one that PREFECT_SERVER_DATABASE_CONNECTION_URL names. One that is too
    busy to answer is waited for: two on one database would undo each other's work.

    Args:
        home: of this server.
        port: where a new one listens, instead of on any that is free.
        sign_in: whether a new one asks for the home's key; else whoever reaches it may do all.

    Raises:
        LookbookError: it does not start, or does not answer; the message names its log.
    """
    folder = home / "prefect"
    try:
        make_home(home)
        folder.mkdir(exist_ok=True)
        with _starting, fasteners.InterProcessLock(folder / "server.lock"):
            process, known = _recorded(home)
            url = _url(known) if process is not None else None
            if process is not None and not _wait_for(_url(known), process):
                raise LookbookError(
                    f"The Prefect server of this home (process {process.pid}) does not answer at {url}.",
                    f'Wait until it is less busy, or end it with "lookbook stop". Its log is {folder / "server.log"}.',
                )
            for _ in range(ATTEMPTS):
                url = url or _start_on(port or free_port(), home, sign_in=sign_in)
    except OSError as error:
        raise LookbookError(
            f"{folder} cannot be written: {error.strerror or error}.",
            "Point LOOKBOOK_HOME to a folder that you may write to, with space left.",
        ) from error
    if url is None:
        raise LookbookError(
            "The embedded Prefect server does not start.",
            f"Its log is {folder / 'server.log'}. Or set PREFECT_API_URL to a server that runs.",
        )
    return url


def use(home: Path) -> str:
    """Start or find the server of this home, and make it the one of this process's Prefect; returns the API's URL.

    Raises:
        LookbookError: as by `start`.
    """
    url = start(home)
    os.environ |= environment(home) | {"PREFECT_API_URL": url}
    if context := sys.modules.get("prefect.context"):  # imported with other settings, which it keeps
        context.refresh_global_settings_context()
    return url


def running(home: Path) -> str | None:
    """Give the API's URL of this home's server while its process lives, even if it is too busy to answer; else None."""
    process, port = _recorded(home)
    return _url(port) if process is not None else None


def is_on_sqlite(home: Path) -> bool:
    """Tell whether this process's Prefect uses this home's server, and that keeps its database in SQLite."""
    if configured_api_url(home) is not None or running(home) is None:
        return False
    return bool(json.loads((home / "prefect" / "server.json").read_text(encoding="utf-8")).get("sqlite"))


def answers(url: str, timeout: float = 5) -> bool:
    """Return whether what serves at `url`, as a Prefect API, answers its health check well within `timeout` seconds."""
    if not url.startswith(("http://", "https://")):
        return False
    try:
        with urllib.request.urlopen(url + "/health", timeout=timeout) as reply:  # noqa: S310 - checked above
            return bool(reply.status == 200)  # noqa: PLR2004
    except (OSError, ValueError, urllib.error.URLError):
        return False


def stop(home: Path) -> bool:
    """End the server of this home and wait until it is gone; True if there was one."""
    process, _ = _recorded(home)
    if process is None:
        return False
    process.send_signal(signal.SIGTERM)
    try:
        process.wait(timeout=15)
    except psutil.TimeoutExpired:
        process.kill()
    (home / "prefect" / "server.json").unlink(missing_ok=True)
    return True


def _recorded(home: Path) -> tuple[psutil.Process | None, int]:
    """Return the process that `start` recorded, if it is still the same one, and its port."""
    try:
        record = json.loads((home / "prefect" / "server.json").read_text(encoding="utf-8"))
        process = psutil.Process(int(record["pid"]))
        same = process.create_time() == record["created"] and process.status() != psutil.STATUS_ZOMBIE
        same = same and record["home"] == str(home)  # a copied home has the record of the original's server
        return (process if same else None), int(record["port"])
    except (OSError, ValueError, KeyError, TypeError, psutil.Error):
        return None, 0


def _url(port: int) -> str:
    return f"http://127.0.0.1:{port}/api"


def _start_on(port: int, home: Path, *, sign_in: bool) -> str | None:
    folder, url = home / "prefect", _url(port)
    own = environment(home) | {"PREFECT_API_URL": url, "PREFECT_SERVER_UI_API_URL": url}
    if sign_in:
        own |= {name: _made_key(folder) for name in ("PREFECT_API_AUTH_STRING", "PREFECT_SERVER_API_AUTH_STRING")}
    with (folder / "server.log").open("wb") as log:
        child = subprocess.Popen(  # noqa: S603 - our own interpreter
            [sys.executable, "-m", "lookbook.blocks.embedded.guarded_server", "--port", str(port)],
            env=os.environ | own,
            cwd=folder,
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
            start_new_session=True,
            umask=0o077,
        )
    process = psutil.Process(child.pid)
    record = {"pid": child.pid, "created": process.create_time(), "port": port, "home": str(home)}
    record["sqlite"] = os.environ.get("PREFECT_SERVER_DATABASE_CONNECTION_URL", "sqlite").startswith("sqlite")
    (folder / "server.json").write_text(json.dumps(record), encoding="utf-8")
    if _wait_for(url, process):
        _write_profile(folder, url)
        return url
    child.kill()
    child.wait()
    return None


def _made_key(folder: Path) -> str:
    """Read the home's key; make it at the first call, readable by its owner alone."""
    path = folder / "auth"
    if auth_string(folder.parent) is None:
        path.unlink(missing_ok=True)
        with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w", encoding="utf-8") as file:
            file.write(f"{USER}:{secrets.token_urlsafe(24)}\n")
    path.chmod(0o600)
    return auth_string(folder.parent) or ""


def _write_profile(folder: Path, url: str) -> None:
    """Let the ``prefect`` command find the server and sign in, where PREFECT_HOME names this folder."""
    path, mark = folder / "profiles.toml", "# Written by Lookbook at each start of its server."
    if path.exists() and not path.read_text(encoding="utf-8").startswith(mark):
        return  # the user's own
    lines = [mark, f'active = "{USER}"', f"[profiles.{USER}]", f'PREFECT_API_URL = "{url}"']
    if key := auth_string(folder.parent):
        lines.append(f'PREFECT_API_AUTH_STRING = "{key}"')
    aside = path.with_suffix(".new")
    aside.unlink(missing_ok=True)
    with os.fdopen(os.open(aside, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w", encoding="utf-8") as file:
        file.write("\n".join(lines) + "\n")
    aside.replace(path)


def _wait_for(url: str, process: psutil.Process) -> bool:
    """Wait until a server answers; False where it ends, or does not in time."""
    deadline = time.monotonic() + START_TIMEOUT
    with contextlib.suppress(psutil.NoSuchProcess):
        while time.monotonic() < deadline and process.is_running() and process.status() != psutil.STATUS_ZOMBIE:
            if answers(url):
                return True
            time.sleep(0.1)
    return False


def free_port() -> int:
    """Return a port of this machine that nobody listens on."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return int(listener.getsockname()[1])


def is_free(port: int) -> bool:
    """Return whether a server could listen on this port of the loopback address."""
    with socket.socket() as listener:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            listener.bind(("127.0.0.1", port))
        except OSError:
            return False
    return True
