"""Measures of an image: its colours, brightness, contrast, sharpness, and what it looks like in a few bytes."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageStat

from tasks.images.perceptual import perceive

#: The longer edge at which every image is measured, in pixels, smaller ones scaled up: a fixed scale makes
#: sharpness comparable between images, and says how sharp they look at the size at which they are shown.
MEASURED_EDGE = 256

_NEAR_WHITE = 240  # of 255, in each channel: the background of product photos
_LEAST_SHARE = 0.005  # of all pixels; fewer are the noise of an encode on a white image
_BIN_BITS = 3  # of each channel: 512 bins


def measure(image: Image.Image) -> dict[str, Any]:
    """Measures of an upright sRGB image of mode L or RGB, without borders, its longer edge `MEASURED_EDGE`.

    Returns:
        ``mean_red``, ``mean_green``, ``mean_blue`` (0 to 255); ``dominant_colour`` (#rrggbb);
        ``brightness`` and ``contrast``, mean and standard deviation of luma (0 to 1);
        ``sharpness``, variance of the Laplacian of luma (0 upwards); and what `perceptual.perceive` gives.
        Luma is that of ITU-R BT.601.
    """
    colours = image.convert("RGB")
    grey = image.convert("L")
    red, green, blue = ImageStat.Stat(colours).mean
    light = ImageStat.Stat(grey)  # from the histogram: exact, and far cheaper than a pass over floats
    return {
        "mean_red": red,
        "mean_green": green,
        "mean_blue": blue,
        "dominant_colour": dominant_colour(np.asarray(colours).reshape(-1, 3)),
        "brightness": light.mean[0] / 255,
        "contrast": light.stddev[0] / 255,
        "sharpness": sharpness(np.asarray(grey).astype(np.float32)),
    } | perceive(colours)


def dominant_colour(colours: NDArray[np.uint8]) -> str:
    """The mean of the fullest of 512 bins of colours, as ``#rrggbb``.

    Near-white pixels are taken for background and left out, unless nearly all are.

    Args:
        colours: red, green and blue of each pixel, shape (pixels, 3).
    """
    planes = np.ascontiguousarray(colours.T)  # numpy is several times faster along whole planes
    seen = planes[:, np.minimum(np.minimum(planes[0], planes[1]), planes[2]) < _NEAR_WHITE]
    if seen.shape[1] < _LEAST_SHARE * len(colours):
        seen = planes
    red, green, blue = (seen >> (8 - _BIN_BITS)).astype(np.int16)
    bins = red << 2 * _BIN_BITS | green << _BIN_BITS | blue
    fullest = bins == np.bincount(bins, minlength=1 << 3 * _BIN_BITS).argmax()
    return "#" + "".join(f"{round(float(plane[fullest].mean())):02x}" for plane in seen)


def sharpness(luma: NDArray[np.float32]) -> float:
    """Variance of the Laplacian (four neighbours, edges repeated) of luma of 0 to 255, shape (height, width).

    Pech-Pacheco et al., "Diatom autofocusing in brightfield microscopy", ICPR 2000. It depends on the scale:
    compare only images of one size, as `measure` takes care of.
    """
    padded = np.pad(luma, 1, mode="edge")
    neighbours = padded[:-2, 1:-1] + padded[2:, 1:-1] + padded[1:-1, :-2] + padded[1:-1, 2:]
    return float((neighbours - 4 * luma).var(dtype=np.float64))
