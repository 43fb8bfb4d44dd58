"""What a batch costs that a work pool's worker starts: a process and a run each. Prefect's server is on PostgreSQL."""

from __future__ import annotations

from pathlib import Path

from benchmarks.executors import HEADER, IMAGES, SOURCE, in_one_batch, ingest, row, workers
from benchmarks.processes import say
from tests.support import debian_postgres
from tests.support.prefect_processes import Server, deploy, start_server

FAN_OUTS = (10, 100)


def section(home: Path) -> str:
    """The same images in more and more batches."""
    with debian_postgres.cluster("prefect") as address:
        server = start_server(home, PREFECT_SERVER_DATABASE_CONNECTION_URL=f"postgresql+asyncpg://{address}/prefect")
        server.database = f"postgresql://{address}/prefect"
        deploy(server)
        return pool_table(server)


def pool_table(server: Server) -> str:
    """What more batches cost by the executor pool."""
    one = in_one_batch(server)
    lines = [
        "## Fanning out to a work pool",
        "",
        f"`{SOURCE}` in one batch takes {one.seconds:.1f} s by threads. Here two workers of two runs each start a",
        "process for each batch, on the cores on which parent and server run; Prefect's server is on PostgreSQL.",
        "",
        *HEADER,
    ]
    with workers(server, 2, limit=2):
        for count in FAN_OUTS:
            say(f"pool: {count} batches")
            lines.append(row("pool", ingest(server, "pool", IMAGES // count), one))
    return "\n".join([*lines, ""])
