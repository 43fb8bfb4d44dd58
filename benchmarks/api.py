"""The API under load: 200 clients that ask for products of a catalogue of 100,000."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from http import HTTPStatus
from pathlib import Path

import psutil

from benchmarks import catalogue
from benchmarks.api_clients import Load, ask
from benchmarks.processes import COMMAND, say, shell
from lookbook.blocks.embedded.prefect_server import free_port
from lookbook.blocks.lake import FolderLake

PRODUCTS = 100_000
CLIENTS = (1, 20, 200)
REQUESTS = 4000
DATASET = "big"

_PRODUCTS = f"/api/v1/datasets/{DATASET}/products"
#: What a page asks for: the first screen, a facet, two of them with counts, words, a measure, an order.
PATHS = [
    f"{_PRODUCTS}?limit=50",
    f"{_PRODUCTS}?limit=50&gender=Women",
    f"{_PRODUCTS}?limit=50&gender=Men&season=Summer&facets=gender,season,baseColour",
    f"{_PRODUCTS}?limit=50&q=canvas&sort=-year",
    f"{_PRODUCTS}?limit=50&where=blurry_score%3C0.3",
    *(f"{_PRODUCTS}?limit=50&baseColour=Colour+{n}&facets=gender,masterCategory&sort=-year,id" for n in range(40)),
]
#: Each of them another filter, so that none was answered before.
NEW = [f"{_PRODUCTS}?limit=50&where=sharpness%3E0.{n:05}&facets=gender,season&sort=-year" for n in range(200)]


def section(home: Path) -> str:
    """Measure it."""
    say(f"publishing a catalogue of {PRODUCTS:,}")
    (home / "lake").mkdir(parents=True)
    catalogue.publish(FolderLake(root=home / "lake"), DATASET, PRODUCTS)
    with serving(home) as (port, process):
        first = ask(port, PATHS[:1], 1, 1)
        new = ask(port, NEW, 1, len(NEW))
        ask(port, PATHS, 1, len(PATHS))
        loads = {clients: ask(port, PATHS, clients, REQUESTS // clients) for clients in CLIENTS}
        memory = process.memory_info().rss / 2**20
    return _text(first, new, loads, memory)


@contextmanager
def serving(home: Path) -> Iterator[tuple[int, psutil.Process]]:
    """`lookbook api` while the block runs."""
    port = free_port()
    limits = {"LOOKBOOK_API_READS_PER_SECOND": "100000", "LOOKBOOK_API_READS_AT_ONCE": "1000000"}
    with (home / "api.log").open("wb") as log:
        process = subprocess.Popen(  # noqa: S603 - our own command
            [*COMMAND, "api", "--port", str(port)], env=shell(home) | limits, stdout=log, stderr=log
        )
    try:
        deadline = time.monotonic() + 180
        while time.monotonic() < deadline and process.poll() is None:
            try:
                socket.create_connection(("127.0.0.1", port)).close()
                break
            except OSError:
                time.sleep(0.2)
        yield port, psutil.Process(process.pid)
    finally:
        process.terminate()
        process.wait(60)


def _text(first: Load, new: Load, loads: dict[int, Load], memory: float) -> str:
    every = (first, new, *loads.values())
    failed = sum(load.statuses.total() - load.statuses[HTTPStatus.OK] for load in every)
    rows = "\n".join(
        f"| {clients} | {1000 * load.quantile(0.5):.1f} | {1000 * load.quantile(0.99):.1f} "
        f"| {load.quantile(0.99) / load.quantile(0.5):.1f} | {len(load.seconds) / load.wall:.0f} |"
        for clients, load in loads.items()
    )
    return f"""## The API

`lookbook api` in one process, asked for pages of 50 products of a catalogue of {PRODUCTS:,} by clients that each have a
connection of their own and ask as fast as they are answered, on the same {os.cpu_count()} cores: {len(PATHS)} different
queries with filters, full text, orders and counts by value. {failed} of all requests failed.

| clients | p50, ms | p99, ms | p99 / p50 | requests per second |
|---|---|---|---|---|
{rows}

The first request, which reads the snapshot, took {first.seconds[0]:.1f} s. A filter, an order and counts that nobody
asked for before took {1000 * new.quantile(0.5):.0f} ms ({1000 * new.quantile(0.99):.0f} ms at the 99th percentile).
The process held {memory:.0f} MB.
"""


if __name__ == "__main__":
    sys.stdout.write(section(Path(sys.argv[1])))
