"""What a second worker gains: the same ingest by one worker of a work pool, and by two."""

from __future__ import annotations

from pathlib import Path

from benchmarks.corpora import LARGE, folder_of
from benchmarks.executors import workers
from benchmarks.processes import COMMAND, discard, say, timed
from benchmarks.series import Aim, Series, aims_table
from tests.support.prefect_processes import Server, deploy, start_server

#: Half a minute of drawing a batch for one thread: what a batch should hold at the least.
HEAVY = """
speed: exact
outputs:
  standard: {image_size: 1600, encode_format: webp, encode_quality: 90}
  grey: {image_size: 1600, colour_mode: grey, encode_format: webp, encode_quality: 90}
"""
HEAVY_BATCH = 50
ROUNDS = 1


def section(home: Path) -> str:
    """One worker and two, in turn."""
    server = start_server(home)
    deploy(server)
    return workers_table(server)


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
