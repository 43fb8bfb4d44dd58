"""What a collection costs on Google Cloud: the formula behind the table of docs/costs.md.

    python -m benchmarks.costs

Prices and sizes are assumptions: put your own in their place. Those that `lookbook plan` uses too stand there.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from dataclasses import dataclass

from lookbook.tasks.datasets.estimate import BATCH_READS, BATCH_WRITES, IMAGES_SECOND, TABLE_BYTES, Prices

MONTH_SECONDS = 730 * 3600


@dataclass(frozen=True)
class Collection:
    """A collection and what is drawn of it. Sizes in bytes, of photos of 1800×2400 and the three default outputs."""

    images: int
    original: int = 560_000
    outputs: int = 3
    drawn: int = 70_000  # all outputs of an image together
    batch: int = 1_900  # images: a batch is 1 GiB of originals, or 5,000 images
    rows: int = TABLE_BYTES  # of all tables of a snapshot, for each image
    scans: int = 3  # how often a load reads each row: once into staging, and in the models
    queries: int = 40  # of a load, times the tables that each names
    images_second: float = IMAGES_SECOND  # drawn by two processors


def writes(of: Collection) -> float:
    """Requests that write: an original and each output, and two for a batch. Removing is free."""
    return of.images * (1 + of.outputs) + of.images / of.batch * BATCH_WRITES


def reads(of: Collection) -> float:
    """Requests that read, of a source that is a bucket: each image, its batches, and a listing of a thousand each."""
    return of.images + of.images / of.batch * BATCH_READS + of.images / 1000


def gigabytes(of: Collection) -> float:
    """What lies in the lake once it is ingested."""
    return of.images * (of.original + of.drawn + of.rows) / 1e9


def billed_tib(of: Collection) -> float:
    """What BigQuery bills for the load of a snapshot: loading is free, the models are queries of 10 MiB at least."""
    return max(of.images * of.rows * of.scans, of.queries * 10 * 2**20) / 2**40


def drawing(of: Collection, prices: Prices) -> float:
    """The processors that draw: two, with 4 GiB."""
    return prices.drawing(of.images / of.images_second)


def standing(prices: Prices) -> float:
    """What runs always: two workers (3 processors, 9 GiB) and the registry (1 processor, 3.75 GB, 10 GB on disk)."""
    workers = MONTH_SECONDS * (3 * prices.cpu_second + 9 * prices.memory_gib_second)
    database = 730 * (prices.database_cpu_hour + 3.75 * prices.database_gb_hour) + 10 * prices.database_disk_gb_month
    return workers + database


LINES: list[tuple[str, Callable[[Collection, Prices], str]]] = [
    ("writes", lambda of, _: f"{writes(of):,.0f}"),
    ("reads, with a bucket as the source", lambda of, _: f"{reads(of):,.0f}"),
    ("stored, GB", lambda of, _: f"{gigabytes(of):,.0f}"),
    ("BigQuery bills for a load, GiB", lambda of, _: f"{billed_tib(of) * 1024:,.1f}"),
    (
        "**first ingest:** requests",
        lambda of, p: _dollars(p.requests(writes(of), reads(of))),
    ),
    ("… processors that draw", lambda of, p: _dollars(drawing(of, p))),
    ("… BigQuery, beyond the free TiB", lambda of, p: _dollars(billed_tib(of) * p.query_tib)),
    ("**a month:** storage", lambda of, p: _dollars(gigabytes(of) * p.storage_gb_month)),
    ("… tables of one snapshot", lambda of, p: _dollars(of.images * of.rows / 1e9 * p.table_gb_month)),
    ("… workers and database", lambda _, p: _dollars(standing(p))),
    (
        "**each verification:** reads of every object",
        lambda of, p: _dollars(of.images * (1 + of.outputs) / 1e3 * p.read_1000),
    ),
]


def table(collections: list[Collection], prices: Prices) -> str:
    """The table of docs/costs.md."""
    head = [
        "| | " + " | ".join(f"{of.images:,} images" for of in collections) + " |",
        "|---|" + "---|" * len(collections),
    ]
    rows = [f"| {name} | " + " | ".join(line(of, prices) for of in collections) + " |" for name, line in LINES]
    return "\n".join([*head, *rows]) + "\n"


def _dollars(amount: float) -> str:
    return f"${amount:,.2f}"


if __name__ == "__main__":
    sys.stdout.write(table([Collection(44_000), Collection(10_000_000)], Prices()))
