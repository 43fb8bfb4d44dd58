"""Confirming on pixels that two images are near duplicates: on their signatures, so that no file is read again."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from lookbook.tasks.images.perceptual import CHROMA_EDGE, LUMA_EDGE, SIGNATURE_BYTES

Levels = NDArray[np.float32]
Rows = NDArray[np.int64]

#: The most that two near duplicates may differ by, in levels of 255: of the limits with a recall of 0.96 on one half of
#: the images of `benchmarks.near_quality`, those with the best precision there.
MOST_LUMA = 9.0  # root mean square, after the best change of brightness and contrast
MOST_LUMA_SHARE = 0.25  # of the image's own contrast: a pale image may differ by less
LEAST_LUMA = 1.5  # what an encode may change in an image without any contrast
MOST_BRIGHTNESS = 26.0  # between the means of luma: a tenth of white
MOST_COLOUR = 4.0  # root mean square of chroma over what is not white
MOST_LUMA_OF_GREY = 2.0  # in mean, spread and course, of a picture and its copy without colours

_WHITE = 240  # luma from which on a pixel without colour is background
_GREY = 3  # of chroma: an image with no more is without colours
_COLOURED = 6  # of chroma: a pixel with more is no background
_LEAST_CELLS = 2  # of the chroma planes: fewer are noise at an edge
_LUMA, _CELLS = LUMA_EDGE**2, CHROMA_EDGE**2
_CHUNK = 1 << 11  # images or pairs at once: they stay in the processor's cache


@dataclass(frozen=True)
class Signatures:
    """Signatures of images, with what is compared first.

    Attributes:
        levels: as `lookbook.tasks.images.perceptual.signature` gives them, shape (images, `SIGNATURE_BYTES`).
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
    return distances


def _may_be_near(signatures: Signatures, one: Rows, other: Rows) -> Rows:
    """Those pairs whose means do not already say that they are apart: means differ by no more than the values."""
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
    packed = np.packbits((blocks < _WHITE) | (coloured > _COLOURED), axis=1)
    return packed.view(np.uint64).ravel()


def _chroma(levels: NDArray[np.uint8]) -> Levels:
    """Cb and Cr around 0, shape (images, 2, cells)."""
    return np.asarray(levels[:, _LUMA:].reshape(-1, 2, _CELLS) - np.float32(128), np.float32)
