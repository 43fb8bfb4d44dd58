"""Time, memory and recall of the lookup of near duplicates among a million images, by their hashes and signatures."""

from __future__ import annotations

import multiprocessing
import resource
import time
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from tasks.datasets.near_duplicates import group_near_duplicates
from tasks.images.perceptual import SIGNATURE_BYTES

COUNT = 1_000_000
#: Near duplicates that are put among them, which have to be found: up to so many bits apart, pixels off by one level.
PLANTED, PLANTED_BITS = 10_000, 4

Perceived = tuple[NDArray[np.uint64], NDArray[np.uint8]]


@dataclass(frozen=True)
class Scale:
    """What grouping took: seconds, megabytes in all and without the input, and the share of planted pairs found."""

    seconds: float
    peak_mb: float
    added_mb: float
    in_groups: int
    found: float


def measure(kind: str, real: Perceived | None) -> Scale:
    """Group a million images in a process of its own, for its peak memory.

    Args:
        kind: ``uniform``, ``skewed`` (real ones with bits flipped and pixels off) or ``one hash``.
        real: hashes and signatures of real images, for ``skewed``.
    """
    with ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn")) as process:
        return process.submit(_measured, kind, real).result()


def _measured(kind: str, real: Perceived | None) -> Scale:
    hashes, levels, planted = _with_planted(*_made(kind, real))
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    start = time.perf_counter()
    stars = group_near_duplicates(hashes, levels)
    seconds = time.perf_counter() - start
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    grouped = int((stars.canonical != np.arange(len(hashes))).sum())
    copies = np.arange(len(hashes) - len(planted), len(hashes))
    # Two that look the same may both belong to a third.
    found = (stars.canonical[copies] == stars.canonical[planted]).mean()
    return Scale(seconds, peak, peak - before, grouped, float(found))


def _made(kind: str, real: Perceived | None) -> Perceived:
    """`COUNT` hashes and signatures without the planted ones."""
    chance, count = np.random.default_rng(1), COUNT - PLANTED
    if kind == "skewed" and real is not None:
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


def scale_table(real: Perceived) -> str:
    """Grouping a million images, as a table."""
    lines = [
        f"| {COUNT:,} hashes and signatures | seconds | peak memory, MB | of it added, MB | put in groups |"
        " planted found |",
        "|---|---|---|---|---|---|",
    ]
    for kind in ("uniform", "skewed", "one hash"):
        took = measure(kind, real)
        lines.append(
            f"| {kind} | {took.seconds:.1f} | {took.peak_mb:.0f} | {took.added_mb:.0f} |"
            f" {took.in_groups:,} | {took.found:.1%} |"
        )
    return "\n".join(lines)
