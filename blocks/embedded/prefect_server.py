"""A Prefect server of this home's own, for where no other is configured. Imports no Prefect."""

from __future__ import annotations

import json
import os
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

from blocks.errors import LookbookError

#: Seconds to the first answer; about 10 on two cores, more on a busy machine.
START_TIMEOUT = 120
ATTEMPTS = 3

#: What keeps the server's database from growing without end: runs go after 30 days (the books keep theirs, in the
#: registry), events after 7, heartbeats after one. Whoever sets one of these in the environment has the last word.
UPKEEP = {
    "PREFECT_SERVER_SERVICES_DB_VACUUM_ENABLED": "events,flow_runs",
    "PREFECT_SERVER_SERVICES_DB_VACUUM_RETENTION_PERIOD": str(30 * 86400),
    "PREFECT_SERVER_SERVICES_DB_VACUUM_EVENT_RETENTION_OVERRIDES": '{"prefect.flow-run.heartbeat": 86400}',
    "PREFECT_SERVER_EVENTS_RETENTION_PERIOD": "P7D",
    "PREFECT_FLOWS_HEARTBEAT_FREQUENCY": "60",
}

# A lock file keeps processes apart, and only those: POSIX grants it to each thread of one.
_starting = threading.Lock()


def configured_api_url() -> str | None:
    """The API that the user's own Prefect settings name: the environment first, then the active profile."""
    if url := os.environ.get("PREFECT_API_URL"):
        return url
    folder = Path(os.environ.get("PREFECT_HOME", "~/.prefect")).expanduser()
    profiles = Path(os.environ.get("PREFECT_PROFILES_PATH", folder / "profiles.toml"))
    try:
        saved = tomllib.loads(profiles.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    active = os.environ.get("PREFECT_PROFILE", saved.get("active", ""))
    url = saved.get("profiles", {}).get(active, {}).get("PREFECT_API_URL")
    return str(url) if url else None


def environment(home: Path) -> dict[str, str]:
    """The settings of a Prefect that lives inside this home, and tells nobody that it does."""
    return {
        "PREFECT_HOME": str(home / "prefect"),
        "PREFECT_PROFILE": "ephemeral",
        "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
        "PREFECT_SERVER_UI_SHOW_PROMOTIONAL_CONTENT": "false",
        "DO_NOT_TRACK": "1",
    } | {name: os.environ.get(name, value) for name, value in UPKEEP.items()}


def start(home: Path, port: int | None = None) -> str:
    """Start the server of this home, or find the one that runs already; returns the URL of its API.

    Its database is SQLite under the home, or the one that PREFECT_SERVER_DATABASE_CONNECTION_URL names.

    Args:
        home: of this server.
        port: where a new one listens, instead of on any that is free.

    Raises:
        LookbookError: it does not start; the message names its log.
    """
    folder = home / "prefect"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with _starting, fasteners.InterProcessLock(folder / "server.lock"):
            url = running(home)
            for _ in range(ATTEMPTS):
                url = url or _start_on(port or free_port(), home)
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


def running(home: Path) -> str | None:
    """The API's URL of this home's server if it answers, else None."""
    process, port = _recorded(home)
    url = f"http://127.0.0.1:{port}/api"
    return url if process is not None and answers(url) else None


def is_alive(home: Path) -> bool:
    """Whether the process of this home's server lives, were it too busy to answer."""
    return _recorded(home)[0] is not None


def answers(url: str, timeout: float = 5) -> bool:
    """Whether a Prefect API answers at `url` within `timeout` seconds."""
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
    """The process that `start` recorded, if it is still the same one, and its port."""
    try:
        record = json.loads((home / "prefect" / "server.json").read_text(encoding="utf-8"))
        process = psutil.Process(int(record["pid"]))
        same = process.create_time() == record["created"] and process.status() != psutil.STATUS_ZOMBIE
        same = same and record["home"] == str(home)  # a copied home has the record of the original's server
        return (process if same else None), int(record["port"])
    except (OSError, ValueError, KeyError, TypeError, psutil.Error):
        return None, 0


def _start_on(port: int, home: Path) -> str | None:
    folder = home / "prefect"
    url = f"http://127.0.0.1:{port}/api"
    command = [sys.executable, "-m", "prefect", "server", "start", "--host", "127.0.0.1", "--port", str(port)]
    with (folder / "server.log").open("wb") as log:
        child = subprocess.Popen(  # noqa: S603 - our own interpreter
            command,
            env=os.environ | environment(home) | {"PREFECT_API_URL": url, "PREFECT_SERVER_UI_API_URL": url},
            cwd=folder,
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
    record = {"pid": child.pid, "created": psutil.Process(child.pid).create_time(), "port": port, "home": str(home)}
    (folder / "server.json").write_text(json.dumps(record), encoding="utf-8")
    return url if _wait_for(url, child) else None


def _wait_for(url: str, child: subprocess.Popen[bytes]) -> bool:
    deadline = time.monotonic() + START_TIMEOUT
    while time.monotonic() < deadline and child.poll() is None:
        if answers(url, timeout=1):
            return True
        time.sleep(0.1)
    child.kill()
    return False


def free_port() -> int:
    """A port of this machine that nobody listens on."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return int(listener.getsockname()[1])


def is_free(port: int) -> bool:
    """Whether a server could listen on this port of the loopback address."""
    with socket.socket() as listener:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            listener.bind(("127.0.0.1", port))
        except OSError:
            return False
    return True
