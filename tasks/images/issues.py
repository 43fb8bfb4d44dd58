"""Issues of one image, as scores from 0 (bad) to 1 (fine) with the names and meaning of CleanVision's.

The formulas are those of CleanVision 0.3.7 (cleanlab, ``cleanvision/issue_managers/image_property.py``), worked out
on the measured image in place of the file's own pixels; docs/issues.md tells how far the two agree.
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageFilter

#: The scores that one image has by itself; the odd size is one among the others of its dataset.
SCORES = (
    "dark_score",
    "light_score",
    "blurry_score",
    "low_information_score",
    "odd_aspect_ratio_score",
    "grayscale_score",
)

#: Longer edge of the pixels picked for brightness and entropy, at most.
SAMPLED_EDGE = 160

_DARK_PERCENTILE, _LIGHT_PERCENTILE = 99, 5
_THOUSANDTHS = tuple((np.uint32(8 * n), np.uint32(weight)) for n, weight in enumerate((241, 691, 68)))  # R, G, B
_WHITE = 1000 * 255**2

_BLUR_EDGE = 64  # longer edge at which blur is looked for, in pixels; smaller images stay as they are
_BLUR_SCALE = 0.01
_LEAST_SPREAD = 0.18  # of the histogram's part in the blur score; what is below counts as nothing
_REDUCING_GAP = 2.0

_ENTROPY_SCALE = 0.1
_GREY_MODES = ("1", "L", "LA", "I", "F")


def issue_scores(image: Image.Image, sample: Image.Image, size: tuple[int, int], mode: str) -> dict[str, float]:
    """Return the `SCORES` of an image, each 0 (bad) to 1 (fine).

    Args:
        image: upright, in sRGB, mode L or RGB, its longer edge at most `measure.MEASURED_EDGE`.
        sample: pixels picked out of the same image, in sRGB, mode L or RGB, its longer edge at most
            `SAMPLED_EDGE`. A scaled image has other levels than its file; picked pixels have the same.
        size: width and height of the original in pixels, upright.
        mode: Pillow's name of the pixel layout in the file.
    """
    dark, light = brightness_scores(sample)
    whole = max(size) <= SAMPLED_EDGE  # then the sample is the original, pixel for pixel
    return {
        "dark_score": dark,
        "light_score": light,
        "blurry_score": blurry_score(sample, sample.size) if whole else blurry_score(image, size),
        "low_information_score": low_information_score(sample, mode),
        "odd_aspect_ratio_score": min(size) / max(size),
        "grayscale_score": float(mode != "L"),
    }


def brightness_scores(sample: Image.Image) -> tuple[float, float]:
    """Return how bright the lightest pixels are, and how dark the darkest: the scores of ``dark`` and ``light``.

    They are the 99th percentile of the brightness of pixels, and one minus the 5th. Brightness is
    sqrt(0.241 R^2 + 0.691 G^2 + 0.068 B^2), of 0 to 1 (Finley, "HSP Color Model", 2006).
    """
    packed = np.frombuffer(sample.convert("RGB").tobytes("raw", "RGBX"), "<u4")
    squares = np.zeros_like(packed)
    for shift, weight in _THOUSANDTHS:
        level = packed >> shift & 0xFF
        squares += level * level * weight
    squares.sort()  # once sorted, a percentile is a look-up
    return _percentile(squares, _DARK_PERCENTILE), 1 - _percentile(squares, _LIGHT_PERCENTILE)


def _percentile(squares: NDArray[np.uint32], percent: int) -> float:
    """Of sorted squares of brightness in parts of `_WHITE`: the percentile of brightness, as numpy's interpolates."""
    place = (len(squares) - 1) * percent / 100
    below, above = (math.sqrt(squares[index] / _WHITE) for index in (math.floor(place), math.ceil(place)))
    return below + (above - below) * (place % 1)


def blurry_score(image: Image.Image, size: tuple[int, int]) -> float:
    """Return how strong the edges are, and how far from even the histogram is: the score of ``blurry``.

    1 - exp(-s / 100) for the standard deviation s of Pillow's FIND_EDGES, plus the same for that of the counts
    of the 256 grey levels, which is left out where it is no more than 0.18; at most 1. Both at a longer edge of
    64 pixels, or at the original's size where that is smaller.

    Args:
        image: the original or a smaller copy, in sRGB, mode L or RGB.
        size: width and height of the original in pixels, turned as `image` is.
    """
    ratio = max(1.0, max(size) / _BLUR_EDGE)
    small = (max(1, int(size[0] // ratio)), max(1, int(size[1] // ratio)))
    grey = image.convert("L").resize(small, Image.Resampling.BICUBIC, reducing_gap=_REDUCING_GAP)
    edges = np.asarray(grey.filter(ImageFilter.FIND_EDGES))
    strength = -math.expm1(-_BLUR_SCALE * float(edges.std()))
    spread = -math.expm1(-_BLUR_SCALE * float(np.array(grey.histogram()).std()))
    return min(1.0, strength + (spread if spread > _LEAST_SPREAD else 0))


def low_information_score(sample: Image.Image, mode: str) -> float:
    """Return a tenth of the entropy in bits of the levels of all channels together, at most 1.

    Args:
        sample: picked pixels, mode L or RGB.
        mode: the layout in the file: greys have one channel, all others three.
    """
    channels = "L" if mode in _GREY_MODES or mode.startswith("I;16") else "RGB"
    return min(1.0, _ENTROPY_SCALE * sample.convert(channels).entropy())
