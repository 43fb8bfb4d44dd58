"""Geometry, orientation, borders and encoding of outputs."""

from __future__ import annotations

import io
from decimal import ROUND_HALF_EVEN, Decimal

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from lookbook.tasks.images.draw import encode, finish, flatten, geometry, resample, turn_upright
from lookbook.tasks.images.recipe import OutputDefinition, ResizeMode
from tests.support.pictures import natural

SIZES = [(1800, 2400), (2400, 1800), (60, 80), (512, 512), (1, 1), (333, 777), (10_000, 1)]


@pytest.mark.parametrize(
    ("mode", "expected"),
    [
        # Worked out by hand for 512, in the order of SIZES.
        ("border", [(384, 512), (512, 384), (384, 512), (512, 512), (512, 512), (219, 512), (512, 1)]),
        ("keep_ratio_largest", [(384, 512), (512, 384), (384, 512), (512, 512), (512, 512), (219, 512), (512, 1)]),
        ("keep_ratio", [(512, 683), (683, 512), (512, 683), (512, 512), (512, 512), (512, 1195), (5_120_000, 512)]),
        ("center_crop", [(512, 512)] * 7),
        ("no", SIZES),
    ],
)
def test_drawn_sizes_of_each_mode(mode: ResizeMode, expected: list[tuple[int, int]]) -> None:
    definition = OutputDefinition(resize_mode=mode)
    plans = [geometry(size, definition) for size in SIZES]
    assert [plan.drawn for plan in plans] == expected
    assert [plan.canvas for plan in plans] == ([(512, 512)] * 7 if mode == "border" else expected)


@pytest.mark.parametrize(
    ("mode", "size", "drawn", "canvas"),
    [
        ("border", (60, 80), (60, 80), (60, 80)),
        ("border", (60, 800), (38, 512), (512, 512)),
        ("keep_ratio_largest", (60, 80), (60, 80), (60, 80)),
        ("keep_ratio_largest", (1024, 80), (512, 40), (512, 40)),
        ("keep_ratio", (600, 400), (600, 400), (600, 400)),
        ("keep_ratio", (1200, 1024), (600, 512), (600, 512)),
        ("center_crop", (600, 400), (600, 400), (600, 400)),
        ("center_crop", (600, 513), (512, 512), (512, 512)),
        ("no", (600, 400), (600, 400), (600, 400)),
    ],
)
def test_only_if_bigger_never_scales_up(
    mode: ResizeMode, size: tuple[int, int], drawn: tuple[int, int], canvas: tuple[int, int]
) -> None:
    plan = geometry(size, OutputDefinition(resize_mode=mode, resize_only_if_bigger=True))
    assert (plan.drawn, plan.canvas) == (drawn, canvas)


@settings(max_examples=200, deadline=None)
@given(
    st.integers(1, 20_000),
    st.integers(1, 20_000),
    st.integers(1, 4000),
    st.sampled_from(["keep_ratio", "keep_ratio_largest"]),
)
def test_rounding_is_exact_for_any_size(width: int, height: int, edge: int, mode: ResizeMode) -> None:
    plan = geometry((width, height), OutputDefinition(image_size=edge, resize_mode=mode))
    measured = max(width, height) if mode == "keep_ratio_largest" else min(width, height)
    for drawn, stored in zip(plan.drawn, (width, height), strict=True):
        exact = (Decimal(stored) * edge / measured).quantize(Decimal(1), ROUND_HALF_EVEN)
        assert drawn == max(1, int(exact))


def stored_as(upright: np.ndarray[tuple[int, ...], np.dtype[np.uint8]], orientation: int) -> object:
    """The pixels that a camera stores with this orientation (Exif 2.32, 4.6.4 A, Orientation).

    The standard says which side of the scene the stored row 0 and column 0 are: 2 is top and right, 3 bottom
    and right, 4 bottom and left, 5 left and top, 6 right and top, 7 right and bottom, 8 left and bottom.
    """
    return {
        1: upright,
        2: upright[:, ::-1],
        3: upright[::-1, ::-1],
        4: upright[::-1],
        5: upright.swapaxes(0, 1),
        6: upright.swapaxes(0, 1)[::-1],
        7: upright.swapaxes(0, 1)[::-1, ::-1],
        8: upright.swapaxes(0, 1)[:, ::-1],
    }[orientation]


@pytest.mark.parametrize("orientation", range(1, 9))
def test_every_orientation_is_turned_upright(orientation: int) -> None:
    upright = np.arange(6 * 4 * 3, dtype=np.uint8).reshape(6, 4, 3)
    # Exif 6: stored row 0 is the right side of the scene, stored column 0 its top.
    stored = np.asarray(stored_as(upright, orientation))
    turned = turn_upright(Image.fromarray(np.ascontiguousarray(stored)), orientation)
    assert np.array_equal(np.asarray(turned), upright)


@pytest.mark.parametrize("size", [(300, 100), (100, 300)])
def test_the_middle_square_is_what_is_left_of_the_whole_after_cropping(size: tuple[int, int]) -> None:
    image = natural(*size)
    whole = image.resize((size[0] // 2, size[1] // 2), Image.Resampling.LANCZOS)
    left, top = (whole.width - 50) // 2, (whole.height - 50) // 2
    square = resample(image, size, (50, 50), square=True)
    assert square.tobytes() == whole.crop((left, top, left + 50, top + 50)).tobytes()


def test_a_picture_that_ends_within_the_last_column_is_scaled_from_its_extent() -> None:
    # A scaled decode of 9 pixels by 8 gives 2 columns, of which the second stands for a single pixel.
    image = Image.fromarray(np.array([[0, 255]], dtype=np.uint8))
    assert resample(image, (1.125, 1), (1, 1), square=False).getpixel((0, 0)) == pytest.approx(28, abs=30)
    assert resample(image, (2, 1), (1, 1), square=False).getpixel((0, 0)) == pytest.approx(128, abs=1)


@pytest.mark.parametrize(("size", "corner"), [((7, 10), (2, 0)), ((10, 7), (0, 1)), ((3, 3), (3, 3))])
def test_borders_are_of_the_background_and_nothing_else(size: tuple[int, int], corner: tuple[int, int]) -> None:
    definition = OutputDefinition(image_size=10, encode_format="png", background="#123456")
    framed = np.asarray(finish(Image.new("RGB", size, "red"), (10, 10), definition))
    within = np.zeros((10, 10), bool)
    # Where the pixels left over are odd, the further side has one more, as in img2dataset.
    left, top = (10 - size[0]) // 2, (10 - size[1]) // 2
    assert (left, top) == (corner[0] - (corner[0] == 2), corner[1])
    within[top : top + size[1], left : left + size[0]] = True
    assert (framed[within] == (255, 0, 0)).all()
    assert (framed[~within] == (0x12, 0x34, 0x56)).all()


@pytest.mark.parametrize("mode", ["RGBA", "LA"])
def test_transparency_shows_the_background(mode: str) -> None:
    image = Image.new("RGB", (3, 1), "black").convert(mode)
    image.putalpha(Image.fromarray(np.array([[0, 255, 128]], dtype=np.uint8)))
    flat = np.asarray(flatten(image, "#ff8000")).astype(int)[0]
    assert np.abs(flat - [[255, 128, 0], [0, 0, 0], [127, 64, 0]]).max() <= 1


def test_grey_is_the_luma_of_the_colours_and_of_the_background() -> None:
    definition = OutputDefinition(image_size=4, colour_mode="grey", background="#ff0000")
    image = finish(Image.new("RGB", (4, 2), (10, 200, 30)), (4, 4), definition)
    assert image.mode == "L"
    # ITU-R BT.601: 0.299 red + 0.587 green + 0.114 blue.
    assert np.asarray(image)[:, 0].tolist() == [76, 124, 124, 76]


@pytest.mark.parametrize(("kind", "name"), [("jpeg", "JPEG"), ("png", "PNG"), ("webp", "WEBP"), ("avif", "AVIF")])
@pytest.mark.parametrize("colour", ["rgb", "grey"])
def test_outputs_hold_pixels_and_nothing_else(kind: str, name: str, colour: str) -> None:
    definition = OutputDefinition.model_validate({"encode_format": kind, "colour_mode": colour})
    image = natural(40, 30).convert("L" if colour == "grey" else "RGB")
    image.info = {"icc_profile": b"x" * 200, "comment": b"hello", "exif": b"Exif\x00\x00", "dpi": (72, 72)}
    data = encode(finish(image, image.size, definition), definition)
    opened = Image.open(io.BytesIO(data))
    opened.load()
    assert (opened.format, opened.size) == (name, (40, 30))
    assert image.info["comment"] == b"hello", "others may draw from it yet"
    assert not {"icc_profile", "comment", "exif", "dpi"} & set(opened.info)
    if kind in {"jpeg", "png"}:
        assert opened.mode == image.mode
    assert encode(finish(image, image.size, definition), definition) == data


def test_quality_is_the_size_of_the_file() -> None:
    image = natural(64, 64)
    sizes = [len(encode(image, OutputDefinition(encode_quality=quality))) for quality in (30, 60, 95)]
    assert sizes == sorted(set(sizes))


@pytest.mark.parametrize(("quality", "level"), [(1, 1), (9, 9), (90, 6)])
def test_png_quality_is_the_level_of_its_compression(quality: int, level: int) -> None:
    image, expected = natural(64, 64), io.BytesIO()
    image.save(expected, "PNG", compress_level=level)
    assert encode(image, OutputDefinition(encode_format="png", encode_quality=quality)) == expected.getvalue()


def test_jpeg_is_neither_progressive_nor_optimised() -> None:
    image = natural(64, 64)
    plain = io.BytesIO()
    image.save(plain, "JPEG", quality=90)
    assert encode(image, OutputDefinition()) == plain.getvalue()
    assert "progressive" not in Image.open(io.BytesIO(plain.getvalue())).info
