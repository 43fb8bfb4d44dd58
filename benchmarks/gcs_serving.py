"""The stand-in for Google Cloud Storage in a process of its own, so that it is not on a contender's time."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from benchmarks.peers.objects import BUCKET
from benchmarks.processes import shell
from tests.support.gcs_server import serving_gcs
from tests.support.loopback import Fault


@dataclass(frozen=True)
class Serving:
    """The server: its address, and what it counted."""

    url: str
    process: subprocess.Popen[str]

    def counted(self) -> tuple[dict[str, int], dict[str, int]]:
        """Requests, and bytes of bodies both ways, by route, since it was asked last."""
        calls, moved = json.loads(self._ask("counted"))
        return calls, moved

    def _ask(self, what: str) -> str:
        if self.process.stdin is None or self.process.stdout is None:
            raise ValueError("The process was started without pipes.")
        self.process.stdin.write(what + "\n")
        self.process.stdin.flush()
        return self.process.stdout.readline()


@contextmanager
def serving(latency: float, home: Path) -> Iterator[Serving]:
    """A server that lets each request wait for `latency` seconds, while the block runs."""
    command = [sys.executable, "-m", "benchmarks.gcs_serving", str(latency)]
    with subprocess.Popen(  # noqa: S603
        command, env=shell(home), stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        try:
            yield Serving(process.stdout.readline().strip() if process.stdout else "", process)
        finally:
            process.terminate()


def main(latency: float) -> None:
    """Serve; each line that is asked is answered with what was counted since."""
    with serving_gcs(BUCKET) as server:
        server.inject(Fault(latency=latency))
        write(server.url)
        for _ in sys.stdin:
            with server.lock:
                write(json.dumps([dict(server.calls), dict(server.moved)]))
                server.calls.clear()
                server.moved.clear()


def write(line: str) -> None:
    """Tell the parent."""
    sys.stdout.write(line + "\n")
    sys.stdout.flush()


if __name__ == "__main__":
    main(float(sys.argv[1]))
