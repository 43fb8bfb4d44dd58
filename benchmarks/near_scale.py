"""Time, memory and recall of linking duplicates among a million images, by their hashes and signatures."""

from __future__ import annotations

import multiprocessing
import time
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import cast

import numpy as np
import psutil
import pyarrow as pa
from numpy.typing import NDArray
from pyarrow import feather

from benchmarks.peers import clock
from benchmarks.processes import say
from lookbook.tasks.datasets.desk import Desk
from lookbook.tasks.datasets.near_duplicates import find_near_duplicates
from lookbook.tasks.images.measure import SIGNATURE_BYTES

COUNT = 1_000_000
#: Near duplicates that are put among them, which have to be found: up to so many bits apart, pixels off by one level.
PLANTED, PLANTED_BITS = 10_000, 4

Perceived = tuple[NDArray[np.uint64], NDArray[np.uint8]]


@dataclass(frozen=True)
class Scale:
    """What the columns of duplicates took: seconds, megabytes held before and at most, and planted pairs found."""

    seconds: float
    before_mb: float
    peak_mb: float
    in_groups: int
    found: float


def measure(kind: str, real: Perceived, home: Path) -> Scale:
    """Link a million images. One process makes them, and another reads and links them, so its peak is of that alone.

    Args:
        kind: ``uniform``, ``skewed`` (real ones with bits flipped and pixels off) or ``one hash``.
        real: hashes and signatures of real images, for ``skewed``.
        home: a folder for the images in between.
    """
    spawned, file = multiprocessing.get_context("spawn"), home / "images.arrow"
    for work, given in ((_write, (kind, real, file)), (_measured, (file,))):
        with ProcessPoolExecutor(1, mp_context=spawned) as process:
            done = process.submit(work, *given).result()
    file.unlink()
    return cast("Scale", done)


def _write(kind: str, real: Perceived, file: Path) -> None:
    """Images as the table of states has them, the planted ones last, each with the row of its own."""
    hashes, levels, planted = _with_planted(*_made(kind, real))
    offsets = pa.py_buffer(np.arange(0, levels.size + 1, SIGNATURE_BYTES, dtype=np.int32))
    columns = {
        "key": pa.array([f"images/{row:07}.jpg" for row in range(len(hashes))]),
        "phash": pa.array([f"{value:016x}" for value in hashes.tolist()]),
        "signature": pa.Array.from_buffers(pa.binary(), len(levels), [None, offsets, pa.py_buffer(levels)]),
        "planted": pa.array(planted).cast(pa.int64()),
    }
    columns["planted"] = pa.concat_arrays([pa.nulls(len(hashes) - len(planted), pa.int64()), columns["planted"]])
    feather.write_feather(pa.table(columns), file, compression="uncompressed", chunksize=len(hashes))


def _measured(file: Path) -> Scale:
    desk = Desk(file.parent)
    images = feather.read_table(file, memory_map=True)
    desk.make("perceived", images.schema.remove(images.schema.get_field_index("planted")))
    for batch in images.to_batches(20_000):
        desk.add("perceived", pa.Table.from_batches([batch]).drop_columns(["planted"]))
    desk.run("CREATE TABLE linked AS SELECT key FROM perceived WHERE hash(key) % 2 = 0")
    desk.rest()
    before = psutil.Process().memory_info().rss / 2**20
    start = time.perf_counter()
    find_near_duplicates(desk)
    seconds = time.perf_counter() - start
    peak = clock.peak_mb()
    canonical = dict(desk.rows("SELECT key, canonical FROM near"))
    keys, planted = images.column("key").to_pylist(), images.column("planted").to_pylist()
    groups = [canonical.get(key, key) for key in keys]
    # Two that look the same may both belong to a third.
    found = [groups[row] == groups[of] for row, of in enumerate(planted) if of is not None]
    grouped = sum(key != other for key, other in canonical.items())
    return Scale(seconds, before, peak, grouped, sum(found) / len(found))


def _made(kind: str, real: Perceived) -> Perceived:
    """`COUNT` hashes and signatures without the planted ones."""
    chance, count = np.random.default_rng(1), COUNT - PLANTED
    if kind == "skewed":
        chosen = chance.integers(0, len(real[0]), count)
        hashes, levels = real[0][chosen], real[1][chosen]
        _flip(hashes, chance.integers(0, 17, count), chance)
        _blur(levels, 24, chance)
        return hashes, levels
    levels = chance.integers(0, 256, (count, SIGNATURE_BYTES), np.uint8)
    if kind == "one hash":
        return np.full(count, 0x0123456789ABCDEF, np.uint64), levels
    return chance.integers(0, 2**64, count, np.uint64), levels


def _with_planted(hashes: NDArray[np.uint64], levels: NDArray[np.uint8]) -> tuple[*Perceived, NDArray[np.int64]]:
    """The same, and at the end copies of some of them, with the rows of these."""
    chance = np.random.default_rng(2)
    rows = chance.choice(len(hashes), PLANTED, replace=False)
    copies, copied = hashes[rows], levels[rows]
    _flip(copies, chance.integers(0, PLANTED_BITS + 1, PLANTED), chance)
    _blur(copied, 1, chance)
    return np.concatenate([hashes, copies]), np.concatenate([levels, copied]), rows


def _flip(hashes: NDArray[np.uint64], bits: NDArray[np.int64], chance: np.random.Generator) -> None:
    """Flip up to so many bits of each hash."""
    for turn in range(int(bits.max())):
        one = np.uint64(1) << chance.integers(0, 64, len(hashes), np.uint64)
        hashes ^= np.where(bits > turn, one, np.uint64(0))


def _blur(levels: NDArray[np.uint8], by: int, chance: np.random.Generator) -> None:
    """Move every level by up to so much, in place and in parts, for the memory."""
    for start in range(0, len(levels), 10_000):
        part = levels[start : start + 10_000]
        noise = chance.integers(-by, by + 1, part.shape, np.int16)
        part[:] = np.clip(part + noise, 0, 255).astype(np.uint8)


def scale_table(real: Perceived, home: Path) -> str:
    """Linking a million images, as a table."""
    lines = [
        f"| {COUNT:,} images | seconds | MB, with what is read | MB at most | put in groups | planted found |",
        "|---|---|---|---|---|---|",
    ]
    for kind in ("uniform", "skewed", "one hash"):
        say(f"near duplicates: {kind}")
        took = measure(kind, real, home)
        lines.append(
            f"| {kind} | {took.seconds:.1f} | {took.before_mb:.0f} | {took.peak_mb:.0f} |"
            f" {took.in_groups:,} | {took.found:.1%} |"
        )
    return "\n".join(lines)
