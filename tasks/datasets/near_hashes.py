"""Looking up hashes that differ in few bits, among millions, without comparing each with each.

Two hashes of 64 bits that differ in at most 7 differ in at most one bit within at least one of four bands of 16
(the pigeonhole). So for each band, and each of its bits, the hashes are sorted by the band without that bit, and
compared with those beside them in the same run: 64 sorted tables, after Manku, Jain and Das Sarma, "Detecting
near-duplicates for web crawling", WWW 2007.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

Hashes = NDArray[np.uint64]
Rows = NDArray[np.int64]

#: The most bits in which two hashes may differ.
MOST_BITS = 7
#: In each table a hash is compared with so many that follow it in its run.
WINDOW = 64
#: Candidates that are taken up of one hash, in each band; those beside it in the tables come first.
MOST_CANDIDATES = 16

_BANDS, _BAND_BITS = 4, 16
_BLOCK = 1 << 16  # hashes compared at once: they stay in the processor's cache


def near_pairs(hashes: Hashes, window: int = WINDOW, most: int = MOST_CANDIDATES) -> Iterator[tuple[Rows, Rows]]:
    """Yield pairs of rows whose hashes differ in at most `MOST_BITS` bits, lower row first, in arrays.

    All such pairs are found, at least once and at most once a band, while no run is longer than `window` (a million
    hashes without preference have runs of 30) and no hash has more than `most` others so near. Beyond that the work
    stays within 64 * `window` comparisons and 4 * `most` pairs a hash: of a crowd, each is paired with those that
    come next to it when sorted by the rest of the hash. Which ones, depends on the order of equal hashes alone.

    Args:
        hashes: one a row; the order of rows settles ties.
        window: see above.
        most: see above.
    """
    for band in range(_BANDS):
        turned = _turned(hashes, band * _BAND_BITS)
        base = np.argsort(turned, kind="stable")
        turned = turned[base]
        taken = np.zeros(len(hashes), np.int64)
        for bit in range(_BAND_BITS):
            yield from _pairs_of_table(turned, base, bit, window, taken, most)
            free = taken[base] < most
            if not free.all():  # of a crowd most are done after the first table
                turned, base = turned[free], base[free]


def _turned(hashes: Hashes, by: int) -> Hashes:
    """Return the hashes with `by` bits turned from the low end to the high: the next band comes to stand lowest."""
    if not by:
        return hashes
    return (hashes >> np.uint64(by)) | (hashes << np.uint64(64 - by))


def _pairs_of_table(
    turned: Hashes, base: Rows, bit: int, window: int, taken: Rows, most: int
) -> Iterator[tuple[Rows, Rows]]:
    """Yield the pairs that differ within the lowest band in `bit` alone (for bit 0: in nothing, too)."""
    keys = (turned & np.uint64(0xFFFF ^ 1 << bit)).astype(np.uint16)
    order = np.argsort(keys, kind="stable")  # by radix; within a run the order of the other bits stays
    table, rows, runs = turned[order], base[order], _run_lengths(keys[order])
    for start in range(0, len(table), _BLOCK):
        stop = min(start + _BLOCK, len(table))
        for step in range(1, min(window, int(runs[start:stop].max()) - 1) + 1):
            end = min(stop, len(table) - step)
            if end <= start:
                break
            differing = table[start:end] ^ table[start + step : end + step]
            found = np.flatnonzero(np.bitwise_count(differing) <= MOST_BITS)
            within = differing[found] & np.uint64(0xFFFF)
            found = found[(within == 1 << bit) | (within == 0) if bit == 0 else within == 1 << bit] + start
            one, other = rows[found], rows[found + step]
            free = (taken[one] < most) & (taken[other] < most)
            if free.any():
                one, other = one[free], other[free]
                # At one step each row stands at most once on either side.
                taken[one] += 1
                taken[other] += 1
                yield np.minimum(one, other), np.maximum(one, other)


def _run_lengths(keys: NDArray[np.uint16]) -> Rows:
    """Return for each place in a sorted array, how many have its key."""
    starts = np.flatnonzero(np.concatenate(([True], keys[1:] != keys[:-1]))) if len(keys) else np.zeros(0, np.int64)
    lengths = np.diff(np.append(starts, len(keys)))
    return np.repeat(lengths, lengths)
