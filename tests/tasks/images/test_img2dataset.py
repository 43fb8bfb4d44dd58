"""Options that are named as in img2dataset do what its documentation and its resizer say, at every edge.

The expectations are worked out here from its rules, in its own order of steps (resizer.py): scale by
``size / edge`` where the edge is the shorter or the longer one, then crop or pad.
"""

from __future__ import annotations

import io
from fractions import Fraction
from typing import Any, get_args

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from lookbook.tasks.images.recipe import OutputDefinition, Recipe, ResizeMode
from lookbook.tasks.images.render import Rejected, render
from tests.support.pictures import encoded, natural, pixels, psnr

EDGE = 96
#: Larger, smaller, equal, a pixel more and less, odd, and long.
SIZES = [
    (300, 200), (200, 300), (60, 40), (41, 59), (96, 96), (97, 97), (95, 95), (96, 70), (70, 96), (97, 70),
    (95, 70), (192, 192), (193, 191), (96, 200), (97, 200), (95, 200), (301, 97), (640, 3), (1, 1), (1, 96), (5, 1),
]  # fmt: skip
Size = tuple[int, int]


def scaled(size: Size, edge: int) -> Size:
    """Both edges times ``EDGE / edge``, to the nearest, halves to the even one, and never none."""
    return tuple(max(1, round(Fraction(each * EDGE, edge))) for each in size)  # type: ignore[return-value]


def expected(size: Size, mode: str, only_if_bigger: bool) -> tuple[Size, Size]:
    """The size to which an image is scaled, and that of the output (resizer.py, ``__call__``)."""
    if mode == "no":
        return size, size
    edge = min(size) if mode in {"keep_ratio", "center_crop"} else max(size)
    bigger = edge > EDGE
    if only_if_bigger and not bigger:
        return size, size
    drawn = scaled(size, edge)
    return drawn, (EDGE, EDGE) if mode in {"border", "center_crop"} else drawn


def reference(image: Image.Image, size: Size, mode: str, only_if_bigger: bool) -> NDArray[np.float64]:
    """The output, from a resize of every pixel that does not go through the code under test."""
    drawn, canvas = expected(size, mode, only_if_bigger)
    whole = np.asarray(image.resize(drawn, Image.Resampling.LANCZOS)).astype(np.float64)
    left, top = ((one - other) // 2 for one, other in zip(canvas, drawn, strict=True))
    if mode == "center_crop":
        return whole[-top : -top + canvas[1], -left : -left + canvas[0]]
    out = np.full((canvas[1], canvas[0], 3), 255.0)  # img2dataset's borders are white, ours by default
    out[top : top + drawn[1], left : left + drawn[0]] = whole
    return out


def in_whole_pixels(size: Size, mode: str) -> bool:
    """Whether a crop of the exact middle, as ours is, has its edges where img2dataset's, of whole pixels, has them."""
    exact = [Fraction(each * EDGE, min(size)) for each in size]
    return mode != "center_crop" or all(each.denominator == 1 and (each - EDGE) % 2 == 0 for each in exact)


def recipe(**definition: Any) -> Recipe:
    options = {"image_size": EDGE, "encode_format": "png"} | definition
    return Recipe(outputs={"out": OutputDefinition.model_validate(options)})


def output(data: bytes, **definition: Any) -> bytes:
    return render(data, recipe(**definition), ["out"]).files["out"].data


@pytest.mark.parametrize("only_if_bigger", [False, True], ids=["always", "only if bigger"])
@pytest.mark.parametrize("mode", get_args(ResizeMode))
@pytest.mark.parametrize("size", SIZES, ids=str)
def test_sizes_and_pixels_are_those_of_the_rules(size: Size, mode: ResizeMode, only_if_bigger: bool) -> None:
    image = natural(*size) if min(size) > 1 else natural(8, 8).resize(size)
    drawn = pixels(output(encoded(image, "PNG"), resize_mode=mode, resize_only_if_bigger=only_if_bigger))
    wanted = reference(image, size, mode, only_if_bigger)
    assert drawn.shape == wanted.shape
    if expected(size, mode, only_if_bigger) == (size, size):
        assert np.array_equal(drawn, wanted), "an image that is not scaled is not touched"
    assert psnr(drawn, wanted) > (45 if in_whole_pixels(size, mode) else 24)


@pytest.mark.parametrize("mode", get_args(ResizeMode))
@pytest.mark.parametrize(
    "size",
    [
        pytest.param((1200, 800), marks=pytest.mark.full),
        (801, 1203),
        pytest.param((1024, 1024), marks=pytest.mark.full),
    ],
    ids=str,
)
def test_a_large_jpeg_that_is_scaled_on_the_way_comes_out_the_same(size: Size, mode: ResizeMode) -> None:
    data = encoded(natural(*size), "JPEG", quality=92)
    whole = Image.open(io.BytesIO(data))
    for only_if_bigger in (False, True):
        drawn = pixels(output(data, resize_mode=mode, resize_only_if_bigger=only_if_bigger))
        wanted = reference(whole, size, mode, only_if_bigger)
        assert drawn.shape == wanted.shape
        assert psnr(drawn, wanted) > (45 if in_whole_pixels(size, mode) else 37)


def test_a_square_from_the_middle_has_its_middle_there() -> None:
    # A line in the very middle stays there; with an odd remainder it is half a pixel from img2dataset's.
    levels = np.zeros((99, 301), np.uint8)
    levels[:, 150] = 255
    drawn = pixels(output(encoded(Image.fromarray(levels), "PNG"), resize_mode="center_crop", image_size=99))
    assert drawn[50, :, 0].argmax() == 49


@pytest.mark.parametrize(
    ("limit", "size", "rule"),
    [
        ({"min_image_size": 40}, (40, 300), None),
        ({"min_image_size": 41}, (40, 300), "too_small"),
        ({"min_image_size": 41}, (300, 40), "too_small"),
        ({"min_image_size": 0}, (1, 1), None),
        ({"max_image_area": 12_000}, (40, 300), None),
        ({"max_image_area": 11_999}, (40, 300), "too_large"),
        ({"max_aspect_ratio": 7.5}, (40, 300), None),
        ({"max_aspect_ratio": 7.49}, (40, 300), "aspect_ratio"),
        ({"max_aspect_ratio": 7.49}, (300, 40), "aspect_ratio"),
        ({"max_aspect_ratio": 1}, (40, 40), None),
        ({"max_aspect_ratio": 1}, (41, 40), "aspect_ratio"),
        ({"min_image_size": 41, "max_aspect_ratio": 2}, (40, 300), "too_small"),
    ],
    ids=str,
)
def test_limits_refuse_beyond_and_not_at_the_limit(limit: dict[str, Any], size: Size, rule: str | None) -> None:
    # img2dataset: "image too small", "image area too large", "aspect ratio too large".
    for kind in ("PNG", "JPEG"):
        data, limited = encoded(natural(*size) if min(size) > 1 else Image.new("RGB", size), kind), recipe()
        limited = limited.model_copy(update=limit)
        if rule is None:
            assert render(data, limited, ["out"]).files
            continue
        with pytest.raises(Rejected) as refused:
            render(data, limited, ["out"])
        assert refused.value.rule == rule


def test_limits_measure_the_image_as_stored_and_as_displayed_alike() -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    data = encoded(natural(300, 40), "JPEG", exif=exif)
    assert pixels(output(data, resize_mode="keep_ratio_largest")).shape[:2] == (96, 13)
    with pytest.raises(Rejected):
        render(data, recipe().model_copy(update={"max_aspect_ratio": 7.0}), ["out"])


@pytest.mark.parametrize(("kind", "name"), [("jpeg", "JPEG"), ("webp", "WEBP"), ("avif", "AVIF"), ("png", "PNG")])
@pytest.mark.parametrize("quality", [1, 50, 90, 100])
def test_format_and_quality_are_those_of_the_encoder(kind: str, name: str, quality: int) -> None:
    image = natural(120, 80)
    data = output(encoded(image, "PNG"), resize_mode="no", encode_format=kind, encode_quality=quality)
    level = {"compress_level": quality if quality <= 9 else 6} if kind == "png" else {"quality": quality}
    alone = encoded(Image.fromarray(np.asarray(image)), name, **level)
    assert Image.open(io.BytesIO(data)).format == name
    assert psnr(pixels(data), pixels(alone)) > 60
    assert len(data) == pytest.approx(len(alone), rel=0.05)
