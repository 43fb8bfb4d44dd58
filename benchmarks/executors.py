"""What fanning out costs with each executor, how the server's database grows, and what a second worker gains."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

from benchmarks.corpora import LARGE, folder_of
from benchmarks.processes import COMMAND, discard, say, timed
from benchmarks.series import Aim, Series, aims_table
from benchmarks.under_flow import server_seconds
from tests.support.prefect_processes import Server, deploy, start_server

IMAGES = 1000
SOURCE = f"sample://{IMAGES}"
#: How many batches each executor is asked to do; a thousand processes are more than an hour of measuring.
FAN_OUTS = {"threads": (10, 100, 1000), "dask": (10, 100, 1000), "pool": (10, 100)}
#: Half a minute of drawing a batch for one thread: what a batch should hold at the least.
HEAVY = """
speed: exact
outputs:
  standard: {image_size: 1600, encode_format: webp, encode_quality: 90}
  grey: {image_size: 1600, colour_mode: grey, encode_format: webp, encode_quality: 90}
"""
HEAVY_BATCH = 50
ROUNDS = 3


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
    """Both tables."""
    server = start_server(home)
    deploy(server)
    return f"{overhead_table(server)}\n{workers_table(server)}"


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
    files = (server.home / "prefect").glob("prefect.db*")
    return {
        "batches": float(server.post("/flow_runs/count", body)),
        "cpu": server_seconds(server.home),
        "bytes": float(sum(file.stat().st_size for file in files)),
    }


def overhead_table(server: Server) -> str:
    """The same images in more and more batches: what is more than in one batch is what the batches cost."""
    ingest(server, "threads", IMAGES)  # draws the sample, and is not counted
    one = ingest(server, "threads", IMAGES)
    lines = [
        "## Fanning out",
        "",
        f"`{SOURCE}` in one batch takes {one.seconds:.1f} s by threads. In more batches, one run each; what it takes",
        "more is what the batches cost. `pool`: two workers of two runs each; `dask`: a local cluster of two",
        "processes, with its start.",
        "",
        "| executor | batches | whole run, s | more than one batch, s | a batch, ms | parent CPU a batch, ms |"
        " server CPU a batch, ms | database, KB a batch |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for executor, counts in FAN_OUTS.items():
        with workers(server, 2 if executor == "pool" else 0, limit=2):
            for count in counts:
                say(f"{executor}: {count} batches")
                lines.append(row(executor, ingest(server, executor, IMAGES // count), one))
    return "\n".join([*lines, ""])


def row(executor: str, cost: Cost, one: Cost) -> str:
    """A row of the table: `cost` beside that of one batch."""
    more = cost.batches - one.batches
    return (
        f"| {executor} | {cost.batches} | {cost.seconds:.1f} | {cost.seconds - one.seconds:.1f} |"
        f" {1000 * (cost.seconds - one.seconds) / more:.0f} |"
        f" {1000 * (cost.parent_cpu - one.parent_cpu) / more:.0f} |"
        f" {1000 * (cost.server_cpu - one.server_cpu) / more:.0f} | {cost.database / cost.batches / 1024:.0f} |"
    )


def workers_table(server: Server) -> str:
    """One worker, and two, on the same batches; each worker draws with one thread."""
    recipe = server.home / "heavy.yaml"
    recipe.write_text(HEAVY, encoding="utf-8")
    series = {1: Series(), 2: Series()}
    for number in range(ROUNDS):
        for count, measured in series.items():
            say(f"round {number + 1} of {ROUNDS}: {count} workers")
            with workers(server, count, limit=1):
                measured.add({"seconds": heavy(server, recipe)})
    gain = Aim("wall time of one worker by that of two", series[1].ratios("seconds", series[2]), 1.8, at_least=True)
    return "\n".join(
        [
            "## Two workers by one",
            "",
            f"{LARGE.count} photos of {LARGE.width}×{LARGE.height} into two WebP of 1600 pixels, in batches of"
            f" {HEAVY_BATCH}, by the executor `pool`; each worker takes one batch at a time and draws with one thread."
            " Parent, server and both workers share this machine's cores.",
            "",
            "| workers | whole run, s |",
            "|---|---|",
            *(f"| {count} | {measured.cell('seconds')} |" for count, measured in series.items()),
            "",
            aims_table([gain]),
        ]
    )


def heavy(server: Server, recipe: Path) -> float:
    """Seconds of one run of the large photos."""
    discard(server.home / "lake")
    command = [*COMMAND, "ingest", str(folder_of(LARGE)), "--dataset", "heavy", "--json", "--executor", "pool"]
    summary, _ = timed([*command, "--recipe", str(recipe), "--batch-size", str(HEAVY_BATCH)], server.home)
    return float(summary["seconds"])


@contextmanager
def workers(server: Server, count: int, limit: int) -> Iterator[None]:
    """So many workers of the default pool while the block runs, each with `limit` runs at once."""
    with ExitStack() as stack:
        for _ in range(count):
            stack.enter_context(server.worker(limit=limit, LOOKBOOK_THREADS="1"))
        yield
