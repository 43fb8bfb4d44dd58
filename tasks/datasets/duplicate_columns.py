"""The columns of the images table that say which images are duplicates of others, exact and near."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from lookbook.tasks.datasets.near_duplicates import group_near_duplicates
from lookbook.tasks.images.perceptual import SIGNATURE_BYTES

_HASH_DIGITS = 16

Rows = NDArray[np.int64]


def duplicate_columns(
    states: pa.Table, originals: Sequence[str | None], product_of: Mapping[str, str]
) -> dict[str, pa.Array]:
    """Return values for each row of `states`; false and null for rejects.

    Near duplicates are looked for among distinct contents, and a copy has the values of its content: so
    ``coalesce(near_duplicate_of, duplicate_of, key)`` names the group of any image that was not rejected.

    Args:
        states: what is known of each image, as `lookbook.tasks.datasets.image_tables.image_states` gives it.
        originals: for each row the key of the first image of its content, null for rejects.
        product_of: for each image that a catalogue row names, its product key.
    """
    keys = states.column("key").combine_chunks()
    found = pc.index_in(pa.array(originals, pa.string()), value_set=keys)
    rejected = ~_flags(found.is_valid())
    original = found.fill_null(0).to_numpy().astype(np.int64)
    canonical, score = _near(states, ~rejected & (original == np.arange(len(keys))), product_of)
    in_group = np.zeros(len(keys), np.bool_)
    in_group[canonical[canonical != np.arange(len(keys))]] = True
    number = np.bincount(original[~rejected], minlength=len(keys))
    centre = canonical[original]
    return {
        "is_exact_duplicates_issue": pa.array(~rejected & (number[original] > 1)),
        "is_near_duplicates_issue": pa.array(~rejected & in_group[centre]),
        "near_duplicates_score": pa.array(score[original], mask=rejected),
        "near_duplicate_of": keys.take(pa.array(centre, mask=rejected | (centre == original))),
    }


def _near(
    states: pa.Table, is_original: NDArray[np.bool_], product_of: Mapping[str, str]
) -> tuple[Rows, NDArray[np.float64]]:
    """Return for each row that of its group's canonical image (else its own), and the distance to that one (else 1)."""
    perceived = _flags(states.column("phash").is_valid())
    best_first = _canonical_rows(states.column("key"), product_of)
    rows = best_first[(is_original & perceived)[best_first]]
    digits = _fixed(states.column("phash").take(pa.array(rows)), _HASH_DIGITS)
    hashes = np.frombuffer(bytes.fromhex(digits.tobytes().decode("ascii")), ">u8").astype(np.uint64)
    levels = _fixed(states.column("signature"), SIGNATURE_BYTES)
    place = np.cumsum(_flags(states.column("signature").is_valid())) - 1
    stars = group_near_duplicates(hashes, levels, place[rows])
    canonical, score = np.arange(len(states)), np.ones(len(states))
    canonical[rows], score[rows] = rows[stars.canonical], stars.distances
    return canonical, score


def _canonical_rows(keys: pa.ChunkedArray, product_of: Mapping[str, str]) -> Rows:
    """Return all rows in the order of `lookbook.tasks.datasets.links.canonical_order`, for millions of them."""
    named = pc.is_in(keys, value_set=pa.array(product_of.keys(), pa.string()))
    ranked = pa.table({"unnamed": pc.invert(named), "depth": pc.count_substring(keys, "/"), "key": keys})
    order = pc.sort_indices(ranked, sort_keys=[(name, "ascending") for name in ranked.column_names])
    return np.asarray(order.to_numpy(), np.int64)


def _flags(values: pa.Array | pa.ChunkedArray) -> NDArray[np.bool_]:
    return np.asarray(values.to_numpy() if isinstance(values, pa.ChunkedArray) else values.to_numpy(False), np.bool_)


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
    """The bytes of all values of an array of strings, one after the other (a null has none), as they lie there."""
    _, offsets, held = values.buffers()
    places = np.frombuffer(offsets, np.int32)[values.offset : values.offset + len(values) + 1]
    return np.frombuffer(held or b"", np.uint8)[places[0] : places[-1]]
