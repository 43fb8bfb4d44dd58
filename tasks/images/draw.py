"""Drawing outputs: their geometry, the resize, turning upright, borders, and the encode."""

from __future__ import annotations

import io
from dataclasses import dataclass
from typing import Any

from PIL import Image, ImageColor

from lookbook.tasks.images.recipe import OutputDefinition

Size = tuple[int, int]

#: A fast resize first averages whole blocks of pixels, down to this many times the target.
#: Against a resize of every pixel that is 53 dB, far below what an encode loses.
REDUCING_GAP = 2.0
#: Longest edge that the format can hold, in pixels.
LONGEST_EDGE = {"jpeg": 65_500, "webp": 16_383, "avif": 65_536, "png": 2**31 - 1}

#: zlib's level for a png output whose quality is beyond the nine levels (such as the default, 90).
_PNG_LEVEL = 6
_TRANSPOSE = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}


@dataclass(frozen=True)
class Geometry:
    """Where an image comes to stand in an output.

    Attributes:
        drawn: width and height to which it is scaled, in pixels.
        canvas: width and height of the output; where they are more, the rest is border.
        square: only the middle square of the image is drawn.
    """

    drawn: Size
    canvas: Size
    square: bool = False

    def whole(self, size: Size) -> Size:
        """Return width and height of the whole image of `size` at the scale of what is drawn, rounded up."""
        if not self.square:
            return self.drawn
        shorter = min(size)
        return (-(-size[0] * self.drawn[0] // shorter), -(-size[1] * self.drawn[1] // shorter))


def geometry(size: Size, definition: OutputDefinition) -> Geometry:
    """Return where an upright image of `size` pixels comes to stand in an output. No edge gets below 1 pixel.

    Modes and rounding (to the nearest, halves to even) are those of img2dataset's resizer. With
    `resize_only_if_bigger` an image that is not bigger stays as it is, in mode ``border`` without borders.
    """
    edge, mode = definition.image_size, definition.resize_mode
    measured = min(size) if mode in {"keep_ratio", "center_crop"} else max(size)
    if mode == "no" or (definition.resize_only_if_bigger and measured <= edge):
        return Geometry(size, size)
    if mode == "center_crop":
        return Geometry((edge, edge), (edge, edge), square=True)
    drawn = (max(1, round(size[0] * edge / measured)), max(1, round(size[1] * edge / measured)))
    return Geometry(drawn, (edge, edge) if mode == "border" else drawn)


def middle_square(extent: tuple[float, float]) -> tuple[float, float, float, float]:
    """Return the box (left, top, right, bottom) of the largest square in the middle of `extent`."""
    width, height = extent
    edge = min(extent)
    left, top = (width - edge) / 2, (height - edge) / 2
    return left, top, left + edge, top + edge


def resample(
    image: Image.Image, extent: tuple[float, float], size: Size, *, square: bool, speed: str = "fast"
) -> Image.Image:
    """Return the part of `image` within `extent`, or its middle square, scaled to `size` by Lanczos' filter."""
    box = middle_square(extent) if square else (0.0, 0.0, *extent)
    return image.resize(size, Image.Resampling.LANCZOS, box, REDUCING_GAP if speed == "fast" else None)


def turn_upright(image: Image.Image, orientation: int) -> Image.Image:
    """`image` as it is to be displayed, for an EXIF orientation of 1 to 8 (Exif 2.32, tag 0x0112)."""
    method = _TRANSPOSE.get(orientation)
    return image if method is None else image.transpose(method)


def flatten(image: Image.Image, background: str) -> Image.Image:
    """Return an sRGB image without its transparency, on a `background` of ``#rrggbb``: mode L or RGB."""
    if image.mode not in {"LA", "RGBA"}:
        return image
    flat = Image.new("RGB", image.size, background)
    flat.paste(image.convert("RGB"), mask=image.getchannel("A"))
    return flat


def finish(image: Image.Image, canvas: Size, definition: OutputDefinition) -> Image.Image:
    """Return an upright sRGB image as the output shows it: on its background, within borders, in its mode.

    It carries nothing of what the file said; where nothing had to be done, its pixels are those of `image`.
    """
    mode = "L" if definition.colour_mode == "grey" else "RGB"
    flat = flatten(image, definition.background)
    flat = flat if flat.mode == mode else flat.convert(mode)
    if flat.size == canvas:
        bare = flat.copy()
        bare.info = {}
        return bare
    framed = Image.new(mode, canvas, ImageColor.getcolor(definition.background, mode))
    framed.paste(flat, ((canvas[0] - flat.width) // 2, (canvas[1] - flat.height) // 2))
    return framed


def encode(image: Image.Image, definition: OutputDefinition, exif: bytes = b"") -> bytes:
    """Return the file of an output: equal pixels and `exif` give equal bytes.

    Args:
        image: as `finish` gives it: encoders would write comments and profiles that it carries.
        definition: of the output.
        exif: what the file carries beside its pixels.
    """
    quality = definition.encode_quality
    options: dict[str, dict[str, Any]] = {
        "jpeg": {"quality": quality},
        "png": {"compress_level": quality if quality <= 9 else _PNG_LEVEL},  # noqa: PLR2004 - zlib's last level
        "webp": {"quality": quality},
        "avif": {"quality": quality, "max_threads": 1},  # a batch has threads of its own
    }
    file = io.BytesIO()
    carried = {"exif": exif} if exif else {}
    image.save(file, definition.encode_format, **options[definition.encode_format], **carried)
    return file.getvalue()
