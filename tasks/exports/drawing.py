"""Drawing an original by the steps of an export's recipe: pure functions of its bytes, the recipe and numbers."""

from __future__ import annotations

import io
import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import numpy as np
from PIL import Image, ImageColor

from lookbook.tasks.exports import steps
from lookbook.tasks.exports.originals import Box, Original
from lookbook.tasks.exports.recipes import Crop, ExportRecipe, Normalise, Resize
from lookbook.tasks.exports.steps import Lots
from lookbook.tasks.images import draw
from lookbook.tasks.images.decode import Rejected
from lookbook.tasks.images.recipe import OutputDefinition, Recipe
from lookbook.tasks.images.render import MAX_OUTPUT_AREA

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
            image = steps.apply(image, step, draw_number, recipe.background)
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
    box, target = steps.part_of(size, step, draw_number)
    _check(size, target, recipe)
    image = pick(box, target)
    if isinstance(step, Resize) and step.mode == "border":
        canvas = steps.pair(step.size)
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
