"""Drawing the images of an export: its recipe's steps on originals, in disposable processes."""

from __future__ import annotations

import hashlib
import io
import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import cast

import numpy as np
from PIL import Image, ImageColor, ImageEnhance, ImageFile
from pydantic import BaseModel, ConfigDict

from lookbook.blocks.settings import read_settings
from lookbook.tasks.exports.recipes import ColourJitter, Crop, ExportRecipe, Flip, Normalise, Resize, Rotate
from lookbook.tasks.images import colour, decode, draw, metadata
from lookbook.tasks.images.decode import Rejected
from lookbook.tasks.images.draw import Size
from lookbook.tasks.images.recipe import OutputDefinition, Recipe
from lookbook.tasks.images.render import MAX_OUTPUT_AREA
from lookbook.tasks.images.renderers import Renderers, shared

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
            self._decoded[scale] = decode.decode(image, self._data, scale)
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


#: Draws of a random crop before it takes the middle.
ATTEMPTS = 10
_HUES = 256


@dataclass(frozen=True)
class Lots:
    """Random numbers of one copy of one content: each a hash of what it is for, so that no order tells anything."""

    seed: int
    sha256: str
    copy: int

    def number(self, step: int, draw: int) -> float:
        """Return a number of 0 to 1, without 1: the `draw`-th one of a step."""
        made_of = f"{self.seed}\0{self.sha256}\0{self.copy}\0{step}\0{draw}"
        return (int.from_bytes(hashlib.blake2b(made_of.encode(), digest_size=8).digest()) >> 11) / 2**53


def pair(size: int | tuple[int, int]) -> tuple[int, int]:
    """Return width and height."""
    return (size, size) if isinstance(size, int) else size


def part_of(
    size: tuple[int, int], step: Resize | Crop, draw_number: Callable[[int], float]
) -> tuple[Box, tuple[int, int]]:
    """Return which part of an image of `size` a step takes, and the width and height that it gets."""
    if isinstance(step, Resize):
        return (0.0, 0.0, *size), _resized(size, step)
    target = pair(step.size)
    if step.mode == "random":
        return _random_part(size, step, draw_number), target
    return _middle(size, target[0] / target[1]), target


def _resized(size: tuple[int, int], step: Resize) -> tuple[int, int]:
    target = pair(step.size)
    if step.mode == "stretch":
        return target
    ratios = (target[0] / size[0], target[1] / size[1])
    ratio = max(ratios) if step.mode == "shorter" else min(ratios)
    return max(1, round(size[0] * ratio)), max(1, round(size[1] * ratio))


def _middle(size: tuple[int, int], shape: float) -> Box:
    """Return the largest part in the middle whose width is `shape` times its height."""
    width, height = min(size[0], size[1] * shape), min(size[1], size[0] / shape)
    left, top = (size[0] - width) / 2, (size[1] - height) / 2
    return left, top, left + width, top + height


def _random_part(size: tuple[int, int], step: Crop, draw_number: Callable[[int], float]) -> Box:
    area = size[0] * size[1]
    low, high = math.log(step.ratio[0]), math.log(step.ratio[1])
    for attempt in range(ATTEMPTS):
        share, lot, across, down = (draw_number(4 * attempt + place) for place in range(4))
        part = area * (step.scale[0] + (step.scale[1] - step.scale[0]) * share)
        shape = math.exp(low + (high - low) * lot)
        width, height = max(1, round(math.sqrt(part * shape))), max(1, round(math.sqrt(part / shape)))
        if width <= size[0] and height <= size[1]:
            left, top = int(across * (size[0] - width + 1)), int(down * (size[1] - height + 1))
            return float(left), float(top), float(left + width), float(top + height)
    return _middle(size, min(max(size[0] / size[1], step.ratio[0]), step.ratio[1]))


def apply(
    image: Image.Image, step: Flip | Rotate | ColourJitter, draw_number: Callable[[int], float], background: str
) -> Image.Image:
    """Return an image of mode L or RGB after a step that keeps its size."""
    if draw_number(0) >= step.probability:
        return image
    if isinstance(step, Flip):
        ways = {"horizontal": Image.Transpose.FLIP_LEFT_RIGHT, "vertical": Image.Transpose.FLIP_TOP_BOTTOM}
        return image.transpose(ways[step.direction])
    if isinstance(step, Rotate):
        low, high = step.degrees
        angle = low + (high - low) * draw_number(1)
        fill = ImageColor.getcolor(background, image.mode)
        return image.rotate(angle, Image.Resampling.BICUBIC, fillcolor=fill)
    return _jittered(image, step, draw_number)


def _jittered(image: Image.Image, step: ColourJitter, draw_number: Callable[[int], float]) -> Image.Image:
    changes: list[tuple[Callable[[Image.Image], ImageEnhance._Enhance], float]] = [
        (ImageEnhance.Brightness, step.brightness),
        (ImageEnhance.Contrast, step.contrast),
        (ImageEnhance.Color, step.saturation),
    ]
    for number, (kind, most) in enumerate(changes, 1):
        if most:
            image = kind(image).enhance(1 + most * (2 * draw_number(number) - 1))
    if step.hue and image.mode == "RGB":
        image = _turned_hue(image, step.hue * (2 * draw_number(4) - 1))
    return image


def _turned_hue(image: Image.Image, turn: float) -> Image.Image:
    """Return the hue moved along its circle by a share of it."""
    hue, saturation, value = image.convert("HSV").split()
    moved = (np.asarray(hue).astype(np.int16) + round(turn * _HUES)) % _HUES
    return Image.merge("HSV", (Image.fromarray(moved.astype(np.uint8)), saturation, value)).convert("RGB")


#: Longer edge of the small pictures of a contact sheet, in pixels.
THUMBNAIL_EDGE = 96


@dataclass(frozen=True)
class DrawnFile:
    """One file that was drawn: its bytes, and its width and height in pixels."""

    data: bytes
    width: int
    height: int


def draw_copies(data: bytes, recipe: ExportRecipe, limits: Recipe, lots: list[Lots | None]) -> list[DrawnFile]:
    """Return copies of the image in `data`. Equal arguments give equal bytes, whatever else is drawn.

    Args:
        data: of the original.
        recipe: the steps.
        limits: what is refused, as when the original was ingested.
        lots: for each copy where its random numbers come from; None: nothing of it is random.

    Raises:
        Rejected: it breaks a rule, or an output would be beyond all measure.
    """
    original = Original(data, limits)
    plain = recipe.plain()
    return [_copy(original, recipe if each else plain, each or Lots(0, "", 0)) for each in lots]


def _copy(original: Original, recipe: ExportRecipe, lots: Lots) -> DrawnFile:
    taken = [step for step in recipe.steps if not isinstance(step, Normalise)]
    mode = "L" if recipe.colour_mode == "grey" else "RGB"
    image: Image.Image | None = None
    for number, step in enumerate(taken):
        draw_number = partial(lots.number, number)
        if image is None and isinstance(step, Resize | Crop):
            image = _scaled(original.size, step, draw_number, partial(_of_original, original, recipe, mode), recipe)
            continue
        if image is None:
            image = _of_original(original, recipe, mode, (0, 0, *original.size), original.size)
        if isinstance(step, Resize | Crop):
            image = _scaled(image.size, step, draw_number, partial(_of_image, image), recipe)
        else:
            image = apply(image, step, draw_number, recipe.background)
    if image is None:  # normalise alone
        image = _of_original(original, recipe, mode, (0, 0, *original.size), original.size)
    return DrawnFile(encoded(image, recipe), *image.size)


def _scaled(
    size: tuple[int, int],
    step: Resize | Crop,
    draw_number: Callable[[int], float],
    pick: Callable[[Box, tuple[int, int]], Image.Image],
    recipe: ExportRecipe,
) -> Image.Image:
    """Return the part of an image of `size` that a step takes, at the size that it gives."""
    box, target = part_of(size, step, draw_number)
    _check(size, target, recipe)
    image = pick(box, target)
    if isinstance(step, Resize) and step.mode == "border":
        canvas = pair(step.size)
        framed = Image.new(image.mode, canvas, ImageColor.getcolor(recipe.background, image.mode))
        framed.paste(image, ((canvas[0] - image.width) // 2, (canvas[1] - image.height) // 2))
        return framed
    return image


def _of_original(original: Original, recipe: ExportRecipe, mode: str, box: Box, target: tuple[int, int]) -> Image.Image:
    flat = draw.flatten(original.part(box, target, recipe.speed), recipe.background)
    bare = flat.copy() if flat.mode == mode else flat.convert(mode)
    bare.info = {}
    return bare


def _of_image(image: Image.Image, box: Box, target: tuple[int, int]) -> Image.Image:
    return image.resize(target, Image.Resampling.LANCZOS, box)


def _check(size: tuple[int, int], target: tuple[int, int], recipe: ExportRecipe) -> None:
    longest = draw.LONGEST_EDGE.get(recipe.encode_format, 2**31 - 1)
    if max(target) > longest or math.prod(target) > MAX_OUTPUT_AREA:
        message = f"{size[0]}x{size[1]} pixels would give a file of {target[0]}x{target[1]} pixels."
        raise Rejected("aspect_ratio", message)


def encoded(image: Image.Image, recipe: ExportRecipe) -> bytes:
    """Return the file of a drawn image."""
    if recipe.encode_format != "npy":
        definition = OutputDefinition(encode_format=recipe.encode_format, encode_quality=recipe.encode_quality)
        return draw.encode(image, definition)
    file = io.BytesIO()
    np.save(file, levels_of(image, recipe), allow_pickle=False)
    return file.getvalue()


def levels_of(image: Image.Image, recipe: ExportRecipe) -> np.ndarray[tuple[int, ...], np.dtype[np.float32]]:
    """Return an image's levels as float32 (channels, height, width): 0 to 1, or as its recipe normalises them."""
    levels = np.asarray(image, np.float32).reshape(image.height, image.width, -1).transpose(2, 0, 1) / np.float32(255)
    last = recipe.steps[-1]
    if isinstance(last, Normalise):
        mean, std = (np.array(values, np.float32).reshape(-1, 1, 1) for values in (last.mean, last.std))
        levels = (levels - mean) / std
    return np.ascontiguousarray(levels, "<f4")


def thumbnail(data: bytes, limits: Recipe) -> bytes:
    """Return a small JPEG of the image in `data`.

    Raises:
        Rejected: it breaks a rule.
    """
    step = Resize(step="resize", size=THUMBNAIL_EDGE, mode="border")
    return draw_copies(data, ExportRecipe(steps=[step], encode_quality=80), limits, [None])[0].data


def lots_of(seed: int, sha256: str, copies: int) -> list[Lots | None]:
    """Return where the random numbers of each copy of a content come from."""
    return [Lots(seed, sha256, copy) for copy in range(copies)]


COMMAND = ("-P", "-m", "lookbook.tasks.exports.draw_process")


class Job(BaseModel):
    """What is drawn of each image of an export.

    Attributes:
        recipe: the steps; None: nothing but the small picture.
        limits: the snapshot's recipe, which says what is refused.
        seed: of the export.
    """

    model_config = ConfigDict(frozen=True)

    recipe: ExportRecipe | None
    limits: Recipe
    seed: int

    @property
    def max_seconds(self) -> float:
        """For how long one image may be drawn."""
        return self.limits.max_seconds


@dataclass(frozen=True)
class Drawing:
    """What one image gave: its copies, and a small picture where one was asked for."""

    files: list[DrawnFile]
    thumbnail: bytes | None


def draw_image(data: bytes, job: Job, sha256: str, copies: int, *, small: bool) -> Drawing:
    """Draw copies of an image; 0: one copy without anything random.

    Raises:
        Rejected: the image breaks a rule.
    """
    files = []
    if job.recipe is not None:
        lots: list[Lots | None] = lots_of(job.seed, sha256, copies) if copies else [None]
        files = draw_copies(data, job.recipe, job.limits, lots)
    shown = files[0].data if files and job.recipe and job.recipe.encode_format != "npy" else data
    return Drawing(files, thumbnail(shown, job.limits) if small else None)


def ask(renderers: Renderers, data: bytes, job: Job, sha256: str, copies: int, *, small: bool) -> Drawing:
    """Draw as `draw_image` does, in a disposable process."""
    names = (sha256, str(copies), "small" if small else "")
    return cast("Drawing", renderers.render(data, job, names))


def processes() -> Renderers:
    """Return the processes that all exports of this process share."""
    return shared(read_settings().threads, COMMAND)
