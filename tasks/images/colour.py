"""Colour: from any pixel layout to 8 bits, and from any colour space to sRGB."""

from __future__ import annotations

import io
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageChops, ImageCms

#: Of 255. A profile that moves no colour by more than this is sRGB under another name.
_INVISIBLE = 2
#: With fewer, Little CMS is some ten levels off in the shadows of linear greys.
_GREY_STEPS = ImageCms.Flags.GRIDPOINTS(255)
_SIXTEEN_BITS = 65535
_PROFILE_FAULTS = (ImageCms.PyCMSError, OSError, TypeError, ValueError)


class UnknownModeError(Exception):
    """A pixel layout that is not read."""


def eight_bit(image: Image.Image, *, white_is_zero: bool = False) -> Image.Image:
    """Return the same picture in mode L, LA, RGB, RGBA or CMYK, whatever its pixel layout; the colour space stays.

    Deeper pixels are scaled, not clipped; palettes are resolved and transparency becomes an alpha channel.

    Args:
        image: the loaded image, with what its file says of it in `info`.
        white_is_zero: whether 16-bit greys count downwards (TIFF; Pillow turns only the shallower ones).

    Raises:
        UnknownModeError: the layout is none of these.
    """
    mode = image.mode
    if mode.startswith("I;16"):
        grey = Image.fromarray((np.asarray(image) >> 8).astype(np.uint8))  # as Pillow does with 16-bit RGB
        plain = ImageChops.invert(grey) if white_is_zero else grey
    elif mode in {"I", "F"}:
        plain = _from_wide_greys(image)
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


def _from_wide_greys(image: Image.Image) -> Image.Image:
    """Grey levels of 32 bits: of 0 to 1, of 16 bits, or, where they fit neither, of their own range."""
    values = np.nan_to_num(np.asarray(image).astype(np.float32), posinf=0, neginf=0)
    low, high = float(values.min()), float(values.max())
    if image.mode == "F" and low >= 0 and high <= 1:
        return _scaled(values, 0, 1)
    if low >= 0 and high <= _SIXTEEN_BITS:
        return _scaled(values, 0, _SIXTEEN_BITS)
    return _scaled(values, low, high)


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
