"""Measures of an image: its colours, brightness, contrast, sharpness, and what it looks like in a few bytes."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from lookbook.tasks.images.perceptual import perceive

#: The longer edge at which images are measured, in pixels; smaller ones as they are, but for their sharpness, for
#: which they are scaled up: a fixed scale makes it comparable, and says how sharp they look when they are shown.
MEASURED_EDGE = 256

_NEAR_WHITE = 0xF0F0F0  # 240 of 255 in each channel, and whatever has these bits: the background of product photos
_LEAST_SHARE = 0.005  # of all pixels; fewer are the noise of an encode on a white image
_BIN = 0xE0E0E0  # the bits of a packed pixel that say in which of the 512 bins it is: three of each channel
_WHITE_BIN = 511
_LEVELS = np.arange(256)


def measure(image: Image.Image) -> dict[str, Any]:
    """Measures of an upright sRGB image of mode L or RGB, without borders, its longer edge at most `MEASURED_EDGE`.

    Returns:
        ``mean_red``, ``mean_green``, ``mean_blue`` (0 to 255); ``dominant_colour`` (#rrggbb);
        ``brightness`` and ``contrast``, mean and standard deviation of luma (0 to 1);
        ``sharpness``, variance of the Laplacian of luma (0 upwards); and what `perceptual.perceive` gives.
        Luma is that of ITU-R BT.601.
    """
    colours = image.convert("RGB")
    grey = image.convert("L")
    red, green, blue = np.reshape(colours.histogram(), (3, 256)) @ _LEVELS / (image.width * image.height)
    brightness, contrast = _mean_and_deviation(np.array(grey.histogram()))
    return {
        "mean_red": float(red),
        "mean_green": float(green),
        "mean_blue": float(blue),
        "dominant_colour": dominant_colour(colours),
        "brightness": brightness / 255,
        "contrast": contrast / 255,
        "sharpness": sharpness(np.asarray(_scaled_up(grey))),
    } | perceive(colours)


def _scaled_up(grey: Image.Image) -> Image.Image:
    ratio = MEASURED_EDGE / max(grey.size)
    if ratio <= 1:
        return grey
    size = (max(1, round(grey.width * ratio)), max(1, round(grey.height * ratio)))
    return grey.resize(size, Image.Resampling.BILINEAR)


def _mean_and_deviation(histogram: NDArray[np.int64]) -> tuple[float, float]:
    """Of the levels that a histogram counts: exact, and far cheaper than a pass over the pixels."""
    number, total, squares = (int(histogram @ _LEVELS**power) for power in (0, 1, 2))
    mean = total / number
    return mean, math.sqrt(max(0.0, squares / number - mean * mean))


def dominant_colour(image: Image.Image) -> str:
    """Return the mean of the fullest of 512 bins of the colours of an RGB image, as ``#rrggbb``.

    Near-white pixels are taken for background and left out, unless nearly all are.
    """
    pixels = np.frombuffer(image.tobytes("raw", "RGBX"), "<u4")  # whole pixels are several times faster than channels
    bins = _bins(pixels)
    counts = np.bincount(bins, minlength=_WHITE_BIN + 1)
    white = pixels & _NEAR_WHITE == _NEAR_WHITE
    background = int(np.count_nonzero(white))
    if len(pixels) - background < _LEAST_SHARE * len(pixels):
        background = 0
    counts[_WHITE_BIN] -= background
    fullest = counts.argmax()
    seen = bins == fullest
    if background and fullest == _WHITE_BIN:
        seen &= ~white
    members = pixels[seen]
    return "#" + "".join(f"{round(int((members >> shift & 0xFF).sum()) / len(members)):02x}" for shift in (0, 8, 16))


def _bins(pixels: NDArray[np.uint32]) -> NDArray[np.intp]:
    """The bin of each packed pixel (red in the lowest byte): the highest three bits of red, of green and of blue."""
    high = pixels & _BIN
    return (high << 1 & 0o700 | high >> 10 & 0o70 | high >> 21).astype(np.intp)


def sharpness(luma: NDArray[np.uint8]) -> float:
    """Variance of the Laplacian (four neighbours, edges repeated) of luma of 0 to 255, shape (height, width).

    Pech-Pacheco et al., "Diatom autofocusing in brightfield microscopy", ICPR 2000. It depends on the scale:
    compare only images of one size, as `measure` takes care of.
    """
    levels = luma.astype(np.int16)
    laplacian = -4 * levels
    for along, sums in ((levels, laplacian), (levels.T, laplacian.T)):
        sums[1:] += along[:-1]
        sums[:-1] += along[1:]
        sums[0] += along[0]
        sums[-1] += along[-1]
    squares = np.square(laplacian, dtype=np.int32)  # whole numbers: exact, and none of BLAS's own threads
    mean = int(laplacian.sum(dtype=np.int64)) / laplacian.size
    return int(squares.sum(dtype=np.int64)) / laplacian.size - mean * mean
