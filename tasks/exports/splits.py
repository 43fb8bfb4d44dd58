"""Sides of a split: by a hash of each group's own identity and the seed, so that growth moves no other group.

A share is therefore met about, not exactly: of n groups of like size the share p of a side has a standard deviation
of sqrt(p (1 - p) / n), in each stratum as in all. Exact shares are had for some stability: see `choose_sides`.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from lookbook.tasks.exports.groups import Groups

#: Strata that are told of in the books of an export.
MOST_STRATA = 200

Side = NDArray[np.int64]


def position(seed: int, identity: str) -> float:
    """Return where a group falls between 0 and 1: of its identity and the seed alone."""
    digest = hashlib.blake2b(f"split\0{seed}\0{identity}".encode(), digest_size=8).digest()
    return (int.from_bytes(digest) >> 11) / 2**53


def choose_sides(
    groups: Groups, chosen: NDArray[np.bool_], shares: Mapping[str, float], seed: int, strata: Sequence[Any] | None
) -> Side:
    """Return for each row the number of its side.

    Args:
        groups: of all rows.
        chosen: which rows are exported.
        shares: of the sides, in order.
        seed: another seed draws other sides.
        strata: for exact shares, each row's stratum: within one, sides are cut where the shares of its chosen rows
            say, up to one group. The cuts move with the data, by about the deviation above, and groups that lie
            between an old cut and the new one change sides. None: the cuts are the shares, and no group ever moves.
    """
    places = np.array([position(seed, identity) for identity in groups.identities])
    cuts = np.cumsum(list(shares.values()))
    cuts[-1] = 1.0
    if strata is None:
        return np.searchsorted(cuts, places, side="right")[groups.labels].astype(np.int64)
    stratum_of, weights = _of_groups(groups, chosen, strata)
    ranks = np.zeros(len(places))
    for stratum in np.unique(stratum_of):
        members = np.flatnonzero(stratum_of == stratum)
        members = members[np.argsort(places[members], kind="stable")]
        sums = np.cumsum(weights[members])
        ranks[members] = (sums - weights[members] / 2) / max(1, sums[-1])
    return np.minimum(np.searchsorted(cuts, ranks, side="right"), len(cuts) - 1)[groups.labels].astype(np.int64)


def _of_groups(groups: Groups, chosen: NDArray[np.bool_], strata: Sequence[Any]) -> tuple[Side, NDArray[np.int64]]:
    """Return the stratum of each group, the most frequent of its chosen rows, and how many of these it has."""
    names = sorted({str(value) for value in strata})
    number = {name: place for place, name in enumerate(names)}
    codes = np.array([number[str(value)] for value in strata], np.int64)
    counts: dict[tuple[int, int], int] = {}
    weights = np.zeros(len(groups.identities), np.int64)
    for label, code in zip(groups.labels[chosen].tolist(), codes[chosen].tolist(), strict=True):
        counts[label, code] = counts.get((label, code), 0) + 1
        weights[label] += 1
    best = np.zeros(len(weights), np.int64)
    most: dict[int, int] = {}
    for (label, code), count in sorted(counts.items()):
        if count > most.get(label, 0):
            most[label], best[label] = count, code
    return best, weights


def stratum_counts(
    sides: pa.Array, strata: pa.ChunkedArray, labels: NDArray[np.int64], shares: Mapping[str, float]
) -> dict[str, Any]:
    """Return for each stratum how many images each side got, and how far a share may be off by chance.

    Args:
        sides: names of the sides of the exported rows.
        strata: their values.
        labels: their groups.
        shares: of the sides.

    Returns:
        By stratum, the largest first: counts by side, and ``deviation``: the standard deviation of the share that is
        nearest to one half, sqrt(p (1 - p) * sum of squares of the groups' sizes) / images.
    """
    names = pc.fill_null(pc.cast(strata, pa.string()), "")
    table = pa.table({"side": sides, "stratum": names, "group": labels})
    counted = table.group_by(["stratum", "side", "group"]).aggregate([([], "count_all")])
    counts: dict[str, dict[str, int]] = {}
    squares: dict[str, int] = {}
    for row in counted.to_pylist():
        name, count = row["stratum"], row["count_all"]
        counts.setdefault(name, dict.fromkeys(shares, 0))[row["side"]] += count
        squares[name] = squares.get(name, 0) + count**2
    variance = max(share * (1 - share) for share in shares.values())
    ordered = sorted(counts.items(), key=lambda item: (-sum(item[1].values()), item[0]))[:MOST_STRATA]
    return {
        name: of | {"deviation": round(math.sqrt(variance * squares[name]) / sum(of.values()), 4)}
        for name, of in ordered
    }
