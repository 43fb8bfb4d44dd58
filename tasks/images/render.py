"""Rendering: every output and every measure of one image, from one reading of its bytes."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from typing import Any

from PIL import Image, ImageFile

from lookbook.tasks.images import colour, decode, draw, measure, metadata
from lookbook.tasks.images.decode import Rejected
from lookbook.tasks.images.draw import Geometry, Size
from lookbook.tasks.images.metadata import kept_exif
from lookbook.tasks.images.recipe import OutputDefinition, Recipe, Speed

__all__ = ["Rejected", "Rendered", "RenderedFile", "render"]

#: Longer edge of the reduced image from which all measures and all small outputs are made, in pixels.
BASE_EDGE = 512
#: A larger image may be scaled up to no more pixels than this.
MAX_OUTPUT_AREA = 150_000_000

_BASE = OutputDefinition(image_size=BASE_EDGE, resize_mode="keep_ratio_largest", resize_only_if_bigger=True)
_MEASURED = OutputDefinition(image_size=measure.MEASURED_EDGE, resize_mode="keep_ratio_largest")
_FIRST_SIDEWAYS = 5  # EXIF orientations from here on swap width and height


@dataclass(frozen=True)
class RenderedFile:
    """One output: its file, and its width and height in pixels."""

    data: bytes
    width: int
    height: int


@dataclass(frozen=True)
class Rendered:
    """What one image gave.

    Attributes:
        asset: the columns of `items.ASSET_FIELDS`, but for ``original_key``.
        files: the outputs that were asked for, by name.
    """

    asset: dict[str, Any]
    files: dict[str, RenderedFile]


def render(data: bytes, recipe: Recipe, outputs: Collection[str]) -> Rendered:
    """Describe and measure the image in `data`, and draw the named `outputs` of `recipe`.

    An output's bytes depend on `data` and its own definition only, not on what else is drawn: that is what
    its digest promises. Many threads may call this at once.

    Raises:
        Rejected: the image breaks a rule; nothing else is raised for any bytes.
    """
    image = decode.open_image(data, recipe)
    facts: dict[str, Any] = {"mode": image.mode, "format": image.format}
    facts |= metadata.describe(image, keep_gps=recipe.keep_gps, keep_maker_notes=recipe.keep_maker_notes)
    facts["n_frames"] = decode.count_frames(data, image)
    picture = _Picture(data, image, facts["orientation"])
    facts["original_width"], facts["original_height"] = picture.size
    plans = {name: draw.geometry(picture.size, definition) for name, definition in recipe.outputs.items()}
    for name, plan in plans.items():
        _check_output(name, plan, picture.size, recipe.outputs[name])

    found = picture.warnings(recipe.speed)
    facts["decode_warnings"] = None if found is None else len(found)
    if found and recipe.damaged == "reject":
        raise Rejected("damaged", f"It is damaged within: {found[0]}")
    carried = {kind: _exif(image, kind) for kind in {recipe.outputs[name].exif for name in outputs}}
    files = {}
    for name in sorted(outputs):
        definition = recipe.outputs[name]
        files[name] = _file(picture, plans[name], definition, carried[definition.exif])
    small = picture.measured(recipe.speed)
    measured, seen = (draw.flatten(small, ground) for ground in ("#ffffff", measure.seen_on(small)))
    sample = draw.flatten(picture.sampled(measure.SAMPLED_EDGE, recipe.speed), "#ffffff")
    scores = measure.issue_scores(measured, sample, picture.size, facts["mode"])
    return Rendered(facts | measure.measure(measured, seen) | scores, files)


def _exif(image: Image.Image, kind: str) -> bytes:
    return b"" if kind == "drop" else kept_exif(image, with_gps=kind == "keep_with_gps")


def _file(picture: _Picture, plan: Geometry, definition: OutputDefinition, exif: bytes) -> RenderedFile:
    image = draw.finish(picture.drawn(plan, definition.speed), plan.canvas, definition)
    return RenderedFile(draw.encode(image, definition, exif), *image.size)


def _check_output(name: str, plan: Geometry, size: Size, definition: OutputDefinition) -> None:
    """Refuse an image of which an output would be beyond its format, or beyond all measure."""
    width, height = plan.canvas
    longest = draw.LONGEST_EDGE[definition.encode_format]
    if max(width, height) > longest or width * height > max(MAX_OUTPUT_AREA, size[0] * size[1]):
        message = f"{size[0]}x{size[1]} pixels would give an output {name!r} of {width}x{height} pixels."
        raise Rejected("aspect_ratio" if definition.resize_mode != "no" else "too_large", message)


class _Picture:
    """One image as sRGB pixels, upright, at whatever size is asked for; each size is made once.

    What a size is made from is decided by the image, that size and the speed alone. Fast: small ones come from
    a reduced image (`BASE_EDGE`), the rest from the decoded one; a JPEG is decoded at the nearest scale that
    gives the base enough pixels, and only for larger outputs once more at theirs. Exact: each from all pixels.
    """

    def __init__(self, data: bytes, image: ImageFile.ImageFile, orientation: int) -> None:
        self._data = data
        self._icc = colour.profile_of(image, data)
        # Pillow turns a TIFF upright as it loads it, and gives its upright size before.
        self._turn = 1 if image.format == "TIFF" else orientation
        self._opened: ImageFile.ImageFile | None = image
        self._format = image.format or ""
        self._decoded: dict[int, decode.Pixels] = {}
        self._drawn: dict[tuple[Size, bool, Speed], Image.Image] = {}
        self._stored = image.size
        self.size = self._swapped(image.size)
        self._base = draw.geometry(self.size, _BASE)

    def drawn(self, plan: Geometry, speed: Speed) -> Image.Image:
        """Return the picture, or its middle square, at the size of `plan`: mode L, LA, RGB or RGBA."""
        key = (plan.drawn, plan.square, speed)
        if key not in self._drawn:
            if speed == "fast" and self._base_is_enough(plan):
                self._drawn[key] = self._from_base(plan)
            else:
                self._drawn[key] = self._from_decoded(plan, speed)
        return self._drawn[key]

    def measured(self, speed: Speed) -> Image.Image:
        """Return the picture with a longer edge of at most `measure.MEASURED_EDGE`."""
        base, edge = self.drawn(self._base, speed), max(self._base.drawn)
        if edge <= measure.MEASURED_EDGE:
            return base
        if edge == BASE_EDGE:
            return base.reduce(2)  # blocks of four pixels averaged: a fraction of the work of a filter
        return base.resize(draw.geometry(self.size, _MEASURED).drawn, Image.Resampling.BILINEAR)

    def sampled(self, edge: int, speed: Speed) -> Image.Image:
        """Return decoded pixels, evenly picked, at most `edge` along the longer edge; as stored, in sRGB.

        They come from the decode that the base needs, whatever else was drawn.
        """
        pixels = self._pixels(self._scale(self._base.drawn, speed))
        ratio = max(1.0, max(pixels.extent) / edge)
        size = (max(1, round(pixels.extent[0] / ratio)), max(1, round(pixels.extent[1] / ratio)))
        picked = pixels.image.resize(size, Image.Resampling.NEAREST, (0.0, 0.0, *pixels.extent))
        return colour.to_srgb(picked, self._icc)

    def warnings(self, speed: Speed) -> tuple[str, ...] | None:
        """Return what the decoder has to say of damage within the file; None where it would not tell."""
        return self._pixels(self._scale(self._base.drawn, speed)).warnings

    def _base_is_enough(self, plan: Geometry) -> bool:
        """Return whether the base is so much larger that nothing is lost by starting from it."""
        return max(self._base.drawn) >= draw.REDUCING_GAP * max(plan.whole(self.size))

    def _from_base(self, plan: Geometry) -> Image.Image:
        base = self.drawn(self._base, "fast")
        return draw.resample(base, base.size, plan.drawn, square=plan.square)

    def _from_decoded(self, plan: Geometry, speed: Speed) -> Image.Image:
        whole = plan.whole(self.size)
        needed = (max(whole[0], self._base.drawn[0]), max(whole[1], self._base.drawn[1]))
        pixels = self._pixels(self._scale(needed, speed))
        image, extent, size = pixels.image, pixels.extent, self._swapped(plan.drawn)
        if size[0] * size[1] < image.width * image.height:  # colour is worked on where there are fewer pixels
            image = colour.to_srgb(draw.resample(image, extent, size, square=plan.square, speed=speed), self._icc)
        else:
            image = draw.resample(colour.to_srgb(image, self._icc), extent, size, square=plan.square, speed=speed)
        return draw.turn_upright(image, self._turn)

    def _scale(self, size: Size, speed: Speed) -> int:
        """Return the scale at which a JPEG is decoded to be drawn at an upright `size`."""
        return decode.draft_scale(self._format, self._stored, self._swapped(size)) if speed == "fast" else 1

    def _pixels(self, scale: int) -> decode.Pixels:
        if scale not in self._decoded:
            image = self._opened or decode.open_header(self._data, "JPEG")
            self._opened = None  # a draft holds for good
            self._decoded[scale] = decode.decode(image, self._data, scale)
        return self._decoded[scale]

    def _swapped(self, size: Size) -> Size:
        """From sizes as stored to upright ones, and back."""
        return (size[1], size[0]) if self._turn >= _FIRST_SIDEWAYS else size
