"""Issues of a dataset's images: which scores are too low, and which sizes are odd among the others.

Names, thresholds and formulas are those of CleanVision 0.3.7 (cleanlab); see docs/issues.md.
"""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

#: An image has an issue where its score is below this: CleanVision's defaults. Whether a size is odd depends on
#: the sizes of all images; see `odd_sizes`.
THRESHOLDS: dict[str, float] = {
    "dark": 0.32,
    "light": 0.05,
    "blurry": 0.29,
    "low_information": 0.3,
    "odd_aspect_ratio": 0.35,
    "grayscale": 0.5,
}

#: How many interquartile ranges beyond the quartiles a size may lie.
IQR_FACTOR = 3.0

#: A size is odd where its score is below this.
ODD_SIZE = 0.5

ISSUES = (*THRESHOLDS, "odd_size")


def issue_columns(images: pa.Table) -> dict[str, pa.Array]:
    """Return the columns ``odd_size_score`` and ``is_<issue>_issue`` of each of `ISSUES`; null without a score.

    Args:
        images: the scores of `lookbook.tasks.images.issues.SCORES`, ``original_width``, ``original_height``; null for
            an image that was rejected.
    """
    columns = {_flag(name): pc.less(images[f"{name}_score"], least) for name, least in THRESHOLDS.items()}
    score, odd = odd_sizes(images["original_width"], images["original_height"])
    return columns | {"odd_size_score": score, _flag("odd_size"): odd}


def odd_sizes(width: pa.ChunkedArray, height: pa.ChunkedArray) -> tuple[pa.Array, pa.Array]:
    """Return how usual each size is among all, from 0 to 1, and whether it is odd; null where the size is.

    The size is sqrt(width * height). The usual ones lie within `IQR_FACTOR` interquartile ranges of the quartiles.
    The score is one minus the distance from the middle of that range, in widths of it (0.5 at its ends); where
    the quartiles are one and the same size, in that size: less than half of it and more than one and a half is
    odd. (There CleanVision calls every other size odd, be it by one pixel.)
    """
    known = pc.and_(pc.is_valid(width), pc.is_valid(height))
    size = np.sqrt(_floats(width) * _floats(height))
    if not pc.any(known).as_py():
        return pa.nulls(len(width), pa.float64()), pa.nulls(len(width), pa.bool_())
    first, third = np.nanpercentile(size, [25, 75])
    span = (1 + 2 * IQR_FACTOR) * (third - first)
    middle = (first + third) / 2
    unit = span if span > 0 else middle
    score = 1 - np.clip(np.abs(size - middle) / unit, 0, 1)
    missing = np.isnan(size)
    return pa.array(score, mask=missing), pa.array(score < ODD_SIZE, mask=missing)


def _flag(issue: str) -> str:
    return f"is_{issue}_issue"


def _floats(column: pa.ChunkedArray) -> NDArray[np.float64]:
    """Return the values, NaN for null."""
    values: NDArray[np.float64] = pc.cast(column, pa.float64()).to_numpy(zero_copy_only=False)
    return values
