"""Small objects that contenders write into a bucket."""

from __future__ import annotations

import os
import uuid
from collections.abc import Callable

from benchmarks.peers import clock

BUCKET = "bench"
#: Bytes of an object: as a greyscale of 512 × 512 pixels.
SIZE = 20_000
#: Requests at once: as many as images are under way on two cores.
THREADS = 48

Write = Callable[[list[tuple[str, bytes]]], int]


def objects(count: int) -> list[tuple[str, bytes]]:
    """Keys that spread as those of the lake do, and bytes that do not compress."""
    return [(f"derived/{uuid.uuid4().hex}.jpg", os.urandom(SIZE)) for _ in range(count)]


def report(write: Write, count: int) -> None:
    """Report the objects, and their seconds of wall and CPU time; connections are made before."""
    write(objects(THREADS))
    pairs = objects(count)
    clock.report(lambda: write(pairs))
