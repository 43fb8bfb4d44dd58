"""The columns of the images table that say which images are duplicates of others, exact and near."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from tasks.datasets.links import canonical_order
from tasks.datasets.near_duplicates import group_near_duplicates
from tasks.images.perceptual import SIGNATURE_BYTES


def duplicate_columns(
    states: pa.Table, originals: Sequence[str | None], product_of: Mapping[str, str]
) -> dict[str, list[Any]]:
    """Values for each row of `states`; false and null for rejects.

    Near duplicates are looked for among distinct contents, and a copy has the values of its content: so
    ``coalesce(near_duplicate_of, duplicate_of, key)`` names the group of any image that was not rejected.

    Args:
        states: what is known of each image, as `tasks.datasets.image_tables.image_states` gives it.
        originals: for each row the key of the first image of its content, null for rejects.
        product_of: for each image that a catalogue row names, its product key.
    """
    number_of = Counter(original for original in originals if original is not None)
    canonical, score = _near(states, originals, product_of)
    groups = {centre for key, centre in canonical.items() if centre != key}
    near = [canonical.get(o, "") in groups if o is not None else False for o in originals]
    return {
        "is_exact_duplicates_issue": [o is not None and number_of[o] > 1 for o in originals],
        "is_near_duplicates_issue": near,
        "near_duplicates_score": [None if o is None else score.get(o, 1.0) for o in originals],
        "near_duplicate_of": [
            canonical[o] if is_near and o is not None and canonical[o] != o else None
            for o, is_near in zip(originals, near, strict=True)
        ],
    }


def _near(
    states: pa.Table, originals: Sequence[str | None], product_of: Mapping[str, str]
) -> tuple[dict[str, str], dict[str, float]]:
    """By the first key of each content: the key of its group's canonical image, and its distance to that one."""
    columns = (states.column(name).to_pylist() for name in ("key", "phash"))
    rows = zip(*columns, originals, strict=True)
    distinct = [(key, place) for place, (key, phash, original) in enumerate(rows) if phash and key == original]
    distinct.sort(key=lambda pair: canonical_order(pair[0], product_of))
    taken = states.select(["phash", "signature"]).take(pa.array([place for _, place in distinct], pa.int64()))
    hashes = np.array([int(phash, 16) for phash in taken.column("phash").to_pylist()], np.uint64)
    stars = group_near_duplicates(hashes, _levels(taken.column("signature")))
    keys = [key for key, _ in distinct]
    canonical = dict(zip(keys, (keys[row] for row in stars.canonical.tolist()), strict=True))
    return canonical, dict(zip(keys, stars.distances.tolist(), strict=True))


def _levels(signatures: pa.ChunkedArray) -> NDArray[np.uint8]:
    """Signatures as an array of shape (images, `SIGNATURE_BYTES`)."""
    fixed = signatures.cast(pa.binary(SIGNATURE_BYTES)).combine_chunks()
    whole = np.frombuffer(fixed.buffers()[1] or b"", np.uint8)
    start = fixed.offset * SIGNATURE_BYTES
    return whole[start : start + len(fixed) * SIGNATURE_BYTES].reshape(-1, SIGNATURE_BYTES)
