"""Measures, against the same formulas written out."""

from __future__ import annotations

import statistics

import numpy as np
import pytest
from PIL import Image, ImageFilter

from lookbook.tasks.images.measure import dominant_colour, measure, sharpness
from tests.support.pictures import natural

PHOTO = natural(192, 256)


def test_colour_brightness_and_contrast_are_those_of_the_formulas() -> None:
    found = measure(PHOTO)
    pixels = np.asarray(PHOTO).reshape(-1, 3).tolist()
    for channel, name in enumerate(("mean_red", "mean_green", "mean_blue")):
        assert found[name] == pytest.approx(statistics.fmean(pixel[channel] for pixel in pixels))
    luma = [0.299 * red + 0.587 * green + 0.114 * blue for red, green, blue in pixels]  # ITU-R BT.601
    assert found["brightness"] == pytest.approx(statistics.fmean(luma) / 255, abs=0.002)
    assert found["contrast"] == pytest.approx(statistics.pstdev(luma) / 255, abs=0.002)


@pytest.mark.parametrize(("level", "brightness"), [(0, 0.0), (255, 1.0), (51, 0.2)])
def test_a_flat_image_is_as_bright_as_its_level_and_has_nothing_else(level: int, brightness: float) -> None:
    found = measure(Image.new("RGB", (192, 256), (level,) * 3))
    assert found["brightness"] == pytest.approx(brightness)
    assert (found["contrast"], found["sharpness"], found["phash"]) == (0, 0, "0" * 16)
    assert found["dominant_colour"] == f"#{level:02x}" + f"{level:02x}" * 2


def test_grey_images_are_measured_as_colour_images_are() -> None:
    grey = PHOTO.convert("L")
    assert measure(grey) == measure(grey.convert("RGB"))


def test_the_smallest_images_are_measured() -> None:
    for size in ((1, 256), (256, 1), (1, 1)):
        assert len(measure(Image.new("RGB", size, "teal"))["phash"]) == 16


def shop_photo(background: tuple[int, int, int]) -> Image.Image:
    image = Image.new("RGB", (100, 100), background)
    image.paste((200, 30, 40), (40, 30, 60, 70))
    image.paste((20, 30, 200), (0, 0, 10, 10))
    return image


def test_a_white_background_is_not_the_dominant_colour() -> None:
    assert measure(shop_photo((255, 255, 255)))["dominant_colour"] == "#c81e28"
    assert measure(shop_photo((250, 252, 245)))["dominant_colour"] == "#c81e28"


def test_any_other_background_may_be_the_dominant_colour() -> None:
    assert measure(shop_photo((90, 160, 20)))["dominant_colour"] == "#5aa014"


def test_on_a_white_image_white_is_dominant_whatever_the_noise() -> None:
    image = Image.new("RGB", (100, 100), "white")
    image.paste((200, 200, 200), (0, 0, 6, 8))  # 48 of 10,000 pixels
    assert measure(image)["dominant_colour"] == "#ffffff"


def test_the_dominant_colour_is_the_mean_of_its_bin() -> None:
    colours = np.array([[64, 100, 200]] * 2 + [[66, 102, 204]] * 2 + [[10, 10, 10]] * 3, dtype=np.uint8)
    assert dominant_colour(Image.fromarray(colours[None])) == "#4165ca"


def test_sharpness_is_the_variance_of_the_laplacian() -> None:
    luma = np.random.default_rng(3).integers(0, 256, (7, 9)).astype(np.uint8)
    values = []
    for row in range(7):
        for column in range(9):
            around = [
                int(luma[min(max(row + down, 0), 6), min(max(column + across, 0), 8)])
                for down, across in ((-1, 0), (1, 0), (0, -1), (0, 1))
            ]
            values.append(float(sum(around) - 4 * int(luma[row, column])))
    assert sharpness(luma) == pytest.approx(statistics.pvariance(values))


def test_blur_takes_sharpness_away() -> None:
    blurred = PHOTO.filter(ImageFilter.GaussianBlur(2))
    assert measure(blurred)["sharpness"] < measure(PHOTO)["sharpness"] / 4
