"""Near duplicates: images that look the same, though their bytes differ, grouped around one image each.

A group is a star, not a chain: every member was confirmed on pixels against the group's canonical image itself. So
ten thousand white shirts, each a little like the next, do not become one group.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from lookbook.tasks.datasets.near_hashes import Hashes, Rows, near_pairs
from lookbook.tasks.datasets.near_pixels import Levels, Signatures, confirm, prepare

_AT_ONCE = 1 << 16  # pairs that are confirmed together


@dataclass(frozen=True)
class Stars:
    """For each image the row of its group's canonical image (its own where it is in none, or canonical itself).

    Attributes:
        canonical: rows, shape (images,).
        distances: to the canonical image, 0 (the same signature) to 1 (at the limit); for a canonical image, to its
            nearest member; 1 in no group.
    """

    canonical: Rows
    distances: Levels


def group_near_duplicates(hashes: Hashes, levels: NDArray[np.uint8], rows: Rows) -> Stars:
    """Group images around canonical ones: the first rows that are near no canonical image before them.

    Every other image belongs to the nearest of the canonical images before it that it was compared with. Images
    with equal signatures are one image here, however many there are: a thousand white ones cost no more than one.

    Args:
        hashes: of the images, the better canonical image first.
        levels: signatures in any order, shape (images or more, `SIGNATURE_BYTES`), so that they need no copy.
        rows: of each image, where its signature stands among them.
    """
    first = _first_with_signature(levels, rows)
    distinct = np.flatnonzero(first == np.arange(len(first)))
    one, other, distances = _confirmed_pairs(hashes[distinct], prepare(levels), rows[distinct])
    stars = _stars(len(distinct), one, other, distances)
    place = np.searchsorted(distinct, first)
    canonical, found = distinct[stars.canonical[place]], stars.distances[place]
    copied = first != np.arange(len(first))
    found[copied & (canonical == first)] = 0  # it has the canonical image's own signature
    found[canonical[copied & (canonical == first)]] = 0
    return Stars(canonical, found)


def _first_with_signature(levels: NDArray[np.uint8], rows: Rows) -> Rows:
    """Return for each of `rows` the place of the first that has the same signature."""
    words = levels.view(np.uint64)
    weights = np.random.default_rng(0).integers(0, 2**64, words.shape[1], np.uint64) | np.uint64(1)
    sums = np.zeros(len(levels), np.uint64)
    for column, weight in enumerate(weights):
        sums += words[:, column] * weight  # modulo 2**64
    _, starts, codes = np.unique(sums[rows], return_index=True, return_inverse=True)
    first, own = starts[codes], np.arange(len(rows))
    copies = np.flatnonzero(first != own)
    for start in range(0, len(copies), _AT_ONCE):  # equal sums are no proof
        some = copies[start : start + _AT_ONCE]
        differ = (levels[rows[some]] != levels[rows[first[some]]]).any(1)
        first[some[differ]] = some[differ]
    return np.asarray(first, np.int64)


def _confirmed_pairs(hashes: Hashes, signatures: Signatures, rows: Rows) -> tuple[Rows, Rows, Levels]:
    """Return pairs of places in `hashes` that are near duplicates, each once, sorted, with their distances."""
    # Where more have one hash than can be compared, those of like brightness are.
    by_light = np.lexsort((np.arange(len(hashes)), signatures.means[rows, 0]))
    none = np.zeros(0, np.int64)
    codes, distances = [none], [np.zeros(0, np.float32)]
    for pair in _gathered(near_pairs(hashes[by_light])):
        one, other = (by_light[place] for place in pair)
        apart = confirm(signatures, rows[one], rows[other])
        near = apart <= 1
        lower, higher = np.minimum(one, other)[near], np.maximum(one, other)[near]
        codes.append(lower * len(hashes) + higher)
        distances.append(apart[near])
    found, places = np.unique(np.concatenate(codes), return_index=True)
    one, other = np.divmod(found, max(len(hashes), 1))
    return one, other, np.concatenate(distances)[places]


def _gathered(pairs: Iterator[tuple[Rows, Rows]]) -> Iterator[tuple[Rows, Rows]]:
    """Yield the same pairs in fewer, larger arrays."""
    ones: list[Rows] = []
    others: list[Rows] = []
    held = 0
    for one, other in pairs:
        ones.append(one)
        others.append(other)
        held += len(one)
        if held >= _AT_ONCE:
            yield np.concatenate(ones), np.concatenate(others)
            ones, others, held = [], [], 0
    if held:
        yield np.concatenate(ones), np.concatenate(others)


def _stars(count: int, one: Rows, other: Rows, distances: Levels) -> Stars:
    """Choose canonical rows in order, and give every other row to the nearest (of equals, the first).

    Args:
        count: of rows.
        one: of each pair the lower row, ascending.
        other: of each pair the higher row.
        distances: of the pairs.
    """
    is_member = np.zeros(count, np.bool_)
    centres, starts = np.unique(one, return_index=True)
    stops = np.append(starts, len(one))[1:]
    for centre, start, stop in zip(centres.tolist(), starts.tolist(), stops.tolist(), strict=True):
        if not is_member[centre]:
            is_member[other[start:stop]] = True
    kept = ~is_member[one]
    one, other, distances = one[kept], other[kept], distances[kept]
    order = np.lexsort((one, distances, other))
    members, places = np.unique(other[order], return_index=True)
    chosen = order[places]
    canonical, nearest = np.arange(count), np.ones(count, np.float32)
    canonical[members], nearest[members] = one[chosen], distances[chosen]
    np.minimum.at(nearest, one[chosen], distances[chosen])
    return Stars(canonical, nearest)
