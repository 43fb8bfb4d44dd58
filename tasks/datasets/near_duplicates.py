"""Near duplicates: images that look the same though their bytes differ, found by hash and confirmed on pixels."""

from __future__ import annotations

import mmap
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from lookbook.tasks.datasets.desk import Desk
from lookbook.tasks.images.measure import CHROMA_EDGE, LIGHT, LUMA_EDGE, SIGNATURE_BYTES

# Two hashes of 64 bits that differ in at most 7 differ in at most one bit within at least one of four bands of 16
# (the pigeonhole). So for each band, and each of its bits, the hashes are sorted by the band without that bit, and
# compared with those beside them in the same run: 64 sorted tables, after Manku, Jain and Das Sarma, "Detecting
# near-duplicates for web crawling", WWW 2007.

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


Levels = NDArray[np.float32]

#: The most that two near duplicates may differ by, in levels of 255: of the limits with a recall of 0.96 on one half of
#: the images of `benchmarks.near_quality`, those with the best precision there.
MOST_LUMA = 9.0  # root mean square, after the best change of brightness and contrast
MOST_LUMA_SHARE = 0.25  # of the image's own contrast: a pale image may differ by less
LEAST_LUMA = 1.5  # what an encode may change in an image without any contrast
MOST_BRIGHTNESS = 26.0  # between the means of luma: a tenth of white
MOST_COLOUR = 4.0  # root mean square of chroma over what is not white
MOST_LUMA_OF_GREY = 2.0  # in mean, spread and course, of a picture and its copy without colours

_GREY = 3  # of chroma: an image with no more is without colours
_COLOURED = 6  # of chroma: a pixel with more is no background
_LEAST_CELLS = 2  # of the chroma planes: fewer are noise at an edge
_LUMA, _CELLS = LUMA_EDGE**2, CHROMA_EDGE**2
_CHUNK = 1 << 11  # images or pairs at once: they stay in the processor's cache


@dataclass(frozen=True)
class Signatures:
    """Signatures of images, with what is compared first.

    Attributes:
        levels: as `lookbook.tasks.images.measure.signature` gives them, shape (images, `SIGNATURE_BYTES`).
        means: of luma, Cb and Cr, shape (images, 3).
        spreads: standard deviation of luma.
        grey: whether an image is without colours.
        shown: the cells of the chroma planes that are more than white background, a bit each.
    """

    levels: NDArray[np.uint8]
    means: Levels
    spreads: Levels
    grey: NDArray[np.bool_]
    shown: NDArray[np.uint64]


def prepare(levels: NDArray[np.uint8]) -> Signatures:
    """Return signatures as they are compared, from an array of shape (images, `SIGNATURE_BYTES`)."""
    assert levels.shape[1:] == (SIGNATURE_BYTES,)  # noqa: S101 - the caller's duty
    count = len(levels)
    means, spreads, grey = np.empty((count, 3), np.float32), np.empty(count, np.float32), np.empty(count, np.bool_)
    shown = np.empty(count, np.uint64)
    for start in range(0, count, _CHUNK):
        part = slice(start, start + _CHUNK)
        luma, chroma = levels[part, :_LUMA].astype(np.float32), _chroma(levels[part])
        means[part] = np.column_stack([luma.mean(1), chroma.mean(2)])
        spreads[part] = luma.std(1)
        coloured = np.maximum(np.abs(chroma[:, 0]), np.abs(chroma[:, 1]))
        grey[part] = coloured.max(1) <= _GREY
        shown[part] = _shown_cells(luma, coloured)
        _let_go(levels)
    return Signatures(levels, means, spreads, grey, shown)


def confirm(signatures: Signatures, one: Rows, other: Rows) -> Levels:
    """Return for each pair of rows how far apart its images are: 0 the same, 1 at the limit, more no near duplicates.

    It is the largest of three: the difference of the means of luma; that of luma after the best change of brightness
    and contrast (the part of the one that the other does not explain, by linear regression); and that of chroma over
    what is not white background. A picture and its copy without colours are compared in luma alone: its mean, spread
    and course must be the same but for rounding, or a grey shirt were the same as a blue one.
    The distance is the same in both directions.
    """
    distances = np.full(len(one), np.inf, np.float32)
    for start in range(0, len(one), _CHUNK):
        rows = start + _may_be_near(signatures, one[start : start + _CHUNK], other[start : start + _CHUNK])
        if len(rows):
            distances[rows] = _distances(signatures, one[rows], other[rows])
            _let_go(signatures.levels)
    return distances


def _may_be_near(signatures: Signatures, one: Rows, other: Rows) -> Rows:
    """Return the pairs whose means do not already say that they are apart: means differ by no more than the values."""
    apart = np.abs(signatures.means[one] - signatures.means[other])
    colour = np.hypot(apart[:, 1], apart[:, 2])
    near = (apart[:, 0] <= MOST_BRIGHTNESS) & ((colour <= MOST_COLOUR) | _one_is_grey(signatures, one, other))
    return np.flatnonzero(near)


def _one_is_grey(signatures: Signatures, one: Rows, other: Rows) -> NDArray[np.bool_]:
    return np.asarray(signatures.grey[one] != signatures.grey[other])


def _distances(signatures: Signatures, one: Rows, other: Rows) -> Levels:
    first, second = signatures.levels[one], signatures.levels[other]
    colour = _colour_apart(signatures, one, other, first, second) / MOST_COLOUR
    luma = _unexplained(signatures, one, other, first, second)
    contrast = np.maximum(signatures.spreads[one], signatures.spreads[other])
    limit = np.clip(MOST_LUMA_SHARE * contrast, LEAST_LUMA, MOST_LUMA)
    brightness = np.abs(signatures.means[one, 0] - signatures.means[other, 0])
    light = np.maximum(brightness, np.abs(signatures.spreads[one] - signatures.spreads[other]))
    as_grey = np.where(_one_is_grey(signatures, one, other), np.maximum(luma, light) / MOST_LUMA_OF_GREY, np.inf)
    apart = np.maximum(np.maximum(luma / limit, brightness / MOST_BRIGHTNESS), np.minimum(colour, as_grey))
    return np.asarray(apart, np.float32)


def _unexplained(
    signatures: Signatures, one: Rows, other: Rows, first: NDArray[np.uint8], second: NDArray[np.uint8]
) -> Levels:
    """Root mean square of what a linear regression of luma on the other's leaves, for the one with more contrast."""
    a = first[:, :_LUMA] - signatures.means[one, :1]
    b = second[:, :_LUMA] - signatures.means[other, :1]
    together = np.maximum(np.einsum("ij,ij->i", a, b) / _LUMA, 0)  # a negative is no near duplicate
    low = np.minimum(signatures.spreads[one], signatures.spreads[other])
    high = np.maximum(signatures.spreads[one], signatures.spreads[other])
    explained = np.where(low > 0, together / np.maximum(low, 1e-6), 0)
    return np.asarray(np.sqrt(np.maximum(high**2 - explained**2, 0)), np.float32)


def _colour_apart(
    signatures: Signatures, one: Rows, other: Rows, first: NDArray[np.uint8], second: NDArray[np.uint8]
) -> Levels:
    """Root mean square between the chroma planes, over the cells in which either image shows anything."""
    apart = first[:, _LUMA:].astype(np.float32) - second[:, _LUMA:]
    cells = np.bitwise_count(signatures.shown[one] | signatures.shown[other])
    return np.asarray(np.sqrt(np.einsum("ij,ij->i", apart, apart) / np.maximum(cells, _LEAST_CELLS)), np.float32)


def _shown_cells(luma: Levels, coloured: Levels) -> NDArray[np.uint64]:
    step = LUMA_EDGE // CHROMA_EDGE
    blocks = luma.reshape(-1, CHROMA_EDGE, step, CHROMA_EDGE, step).mean((2, 4)).reshape(-1, _CELLS)
    packed = np.packbits((blocks < LIGHT) | (coloured > _COLOURED), axis=1)
    return packed.view(np.uint64).ravel()


def _chroma(levels: NDArray[np.uint8]) -> Levels:
    """Cb and Cr around 0, shape (images, 2, cells)."""
    return np.asarray(levels[:, _LUMA:].reshape(-1, 2, _CELLS) - np.float32(128), np.float32)


# A group is a star, not a chain: every member was confirmed on pixels against the group's canonical image itself. So
# ten thousand white shirts, each a little like the next, do not become one group.

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
    for start in range(0, len(words), _AT_ONCE):
        sums[start : start + _AT_ONCE] = (words[start : start + _AT_ONCE] * weights).sum(1)  # modulo 2**64
        _let_go(levels)
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


_HASH_DIGITS = 16


NEAR_SCHEMA = pa.schema([("nth", pa.int64()), ("centre", pa.int64()), ("score", pa.float64())])


def find_near_duplicates(desk: Desk) -> None:
    """Group the images that look the same, as far as they look the same as one of them: the canonical image.

    It reads ``perceived`` (``key``, ``phash`` and ``signature`` of one image of each content) and ``linked`` (the keys
    that a catalogue row names: of two images one of them is canonical, then the shallowest), and makes the table
    ``near``: ``key`` of each image in a group, ``canonical`` of its group, and ``score``, the distance to that one (of
    the canonical image, to its nearest).

    Raises:
        ValueError: a signature has another length than `SIGNATURE_BYTES`.
    """
    desk.run(
        "CREATE OR REPLACE TABLE ranked AS SELECT key,"
        " row_number() OVER (ORDER BY linked.key IS NULL, depth(key), key) - 1 AS nth"
        " FROM perceived LEFT JOIN linked USING (key) WHERE phash IS NOT NULL"
    )
    count = desk.value("SELECT count(*) FROM ranked")
    hashes, rows = np.zeros(count, np.uint64), np.zeros(count, np.int64)
    desk.make("near_rows", NEAR_SCHEMA)
    file, done = desk.folder / "signatures", 0  # at ten million they are 4 GB
    with desk.space(), file.open("wb") as signatures:
        for part in desk.stream("SELECT nth, phash, signature FROM perceived JOIN ranked USING (key)"):
            at, stop = part.column("nth").to_numpy(), done + len(part)
            digits = _fixed(part.column("phash"), _HASH_DIGITS)
            hashes[at] = np.frombuffer(bytes.fromhex(digits.tobytes().decode("ascii")), ">u8")
            signatures.write(_fixed(part.column("signature"), SIGNATURE_BYTES).tobytes())
            rows[at] = np.arange(done, stop)
            done = stop
    desk.rest()
    shape = (count, SIGNATURE_BYTES)
    stars = group_near_duplicates(
        hashes, np.memmap(file, np.uint8, "r", shape=shape) if count else np.zeros(shape, np.uint8), rows
    )
    file.unlink()
    is_member = stars.canonical != np.arange(count)
    is_member[stars.canonical[is_member]] = True
    for at in np.array_split(np.flatnonzero(is_member), max(1, is_member.sum() // _AT_ONCE)):
        desk.add("near_rows", pa.table([at, stars.canonical[at], stars.distances[at].astype(float)], NEAR_SCHEMA))
    desk.run(
        "CREATE OR REPLACE TABLE near AS SELECT one.key, centre.key AS canonical, score FROM near_rows"
        " JOIN ranked one USING (nth) JOIN ranked centre ON centre.nth = near_rows.centre"
    )


def _let_go(levels: NDArray[np.uint8]) -> None:
    """Give back the memory of an array that lies in a file: the system has it there still."""
    if isinstance(levels, np.memmap):
        levels._mmap.madvise(mmap.MADV_DONTNEED)  # type: ignore[attr-defined]


def _fixed(column: pa.ChunkedArray, width: int) -> NDArray[np.uint8]:
    """Return values that all have `width` bytes, without the nulls, shape (values, width); of a single chunk no copy.

    Raises:
        ValueError: one has another length.
    """
    lengths = pc.unique(pc.binary_length(column)).drop_null().to_pylist()
    if lengths not in ([], [width]):
        msg = f"values of {sorted(lengths)} bytes, not of {width}"
        raise ValueError(msg)
    parts = [_bytes(chunk) for chunk in column.chunks if len(chunk)]
    joined = parts[0] if len(parts) == 1 else np.concatenate([np.zeros(0, np.uint8), *parts])
    if joined.size != (len(column) - column.null_count) * width:  # bytes lie under a null, which Arrow permits
        return _fixed(column.drop_null(), width)
    return joined.reshape(-1, width)


def _bytes(values: pa.Array) -> NDArray[np.uint8]:
    """Return the bytes of all values of an array of strings, one after the other (a null has none), without a copy."""
    _, offsets, held = values.buffers()
    places = np.frombuffer(offsets, np.int32)[values.offset : values.offset + len(values) + 1]
    return np.frombuffer(held or b"", np.uint8)[places[0] : places[-1]]
