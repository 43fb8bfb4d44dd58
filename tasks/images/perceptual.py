"""What an image looks like in a few bytes: a hash to look near duplicates up by, a signature to confirm them on."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

#: Edge of the reduced image from which both are made, in pixels.
REDUCED_EDGE = 32
#: Edges of the signature's planes, in pixels: luma, then each chroma.
LUMA_EDGE, CHROMA_EDGE = 16, 8
SIGNATURE_BYTES = LUMA_EDGE**2 + 2 * CHROMA_EDGE**2

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
