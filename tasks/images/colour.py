"""Colour: the space that a file says its pixels are in, any layout to 8 bits, and any space to sRGB."""

from __future__ import annotations

import io
import struct
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageChops, ImageCms

from lookbook.tasks.images import formats

Point = tuple[float, float]
#: White, red, green and blue as points (x, y) of CIE 1931.
Primaries = tuple[Point, Point, Point, Point]

_D65 = (0.3127, 0.3290)
_SRGB: Primaries = (_D65, (0.64, 0.33), (0.30, 0.60), (0.15, 0.06))
_DISPLAY_P3: Primaries = (_D65, (0.680, 0.320), (0.265, 0.690), (0.150, 0.060))
_BT2020: Primaries = (_D65, (0.708, 0.292), (0.170, 0.797), (0.131, 0.046))
_SRGB_CURVE = (2.4, 1 / 1.055, 0.055 / 1.055, 1 / 12.92, 0.04045)  # IEC 61966-2-1
_VIDEO_CURVE = (1 / 0.45, 1 / 1.099, 0.099 / 1.099, 1 / 4.5, 0.081)  # ITU-R BT.709
# Colour primaries and transfer functions by their numbers in ITU-T H.273, where PNG (cICP) and AVIF (nclx) have them
# from. HDR ones are left to what else the file says: they need a tone mapping, not a profile.
_PRIMARIES = {1: _SRGB, 9: _BT2020, 12: _DISPLAY_P3}
_VIDEO = (1, 6, 14, 15)
_CURVES = {4: (2.2,), 8: (1.0,), 13: _SRGB_CURVE}
_PNG_CURVES = _CURVES | dict.fromkeys(_VIDEO, _VIDEO_CURVE)
_AVIF_CURVES = _CURVES | dict.fromkeys((2, *_VIDEO), _SRGB_CURVE)  # as Chromium takes them
_RGB_OF_ALL_LEVELS = b"\x00\x01"  # the rest of a cICP: no matrix, full range
_LIKE_SRGB = 0.05  # as libpng takes it: gammas that differ by less are one
_GAMMAS = (0.1, 10.0)  # beyond them a gAMA is nonsense; PNG calls 0 meaningless
_SAME_PRIMARIES = 0.002
_GREY_MODES = ("1", "L", "LA", "I", "I;16", "I;16B")

_D50 = np.array([0.9642, 1.0, 0.8249])
_BRADFORD = np.array([[0.8951, 0.2664, -0.1614], [-0.7502, 1.7135, 0.0367], [0.0389, -0.0685, 1.0296]])


def profile_of(image: Image.Image, data: bytes) -> bytes | None:
    """Return the profile from which the pixels of `image`, opened from `data`, have to be converted; None for sRGB.

    In a PNG the first of cICP, iCCP, sRGB and gAMA with cHRM holds (PNG, third edition, section 4.3); gAMA of
    45455 is what writers of sRGB put there. In an AVIF or HEIF it is the ICC profile, then nclx; in others the ICC
    profile.
    """
    if image.format == "PNG":
        points = formats.png_chunk(data, b"cICP") or b""
        if points[2:] == _RGB_OF_ALL_LEVELS and points[0] in _PRIMARIES and points[1] in _PNG_CURVES:
            return _of_space(image, _PRIMARIES[points[0]], _PNG_CURVES[points[1]])
    icc = image.info.get("icc_profile")
    if isinstance(icc, bytes):
        return icc
    if image.format in {"AVIF", "HEIF"}:
        primaries, curve = formats.media_code_points(data)
        if primaries in _PRIMARIES and curve in _AVIF_CURVES:
            return _of_space(image, _PRIMARIES[primaries], _AVIF_CURVES[curve])
    if image.format != "PNG" or "srgb" in image.info:
        return None
    return _from_gamma(image)


def _of_space(image: Image.Image, primaries: Primaries, curve: tuple[float, ...]) -> bytes | None:
    """Return the profile of a space, of greys where the image is of greys; None for sRGB."""
    if image.mode in _GREY_MODES:
        return None if curve is _SRGB_CURVE else grey_profile(curve)
    return None if primaries is _SRGB and curve is _SRGB_CURVE else matrix_profile(primaries, curve)


def _from_gamma(image: Image.Image) -> bytes | None:
    gamma = image.info.get("gamma")
    if not isinstance(gamma, float) or not _GAMMAS[0] <= gamma <= _GAMMAS[1]:
        return None
    return _of_space(image, _primaries(image), _SRGB_CURVE if abs(gamma * 2.2 - 1) <= _LIKE_SRGB else (1 / gamma,))


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
    """Return a profile as `matrix_profile` does, of greys."""
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


#: Of 255. A profile that moves no colour by more than this is sRGB under another name.
_INVISIBLE = 2
#: With fewer, Little CMS is some ten levels off in the shadows of linear greys.
_GREY_STEPS = ImageCms.Flags.GRIDPOINTS(255)
_EIGHT_BITS, _SIXTEEN_BITS = 255, 65535
_PROFILE_FAULTS = (ImageCms.PyCMSError, OSError, TypeError, ValueError)


class UnknownModeError(Exception):
    """A pixel layout that is not read."""


def eight_bit(image: Image.Image, *, white_is_zero: bool = False, bits: int = 16, signed: bool = False) -> Image.Image:
    """Return the same picture in mode L, LA, RGB, RGBA or CMYK, whatever its pixel layout; the colour space stays.

    Deeper pixels are scaled, not clipped; palettes are resolved and transparency becomes an alpha channel.

    Args:
        image: the loaded image, with what its file says of it in `info`.
        white_is_zero: whether deep greys count downwards (TIFF; Pillow turns only the shallower ones).
        bits: of a grey level in the file.
        signed: whether such levels have a sign.

    Raises:
        UnknownModeError: the layout is none of these.
    """
    mode = image.mode
    if mode.startswith("I;16") or mode in {"I", "F"}:
        plain = (
            _from_deep_greys(image, bits) if mode.startswith("I;16") else _from_wide_greys(image, bits, signed=signed)
        )
        plain = ImageChops.invert(plain) if white_is_zero else plain
    elif mode == "CMYK":
        # Adobe stores CMYK inverted and says so in a marker. Pillow takes every JPEG for Adobe's.
        foreign = image.format in {"JPEG", "MPO"} and "adobe" not in image.info
        plain = ImageChops.invert(image) if foreign else image
    elif mode in {"LA", "RGBA"}:
        plain = image
    elif mode in {"La", "RGBa"}:
        plain = image.convert(mode.upper())  # colours that a TIFF holds multiplied by their alpha
    elif image.has_transparency_data:
        plain = image.convert("RGBA")
    elif mode in {"1", "L"}:
        plain = image.convert("L")
    elif mode in {"P", "RGB", "RGBX", "YCbCr", "HSV"}:
        plain = image.convert("RGB")
    else:
        raise UnknownModeError(f"Pixels of mode {mode} are not read.")
    return plain


def _from_deep_greys(image: Image.Image, bits: int) -> Image.Image:
    """Grey levels of 9 to 16 bits, by their upper eight, as Pillow does with 16-bit RGB; one of them may be clear."""
    values = np.asarray(image)
    grey = Image.fromarray((values >> bits - 8).astype(np.uint8))
    clear = image.info.get("transparency")
    if isinstance(clear, int):
        grey.putalpha(Image.fromarray(np.where(values == clear, 0, 255).astype(np.uint8)))
    return grey


def _from_wide_greys(image: Image.Image, bits: int, *, signed: bool) -> Image.Image:
    """Grey levels in 32 bits: of 0 to 1, of 8 or 16 bits, or, where they fit none of these, of their own range."""
    stored = np.asarray(image)
    unsigned = image.format == "TIFF" and image.mode == "I" and not signed
    values = np.nan_to_num((stored.view(np.uint32) if unsigned else stored).astype(np.float64), posinf=0, neginf=0)
    low, high = float(values.min()), float(values.max())
    tops = [1, _EIGHT_BITS, _SIXTEEN_BITS] if image.mode == "F" else [_EIGHT_BITS, _SIXTEEN_BITS]
    if image.mode == "I" and (image.format != "TIFF" or bits < 32):  # noqa: PLR2004 - these are known to have 16
        tops = [_SIXTEEN_BITS >> signed]
    top = next((top for top in tops if low >= 0 and high <= top), None)
    return _scaled(values, low, high) if top is None else _scaled(values, 0, top)


def _scaled(values: NDArray[np.floating], low: float, high: float) -> Image.Image:
    levels = (values - low) * (255 / ((high - low) or 1))
    return Image.fromarray(np.rint(levels).astype(np.uint8))


def to_srgb(image: Image.Image, icc: bytes | None) -> Image.Image:
    """Return an image of mode L, LA, RGB, RGBA or CMYK in sRGB: mode L, LA, RGB or RGBA.

    Args:
        image: 8-bit pixels.
        icc: the ICC profile they are in. A broken one, or one of another colour space, is ignored, as is
            none at all; so is one that changes nothing to be seen.
    """
    alpha = image.getchannel("A") if image.mode in {"LA", "RGBA"} else None
    colours = image.convert(image.mode.rstrip("A")) if alpha else image
    transform = _transform(icc, colours.mode) if icc else None
    if transform is not None:
        colours = transform.apply(colours)
    elif colours.mode == "CMYK":
        colours = colours.convert("RGB")
    else:
        return image
    if alpha:
        colours.putalpha(alpha)
    return colours


@lru_cache(maxsize=32)
def profile_name(icc: bytes) -> str | None:
    """Return the description that an ICC profile gives of itself, or None where it cannot be read."""
    try:
        name = ImageCms.getProfileDescription(ImageCms.ImageCmsProfile(io.BytesIO(icc)))
    except _PROFILE_FAULTS:
        return None
    return name.replace("\x00", "").encode("utf-8", "replace").decode().strip() or None


@lru_cache(maxsize=32)
def _transform(icc: bytes, mode: str) -> ImageCms.ImageCmsTransform | None:
    """From the profile `icc` to sRGB, for pixels of `mode`; None where there is nothing to do, or no way to.

    Little CMS lets many threads use one transform at once.
    """
    try:
        source = ImageCms.ImageCmsProfile(io.BytesIO(icc))
        flags = _GREY_STEPS if mode == "L" else ImageCms.Flags.NONE
        transform = ImageCms.buildTransform(source, _srgb(), mode, "RGB", flags=flags)
        return transform if mode == "CMYK" or _is_seen(transform, mode) else None
    except _PROFILE_FAULTS:
        return None


@lru_cache(maxsize=1)
def _srgb() -> ImageCms.ImageCmsProfile:
    return ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB"))


def _is_seen(transform: ImageCms.ImageCmsTransform, mode: str) -> bool:
    """Return whether a transform changes any of a few thousand colours, spread over all of them, visibly."""
    steps = np.arange(0, 256, 17 if mode == "RGB" else 1, dtype=np.uint8)
    colours = np.stack(np.meshgrid(steps, steps, steps), axis=-1).reshape(1, -1, 3)
    probe = Image.fromarray(colours if mode == "RGB" else steps.reshape(1, -1))
    before = np.asarray(probe.convert("RGB")).astype(np.int16)
    after = np.asarray(transform.apply(probe)).astype(np.int16)
    return int(np.abs(after - before).max()) > _INVISIBLE
