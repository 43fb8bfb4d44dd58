"""Everything on one machine: Prefect's server, a worker, all deployments, the API; ended together."""

from __future__ import annotations

import contextlib
import os
import signal
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import fasteners

from lookbook.blocks.embedded import postgres, prefect_server
from lookbook.blocks.errors import LookbookError, UsageError
from lookbook.blocks.settings import make_home, read_settings
from lookbook.deployments.server import deploying, environment
from lookbook.deployments.server.processes import ApiProcess, WorkerProcess

POOL = "lookbook"
#: Prefect's own; another one where it is taken.
PORT = 4200
#: Seconds that a worker has to live for its end to be an accident, not a fault that comes back at once.
LONG_LIFE = 60
LONGEST_PAUSE = 60
ENDING_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)

Say = Callable[[str], None]


@dataclass(frozen=True)
class Served:
    """What runs, for whoever uses it.

    Attributes:
        api: of Prefect's server.
        ui: of Prefect's server.
        sign_in: address that signs a browser in to the UI; None: it asks for nothing, or the server is not this home's.
        service: where Lookbook's own API listens.
    """

    api: str
    ui: str
    sign_in: str | None
    service: str
    home: Path
    inbox: Path
    pool: str
    logs: Path


class ServedProcess(Protocol):
    """A process that is started, watched and ended."""

    label: str

    def start(self) -> None:
        """Start it and wait until it is healthy."""

    def stop(self) -> None:
        """End it."""

    def exit_code(self) -> int | None:
        """Return how it ended; None while it runs."""

    def hangs(self) -> bool:
        """Return whether it does not answer any more."""


class Ended(BaseException):
    """Somebody asked that it ends: Ctrl-C, SIGTERM, or a terminal that closes."""


def serve(
    home: Path,
    port: int | None,
    *,
    debug: bool,
    say: Say,
    announce: Callable[[Served], None],
    api_port: int | None = None,
    sign_in: bool = True,
) -> None:
    """Run all of it until Ctrl-C or SIGTERM, then end what was started, and nothing else.

    Args:
        home: of the ``local`` workspace and, where no server is configured, of Prefect's.
        port: of a server of its own; by default 4200, or any that is free.
        debug: keep Prefect's logs on the console.
        say: is told what is done now.
        announce: is called once, when runs can be started.
        api_port: of the API; by default 4201, or any that is free.
        sign_in: whether Prefect's server asks who wants something; else every user of this machine may do all.

    Raises:
        LookbookError: it is served already, something does not start, or the server ended by itself.
        UsageError: a port is taken.
    """
    if api_port is not None and not prefect_server.is_free(api_port):
        raise UsageError(f"--api-port {api_port}: another program listens there.", "Give another, or none.")
    with _only_one(home), ExitStack() as ending, contextlib.suppress(Ended), _ended_by_signals():
        children, served = _start(home, port, debug, ending, say, api_port, sign_in=sign_in)
        announce(served)
        _watch(children, home, own=prefect_server.running(home) == served.api, say=say)


def _start(
    home: Path,
    port: int | None,
    debug: bool,
    ending: ExitStack,
    say: Say,
    api_port: int | None = None,
    *,
    sign_in: bool = True,
) -> tuple[list[ServedProcess], Served]:
    """Start all, in the order of need; what was started is put on `ending`, which ends it in reverse."""
    say("starting PostgreSQL")
    _start_registry(home, ending, say)
    say("starting Prefect's server")
    api = _start_server(home, port, debug, ending, say, sign_in=sign_in)
    inbox = home / "inbox"
    inbox.mkdir(exist_ok=True)
    say("deploying")
    os.environ["LOOKBOOK_HOME"] = str(home)
    ui, own = api.removesuffix("/api"), api == prefect_server.running(home)
    for name in deploying.deploy(at_once=own).broken:
        say(f"{name} is not deployed: lookbook pipeline validate says why")
    if own:
        save_local_workspace(home)
    say("starting a worker")
    logs = home / "prefect"
    (logs / "worker.log").unlink(missing_ok=True)
    worker = WorkerProcess(POOL, home, logs / "worker.log")
    worker.stop()  # one that a killed serve left
    ending.callback(worker.stop)
    worker.start()
    say("starting the API")
    (logs / "api.log").unlink(missing_ok=True)
    service = ApiProcess(home, api_port, logs / "api.log")
    service.stop()  # as above
    ending.callback(service.stop)
    service.start()
    ending.callback(say, "ending the API, the worker, its runs and the servers")
    link = f"{ui}{prefect_server.sign_in_path(home)}" if own and sign_in else None
    return [worker, service], Served(api, ui, link, service.url, home, inbox, POOL, logs)


def save_local_workspace(home: Path) -> None:
    """Save the workspace ``local`` as it is now: the home may have moved. Only for the home's own server.

    On a server that others use as well, each worker has a ``local`` of its own; a saved one would win over all of them,
    with paths of this machine and the registry's password.
    """
    from lookbook.blocks import saved_workspace
    from lookbook.blocks.workspace import local_workspace

    saved_workspace.save("local", vars(local_workspace(home)))


def _start_registry(home: Path, ending: ExitStack, say: Say) -> None:
    """Start the registry's PostgreSQL, where the home has one of its own, unless it runs."""
    if read_settings().registry_url is None and postgres.running(home) is None:
        ending.callback(_stop_unless_used, postgres.stop, home, say)
        postgres.start(home)


def _start_server(home: Path, port: int | None, debug: bool, ending: ExitStack, say: Say, *, sign_in: bool) -> str:
    """Start the home's own server, unless one is configured or it runs; returns the URL of the API."""
    used = prefect_server.configured_api_url(home) or prefect_server.running(home)
    if used is None:
        if port is not None and not prefect_server.is_free(port):
            raise UsageError(f"--port {port}: another program listens there.", "Give another, or none.")
        ending.callback(_stop_unless_used, prefect_server.stop, home, say)
        prefect_server.start(home, port or (PORT if prefect_server.is_free(PORT) else None), sign_in=sign_in)
    elif not sign_in:
        raise UsageError(f"--no-sign-in: the server at {used} is used.", "Leave it out, or end that server.")
    elif port is not None and not used.startswith(f"http://127.0.0.1:{port}/"):
        raise UsageError(f"--port {port}: the server at {used} is used.", "Leave out --port, or end that server.")
    return environment.prepare_server(home, debug=debug)


def _stop_unless_used(stop: Callable[[Path], bool], home: Path, say: Say) -> None:
    """End a server of the home, unless a run that a command of this machine started is at work on it."""
    from lookbook.blocks.workspace import local_workspace
    from lookbook.tasks.runs.lease import living_owners

    owners = {}
    with contextlib.suppress(LookbookError):  # no registry, no run
        owners = living_owners(local_workspace(home).registry, of_all_lakes=True)
    if not owners:
        stop(home)
        return
    for name, owner in owners.items():
        say(f"{name}: process {owner.pid} is at work on it; servers keep running, and lookbook stop ends them")


def _watch(children: Sequence[ServedProcess], home: Path, *, own: bool, say: Say) -> None:
    """Start each anew whenever it ends or hangs; pause longer and longer while it ends at once."""
    kept = [_Kept(child) for child in children]
    while True:
        time.sleep(1)
        if own and prefect_server.running(home) is None:
            raise LookbookError("Prefect's server ended by itself.", f"Its log is {home / 'prefect' / 'server.log'}.")
        for each in kept:
            each.tend(say)


class _Kept:
    """A process that is kept alive."""

    def __init__(self, child: ServedProcess) -> None:
        self._child, self._pause, self._since = child, 1, time.monotonic()

    def tend(self, say: Say) -> None:
        """Start it anew, if it ended or hangs."""
        child = self._child
        if child.exit_code() is None and not child.hangs():
            return
        self._pause = 1 if time.monotonic() - self._since > LONG_LIFE else min(2 * self._pause, LONGEST_PAUSE)
        if child.exit_code() is None:
            say(f"{child.label} does not answer; it is ended, and another one starts")
            child.stop()
        else:
            say(f"{child.label} ended with code {child.exit_code()}; another one starts")
        time.sleep(self._pause)
        with contextlib.suppress(LookbookError):  # it ended again, and the next turn sees that
            child.start()
        self._since = time.monotonic()


@contextmanager
def _only_one(home: Path) -> Iterator[None]:
    folder = home / "prefect"
    try:
        make_home(home)
        folder.mkdir(exist_ok=True)
        lock = fasteners.InterProcessLock(folder / "serve.lock")
        alone = lock.acquire(blocking=False)
    except OSError as error:
        raise LookbookError(
            f"{folder} cannot be written: {error.strerror or error}.",
            "Point LOOKBOOK_HOME to a folder that you may write to, with space left.",
        ) from error
    if not alone:
        where = prefect_server.running(home)
        at = f", at {where.removesuffix('/api')}" if where else ""
        raise LookbookError(f"lookbook serve runs already for {home}{at}.", "End that one first, with Ctrl-C.")
    try:
        yield
    finally:
        lock.release()


@contextmanager
def _ended_by_signals() -> Iterator[None]:
    """Raise `Ended` at the first signal; from then on there is nothing to interrupt: all ends in a bounded time."""
    numbers = [
        number for number in ENDING_SIGNALS if signal.getsignal(number) is not signal.SIG_IGN
    ]  # nohup stays nohup

    def ignore() -> None:
        for number in numbers:
            signal.signal(number, signal.SIG_IGN)

    def end(*_: object) -> None:
        ignore()
        raise Ended

    for number in numbers:
        signal.signal(number, end)
    try:
        yield
    finally:
        ignore()
