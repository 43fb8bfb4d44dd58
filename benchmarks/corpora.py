"""The two corpora, and the photos of 12 megapixels: drawn once from fixed seeds, kept in the user's cache.

Photos are noise of a 1/f amplitude spectrum, as natural scenes have it (Field, J. Opt. Soc. Am. A 4, 1987),
with shapes of sharp edges on it. A few base fields are shifted, mirrored and blended into any number of them.
"""

from __future__ import annotations

import json
import os
import shutil
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict, dataclass
from functools import cache, partial
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw

#: Raise it when what is drawn changes: photos of another version are drawn anew.
VERSION = 1
#: Cycles a pixel at which lens and sensor let a third through: no photo is sharp to its last pixel.
LENS = 0.2
#: Contrast of each colour difference by that of luma.
CHROMA = 1 / 10

Field = NDArray[np.float32]


@dataclass(frozen=True)
class Corpus:
    """A folder of JPEG photos.

    Attributes:
        name: the folder's name.
        count: how many photos.
        width, height: their size, in pixels.
        contrast: standard deviation of the luma that the noise has, of 255.
        fields: how many base fields they are blended from.
    """

    name: str
    count: int
    width: int
    height: int
    contrast: float
    fields: int


#: About 1 MB each at quality 90.
LARGE = Corpus("large", 300, 1800, 2400, 28, 8)
#: About 1.5 KB each.
SMALL = Corpus("small", 6000, 60, 80, 8, 64)
TWELVE_MEGAPIXELS = Corpus("twelve-megapixels", 40, 4000, 3000, 28, 4)


def cache_folder() -> Path:
    """Where what is costly to make again is kept between runs."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "lookbook-benchmarks"


def folder_of(corpus: Corpus) -> Path:
    """The folder with the photos of a corpus; drawn now unless it is there, whole and of this version."""
    folder = cache_folder() / f"{corpus.name}-{corpus.count}"
    marker, wanted = folder.with_suffix(".json"), json.dumps(asdict(corpus) | {"version": VERSION})
    if not marker.exists() or marker.read_text(encoding="utf-8") != wanted:
        marker.unlink(missing_ok=True)
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
        with ProcessPoolExecutor(os.cpu_count()) as pool:
            for _ in pool.map(partial(_save, corpus, folder), range(corpus.count), chunksize=8):
                pass
        marker.write_text(wanted, encoding="utf-8")
    for path in folder.iterdir():
        path.read_bytes()  # all contenders find the files in the system's cache
    return folder


def natural_field(width: int, height: int, seed: int) -> Field:
    """Noise of a 1/f amplitude spectrum, mean 0, standard deviation 1, shape (height, width)."""
    random = np.random.default_rng(seed)
    spectrum = np.fft.rfft2(random.standard_normal((height, width), dtype=np.float32))
    frequency = np.hypot(np.fft.fftfreq(height)[:, None], np.fft.rfftfreq(width)[None])
    frequency[0, 0] = 1e9  # the mean is none of it
    lens = np.exp(-((frequency / LENS) ** 2))
    field = np.fft.irfft2(spectrum * lens / frequency, s=(height, width))
    return np.asarray(field / field.std(), dtype=np.float32)


@cache
def _fields(corpus: Corpus) -> list[Field]:
    return [natural_field(corpus.width, corpus.height, seed) for seed in range(corpus.fields)]


def photo(corpus: Corpus, number: int) -> Image.Image:
    """One photo of a corpus, mode YCbCr: the same for the same number."""
    random = np.random.default_rng([corpus.width, number])
    luma = np.float32(0.8) * _shifted(corpus, random) + np.float32(0.6) * _shifted(corpus, random)
    planes = [_bytes(np.float32(corpus.contrast) * luma, random.uniform(90, 160))]
    planes += [
        _bytes(np.float32(corpus.contrast * CHROMA) * _shifted(corpus, random), random.uniform(108, 148))
        for _ in range(2)
    ]
    image = Image.merge("YCbCr", [Image.fromarray(plane) for plane in planes])
    _add_shapes(image, random)
    return image


def _shifted(corpus: Corpus, random: np.random.Generator) -> Field:
    fields = _fields(corpus)
    field = fields[random.integers(len(fields))][:: random.choice((1, -1)), :: random.choice((1, -1))]
    return np.roll(field, (random.integers(corpus.height), random.integers(corpus.width)), (0, 1))


def _bytes(field: Field, mean: float) -> NDArray[np.uint8]:
    return np.asarray(np.clip(field + np.float32(mean), 0, 255), dtype=np.uint8)


def _add_shapes(image: Image.Image, random: np.random.Generator) -> None:
    """Lay translucent shapes over the photo: sharp edges that leave the texture to be seen."""
    width, height = image.size
    for _ in range(int(random.integers(3, 8))):
        left, top = random.uniform(0, width), random.uniform(0, height)
        box = (left, top, left + random.uniform(0.05, 0.5) * width, top + random.uniform(0.05, 0.5) * height)
        mask = Image.new("L", image.size)
        draw = ImageDraw.Draw(mask)
        (draw.ellipse if random.random() < 0.5 else draw.rectangle)(box, fill=int(random.integers(60, 140)))  # noqa: PLR2004
        image.paste(tuple(int(value) for value in random.integers(30, 226, 3)), mask=mask)


def _save(corpus: Corpus, folder: Path, number: int) -> None:
    exif = Image.Exif()
    exif[271], exif[272] = "Lookbook", f"Benchmark {number % 7}"  # Make and Model
    exif[306] = f"2024:01:{1 + number % 28:02} 12:00:00"  # DateTime
    photo(corpus, number).save(folder / f"{number:05}.jpg", "JPEG", quality=90, subsampling="4:2:0", exif=exif)
