"""How much of the damage within files is found: copies of photos with bits flipped, bytes zeroed or the end cut off."""

from __future__ import annotations

import random
import shutil
import subprocess
from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from PIL import Image

from benchmarks import corpora
from benchmarks.processes import say
from lookbook.tasks.images.decode import Rejected
from lookbook.tasks.images.recipe import Recipe
from lookbook.tasks.images.render import render
from tests.support.pictures import encoded

#: Of each kind of file and of damage.
COPIES = 200
_HEADER = 1024  # bytes at the start that are left as they are: damage there is nearly always refused

EXPLAINED = """## Damage within files

{copies} copies of photos of the large corpus, at a quarter of their edges, each damaged at one place picked at random
behind its first {header} bytes. *Refused*: no picture can be had. *Flagged*: the picture is there, with
`decode_warnings` and `is_damaged_issue`. The rest is not found. `djpeg -strict`, of libjpeg-turbo, is the reference.

| file | damage | refused | flagged | found | `djpeg -strict` finds |
|---|---|---:|---:|---:|---:|"""

KINDS: dict[str, Callable[[Image.Image], bytes]] = {
    "JPEG": lambda photo: encoded(photo, "JPEG", quality=90),
    "JPEG, progressive": lambda photo: encoded(photo, "JPEG", quality=90, progressive=True),
    "PNG": lambda photo: encoded(photo, "PNG"),
    "WebP": lambda photo: encoded(photo, "WEBP", quality=90),
}


def _bits_flipped(data: bytes, chance: random.Random) -> bytes:
    damaged, start = bytearray(data), chance.randrange(_HEADER, len(data) - 3)
    for place in range(start, start + 3):
        damaged[place] ^= 1 << chance.randrange(8)
    return bytes(damaged)


def _bytes_zeroed(data: bytes, chance: random.Random) -> bytes:
    start = chance.randrange(_HEADER, len(data) - 100)
    return data[:start] + bytes(100) + data[start + 100 :]


def _cut_off(data: bytes, chance: random.Random) -> bytes:
    return data[: chance.randrange(_HEADER, len(data))]


DAMAGE = {"3 bits flipped": _bits_flipped, "100 bytes zeroed": _bytes_zeroed, "cut off": _cut_off}


def section(home: Path, photos: int | None = None) -> str:
    """Damage and look; with `photos`, so many copies, for a trial."""
    copies, chance = photos or COPIES, random.Random(17)  # noqa: S311 - the same damage in every run
    folder = corpora.folder_of(replace(corpora.LARGE, count=min(copies, corpora.LARGE.count)))
    lines = [EXPLAINED.format(copies=copies, header=_HEADER)]
    paths = sorted(folder.iterdir())[:copies]
    small = [Image.open(path).reduce(4) for path in paths]
    for kind, written in KINDS.items():
        for name, damage in DAMAGE.items():
            say(f"{kind}, {name}")
            files = [damage(written(photo), chance) for photo in small]
            seen = Counter(_outcome(data) for data in files)
            strict = _of_djpeg(files, home) if kind.startswith("JPEG") else ""
            found = seen["refused"] + seen["flagged"]
            lines.append(f"| {kind} | {name} | {seen['refused']} | {seen['flagged']} | {found} | {strict} |")
    return "\n".join(lines)


def _outcome(data: bytes) -> str:
    try:
        return "flagged" if render(data, Recipe(), ()).asset["decode_warnings"] else "not found"
    except Rejected:
        return "refused"


def _of_djpeg(files: list[bytes], home: Path) -> str:
    """Return how many of the files djpeg refuses when it is told to be strict; "" where it is not installed."""
    if not shutil.which("djpeg"):
        return ""
    target = home / "damaged.jpg"
    found = 0
    for data in files:
        target.write_bytes(data)
        command = ["djpeg", "-strict", "-outfile", "/dev/null", str(target)]
        found += subprocess.run(command, capture_output=True, check=False).returncode != 0  # noqa: S603 - our own file
    return str(found)
