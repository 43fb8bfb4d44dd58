"""Splits and folds of an export: groups that stay together, and which split each falls into."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from lookbook.tasks.exports.filter_columns import words_of
from lookbook.tasks.exports.rows import DatasetRows

# In one group are all images of one product, equal and near-equal images, and the colourways of one product:
# catalogue rows whose display names are equal but for words of colour, of one gender and article type.

#: Words that tell colourways apart; a row's own colour is taken out of its name besides. What else the catalogue holds
#: must not decide which words are colours, or growth would move groups. An export's id is made of this list, too.
_WORDS = (
    "aqua beige black blue bronze brown burgundy charcoal copper coral cream cyan dark fuchsia gold golden green grey "
    "gray indigo ivory khaki lavender light lime magenta maroon mauve melange metallic mint multi multicolor "
    "multicolour multicoloured mustard navy neon nude off olive orange peach pink purple red rose rust sand silver "
    "skin steel tan taupe teal turquoise violet white yellow"
)
COLOURS = frozenset(_WORDS.split())
#: Catalogue columns that may say a row's colour, and those in which colourways of one product agree.
COLOUR_COLUMNS = ("baseColour", "colour", "color", "baseColor")
AGREEING_COLUMNS = ("gender", "articleType")

Labels = NDArray[np.int64]


@dataclass(frozen=True)
class Groups:
    """The group of each row.

    Attributes:
        labels: for each row the number of its group.
        identities: for each group 32 hex digits that are its own: they depend on no row of another group.
    """

    labels: Labels
    identities: pa.StringArray

    def largest(self) -> int:
        """Return rows of the largest group."""
        return int(np.bincount(self.labels).max()) if len(self.labels) else 0


def find_groups(rows: DatasetRows) -> Groups:
    """Return the groups of all rows, whatever a filter chooses of them."""
    table = rows.table
    atoms = _atoms(rows)
    order = np.lexsort((atoms[:, 1], atoms[:, 0]))
    new = np.ones(len(order), np.bool_)
    new[1:] = False
    for half in (0, 1):
        ordered = atoms[order, half]
        new[1:] |= ordered[1:] != ordered[:-1]
    rank = np.empty(len(order), np.int64)  # of each row's atom among all, by their digests
    rank[order] = np.cumsum(new) - 1
    digests = atoms[order[new]].astype(">u8")
    del atoms, order, new, ordered
    looks = pc.coalesce(table["near_duplicate_of"], table["duplicate_of"], table["image_key"])
    links: list[Labels | NDArray[np.int32]] = [
        rank,
        *(codes_of(column) for column in (table["product_key"], table["sha256"], looks)),
    ]
    used, labels = np.unique(_components(rank, links), return_inverse=True)
    return Groups(labels.astype(np.int64), _texts(digests[used].tobytes().hex().encode(), len(used)))


def _texts(joined: bytes, number: int) -> pa.StringArray:
    """Return so many texts of one length that stand one behind the other: as Python's own they take thrice that."""
    starts = np.arange(number + 1, dtype=np.int32) * (len(joined) // max(number, 1))
    return pa.StringArray.from_buffers(number, pa.py_buffer(starts), pa.py_buffer(joined))


def _components(labels: Labels, links: Sequence[Labels | NDArray[np.int32]]) -> Labels:
    """Return the least label of all rows that links join, by however many steps; -1 links nothing."""
    while True:
        before = labels
        for codes in links:
            least = np.full(int(codes.max(initial=0)) + 1, np.iinfo(np.int64).max)
            linked = codes >= 0
            np.minimum.at(least, codes[linked], labels[linked])
            labels = np.where(linked, least[np.maximum(codes, 0)], labels)
        if np.array_equal(before, labels):
            return labels


def codes_of(column: pa.ChunkedArray) -> NDArray[np.int32]:
    """Return a number for each value, -1 for null."""
    coded = column.combine_chunks().dictionary_encode().indices
    codes = np.array(pc.fill_null(coded, -1).to_numpy(zero_copy_only=False), np.int32)
    del coded
    pa.default_memory_pool().release_unused()  # of a million hashes it was a hundred megabytes
    return codes


#: Rows that are looked at at once.
_AT_ONCE = 10_000


def _atoms(rows: DatasetRows) -> NDArray[np.uint64]:
    """Return the digest of the name of each row's group (colourway, product or image), as two numbers."""
    table = rows.table
    folded = {name.replace("_", "").lower(): name for name in rows.catalogue}
    colour = next((folded[name.lower()] for name in COLOUR_COLUMNS if name.lower() in folded), None)
    agreeing = [folded[name.lower()] for name in AGREEING_COLUMNS if name.lower() in folded]
    wanted = [rows.display_name, colour, *agreeing, "product_key", "sha256"]
    found = bytearray()
    for start in range(0, table.num_rows, _AT_ONCE):
        some = table.slice(start, _AT_ONCE)
        columns = [some[name].to_pylist() if name else [None] * some.num_rows for name in wanted]
        for name, own_colour, *agreed, product, sha256 in zip(*columns, strict=True):
            stem = colourless(str(name), str(own_colour or "")) if name else ""
            if stem:
                atom = "\0".join(("colourway", stem, *(str(value) for value in agreed)))
            else:
                atom = f"product\0{product}" if product is not None else f"image\0{sha256}"
            found += hashlib.blake2b(atom.encode(), digest_size=16).digest()
    return np.frombuffer(found, ">u8").astype(np.uint64).reshape(-1, 2)


def group_columns(rows: DatasetRows) -> list[str]:
    """Return the catalogue's columns that tell which rows are colourways of one product."""
    looked_at = {name.lower() for name in (*COLOUR_COLUMNS, *AGREEING_COLUMNS)}
    folded = [name for name in rows.catalogue if name.replace("_", "").lower() in looked_at]
    return [*folded, *([rows.display_name] if rows.display_name else [])]


def colourless(name: str, colour: str) -> str:
    """Return a display name without its words of colour, in lower case; empty where nothing else is left."""
    own = {word.casefold() for word in words_of(colour)}
    folded = (word.casefold() for word in words_of(name))
    return " ".join(word for word in folded if word not in COLOURS and word not in own)


# A share is therefore met about, not exactly: of n groups of like size the share p of a side has a standard deviation
# of sqrt(p (1 - p) / n), in each stratum as in all. Exact shares are had for some stability: see `choose_sides`.

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
    count = len(groups.identities)
    parts = (groups.identities.slice(start, _AT_ONCE).to_pylist() for start in range(0, count, _AT_ONCE))
    places = np.fromiter((position(seed, identity) for part in parts for identity in part), np.float64, count)
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
    coded = (names.combine_chunks() if isinstance(names, pa.ChunkedArray) else names).dictionary_encode()
    strata_, order = coded.dictionary.to_pylist(), list(shares)
    side = pc.index_in(sides, value_set=pa.array(order, pa.string())).to_numpy(zero_copy_only=False)
    cells = coded.indices.to_numpy(zero_copy_only=False) * np.int64(len(order)) + side
    number = len(strata_) * len(order)
    keys, sizes = np.unique(labels * max(number, 1) + cells, return_counts=True)  # rows of a group in a cell
    rows, squared = np.zeros(number, np.int64), np.zeros(number, np.int64)
    np.add.at(rows, keys % max(number, 1), sizes)
    np.add.at(squared, keys % max(number, 1), sizes**2)
    counts = {
        name: dict(zip(order, each, strict=True))
        for name, each in zip(strata_, rows.reshape(-1, len(order)).tolist(), strict=True)
    }
    squares = dict(zip(strata_, squared.reshape(-1, len(order)).sum(1).tolist(), strict=True))
    variance = max(share * (1 - share) for share in shares.values())
    ordered = sorted(counts.items(), key=lambda item: (-sum(item[1].values()), item[0]))[:MOST_STRATA]
    return {
        name: of | {"deviation": round(math.sqrt(variance * squares[name]) / sum(of.values()), 4)}
        for name, of in ordered
    }
