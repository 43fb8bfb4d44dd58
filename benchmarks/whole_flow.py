"""The whole main flow in this process, its servers running: ``SOURCE HOME``."""

from __future__ import annotations

import sys
from pathlib import Path
from uuid import uuid4

from benchmarks.peers import clock
from lookbook.deployments.server.environment import prepare_server


def main(source: str, home: Path) -> None:
    """Report the time of the flow, from its start to its summary: everything that it does."""
    prepare_server(home, debug=False)
    from lookbook.flows.ingest import ingest  # noqa: PLC0415 - the server's address stands in the environment only now

    clock.report(lambda: int(ingest(source, f"whole-{uuid4().hex[:8]}")["images"]["found"]))


if __name__ == "__main__":
    main(sys.argv[1], Path(sys.argv[2]))
