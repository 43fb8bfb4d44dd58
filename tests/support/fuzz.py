"""Damages valid files of every kind and renders them: ``python -m tests.support.fuzz SECONDS SEED [KIND CASE]``.

It runs in a process of its own, which may be killed by a decoder or hang in one: what it does now stands in
the first line of its output that has no successor.
"""

from __future__ import annotations

import faulthandler
import io
import itertools
import json
import math
import random
import resource
import sys
import time
import zlib
from collections import Counter
from collections.abc import Callable

from PIL import Image

from lookbook.tasks.images.recipe import OutputDefinition, Recipe
from lookbook.tasks.images.render import Rejected, Rendered, render
from tests.support.kinds import kinds

RECIPE = Recipe(
    max_image_area=250_000,
    outputs={
        "thumb": OutputDefinition(image_size=32),
        "square": OutputDefinition(image_size=48, resize_mode="center_crop", encode_format="png", colour_mode="grey"),
    },
)
SIZES = {"thumb": (32, 32), "square": (48, 48)}
#: What a single image may take: far more than any of these needs.
LONGEST_SECONDS, MOST_MEMORY = 60, 3 << 30
_LENGTHS = (0, 1, 2, 0x7F, 0x80, 0xFF, 0x7FFF, 0xFFFF, 0x7FFFFFFF, 0x80000000, 0xFFFFFFFF)

Mutation = Callable[[random.Random, bytearray, bytes], None]


def _place(chance: random.Random, data: bytearray) -> int:
    """Somewhere; headers are short and stand in front, so that is where most blows fall."""
    return chance.randrange(min(chance.choice((32, 128, 700, len(data))), len(data)))


def flip_bits(chance: random.Random, data: bytearray, _other: bytes) -> None:
    for _ in range(chance.randint(1, 8)):
        data[_place(chance, data)] ^= 1 << chance.randrange(8)


def set_bytes(chance: random.Random, data: bytearray, _: bytes) -> None:
    start = _place(chance, data)
    count = min(chance.randint(1, 40), len(data) - start)
    data[start : start + count] = chance.choice((bytes(count), b"\xff" * count, chance.randbytes(count)))


def edit_length(chance: random.Random, data: bytearray, _: bytes) -> None:
    size = chance.choice((1, 2, 4))
    start = min(_place(chance, data), len(data) - size)
    there = int.from_bytes(data[start : start + size])
    value = chance.choice((*_LENGTHS, there + 1, there - 1, there * 2)) % 256**size
    data[start : start + size] = value.to_bytes(size, chance.choice(("big", "little")))


def cut(chance: random.Random, data: bytearray, _: bytes) -> None:
    del data[_place(chance, data) + 1 :]


def cut_out(chance: random.Random, data: bytearray, _: bytes) -> None:
    start = _place(chance, data)
    del data[start + 1 : start + 1 + chance.randint(1, 64)]


def repeat(chance: random.Random, data: bytearray, _: bytes) -> None:
    start = _place(chance, data)
    part = data[start : start + chance.randint(1, 200)]
    data[start:start] = part * chance.randint(1, 20)


def splice(chance: random.Random, data: bytearray, other: bytes) -> None:
    start = _place(chance, data)
    data[start + 1 :] = other[chance.randrange(len(other)) :]


def swap(chance: random.Random, data: bytearray, _: bytes) -> None:
    """Two neighbouring pieces change places, as chunks would."""
    first, middle, last = sorted(_place(chance, data) for _ in range(3))
    data[first:last] = data[middle:last] + data[first:middle]


MUTATIONS: tuple[Mutation, ...] = (flip_bits, set_bytes, edit_length, cut, cut_out, repeat, splice, swap)


def mutated(files: dict[str, bytes], kind: str, seed: str) -> bytes:
    """The file of `kind`, damaged once to four times; the same for the same seed."""
    chance = random.Random(seed)  # noqa: S311 - it is to repeat
    data = bytearray(files[kind])
    for _ in range(chance.choice((1, 1, 2, 4))):
        chance.choice(MUTATIONS)(chance, data, files[chance.choice(sorted(files))])
        data = data or bytearray(b"\x00")
    if data.startswith(b"\x89PNG") and chance.random() < 0.8:
        mend_png(data)
    return bytes(data)


def mend_png(data: bytearray) -> None:
    """Right checksums, without which a damaged chunk is not even looked at."""
    start = 8
    while start + 12 <= len(data):
        end = start + 8 + int.from_bytes(data[start : start + 4])
        if end + 4 > len(data):
            return
        data[end : end + 4] = zlib.crc32(data[start + 4 : end]).to_bytes(4)
        start = end + 4


def check(rendered: Rendered) -> None:
    """Raise AssertionError where a result is none that an image may have."""
    asset = rendered.asset
    numbers = [value for value in asset.values() if isinstance(value, float)]
    assert all(math.isfinite(value) for value in numbers), asset
    assert min(asset["original_width"], asset["original_height"]) > 0, asset
    assert asset["original_width"] * asset["original_height"] <= RECIPE.max_image_area, asset
    assert asset["orientation"] in range(1, 9), asset
    assert asset["n_frames"] is None or asset["n_frames"] > 0, asset
    assert all(0 <= asset[f"mean_{colour}"] <= 255 for colour in ("red", "green", "blue")), asset
    for name, file in rendered.files.items():
        image = Image.open(io.BytesIO(file.data))
        image.load()
        assert image.size == (file.width, file.height) == SIZES[name], (name, image.size)


def outcome(data: bytes) -> str:
    """``rendered``, or the rule of the reject."""
    try:
        rendered = render(data, RECIPE, SIZES)
    except Rejected as refused:
        return refused.rule if refused.message else "without a message"
    check(rendered)
    # Pixels that nobody decoded are memory that somebody left, another one each time.
    assert render(data, RECIPE, SIZES) == rendered, "drawn twice, it is not the same"
    return "rendered"


def main(seconds: float, seed: str, only: tuple[str, str] | None = None) -> None:
    """Go through all kinds, again and again, until the time is up; the last line counts the outcomes."""
    resource.setrlimit(resource.RLIMIT_AS, (MOST_MEMORY, MOST_MEMORY))
    files = {name: kind.data for name, kind in kinds().items()}
    end, counts = time.monotonic() + seconds, Counter[str]()
    cases = ((kind, str(number)) for number in itertools.count() for kind in files)
    for kind, number in [only] if only else cases:
        if time.monotonic() > end and number != "0" and not only:  # each kind has its turn once
            break
        print(json.dumps([kind, number]), flush=True)  # noqa: T201 - what is read by whoever started this
        faulthandler.dump_traceback_later(LONGEST_SECONDS, exit=True)
        counts[outcome(mutated(files, kind, f"{seed} {kind} {number}"))] += 1
    faulthandler.cancel_dump_traceback_later()
    print(json.dumps(counts))  # noqa: T201 - as above


if __name__ == "__main__":
    main(float(sys.argv[1]), sys.argv[2], (sys.argv[3], sys.argv[4]) if sys.argv[3:] else None)
