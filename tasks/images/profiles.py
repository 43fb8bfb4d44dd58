"""The colour space that a file says its pixels are in, as an ICC profile."""

from __future__ import annotations

import struct
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from lookbook.tasks.images import formats

Point = tuple[float, float]
#: White, red, green and blue as points (x, y) of CIE 1931.
Primaries = tuple[Point, Point, Point, Point]

_D65 = (0.3127, 0.3290)
_SRGB: Primaries = (_D65, (0.64, 0.33), (0.30, 0.60), (0.15, 0.06))
_DISPLAY_P3: Primaries = (_D65, (0.680, 0.320), (0.265, 0.690), (0.150, 0.060))
# PNG cICP (ITU-T H.273): colour primaries, transfer function, matrix, full range. HDR ones are left to what
# else the file says: they need a tone mapping, not a profile.
_CODE_POINTS = {bytes((1, 13, 0, 1)): _SRGB, bytes((12, 13, 0, 1)): _DISPLAY_P3}
_SRGB_CURVE = (2.4, 1 / 1.055, 0.055 / 1.055, 1 / 12.92, 0.04045)  # IEC 61966-2-1
_LIKE_SRGB = 0.05  # as libpng takes it: gammas that differ by less are one
_GAMMAS = (0.1, 10.0)  # beyond them a gAMA is nonsense; PNG calls 0 meaningless
_SAME_PRIMARIES = 0.002
_GREY_MODES = ("1", "L", "LA", "I", "I;16", "I;16B")

_D50 = np.array([0.9642, 1.0, 0.8249])
_BRADFORD = np.array([[0.8951, 0.2664, -0.1614], [-0.7502, 1.7135, 0.0367], [0.0389, -0.0685, 1.0296]])


def profile_of(image: Image.Image, data: bytes) -> bytes | None:
    """Return the profile from which the pixels of `image`, opened from `data`, have to be converted; None for sRGB.

    In a PNG the first of cICP, iCCP, sRGB and gAMA with cHRM holds (PNG, third edition, section 4.3); gAMA of
    45455 is what writers of sRGB put there. In other formats it is the ICC profile.
    """
    if image.format == "PNG":
        code_points = formats.png_chunk(data, b"cICP")
        if code_points in _CODE_POINTS:
            return matrix_profile(_CODE_POINTS[code_points], _SRGB_CURVE)
    icc = image.info.get("icc_profile")
    if isinstance(icc, bytes):
        return icc
    if image.format != "PNG" or "srgb" in image.info:
        return None
    return _from_gamma(image)


def _from_gamma(image: Image.Image) -> bytes | None:
    gamma = image.info.get("gamma")
    if not isinstance(gamma, float) or not _GAMMAS[0] <= gamma <= _GAMMAS[1]:
        return None
    primaries = _primaries(image)
    if abs(gamma * 2.2 - 1) <= _LIKE_SRGB:
        return None if primaries is _SRGB or image.mode in _GREY_MODES else matrix_profile(primaries, _SRGB_CURVE)
    if image.mode in _GREY_MODES:
        return grey_profile((1 / gamma,))
    return matrix_profile(primaries, (1 / gamma,))


def _primaries(image: Image.Image) -> Primaries:
    """Return those of the cHRM chunk; sRGB's where it is missing, says as much, or is nonsense."""
    values = image.info.get("chromaticity")
    if not isinstance(values, tuple) or len(values) != 2 * len(_SRGB) or min(values[1::2]) <= 0:
        return _SRGB
    if float(np.abs(np.array(values) - np.ravel(_SRGB)).max()) < _SAME_PRIMARIES:
        return _SRGB
    white, red, green, blue = ((float(values[at]), float(values[at + 1])) for at in range(0, len(values), 2))
    return white, red, green, blue


@lru_cache(maxsize=32)
def matrix_profile(primaries: Primaries, curve: tuple[float, ...]) -> bytes | None:
    """Return an ICC profile (version 4, ICC.1:2010) of an RGB space; None where its primaries span none.

    Args:
        primaries: of white, red, green and blue.
        curve: the parameters g, or g, a, b, c and d, of its parametric curve (section 10.16).
    """
    white, *colours = (np.array((x / y, 1, (1 - x - y) / y)) for x, y in primaries)
    try:
        columns = np.stack(colours, axis=1)
        to_xyz = columns * np.linalg.solve(columns, white)
        cone = np.diag((_BRADFORD @ _D50) / (_BRADFORD @ white))
        adapted = np.linalg.inv(_BRADFORD) @ cone @ _BRADFORD @ to_xyz
        tags = {name: _xyz(adapted[:, at]) for at, name in enumerate((b"rXYZ", b"gXYZ", b"bXYZ"))}
        return _profile(b"RGB ", tags | dict.fromkeys((b"rTRC", b"gTRC", b"bTRC"), _curve(curve)))
    except (np.linalg.LinAlgError, ValueError, OverflowError, struct.error):
        return None


@lru_cache(maxsize=32)
def grey_profile(curve: tuple[float, ...]) -> bytes:
    """As `matrix_profile`, of greys."""
    return _profile(b"GRAY", {b"kTRC": _curve(curve)})


def _profile(space: bytes, tags: dict[bytes, bytes]) -> bytes:
    tags = {b"wtpt": _xyz(_D50)} | tags
    start = 128 + 4 + 12 * len(tags)
    table, body = struct.pack(">I", len(tags)), b""
    for tag, content in tags.items():
        table += tag + struct.pack(">II", start + len(body), len(content))
        body += content
    size = start + len(body)
    header = struct.pack(">I4xI4s4s4s12x4s28x", size, 0x04300000, b"mntr", space, b"XYZ ", b"acsp")
    return (header + _xyz(_D50)[8:]).ljust(128, b"\x00") + table + body


def _xyz(values: NDArray[np.float64]) -> bytes:
    return b"XYZ " + bytes(4) + _fixed(*values)


def _curve(parameters: tuple[float, ...]) -> bytes:
    kind = {1: 0, 5: 3}[len(parameters)]
    return b"para" + struct.pack(">4xHxx", kind) + _fixed(*parameters)


def _fixed(*values: float) -> bytes:
    """Numbers of 16.16 bits (s15Fixed16)."""
    return b"".join(struct.pack(">i", round(float(value) * 65536)) for value in values)
