"""What fanning out costs on one machine, by threads and by Dask, and how the database of Prefect's server grows."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

import asyncpg

from benchmarks.processes import COMMAND, discard, say, timed
from benchmarks.under_flow import server_seconds
from tests.support.prefect_processes import Server, deploy, start_server

IMAGES = 1000
SOURCE = f"sample://{IMAGES}"
#: How many batches each executor is asked to do.
FAN_OUTS = {"threads": (10, 100, 1000), "dask": (10, 100)}

HEADER = [
    "| executor | batches | whole run, s | more than one batch, s | a batch, ms | parent CPU a batch, ms |"
    " server CPU a batch, ms | database, KB a batch |",
    "|---|---|---|---|---|---|---|---|",
]


@dataclass(frozen=True)
class Cost:
    """What a run of so many batches took.

    Attributes:
        batches: those that ran.
        seconds: of the whole run.
        parent_cpu: CPU seconds of the parent's process, drawing processes apart.
        server_cpu: CPU seconds of the Prefect server.
        database: bytes that its database grew by.
    """

    batches: int
    seconds: float
    parent_cpu: float
    server_cpu: float
    database: int


def section(home: Path) -> str:
    """The same images in more and more batches."""
    server = start_server(home)
    deploy(server)
    return overhead_table(server)


def ingest(server: Server, executor: str, batch_size: int, *more: str) -> Cost:
    """One run into an empty lake."""
    discard(server.home / "lake")
    before = counted(server)
    command = [*COMMAND, "ingest", SOURCE, "--dataset", "fan-out", "--json", "--executor", executor]
    summary, used = timed([*command, "--batch-size", str(batch_size), *more], server.home)
    after = counted(server)
    return Cost(
        int(after["batches"] - before["batches"]),
        float(summary["seconds"]),
        used["process_cpu"],
        after["cpu"] - before["cpu"],
        int(after["bytes"] - before["bytes"]),
    )


def counted(server: Server) -> dict[str, float]:
    """Runs of batches so far, CPU seconds of the server, and bytes of its database."""
    body = {"flows": {"name": {"any_": ["process-batch"]}}}
    return {
        "batches": float(server.post("/flow_runs/count", body)),
        "cpu": server_seconds(server.home),
        "bytes": float(database_bytes(server)),
    }


def database_bytes(server: Server) -> int:
    """The size of the server's database: SQLite in its home, or a PostgreSQL."""
    if server.database:
        return asyncio.run(_postgres_bytes(server.database))
    return sum(file.stat().st_size for file in (server.home / "prefect").glob("prefect.db*"))


async def _postgres_bytes(url: str) -> int:
    connection = await asyncpg.connect(url)
    try:
        size: int = await connection.fetchval("SELECT pg_database_size(current_database())")
        return size
    finally:
        await connection.close()


def overhead_table(server: Server) -> str:
    """The same images in more and more batches: what is more than in one batch is what the batches cost."""
    one = in_one_batch(server)
    lines = [
        "## Fanning out",
        "",
        f"`{SOURCE}` in one batch takes {one.seconds:.1f} s by threads. In more batches, one run each; what it takes",
        "more is what the batches cost. Two batches are under way at the same time; Prefect's server is on SQLite;",
        "`dask`: a local cluster of two processes, with its start.",
        "",
        *HEADER,
    ]
    for executor, counts in FAN_OUTS.items():
        for count in counts:
            say(f"{executor}: {count} batches")
            lines.append(row(executor, ingest(server, executor, IMAGES // count), one))
    return "\n".join([*lines, ""])


def in_one_batch(server: Server) -> Cost:
    """All images in one batch, by threads."""
    ingest(server, "threads", IMAGES)  # draws the sample, and is not counted
    return ingest(server, "threads", IMAGES)


def row(executor: str, cost: Cost, one: Cost) -> str:
    """A row of the table: `cost` beside that of one batch."""
    more = cost.batches - one.batches
    return (
        f"| {executor} | {cost.batches} | {cost.seconds:.1f} | {cost.seconds - one.seconds:.1f} |"
        f" {1000 * (cost.seconds - one.seconds) / more:.0f} |"
        f" {1000 * (cost.parent_cpu - one.parent_cpu) / more:.0f} |"
        f" {1000 * (cost.server_cpu - one.server_cpu) / more:.0f} | {cost.database / cost.batches / 1024:.0f} |"
    )


@contextmanager
def workers(server: Server, count: int, limit: int) -> Iterator[None]:
    """So many workers of the default pool while the block runs, each with `limit` runs at once."""
    with ExitStack() as stack:
        for _ in range(count):
            stack.enter_context(server.worker(limit=limit, LOOKBOOK_THREADS="1"))
        yield
