"""Measures of an image: colours, brightness, contrast, sharpness, scores of issues, hash and signature."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageFilter

#: Edge of the reduced image from which both are made, in pixels.
REDUCED_EDGE = 32
#: Edges of the signature's planes, in pixels: luma, then each chroma.
LUMA_EDGE, CHROMA_EDGE = 16, 8
SIGNATURE_BYTES = LUMA_EDGE**2 + 2 * CHROMA_EDGE**2
#: Luma of 0 to 255 from which on white hides a picture: what `near_duplicates` takes for background.
LIGHT = 240

_LEAST_EDGE = 4 * REDUCED_EDGE  # a box takes whole pixels: of fewer, it would take one more or less of a side
_FREQUENCIES = 12  # in each direction: the 64 lowest diagonals lie within
_DEAD_ZONE = 0.1  # of the coefficients' root mean square: smaller ones are noise, and count as negative
_FLAT = 1.0  # root mean square, in levels of 255, below which an image is taken for flat


def _cosines() -> NDArray[np.float32]:
    """Return rows of the orthonormal DCT-II of `REDUCED_EDGE` points (Ahmed, Natarajan and Rao, 1974)."""
    places = (2 * np.arange(REDUCED_EDGE) + 1) / (2 * REDUCED_EDGE)
    rows = np.cos(np.pi * np.arange(_FREQUENCIES)[:, None] * places) * np.sqrt(2 / REDUCED_EDGE)
    rows[0] /= np.sqrt(2)
    return np.asarray(rows, np.float32)


def _zigzag() -> NDArray[np.intp]:
    """Places of the 64 lowest frequencies but the mean, lowest first, in a flat matrix of `_FREQUENCIES` edges."""
    pairs = [(down, across) for down in range(_FREQUENCIES) for across in range(_FREQUENCIES)]
    lowest = sorted(pairs, key=lambda pair: (sum(pair), pair))[1:65]
    return np.array([down * _FREQUENCIES + across for down, across in lowest])


_COSINES, _ZIGZAG = _cosines(), _zigzag()


def perceive(colours: Image.Image) -> dict[str, Any]:
    """``phash`` (16 hex digits) and ``signature`` (`SIGNATURE_BYTES` bytes) of an upright sRGB image of mode RGB."""
    if min(colours.size) < _LEAST_EDGE:
        colours = colours.resize((_LEAST_EDGE, _LEAST_EDGE), Image.Resampling.BILINEAR)
    planes = colours.resize((REDUCED_EDGE, REDUCED_EDGE), Image.Resampling.BOX).convert("YCbCr")
    luma, *chroma = planes.split()
    return {"phash": phash(luma), "signature": signature(luma, chroma)}


def seen_on(image: Image.Image) -> str:
    """Return the ground, ``#rrggbb``, on which an upright sRGB image is perceived: black where white hides it.

    That is a transparent picture whose visible part is as light as a background: on white a white logo is no picture.
    """
    if image.mode not in {"LA", "RGBA"}:
        return "#ffffff"
    alpha = np.asarray(image.getchannel("A"), np.float64)
    levels = np.asarray(image.convert("RGB").convert("L"))
    weight = alpha.sum()
    return "#000000" if weight and (levels * alpha).sum() >= LIGHT * weight else "#ffffff"


def phash(luma: Image.Image) -> str:
    """Return the 64 bits of a DCT hash: whether each low frequency of the luma, 32x32 pixels, is clearly positive.

    After Zauner, "Implementation and benchmarking of perceptual image hash functions" (2010), section 3.2.1, but
    for three things that were measured to serve product photos better: the 64 lowest frequencies in JPEG's zigzag
    instead of a square of 8x8; their sign instead of a comparison with the median; and a dead zone, because a
    product that is symmetric has odd frequencies near zero, whose signs are noise. A flat image has no bits set.
    The lowest frequency stands in the highest bit.
    """
    levels = np.asarray(luma, dtype=np.float32)
    found = (_COSINES @ levels @ _COSINES.T).ravel()[_ZIGZAG] / REDUCED_EDGE
    spread = max(float(np.sqrt(np.mean(found * found))) * _DEAD_ZONE, _FLAT / REDUCED_EDGE)
    return np.packbits(found > spread).tobytes().hex()


def signature(luma: Image.Image, chroma: list[Image.Image]) -> bytes:
    """Luma in 16x16 pixels, then Cb and Cr in 8x8 pixels each (ITU-R BT.601, full range), rows from the top."""
    fine = luma.reduce(REDUCED_EDGE // LUMA_EDGE)
    coarse = [plane.reduce(REDUCED_EDGE // CHROMA_EDGE) for plane in chroma]
    return b"".join(plane.tobytes() for plane in (fine, *coarse))


# The formulas are those of CleanVision 0.3.7 (cleanlab, ``cleanvision/issue_managers/image_property.py``), worked out
# on the measured image in place of the file's own pixels; docs/issues.md tells how far the two agree.

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


#: The longer edge at which images are measured, in pixels; smaller ones as they are, but for their sharpness, for
#: which they are scaled up: a fixed scale makes it comparable, and says how sharp they look when they are shown.
MEASURED_EDGE = 256

_NEAR_WHITE = 0xF0F0F0  # 240 of 255 in each channel, and whatever has these bits: the background of product photos
_LEAST_SHARE = 0.005  # of all pixels; fewer are the noise of an encode on a white image
_BIN = 0xE0E0E0  # the bits of a packed pixel that say in which of the 512 bins it is: three of each channel
_WHITE_BIN = 511
_LEVELS = np.arange(256)


def measure(image: Image.Image, seen: Image.Image | None = None) -> dict[str, Any]:
    """Measures of an upright sRGB image of mode L or RGB, without borders, its longer edge at most `MEASURED_EDGE`.

    Args:
        image: on white, where the picture is transparent.
        seen: the same on the ground of `seen_on`, for hash and signature; None: it is no other.

    Returns:
        ``mean_red``, ``mean_green``, ``mean_blue`` (0 to 255); ``dominant_colour`` (#rrggbb);
        ``brightness`` and ``contrast``, mean and standard deviation of luma (0 to 1);
        ``sharpness``, variance of the Laplacian of luma (0 upwards); and what `perceive` gives.
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
    } | perceive(colours if seen is None else seen.convert("RGB"))


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
    """Return each packed pixel's bin (red in the lowest byte): the highest three bits of red, green and blue."""
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
