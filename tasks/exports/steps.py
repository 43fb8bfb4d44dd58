"""The steps of an export's recipe, one by one, and the random numbers that they take."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from PIL import Image, ImageColor, ImageEnhance

from lookbook.tasks.exports.originals import Box
from lookbook.tasks.exports.recipes import ColourJitter, Crop, Flip, Resize, Rotate

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
