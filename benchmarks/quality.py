"""How near the outputs come to a full decode with one Lanczos resize, beside what the encode alone loses."""

from __future__ import annotations

import os
import statistics
from concurrent.futures import ProcessPoolExecutor
from dataclasses import replace
from functools import partial
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from benchmarks import corpora
from benchmarks.processes import say
from lookbook.tasks.images.recipe import OutputDefinition, Recipe
from lookbook.tasks.images.render import render

#: Of the small corpus, every so manieth photo.
EVERY_SMALL = 10
QUALITY = 90

#: PSNR in dB: the file against the reference, the pixels before the encode, and the reference through the encode.
Found = dict[str, tuple[float, float, float]]

EXPLAINED = """## Quality

PSNR in dB, minimum and median over the photos, against a reference: full decode, one Lanczos resize, no encode; over
the picture, without its border. The encode alone is that reference, saved as JPEG of quality 90 and read again.
"""


def section(home: Path, photos: int | None = None) -> str:  # noqa: ARG001 - nothing is written
    """Measure; with `photos`, so many of each corpus, for a trial."""
    lines = [EXPLAINED, "| corpus | speed | output | file | before the encode | the encode alone |", "|---|" * 6]
    lines[-1] = "|---|---|---|---|---|---|"
    for corpus, every in ((corpora.LARGE, 1), (corpora.SMALL, EVERY_SMALL)):
        folder = corpora.folder_of(replace(corpus, count=photos or corpus.count))
        paths = sorted(folder.iterdir())[:: 1 if photos else every]
        for speed in speeds():
            say(f"quality of {corpus.name}, speed {speed or 'as it is'}")
            with ProcessPoolExecutor(os.cpu_count()) as pool:
                found = list(pool.map(partial(compare, speed), paths, chunksize=4))
            rows = [f"| {corpus.name}, {len(paths)} | {speed or 'the only one'} | {name} |" for name in found[0]]
            lines += [row + _cells([photo[name] for photo in found]) for row, name in zip(rows, found[0], strict=True)]
    return "\n".join([*lines, ""])


def speeds() -> list[str | None]:
    """The recipe's choices; None alone where it has none."""
    return ["fast", "exact"] if "speed" in Recipe.model_fields else [None]


def compare(speed: str | None, path: Path) -> Found:
    """PSNR of each output of one photo."""
    data = path.read_bytes()
    more: dict[str, Any] = {"speed": speed} if speed else {}
    recipe = Recipe(**more)
    lossless = {name: _as_png(definition) for name, definition in recipe.outputs.items()}
    files = render(data, recipe, set(recipe.outputs)).files
    pixels = render(data, Recipe(outputs=lossless, **more), set(lossless)).files
    found = {}
    with Image.open(BytesIO(data)) as photo:
        whole = photo.convert("RGB")
    for name, definition in recipe.outputs.items():
        wanted = reference(whole, definition.image_size, grey=definition.colour_mode == "grey")
        file = BytesIO()
        bordered(wanted, definition.image_size).save(file, "JPEG", quality=QUALITY)
        drawn = (files[name].data, pixels[name].data, file.getvalue())
        file_psnr, pixel_psnr, encode_psnr = (psnr(inner(made, wanted.size), wanted) for made in drawn)
        found[name] = (file_psnr, pixel_psnr, encode_psnr)
    return found


def _as_png(definition: OutputDefinition) -> OutputDefinition:
    return definition.model_copy(update={"encode_format": "png", "encode_quality": 1})


def reference(whole: Image.Image, edge: int, *, grey: bool) -> Image.Image:
    """The whole photo, scaled once so that its longer side is `edge`."""
    scale = edge / max(whole.size)
    size = (round(whole.width * scale), round(whole.height * scale))
    drawn = whole.resize(size, Image.Resampling.LANCZOS)
    return drawn.convert("L") if grey else drawn


def bordered(image: Image.Image, edge: int) -> Image.Image:
    """In the middle of a white square."""
    canvas = Image.new(image.mode, (edge, edge), "white")
    canvas.paste(image, ((edge - image.width) // 2, (edge - image.height) // 2))
    return canvas


def inner(file: bytes, size: tuple[int, int]) -> Image.Image:
    """The picture of `size` in the middle of a bordered file."""
    image = Image.open(BytesIO(file))
    left, top = (image.width - size[0]) // 2, (image.height - size[1]) // 2
    return image.crop((left, top, left + size[0], top + size[1]))


def psnr(one: Image.Image, other: Image.Image) -> float:
    """Peak signal-to-noise ratio of two images of one size and mode, 8 bits, in dB; infinite where they are equal."""
    difference = np.asarray(one, dtype=np.float32) - np.asarray(other, dtype=np.float32)
    error = float(np.mean(np.square(difference), dtype=np.float64))
    return 10 * float(np.log10(255**2 / error)) if error else float("inf")


def _cells(values: list[tuple[float, float, float]]) -> str:
    return "".join(f" {min(column):.1f}, {statistics.median(column):.1f} |" for column in zip(*values, strict=True))
