"""An original as sRGB pixels, upright: any part of it at any size, decoded no larger than that needs."""

from __future__ import annotations

import math

from PIL import Image, ImageFile

from lookbook.tasks.images import colour, decode, draw, metadata
from lookbook.tasks.images.draw import Size
from lookbook.tasks.images.recipe import Recipe

#: Left, top, right and bottom, in pixels of the upright image; they may lie between pixels.
Box = tuple[float, float, float, float]
_FIRST_SIDEWAYS = 5  # EXIF orientations from here on swap width and height


class Original:
    """One image, opened from its bytes. Its parts are drawn from the bytes alone, whatever was drawn before.

    Args:
        data: of the file.
        limits: what is refused.

    Raises:
        Rejected: it breaks a rule.
    """

    def __init__(self, data: bytes, limits: Recipe) -> None:
        image = decode.open_image(data, limits)
        facts = metadata.describe(image, keep_gps=False, keep_maker_notes=False)
        self._data = data
        self._icc = colour.profile_of(image, data)
        # Pillow turns a TIFF upright as it loads it, and gives its upright size before.
        self._turn = 1 if image.format == "TIFF" else int(facts["orientation"])
        self._format = image.format or ""
        self._opened: ImageFile.ImageFile | None = image
        self._stored = image.size
        self._decoded: dict[int, decode.Pixels] = {}
        self.size = self._swapped(image.size)

    def part(self, box: Box, size: Size, speed: str) -> Image.Image:
        """Return what is in `box`, scaled to `size` pixels: mode L, LA, RGB or RGBA.

        Raises:
            Rejected: the pixels are cut off or damaged.
        """
        width, height = box[2] - box[0], box[3] - box[1]
        whole = (math.ceil(self.size[0] * size[0] / width), math.ceil(self.size[1] * size[1] / height))
        scale = decode.draft_scale(self._format, self._stored, self._swapped(whole)) if speed == "fast" else 1
        pixels = self._pixels(scale)
        ratios = (pixels.extent[0] / self._stored[0], pixels.extent[1] / self._stored[1])
        left, top, right, bottom = self._as_stored(box)
        stored_box = (left * ratios[0], top * ratios[1], right * ratios[0], bottom * ratios[1])
        target, gap = self._swapped(size), draw.REDUCING_GAP if speed == "fast" else None
        image = pixels.image
        if target[0] * target[1] < image.width * image.height:  # colour is worked on where there are fewer pixels
            image = colour.to_srgb(image.resize(target, Image.Resampling.LANCZOS, stored_box, gap), self._icc)
        else:
            image = colour.to_srgb(image, self._icc).resize(target, Image.Resampling.LANCZOS, stored_box, gap)
        return draw.turn_upright(image, self._turn)

    def _pixels(self, scale: int) -> decode.Pixels:
        if scale not in self._decoded:
            image = self._opened or decode.open_header(self._data, "JPEG")
            self._opened = None  # a draft holds for good
            self._decoded[scale] = decode.decode(image, scale)
        return self._decoded[scale]

    def _swapped(self, size: Size) -> Size:
        """From sizes as stored to upright ones, and back."""
        return (size[1], size[0]) if self._turn >= _FIRST_SIDEWAYS else size

    def _as_stored(self, box: Box) -> Box:
        """Return where a part of the upright image lies in the stored one (Exif 2.32, tag 0x0112)."""
        left, top, right, bottom = box
        width, height = self.size
        mirrored = (width - right, top, width - left, bottom)
        upside_down = (left, height - bottom, right, height - top)
        turned = (width - right, height - bottom, width - left, height - top)
        return {
            2: mirrored,
            3: turned,
            4: upside_down,
            5: _transposed(box),
            6: _transposed(mirrored),
            7: _transposed(turned),
            8: _transposed(upside_down),
        }.get(self._turn, box)


def _transposed(box: Box) -> Box:
    return box[1], box[0], box[3], box[2]
