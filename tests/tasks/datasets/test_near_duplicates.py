"""Groups of near duplicates: confirmed on pixels, around one image each, whatever the order of rows."""

from __future__ import annotations

import io
import itertools
from collections.abc import Callable

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image, ImageDraw, ImageEnhance

from lookbook.tasks.datasets.links import key_order
from lookbook.tasks.datasets.near_duplicates import (
    MOST_BITS,
    _first_with_signature,
    confirm,
    group_near_duplicates,
    prepare,
)
from lookbook.tasks.images.measure import SIGNATURE_BYTES, perceive
from lookbook.tasks.images.recipe import Recipe
from lookbook.tasks.images.render import render
from tests.support.desks import near_duplicates
from tests.support.pictures import encoded, natural

PHOTO = natural(192, 256)
PICTURES = [np.random.default_rng(seed).integers(20, 190, SIGNATURE_BYTES) for seed in range(3)]


def signatures(*pictures: Image.Image) -> np.ndarray:
    return np.stack([np.frombuffer(perceive(picture.convert("RGB"))["signature"], np.uint8) for picture in pictures])


def apart(one: Image.Image, other: Image.Image) -> float:
    prepared = prepare(signatures(one, other))
    there = confirm(prepared, np.array([0]), np.array([1]))
    back = confirm(prepared, np.array([1]), np.array([0]))
    assert there == back
    return float(there[0])


def shirt(colour: str, background: str = "white") -> Image.Image:
    image = Image.new("RGB", (192, 256), background)
    image.paste(colour, (48, 40, 144, 220))
    return image


@pytest.mark.parametrize(
    "edited",
    [
        PHOTO.resize((96, 128)).resize((192, 256)),
        ImageEnhance.Brightness(PHOTO).enhance(0.9),
        ImageEnhance.Brightness(PHOTO).enhance(1.1),
        ImageEnhance.Contrast(PHOTO).enhance(0.9),
        PHOTO.crop((2, 2, 190, 254)),
        PHOTO.convert("L"),
    ],
    ids=["smaller", "darker", "brighter", "paler", "cropped", "grey"],
)
def test_edited_pictures_are_confirmed(edited: Image.Image) -> None:
    assert 0 < apart(PHOTO, edited) <= 1
    assert apart(edited, edited) == pytest.approx(0, abs=0.01)


@pytest.mark.parametrize(
    ("one", "other"),
    [
        (PHOTO, natural(192, 256, seed=8)),
        (shirt("#303030"), shirt("#303070")),
        (shirt("#b9343a"), shirt("#4c7d55")),
        (shirt("#f4f4f4"), Image.new("RGB", (192, 256), "white")),
        (Image.new("L", (9, 9), 0), Image.new("L", (9, 9), 255)),
        (PHOTO, Image.eval(PHOTO, lambda level: 255 - level)),
    ],
    ids=["other picture", "other colour", "red and green", "pale and empty", "black and white", "negative"],
)
def test_other_pictures_are_not(one: Image.Image, other: Image.Image) -> None:
    assert apart(one, other) > 1


@pytest.mark.parametrize("light", [26, 27])
def test_the_limit_of_brightness_is_where_it_is_said_to_be(light: int) -> None:
    levels = np.stack([PICTURES[0], PICTURES[0]]).astype(np.uint8)
    levels[1, :256] += light
    assert (confirm(prepare(levels), np.array([0]), np.array([1]))[0] <= 1) == (light <= 26)
    stars = group_near_duplicates(np.zeros(2, np.uint64), levels, np.arange(2))
    assert (stars.canonical[1] == 0) == (light <= 26)


@pytest.mark.parametrize("by", [3, 5])
def test_the_limit_of_colour_is_over_what_is_not_white(by: int) -> None:
    """One eighth of the image is shown: its colours are not thinned by the white around it."""
    levels = np.full((2, SIGNATURE_BYTES), 255, np.uint8)
    levels[:, 256:] = 128
    levels[:, 6 * 16 : 8 * 16] = 90  # two rows of luma are one of chroma
    levels[0, 256 + 24 : 256 + 32] = 150
    levels[1, 256 + 24 : 256 + 32] = 150 + by
    assert confirm(prepare(levels), np.array([0]), np.array([1]))[0] == pytest.approx(by / 4)


@pytest.mark.parametrize("by", [8, 10])
def test_the_limit_of_luma_is_what_the_other_does_not_explain(by: int) -> None:
    """A pattern of 60 levels, and on it one of `by` levels that is at right angles to it."""
    across, down = np.meshgrid(np.arange(16), np.arange(16))
    levels = np.full((2, SIGNATURE_BYTES), 128, np.uint8)
    levels[:, :256] = (128 + 60 * (-1) ** across).ravel()
    levels[1, :256] = (128 + 60 * (-1) ** across + by * (-1) ** down).ravel()
    assert confirm(prepare(levels), np.array([0]), np.array([1]))[0] == pytest.approx(by / 9, rel=1e-3)


def test_equal_sums_of_other_signatures_are_not_taken_for_copies() -> None:
    weights = np.random.default_rng(0).integers(0, 2**64, SIGNATURE_BYTES // 8, np.uint64) | np.uint64(1)
    words = np.zeros((3, len(weights)), np.uint64)
    words[1, 0], words[1, 1] = weights[1], ~weights[0] + np.uint64(1)  # their products cancel out
    first = _first_with_signature(words.view(np.uint8), np.arange(3))
    assert first.tolist() == [0, 1, 0]


def test_two_halves_of_other_colours_are_not_confirmed() -> None:
    """Colours are compared place by place, in cells of an eighth of the image."""
    striped = [Image.new("RGB", (192, 256), "#808080") for _ in range(2)]
    for row in range(8):
        for image, shift in zip(striped, (0, 1), strict=True):
            image.paste("#806070" if (row + shift) % 2 else "#508590", (0, 32 * row, 192, 32 * row + 32))
    lit = [np.asarray(image.convert("YCbCr")).copy() for image in striped]
    for pixels in lit:
        pixels[..., 0] = np.asarray(PHOTO.convert("L"))  # the same luma
    one, other = (Image.fromarray(pixels, "YCbCr").convert("RGB") for pixels in lit)
    assert apart(one, other) > 1


#: Images in a few families: a hash with flipped bits, and a picture that is brighter by some levels.
FAMILIES = st.lists(
    st.tuples(st.integers(0, 2), st.sets(st.integers(0, 63), max_size=6), st.integers(0, 60)), min_size=1, max_size=14
)


def images(made: list[tuple[int, set[int], int]]) -> tuple[np.ndarray, np.ndarray]:
    hashes = np.array([(family * 0x5555_5555_5555_5555) ^ sum(1 << b for b in bits) for family, bits, _ in made])
    levels = np.stack([PICTURES[family].copy() for family, _, _ in made])
    levels[:, :256] += np.array([light for *_, light in made])[:, None]
    return hashes.astype(np.uint64), levels.astype(np.uint8)


def reference(hashes: np.ndarray, levels: np.ndarray) -> list[int]:
    """Each with each: the first near no centre before it is a centre, all others belong to the nearest one."""
    prepared, count = prepare(levels), len(hashes)
    near: dict[tuple[int, int], float] = {}
    for one, other in itertools.combinations(range(count), 2):
        distance = float(confirm(prepared, np.array([one]), np.array([other]))[0])
        same = bool((levels[one] == levels[other]).all())
        if same or (distance <= 1 and (int(hashes[one]) ^ int(hashes[other])).bit_count() <= MOST_BITS):
            near[one, other] = -1.0 if same else distance
    centres: list[int] = []
    chosen = []
    for row in range(count):
        reached = [(near[centre, row], centre) for centre in centres if (centre, row) in near]
        chosen.append(min(reached)[1] if reached else row)
        if not reached:
            centres.append(row)
    return chosen


@settings(deadline=None)
@given(FAMILIES)
def test_groups_are_those_of_a_comparison_of_each_with_each(made: list[tuple[int, set[int], int]]) -> None:
    _, first = np.unique(images(made)[1], axis=0, return_index=True)  # equal signatures have a test of their own
    hashes, levels = (values[np.sort(first)] for values in images(made))
    assert group_near_duplicates(hashes, levels, np.arange(len(levels))).canonical.tolist() == reference(hashes, levels)


def test_no_member_is_far_from_its_canonical_image_however_long_the_chain() -> None:
    """Each is as good as the same as the next, the first and the last are another picture."""
    first, last = (np.random.default_rng(seed).integers(0, 256, SIGNATURE_BYTES) for seed in (1, 2))
    steps = np.linspace(0, 1, 400)[:, None]
    levels = np.round(first * (1 - steps) + last * steps).astype(np.uint8)
    prepared = prepare(levels)
    assert (confirm(prepared, np.arange(399), np.arange(1, 400)) <= 1).all()
    stars = group_near_duplicates(np.zeros(400, np.uint64), levels, np.arange(400))
    members = np.flatnonzero(stars.canonical != np.arange(400))
    assert len(members) > 200
    assert (confirm(prepared, members, stars.canonical[members]) <= 1).all()
    assert stars.canonical[399] != 0


def test_thousands_of_white_images_are_one_group() -> None:
    levels = np.repeat(signatures(Image.new("RGB", (64, 64), "white")), 5000, axis=0)
    levels[4000:, 0] = 254  # and some with a speck
    stars = group_near_duplicates(np.zeros(5000, np.uint64), levels, np.arange(5000))
    assert (stars.canonical == 0).all()
    assert stars.distances[:4000].tolist() == [0] * 4000


def table(pictures: dict[str, Image.Image]) -> pa.Table:
    return pa.Table.from_pylist([{"key": key} | perceive(picture.convert("RGB")) for key, picture in pictures.items()])


SHOWN = {
    "a.jpg": PHOTO,
    "deep/b.jpg": ImageEnhance.Brightness(PHOTO).enhance(0.95),
    "c.jpg": ImageEnhance.Brightness(PHOTO).enhance(0.9),
}
OTHER = {"other.jpg": natural(192, 256, seed=8)}


def test_a_catalogued_image_is_canonical_else_the_shallowest() -> None:
    found = near_duplicates(table(SHOWN), {"deep/b.jpg": "7"})
    assert {key: canonical for key, (canonical, _) in found.items()} == dict.fromkeys(SHOWN, "deep/b.jpg")
    assert near_duplicates(table(SHOWN), {})["deep/b.jpg"][0] == "a.jpg"


def test_what_is_in_no_group_is_not_told_and_scores_are_distances() -> None:
    found = near_duplicates(table(SHOWN | OTHER), {})
    assert set(found) == set(SHOWN)
    assert 0 < found["a.jpg"][1] <= found["c.jpg"][1] < 1


def test_an_image_without_a_hash_is_in_no_group() -> None:
    rejected = pa.Table.from_pylist([{"key": "bad.jpg", "phash": None, "signature": None}, *table(SHOWN).to_pylist()])
    assert near_duplicates(rejected, {}) == near_duplicates(table(SHOWN), {})


#: Shapes as of logos, on a canvas of 100x100.
SHAPES: dict[str, Callable[[ImageDraw.ImageDraw, tuple[int, ...]], None]] = {
    "ring": lambda draw, ink: draw.ellipse((15, 15, 85, 85), outline=ink, width=14),
    "cross": lambda draw, ink: draw.line((20, 20, 80, 80), fill=ink, width=16),
    "flag": lambda draw, ink: draw.polygon([(20, 10), (90, 30), (20, 55)], fill=ink),
}


def logo(shape: str, ink: tuple[int, ...], size: tuple[int, int] = (400, 400), mode: str = "RGBA") -> bytes:
    """A shape on transparent ground, as a PNG."""
    image = Image.new("RGBA", (100, 100), (*ink, 0))
    SHAPES[shape](ImageDraw.Draw(image), (*ink, 255))
    return encoded(image.resize(size, Image.Resampling.BICUBIC).convert(mode), "PNG")


def groups_of(files: dict[str, bytes]) -> dict[str, str | None]:
    """The canonical image of each, as the job finds it from the files' bytes."""
    states = [{"key": key} | render(data, Recipe(), []).asset for key, data in files.items()]
    schema = pa.schema({"key": pa.string(), "phash": pa.string(), "signature": pa.binary()})
    found = near_duplicates(pa.Table.from_pylist(states, schema), {})
    canonical = {key: found[key][0] if key in found else key for key in files}
    return {key: None if key == other else other for key, other in canonical.items()}


@pytest.mark.parametrize("mode", ["RGBA", "LA"])
def test_white_shapes_on_transparent_ground_are_alike_by_their_shape_alone(mode: str) -> None:
    white = (255, 255, 255)
    files = {f"{shape}.png": logo(shape, white, mode=mode) for shape in SHAPES}
    files |= {f"small/{shape}.png": logo(shape, white, (150, 150), mode) for shape in SHAPES}
    files["small/nothing.png"] = encoded(Image.new(mode, (200, 200), 0), "PNG")
    groups = groups_of(files)
    assert groups == {key: key.removeprefix("small/") if "small/" in key else None for key in files} | {
        "small/nothing.png": None
    }


def test_a_cut_out_is_like_its_photo_on_white_and_a_colour_unlike_another() -> None:
    red, yellow = (200, 30, 40), (255, 255, 190)
    on_white = Image.new("RGB", (400, 400), "white")
    cut_out = Image.open(io.BytesIO(logo("flag", red)))
    on_white.paste(cut_out, mask=cut_out)
    files = {"flag.png": logo("flag", red), "z.jpg": encoded(on_white, "JPEG", quality=90)}
    files |= {"white.png": logo("ring", (255, 255, 255)), "yellow.png": logo("ring", yellow)}
    assert groups_of(files) == {"flag.png": None, "z.jpg": "flag.png", "white.png": None, "yellow.png": None}


@pytest.mark.parametrize("alpha", [None, 255])
def test_what_is_not_transparent_is_perceived_as_ever(alpha: int | None) -> None:
    light = Image.fromarray((240 + np.asarray(PHOTO) // 17).astype(np.uint8))
    if alpha is not None:
        light.putalpha(alpha)
    found = render(encoded(light, "PNG"), Recipe(), []).asset
    plain = perceive(light.convert("RGB"))
    assert (found["phash"], found["signature"]) == (plain["phash"], plain["signature"])


@settings(deadline=None, max_examples=30)
@given(st.lists(st.text("aZé/\uffff\U0001f600", max_size=4), unique=True), st.data())
def test_images_that_look_the_same_belong_to_the_first_that_is_named_then_the_shallowest(
    keys: list[str], data: st.DataObject
) -> None:
    named = {key: "1" for key in keys if data.draw(st.booleans())}
    (alike,) = table({"one": PHOTO}).to_pylist()
    images = pa.Table.from_pylist([alike | {"key": key} for key in keys], table({"one": PHOTO}).schema)
    found = near_duplicates(images, named)
    first = min(keys, key=lambda key: (key not in named, *key_order(key)), default="")
    assert found == (dict.fromkeys(keys, (first, 0)) if len(keys) > 1 else {})


def test_a_signature_of_another_length_is_refused() -> None:
    states = pa.Table.from_pylist([{"key": "a.jpg", "phash": "0" * 16, "signature": b"short"}])
    with pytest.raises(ValueError, match=r"\[5\] bytes"):
        near_duplicates(states, {})


def test_no_images_have_no_duplicates() -> None:
    assert near_duplicates(table({"a.jpg": PHOTO}).slice(0, 0), {}) == {}
