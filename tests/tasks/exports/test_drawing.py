"""Steps of recipes: pixels as others make them, random numbers that no order and no neighbour changes."""

from __future__ import annotations

import io
import math
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image, ImageEnhance, ImageOps

from lookbook.tasks.exports.drawing import Job, Lots, ask, draw_copies, draw_image, part_of, processes
from lookbook.tasks.exports.recipes import Crop, ExportRecipe, Resize, built_in
from lookbook.tasks.images.decode import Rejected
from lookbook.tasks.images.recipe import Recipe
from tests.support.pictures import encoded, natural, pixels, psnr

SHA256 = "ab" * 32
LIMITS = Recipe()


def recipe(*steps: dict[str, Any], **values: Any) -> ExportRecipe:
    return ExportRecipe.model_validate({"steps": list(steps), "encode_format": "png", "speed": "exact"} | values)


def drawn(data: bytes, wanted: ExportRecipe, copy: int | None = None, seed: int = 0) -> np.ndarray[Any, Any]:
    lots = None if copy is None else Lots(seed, SHA256, copy)
    return pixels(draw_copies(data, wanted, LIMITS, [lots])[0].data)


PICTURE = natural(90, 60)
PNG = encoded(PICTURE, "PNG")


@pytest.mark.parametrize("size", [(32, 32), (20, 40), (90, 60), (120, 30)])
def test_a_crop_from_the_middle_is_what_pillows_fit_gives(size: tuple[int, int]) -> None:
    found = drawn(PNG, recipe({"step": "crop", "size": list(size)}))
    expected = ImageOps.fit(PICTURE, size, Image.Resampling.LANCZOS)
    assert np.abs(found - np.asarray(expected).astype(np.int16)).max() <= 1


@pytest.mark.parametrize(
    ("mode", "size"), [("shorter", (48, 32)), ("longer", (32, 21)), ("stretch", (32, 32)), ("border", (32, 32))]
)
def test_a_resize_has_the_size_of_its_mode(mode: str, size: tuple[int, int]) -> None:
    found = drawn(PNG, recipe({"step": "resize", "size": 32, "mode": mode}))
    assert found.shape == (size[1], size[0], 3)
    if mode == "border":
        assert (found[0] == 255).all()
    else:
        expected = PICTURE.resize(size, Image.Resampling.LANCZOS)
        assert np.abs(found - np.asarray(expected).astype(np.int16)).max() <= 1


@pytest.mark.parametrize("orientation", range(1, 9))
def test_a_part_of_a_turned_photo_is_that_of_the_upright_one(orientation: int) -> None:
    upright = natural(160, 120)
    back = {2: 2, 3: 3, 4: 4, 5: 5, 6: 8, 7: 7, 8: 6}
    exif = Image.Exif()
    exif[0x0112] = orientation
    stored = upright
    if orientation > 1:
        turning = Image.Exif()
        turning[0x0112] = back[orientation]
        turned = Image.open(io.BytesIO(encoded(upright, "PNG", exif=turning)))
        stored = ImageOps.exif_transpose(turned)
        stored.info = {}
    wanted = recipe({"step": "crop", "size": [30, 20], "mode": "random", "scale": [0.1, 0.3], "ratio": [1.5, 1.5]})
    expected = drawn(encoded(upright, "PNG"), wanted, copy=3)
    assert psnr(drawn(encoded(stored, "PNG", exif=exif), wanted, copy=3), expected) > 45
    for speed in ("fast", "exact"):
        photo = encoded(stored, "JPEG", quality=97, exif=exif)
        assert psnr(drawn(photo, wanted.model_copy(update={"speed": speed}), copy=3), expected) > 30


def test_a_photo_decoded_small_looks_like_one_decoded_whole() -> None:
    photo = encoded(natural(1200, 900), "JPEG", quality=95)
    for step in ({"step": "crop", "size": 64}, {"step": "resize", "size": 64}):
        fast, exact = (drawn(photo, recipe(step, speed=speed)) for speed in ("fast", "exact"))
        assert psnr(fast, exact) > 38


def test_steps_that_keep_the_size_do_what_pillow_does() -> None:
    whole = np.asarray(PICTURE).astype(np.int16)
    always = {"probability": 1.0}
    assert (drawn(PNG, recipe({"step": "flip"} | always), copy=0) == whole[:, ::-1]).all()
    assert (drawn(PNG, recipe({"step": "flip", "direction": "vertical"} | always), copy=0) == whole[::-1]).all()
    assert (drawn(PNG, recipe({"step": "flip", "probability": 0.0}), copy=0) == whole).all()
    turned = drawn(PNG, recipe({"step": "rotate", "degrees": [180, 180]}), copy=0)
    assert (turned == whole[::-1, ::-1]).all()
    corner = drawn(PNG, recipe({"step": "rotate", "degrees": [45, 45]}, background="#102030"), copy=0)[0, 0]
    assert corner.tolist() == [0x10, 0x20, 0x30]


def test_jitter_is_pillows_by_factors_within_its_bounds() -> None:
    step = {"step": "colour_jitter", "brightness": 0.5, "contrast": 0, "saturation": 0}
    factors = []
    for copy in range(20):
        found = drawn(PNG, recipe(step), copy=copy)
        factor = 1 + 0.5 * (2 * Lots(0, SHA256, copy).number(0, 1) - 1)
        assert (found == np.asarray(ImageEnhance.Brightness(PICTURE).enhance(factor)).astype(np.int16)).all()
        factors.append(factor)
    assert 0.5 <= min(factors) < 0.8
    assert 1.2 < max(factors) < 1.5
    plain = {"step": "colour_jitter", "brightness": 0, "contrast": 0, "saturation": 0, "hue": 0.5}
    assert not (drawn(PNG, recipe(plain), copy=0) == np.asarray(PICTURE)).all()


def test_normalised_levels_are_those_of_the_formula() -> None:
    wanted = built_in("tensor-16")
    assert wanted is not None
    data = draw_copies(PNG, wanted, LIMITS, [None])[0].data
    found = np.load(io.BytesIO(data), allow_pickle=False)
    square = draw_copies(PNG, recipe({"step": "crop", "size": 16}, speed="fast"), LIMITS, [None])[0].data
    levels = pixels(square).astype(np.float64) / 255
    expected = ((levels - [0.485, 0.456, 0.406]) / [0.229, 0.224, 0.225]).transpose(2, 0, 1)
    assert (found.dtype, found.shape) == (np.float32, (3, 16, 16))
    assert np.abs(found - expected).max() < 1e-5


def test_grey_has_one_channel_in_files_and_in_arrays() -> None:
    wanted = recipe({"step": "crop", "size": 8}, colour_mode="grey")
    assert drawn(PNG, wanted).shape == (8, 8)
    normalise = {"step": "normalise", "mean": [0.5], "std": [0.5]}
    arrays = recipe({"step": "crop", "size": 8}, normalise, colour_mode="grey", encode_format="npy")
    data = draw_copies(PNG, arrays, LIMITS, [None])[0].data
    assert np.load(io.BytesIO(data), allow_pickle=False).shape == (1, 8, 8)


TRAIN = built_in("train-24") or pytest.fail("no recipe")


def test_a_copy_is_the_same_whatever_else_is_drawn_and_in_whatever_order() -> None:
    photo = encoded(natural(300, 200), "JPEG")
    alone = [draw_copies(photo, TRAIN, LIMITS, [Lots(5, SHA256, copy)])[0].data for copy in range(4)]
    lots: list[Lots | None] = [Lots(5, SHA256, copy) for copy in (2, 0, 3, 1)]
    together = [file.data for file in draw_copies(photo, TRAIN, LIMITS, lots)]
    assert together == [alone[2], alone[0], alone[3], alone[1]]
    assert len(set(alone)) == 4


@pytest.mark.parametrize("other", [Lots(6, SHA256, 0), Lots(5, "cd" * 32, 0), Lots(5, SHA256, 1)])
def test_another_seed_content_or_copy_draws_otherwise(other: Lots) -> None:
    assert draw_copies(PNG, TRAIN, LIMITS, [Lots(5, SHA256, 0)]) != draw_copies(PNG, TRAIN, LIMITS, [other])


def test_without_lots_nothing_is_random_and_nothing_is_augmented() -> None:
    plain = draw_copies(PNG, TRAIN, LIMITS, [None])
    square = built_in("square-24")
    assert square is not None
    assert plain == draw_copies(PNG, square, LIMITS, [None])
    flip = recipe({"step": "flip", "probability": 1.0})
    assert (drawn(PNG, flip) == np.asarray(PICTURE)).all()


def test_the_process_draws_what_this_one_draws() -> None:
    job = Job(recipe=TRAIN, limits=LIMITS, seed=9)
    assert ask(processes(), PNG, job, SHA256, 3, small=True) == draw_image(PNG, job, SHA256, 3, small=True)
    with pytest.raises(Rejected, match="not_an_image"):
        ask(processes(), b"<html>", job, SHA256, 1, small=False)


@given(
    width=st.integers(1, 5000),
    height=st.integers(1, 5000),
    low=st.floats(0.01, 1),
    high=st.floats(0.01, 1),
    copy=st.integers(0, 100),
)
@settings(deadline=None)
def test_a_random_part_lies_within_the_image_with_the_area_and_shape_that_are_asked(
    width: int, height: int, low: float, high: float, copy: int
) -> None:
    low, high = sorted((low, high))
    step = Crop(step="crop", size=10, mode="random", scale=(low, high), ratio=(0.5, 2))
    (left, top, right, bottom), size = part_of((width, height), step, lambda n: Lots(1, SHA256, copy).number(0, n))
    assert size == (10, 10)
    assert 0 <= left < right <= width
    assert 0 <= top < bottom <= height
    across, down = right - left, bottom - top
    if across > 20 and down > 20:  # rounding to whole pixels tells on smaller ones
        assert 0.45 < across / down < 2.2
        in_middle = math.isclose(left, (width - across) / 2) and math.isclose(top, (height - down) / 2)
        assert in_middle or low * 0.9 < across * down / (width * height) < high * 1.1


@given(width=st.integers(1, 5000), height=st.integers(1, 5000), mode=st.sampled_from(["shorter", "longer", "border"]))
@settings(deadline=None)
def test_a_resized_image_keeps_its_shape(width: int, height: int, mode: Any) -> None:
    _, (across, down) = part_of((width, height), Resize(step="resize", size=100, mode=mode), lambda _: 0.0)
    assert (min if mode == "shorter" else max)(across, down) == 100
    ratio = width / height
    assert abs(across - down * ratio) <= 0.51 * max(1, ratio) or min(across, down) == 1


def test_an_output_beyond_all_measure_is_refused() -> None:
    line = encoded(Image.new("RGB", (4000, 1)), "PNG")
    with pytest.raises(Rejected, match="aspect_ratio"):
        draw_copies(line, recipe({"step": "resize", "size": 4096}), LIMITS, [None])
