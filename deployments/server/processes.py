"""The worker and the API as processes that `lookbook serve` starts, watches and ends."""

from __future__ import annotations

import contextlib
import hashlib
import os
import signal
import socket
import subprocess
import sys
import time
from abc import ABC, abstractmethod
from pathlib import Path
from typing import TYPE_CHECKING, Any

import httpx
import psutil

from lookbook.blocks.embedded.prefect_server import answers, free_port, is_free
from lookbook.blocks.errors import LookbookError
from lookbook.deployments.command.api import PORT

if TYPE_CHECKING:
    from prefect.client.orchestration import SyncPrefectClient

#: Runs at the same time. The limit of ingest/local leaves room for the batches that each of them starts: a worker full
#: of parents that wait for children would stand still.
RUNS_AT_ONCE = 8
#: All that descends from the worker carries this variable: runs that outlive it are found by it.
MARK = "LOOKBOOK_SERVED_BY"
#: Seconds until a worker has to be healthy; about 5 on two cores.
START_TIMEOUT = 120
#: Seconds to end, after each signal.
STOP_TIMEOUT = 10
#: A worker that fails so many health checks in a row, these seconds apart, hangs.
FAILED_CHECKS = 6
CHECK_INTERVAL = 10
#: Of Prefect's settings, those that a worker has no business with: the passwords of the server's database among them.
SERVERS_OWN = ("PREFECT_SERVER_", "PREFECT_API_DATABASE_", "PREFECT_LOGGING_HANDLERS_CONSOLE_LEVEL")

#: What becomes of a run that it had taken: one that had not begun is for the next worker, one that could not say how it
#: ended has crashed.
SETTLED = {
    "PENDING": {"type": "SCHEDULED", "message": "The worker was ended before this began."},
    "RUNNING": {"type": "CRASHED", "message": "The worker was ended while this ran."},
    "CANCELLING": {"type": "CANCELLED", "message": "The worker was ended while this was being cancelled."},
}


def name_of(home: Path) -> str:
    """Return what serves a home is called by this."""
    return f"serve-{socket.gethostname()}-{hashlib.sha256(os.fsencode(home)).hexdigest()[:8]}"


def marked(name: str) -> list[psutil.Process]:
    """Return all processes that carry a mark."""
    found = []
    for process in psutil.process_iter():
        with contextlib.suppress(psutil.Error, OSError):
            if process.status() != psutil.STATUS_ZOMBIE and process.environ().get(MARK) == name:
                found.append(process)
    return found


class Supervised(ABC):
    """A process of a home that is started anew by `start` as often as it ends.

    Args:
        home: LOOKBOOK_HOME of it.
        mark: that all which it starts carries.
        log: file that gets what it prints.
    """

    label: str

    def __init__(self, home: Path, mark: str, log: Path) -> None:
        """Start nothing yet."""
        self.log, self._mark = log, mark
        kept = {name: value for name, value in os.environ.items() if not name.startswith(SERVERS_OWN)}
        path = os.pathsep.join((str(Path(sys.executable).parent), os.environ.get("PATH", os.defpath)))
        self._environment = kept | {"LOOKBOOK_HOME": str(home), "PATH": path, MARK: mark}
        self._process: subprocess.Popen[bytes] | None = None
        self._checked, self._failed = time.monotonic(), 0

    @abstractmethod
    def is_healthy(self) -> bool:
        """Return whether its health check answers as it should."""

    def is_ready(self) -> bool:
        """Return whether it has started."""
        return self.is_healthy()

    def exit_code(self) -> int | None:
        """Return how it ended; None while it runs."""
        return self._process.poll() if self._process else None

    def hangs(self) -> bool:
        """Return whether it failed its last health checks; to be asked often, it checks when one is due."""
        if time.monotonic() - self._checked >= CHECK_INTERVAL:
            self._failed = 0 if self.is_healthy() else self._failed + 1
            self._checked = time.monotonic()
        return self._failed >= FAILED_CHECKS

    def _run(self, command: list[str], **more: str) -> None:
        """Start a command with more variables, and wait until it is ready.

        Raises:
            LookbookError: it ends, or is not ready in time; the message names its log.
        """
        self._checked, self._failed = time.monotonic(), 0
        with self.log.open("ab") as log:
            self._process = subprocess.Popen(  # noqa: S603 - our own interpreter
                [sys.executable, *command],
                env=self._environment | more,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        deadline = time.monotonic() + START_TIMEOUT
        while not self.is_ready():
            if self.exit_code() is not None or time.monotonic() > deadline:
                raise LookbookError(
                    f"{self.label[0].upper()}{self.label[1:]} does not start.", f"Its log is {self.log}."
                )
            time.sleep(0.2)


class WorkerProcess(Supervised):
    """The one worker of a home, started anew by `start` as often as it ends."""

    label = "the worker"

    def __init__(self, pool: str, home: Path, log: Path) -> None:
        """Start nothing yet.

        Args:
            pool: the work pool that it polls.
            home: LOOKBOOK_HOME of its runs.
            log: file that gets what the worker and its runs print.
        """
        self.pool, self.name = pool, name_of(home)
        super().__init__(home, self.name, log)
        self._port = 0

    def start(self) -> None:
        """Start it and wait until it is healthy.

        Raises:
            LookbookError: it ends, or is not healthy in time; the message names its log.
        """
        self._port = free_port()
        command = ["-m", "prefect", "worker", "start", "--pool", self.pool, "--name", self.name]
        self._run(
            [*command, "--limit", str(RUNS_AT_ONCE), "--with-healthcheck"],
            PREFECT_WORKER_WEBSERVER_HOST="127.0.0.1",
            PREFECT_WORKER_WEBSERVER_PORT=str(self._port),
        )

    def is_ready(self) -> bool:
        """Return whether it is healthy and the server knows it."""
        return self.is_healthy() and self._is_online()

    def is_healthy(self) -> bool:
        """Return whether its health check says that it polls for runs."""
        return answers(f"http://127.0.0.1:{self._port}", timeout=2)

    def stop(self) -> None:
        """End its runs, then it, then what is left of them: within a minute, and also of a worker that was lost."""
        if self._process is not None and self._process.poll() is None:
            with contextlib.suppress(psutil.Error):
                runs = psutil.Process(self._process.pid).children()
                psutil.wait_procs(signalled(runs, signal.SIGTERM), timeout=STOP_TIMEOUT)  # each says how it ended
            self._process.send_signal(signal.SIGINT)
            with contextlib.suppress(subprocess.TimeoutExpired):
                self._process.wait(timeout=STOP_TIMEOUT)
        psutil.wait_procs(signalled(self.family(), signal.SIGTERM), timeout=STOP_TIMEOUT)
        psutil.wait_procs(signalled(self.family(), signal.SIGKILL), timeout=STOP_TIMEOUT)
        with contextlib.suppress(httpx.HTTPError, OSError):  # a server that is gone needs no news
            self._settle_runs()

    def family(self) -> list[psutil.Process]:
        """Return all that runs of it: the worker, its runs, and what they started."""
        return marked(self.name)

    def _settle_runs(self) -> None:
        """Say of all that it had taken how it ended: a run that a person cancelled must not count as crashed."""
        from prefect.client.orchestration import get_client

        with get_client(sync_client=True) as client:
            for run in _unended_runs(client):
                if run["labels"].get("prefect.worker.name") != self.name:
                    continue
                body: Any = {"state": SETTLED[run["state_type"]], "force": True}
                client.request("POST", "/flow_runs/{id}/set_state", path_params={"id": run["id"]}, json=body)

    def _is_online(self) -> bool:
        """Return whether the server knows it."""
        from prefect.client.orchestration import get_client

        body: Any = {"workers": {"status": {"any_": ["ONLINE"]}}}
        pool = {"work_pool_name": self.pool}
        try:
            with get_client(sync_client=True) as client:
                workers = client.request(
                    "POST", "/work_pools/{work_pool_name}/workers/filter", path_params=pool, json=body
                ).json()
        except (httpx.HTTPError, OSError):
            return False
        return self.name in {worker["name"] for worker in workers}


def signalled(processes: list[psutil.Process], number: signal.Signals) -> list[psutil.Process]:
    """Send a signal to processes; returns them."""
    for process in processes:
        with contextlib.suppress(psutil.Error):
            process.send_signal(number)
    return processes


def _unended_runs(client: SyncPrefectClient) -> list[dict[str, Any]]:
    """Return all runs that some worker took and that have not ended; the API gives them by the page."""
    found: list[dict[str, Any]] = []
    while True:
        seen = {"not_any_": [run["id"] for run in found]}  # an offset would pass over some when others end meanwhile
        body: Any = {"flow_runs": {"state": {"type": {"any_": list(SETTLED)}}, "id": seen}}
        page = client.request("POST", "/flow_runs/filter", json=body).json()
        if not page:
            return found
        found += page


class ApiProcess(Supervised):
    """The API of a home, on this machine alone, started anew by `start` as often as it ends."""

    label = "the API"

    def __init__(self, home: Path, port: int | None, log: Path) -> None:
        """Start nothing yet.

        Args:
            home: LOOKBOOK_HOME of it.
            port: where it listens; None: 4201, or any that is free.
            log: file that gets what it says, a line for each request.
        """
        self.port = port or (PORT if is_free(PORT) else free_port())
        super().__init__(home, f"{name_of(home)}-api", log)

    @property
    def url(self) -> str:
        """Return the address where it listens."""
        return f"http://127.0.0.1:{self.port}"

    def start(self) -> None:
        """Start it and wait until it answers.

        Raises:
            LookbookError: it ends, or does not answer in time; the message names its log.
        """
        main = "from lookbook.deployments.command.cli import main; main()"
        self._run(["-c", main, "api", "--port", str(self.port)])

    def is_healthy(self) -> bool:
        """Return whether it answers."""
        return answers(self.url, timeout=2)

    def stop(self) -> None:
        """End it, also one that was lost."""
        if self._process is not None and self._process.poll() is None:
            self._process.send_signal(signal.SIGINT)
            with contextlib.suppress(subprocess.TimeoutExpired):
                self._process.wait(timeout=STOP_TIMEOUT)
        for number in (signal.SIGTERM, signal.SIGKILL):
            psutil.wait_procs(signalled(marked(self._mark), number), timeout=STOP_TIMEOUT)
