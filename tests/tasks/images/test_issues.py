"""Issue scores, against CleanVision's formulas written out on the whole image, and by what they must tell apart."""

from __future__ import annotations

import io
import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image, ImageChops, ImageEnhance, ImageFilter

from lookbook.tasks.images.measure import SCORES, blurry_score, brightness_scores, issue_scores, low_information_score
from lookbook.tasks.images.recipe import Recipe
from lookbook.tasks.images.render import render
from tests.support.pictures import encoded, natural
from tests.support.sets import sampled

PHOTO = natural(192, 256)
RECIPE = Recipe()


def rendered(data: bytes) -> dict[str, float]:
    """The scores of a file, as the part has them."""
    asset = render(data, RECIPE, ()).asset
    return {name: asset[name] for name in SCORES}


def entropy(levels: NDArray[np.uint8]) -> float:
    counts = np.concatenate([np.bincount(channel.ravel(), minlength=256) for channel in np.atleast_3d(levels).T])
    shares = counts[counts > 0] / counts.sum()
    return float(-(shares * np.log2(shares)).sum())


def edges(grey: NDArray[np.float64]) -> NDArray[np.float64]:
    """Eight times each pixel less its eight neighbours, within 0 and 255; the outermost pixels stay."""
    found = grey.copy()
    around = sum(np.roll(grey, (down, across), (0, 1)) for down in (-1, 0, 1) for across in (-1, 0, 1))
    found[1:-1, 1:-1] = np.clip(9 * grey - around, 0, 255)[1:-1, 1:-1]
    return found


def reference(data: bytes) -> dict[str, float]:
    """The scores by the formulas of CleanVision 0.3.7, from all pixels of the file."""
    image = Image.open(io.BytesIO(data))
    levels = np.atleast_3d(np.asarray(image)).astype(np.float64)
    weights = [0.241, 0.691, 0.068] if levels.shape[2] == 3 else [1.0]
    brightness = np.sqrt((levels**2 * weights).sum(axis=2)) / 255
    ratio = max(1.0, max(image.size) / 64)
    small = image.resize((max(1, int(image.width // ratio)), max(1, int(image.height // ratio)))).convert("L")
    counts = np.bincount(np.asarray(small).ravel(), minlength=256)
    strength = 1 - np.exp(-np.std(edges(np.asarray(small).astype(np.float64))) / 100)
    spread = 1 - np.exp(-np.std(counts) / 100)
    return {
        "dark_score": float(np.percentile(brightness, 99)),
        "light_score": 1 - float(np.percentile(brightness, 5)),
        "blurry_score": min(1.0, strength + (spread if spread > 0.18 else 0)),
        "low_information_score": min(1.0, entropy(np.asarray(image)) / 10),
        "odd_aspect_ratio_score": min(image.width / image.height, image.height / image.width),
        "grayscale_score": float(image.mode != "L"),
    }


#: A picture with each fault in turn.
FAULTS: dict[str, Callable[[Image.Image], Image.Image]] = {
    "as it is": lambda photo: photo,
    "dark": lambda photo: ImageEnhance.Brightness(photo).enhance(0.3),
    "light": lambda photo: Image.blend(photo, Image.new("RGB", photo.size, "white"), 0.97),
    "blurred": lambda photo: photo.filter(ImageFilter.GaussianBlur(max(photo.size) / 15)),
    "of few levels": lambda photo: photo.quantize(3).convert("RGB"),
    "long": lambda photo: photo.crop((0, 0, photo.width, photo.height // 6)),
    "grey": lambda photo: photo.convert("L"),
    "flat": lambda photo: Image.new("RGB", photo.size, (90, 120, 30)),
}


@pytest.mark.parametrize("size", [(60, 80), (160, 120), (300, 400)])
@pytest.mark.parametrize("fault", FAULTS)
def test_scores_are_those_of_the_formulas_on_the_whole_image(size: tuple[int, int], fault: str) -> None:
    data = encoded(FAULTS[fault](natural(*size)), "PNG")
    found, expected = rendered(data), reference(data)
    for name in SCORES:
        assert found[name] == pytest.approx(expected[name], abs=0.03), name


@pytest.mark.parametrize("fault", sampled(FAULTS, fast=["blurred", "dark"]))
def test_a_jpeg_that_is_decoded_at_a_smaller_scale_scores_as_the_whole_does(fault: str) -> None:
    data = encoded(FAULTS[fault](natural(1536, 2048)), "JPEG", quality=92)
    found, expected = rendered(data), reference(data)
    for name in SCORES:
        assert found[name] == pytest.approx(expected[name], abs=0.06), name


@pytest.mark.real_data
def test_scores_of_real_photos_are_those_of_the_formulas(real_archive: Path) -> None:
    with zipfile.ZipFile(real_archive) as archive:
        names = [name for name in archive.namelist() if name.endswith(".jpg")][::25]
        photos = [archive.read(name) for name in names]
    for data in photos:
        found, expected = rendered(data), reference(data)
        for name in SCORES:
            assert found[name] == pytest.approx(expected[name], abs=0.03), name


def test_darker_never_scores_higher_in_dark_nor_lighter_in_light() -> None:
    levels = [brightness_scores(ImageEnhance.Brightness(PHOTO).enhance(factor)) for factor in np.linspace(0, 3, 25)]
    dark, light = zip(*levels, strict=True)
    assert list(dark) == sorted(dark)
    assert list(light) == sorted(light, reverse=True)
    assert dark[0] == 0
    assert light[0] == 1


def test_more_blur_scores_lower_down_to_an_issue() -> None:
    even = ImageChops.add_modulo(PHOTO, natural(192, 256, seed=9)).convert("L")  # without a peak of its histogram
    sharp, soft, blurred = (
        blurry_score(even.filter(ImageFilter.GaussianBlur(radius)), (900, 1200)) for radius in (0, 2, 6)
    )
    assert sharp > soft > blurred
    assert sharp > 0.5


def test_fewer_levels_never_hold_more_information() -> None:
    scores = [low_information_score(PHOTO.point([v >> n << n for v in range(256)] * 3), "RGB") for n in range(9)]
    assert scores == sorted(scores, reverse=True)


def test_only_files_of_greys_are_grayscale() -> None:
    grey = PHOTO.convert("L")
    for mode, score in (("L", 0), ("RGB", 1), ("RGBA", 1)):
        assert rendered(encoded(grey.convert(mode), "PNG"))["grayscale_score"] == score


def test_a_picture_turned_by_its_exif_scores_as_the_upright_one() -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    stored = PHOTO.transpose(Image.Transpose.ROTATE_90)
    turned = rendered(encoded(stored, "PNG", exif=exif.tobytes()))
    assert turned == pytest.approx(rendered(encoded(PHOTO, "PNG")), abs=0.01)


@pytest.mark.parametrize("size", [(1, 1), (1, 3000), (3000, 1), (2, 5)])
@pytest.mark.parametrize("mode", ["1", "L", "LA", "P", "RGB", "RGBA", "I;16", "CMYK"])
def test_the_smallest_and_longest_of_every_layout_have_scores(size: tuple[int, int], mode: str) -> None:
    image = Image.new(mode, size)
    found = rendered(encoded(image, "TIFF" if mode == "CMYK" else "PNG"))
    assert all(0 <= score <= 1 for score in found.values())


def test_what_else_is_drawn_changes_no_score() -> None:
    data = encoded(natural(1500, 2000), "JPEG")
    whole = Recipe.model_validate({"outputs": {"large": {"image_size": 2000}, "thumb": {"image_size": 64}}})
    asset = render(data, whole, whole.outputs).asset
    assert {name: asset[name] for name in SCORES} == rendered(data)


def test_scores_of_measured_and_picked_pixels_have_exactly_their_names() -> None:
    assert tuple(issue_scores(PHOTO, PHOTO.resize((120, 160)), PHOTO.size, "RGB")) == SCORES
