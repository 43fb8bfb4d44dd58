"""Precision and recall of near duplicates: known edits of images against other images."""

from __future__ import annotations

import io
import zipfile
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageEnhance, ImageOps

from benchmarks.near_scale import Perceived
from lookbook.tasks.datasets.near_duplicates import MOST_BITS, confirm, near_pairs, prepare
from lookbook.tasks.datasets.sources.sample import image_file, photo_at
from lookbook.tasks.datasets.sources.sample_drawing import SHAPES, VARIANTS, layers_of
from lookbook.tasks.images.recipe import Recipe
from lookbook.tasks.images.render import render

SAMPLES = 400
#: Of the real photos: pairs that are the same photo by eye, whatever their bytes.
TRUE_BY_EYE = {("images/8723.jpg", "images/9612.jpg")}

Edit = Callable[[Image.Image], Image.Image]


def _resized(factor: float) -> Edit:
    return lambda image: image.resize(
        (max(1, round(image.width * factor)), max(1, round(image.height * factor))), Image.Resampling.LANCZOS
    )


def _cropped(share: float) -> Edit:
    def crop(image: Image.Image) -> Image.Image:
        across, down = (round(edge * share / 2) for edge in image.size)
        return image.crop((across, down, image.width - across, image.height - down))

    return crop


def _brighter(factor: float) -> Edit:
    return lambda image: ImageEnhance.Brightness(image).enhance(factor)


#: By name: the edit, and the quality of the JPEG it is saved as.
REQUIRED: dict[str, tuple[Edit, int]] = {
    "resize to 50 %": (_resized(0.5), 90),
    "resize to 150 %": (_resized(1.5), 90),
    "quality 40": (lambda image: image, 40),
    "quality 70": (lambda image: image, 70),
    "crop 2 %": (_cropped(0.02), 90),
    "brightness +10 %": (_brighter(1.1), 90),
    "brightness −10 %": (_brighter(0.9), 90),  # noqa: RUF001 - a minus
}
BEYOND: dict[str, tuple[Edit, int]] = {
    "crop 5 %": (_cropped(0.05), 90),
    "grey": (lambda image: image.convert("L"), 90),
}


@dataclass(frozen=True)
class Subject:
    """One image: its name, what it is a drawing of (None: a photo), and it and its edits as they are perceived."""

    name: str
    drawing: object
    hashes: NDArray[np.uint64]
    levels: NDArray[np.uint8]


def subjects(archive: Path) -> list[Subject]:
    """The real photos, where they are, and the samples, each with all its edits."""
    with ThreadPoolExecutor(2) as threads:
        return list(threads.map(lambda taken: _subject(*taken), _pictures(archive)))


def perceived(found: list[Subject]) -> Perceived:
    """Hashes and signatures of the unedited images."""
    return np.array([one.hashes[0] for one in found]), np.stack([one.levels[0] for one in found])


def quality_table(found: list[Subject]) -> str:
    """Precision and recall on the half of the images that the limits were not tuned on, and the pairs to look at."""
    tuned, held = found[::2], found[1::2]
    false = [_false_pairs(held, confirmed=confirmed) for confirmed in (False, True)]
    lines = [
        f"| edit ({len(held)} images) | recall | precision | recall, hash alone | precision, hash alone |",
        "|---|---|---|---|---|",
    ]
    hits = np.array([_hits(one) for one in held])  # images, edits, hash and confirmed
    for place, name in enumerate([*REQUIRED, *BEYOND]):
        lines.append(_line(name, hits[:, place : place + 1], false))
    required = hits[:, : len(REQUIRED)]
    lines.append(_line("**required, altogether**", required, false))
    known = np.array([_hits(one) for one in tuned])[:, : len(REQUIRED)]
    for kind, drawn in (("photos", False), ("drawings", True)):
        those = [place for place, one in enumerate(held) if (one.drawing is not None) == drawn]
        if not those:
            continue
        wrong = [[pair for pair in pairs if (pair[1].drawing is not None) == drawn] for pairs in false]
        lines.append(_line(f"of these, {kind}", required[those], wrong))
    lines.append(_line("required, tuned half", known, [_false_pairs(tuned, confirmed=c) for c in (False, True)]))
    photos = sum(one.drawing is None for one in held)
    lines += [
        "",
        f"Negatives: all pairs of these images ({photos} photos, {len(held) - photos} drawings) but those that are the"
        " same drawing in one colour.",
        f"Taken for near duplicates: by the hash alone {_told(false[0])}; confirmed {_told(false[1])}.",
        "Real photos, both halves, that are put together:",
        ", ".join(f"{one} = {other}" for one, other in _false_names(found)) + ".",
    ]
    return "\n".join(lines)


def _line(name: str, hits: NDArray[np.bool_], false: list[list[tuple[Subject, Subject]]]) -> str:
    cells = []
    for kind in (1, 0):
        right, wrong = int(hits[..., kind].sum()), len(false[kind])
        cells += [f"{hits[..., kind].mean():.3f}", f"{right / max(right + wrong, 1):.3f}"]
    return f"| {name} | {' | '.join(cells)} |"


def _told(pairs: list[tuple[Subject, Subject]]) -> str:
    photos = sum(one.drawing is None and other.drawing is None for one, other in pairs)
    return f"{photos} pairs of photos, {len(pairs) - photos} others"


def _pictures(archive: Path) -> Iterator[tuple[str, object, bytes]]:
    if archive.exists():
        with zipfile.ZipFile(archive) as file:
            names = sorted(name for name in file.namelist() if name.endswith(".jpg"))
            yield from ((name, None, file.read(name)) for name in names)
    for index in range(SAMPLES):
        photo = photo_at(index, 1)
        layers = layers_of(photo.article, photo.index // len(SHAPES) % VARIANTS)
        drawing = (repr(layers), photo.colour, photo.size[0] > photo.size[1])
        yield f"sample {index}", drawing, image_file(index, 1)[1]


def _subject(name: str, drawing: object, data: bytes) -> Subject:
    with Image.open(io.BytesIO(data)) as file:
        upright = ImageOps.exif_transpose(file).convert("RGB")
    versions = [data]
    for edit, quality in (REQUIRED | BEYOND).values():
        saved = io.BytesIO()
        edit(upright).save(saved, "JPEG", quality=quality)
        versions.append(saved.getvalue())
    assets = [render(version, Recipe(), ()).asset for version in versions]
    hashes = np.array([int(asset["phash"], 16) for asset in assets], np.uint64)
    return Subject(name, drawing, hashes, np.stack([np.frombuffer(a["signature"], np.uint8) for a in assets]))


def _hits(subject: Subject) -> NDArray[np.bool_]:
    """For each edit whether the hash finds it, and whether pixels confirm that."""
    by_hash = np.bitwise_count(subject.hashes[1:] ^ subject.hashes[0]) <= MOST_BITS
    others = np.arange(1, len(subject.hashes))
    confirmed = confirm(prepare(subject.levels), np.zeros_like(others), others) <= 1
    return np.column_stack([by_hash, by_hash & confirmed])


def _false_pairs(found: list[Subject], *, confirmed: bool) -> list[tuple[Subject, Subject]]:
    """Pairs of different images that are taken for near duplicates."""
    hashes, levels = perceived(found)
    signatures = prepare(levels)
    pairs = set()
    for one, other in near_pairs(hashes, len(found), len(found)):
        near = confirm(signatures, one, other) <= (1 if confirmed else np.inf)
        pairs |= set(zip(one[near].tolist(), other[near].tolist(), strict=True))
    named = [(found[one], found[other]) for one, other in sorted(pairs)]
    return [pair for pair in named if not _same(*pair)]


def _same(one: Subject, other: Subject) -> bool:
    drawn_alike = one.drawing is not None and one.drawing == other.drawing
    return drawn_alike or (one.name, other.name) in TRUE_BY_EYE


def _false_names(found: list[Subject]) -> list[tuple[str, str]]:
    photos = [one for one in found if one.drawing is None]
    if not photos:
        return []
    return [(one.name, other.name) for one, other in _false_pairs(photos, confirmed=True)] + sorted(TRUE_BY_EYE)
