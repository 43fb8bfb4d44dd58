"""The API as a process of ours: started, asked for its health, ended."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import httpx
import psutil

from lookbook.blocks.embedded.prefect_server import free_port, is_free
from lookbook.blocks.errors import LookbookError
from lookbook.deployments.api_commands import PORT
from lookbook.deployments.worker_process import (
    CHECK_INTERVAL,
    FAILED_CHECKS,
    MARK,
    SERVERS_OWN,
    STOP_TIMEOUT,
    marked,
    name_of,
    signalled,
)

#: Seconds until it has to answer; about 5 on two cores.
START_TIMEOUT = 120


class ApiProcess:
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
        self.log, self._mark = log, f"{name_of(home)}-api"
        kept = {name: value for name, value in os.environ.items() if not name.startswith(SERVERS_OWN)}
        self._environment = kept | {"LOOKBOOK_HOME": str(home), MARK: self._mark}
        self._process: subprocess.Popen[bytes] | None = None
        self._checked, self._failed = time.monotonic(), 0

    @property
    def url(self) -> str:
        """Where it listens."""
        return f"http://127.0.0.1:{self.port}"

    def start(self) -> None:
        """Start it and wait until it answers.

        Raises:
            LookbookError: it ends, or does not answer in time; the message names its log.
        """
        self._checked, self._failed = time.monotonic(), 0
        command = [
            sys.executable,
            "-c",
            "from lookbook.deployments.cli import main; main()",
            "api",
            "--port",
            str(self.port),
        ]
        with self.log.open("ab") as log:
            self._process = subprocess.Popen(  # noqa: S603 - our own interpreter
                command,
                env=self._environment,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        deadline = time.monotonic() + START_TIMEOUT
        while not self.is_healthy():
            if self.exit_code() is not None or time.monotonic() > deadline:
                raise LookbookError("The API does not start.", f"Its log is {self.log}.")
            time.sleep(0.2)

    def exit_code(self) -> int | None:
        """Return how it ended; None while it runs."""
        return self._process.poll() if self._process else None

    def is_healthy(self) -> bool:
        """Return whether it answers."""
        try:
            return httpx.get(f"{self.url}/health", timeout=2).is_success
        except httpx.HTTPError:
            return False

    def hangs(self) -> bool:
        """Return whether it failed its last health checks; to be asked often, it checks when one is due."""
        if time.monotonic() - self._checked >= CHECK_INTERVAL:
            self._failed = 0 if self.is_healthy() else self._failed + 1
            self._checked = time.monotonic()
        return self._failed >= FAILED_CHECKS

    def stop(self) -> None:
        """End it, also one that was lost."""
        if self._process is not None and self._process.poll() is None:
            self._process.send_signal(signal.SIGINT)
            with contextlib.suppress(subprocess.TimeoutExpired):
                self._process.wait(timeout=STOP_TIMEOUT)
        for number in (signal.SIGTERM, signal.SIGKILL):
            psutil.wait_procs(signalled(marked(self._mark), number), timeout=STOP_TIMEOUT)
