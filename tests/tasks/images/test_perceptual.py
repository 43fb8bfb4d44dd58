"""The hash against the formula written out, and what hash and signature do under edits."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
from PIL import Image, ImageEnhance

from lookbook.tasks.images.measure import CHROMA_EDGE, LUMA_EDGE, SIGNATURE_BYTES, perceive, phash
from tests.support.pictures import natural

PHOTO = natural(192, 256)


def bits(one: str, other: str) -> int:
    return (int(one, 16) ^ int(other, 16)).bit_count()


def test_the_hash_is_the_sign_of_the_lowest_cosines() -> None:
    luma = PHOTO.convert("L").resize((32, 32))
    levels = np.asarray(luma).tolist()

    def coefficient(down: int, across: int) -> float:
        """The DCT-II as a double sum, orthonormal."""
        total = sum(
            levels[y][x] * math.cos(math.pi * down * (2 * y + 1) / 64) * math.cos(math.pi * across * (2 * x + 1) / 64)
            for y in range(32)
            for x in range(32)
        )
        return float(total / 16 * math.prod(math.sqrt(0.5) if place == 0 else 1.0 for place in (down, across)))

    places = [(down, total - down) for total in range(1, 12) for down in range(total + 1)][:64]
    found = [coefficient(*place) for place in places]
    least = 0.1 * math.sqrt(sum(value**2 for value in found) / 64)
    expected = "".join("1" if value > least else "0" for value in found)
    assert phash(luma) == f"{int(expected, 2):016x}"


@pytest.mark.parametrize("level", [0, 119, 255])
def test_flat_images_have_an_empty_hash_whatever_the_noise_of_an_encode(level: int) -> None:
    noise = np.random.default_rng(3).integers(-2, 3, (256, 256, 3))
    noisy = Image.fromarray(np.clip(level + noise, 0, 255).astype(np.uint8))
    assert perceive(Image.new("RGB", (256, 256), (level,) * 3))["phash"] == "0" * 16
    assert perceive(noisy)["phash"] == "0" * 16


def test_the_hash_hardly_changes_with_size_and_light_and_tells_pictures_apart() -> None:
    whole = perceive(PHOTO)["phash"]
    assert bits(perceive(PHOTO.resize((96, 128), Image.Resampling.LANCZOS))["phash"], whole) <= 2
    assert bits(perceive(ImageEnhance.Brightness(PHOTO).enhance(0.9))["phash"], whole) <= 2
    assert bits(perceive(natural(192, 256, seed=8))["phash"], whole) > 16


@pytest.mark.parametrize("size", [(30, 40), (45, 60), (60, 80), (33, 33)])
def test_small_images_are_reduced_evenly(size: tuple[int, int]) -> None:
    """A box would give one pixel of the reduced image two of theirs and the next one: 4 to 6 levels apart, not 2."""
    small = PHOTO.resize(size, Image.Resampling.LANCZOS)
    large = small.resize((384, 512), Image.Resampling.BILINEAR)
    one, other = (np.frombuffer(perceive(image)["signature"], np.uint8).astype(float) for image in (small, large))
    assert np.sqrt(np.mean((one - other) ** 2)) < 2
    assert bits(perceive(small)["phash"], perceive(large)["phash"]) <= 2


def test_a_symmetric_picture_keeps_its_hash_when_it_moves_by_a_pixel() -> None:
    """Its odd frequencies are near zero: without a dead zone their signs would be those of the noise."""
    half = PHOTO.resize((128, 256))
    image = Image.new("RGB", (256, 256), "white")
    image.paste(half, (0, 0))
    image.paste(half.transpose(Image.Transpose.FLIP_LEFT_RIGHT), (128, 0))
    moved = image.transform(image.size, Image.Transform.AFFINE, (1, 0, 1, 0, 1, 0), fillcolor="white")
    assert bits(perceive(image)["phash"], perceive(moved)["phash"]) <= 4


def test_the_signature_holds_means_of_blocks() -> None:
    found = np.frombuffer(perceive(PHOTO)["signature"], np.uint8)
    assert found.size == SIGNATURE_BYTES

    def blocks(plane: Any, edge: int) -> Any:
        height, width = plane.shape
        return plane.reshape(edge, height // edge, edge, width // edge).mean((1, 3)).ravel()

    planes = np.asarray(PHOTO.convert("YCbCr"), np.float64)
    luma = LUMA_EDGE**2
    np.testing.assert_allclose(found[:luma], blocks(planes[..., 0], LUMA_EDGE), atol=1.5)
    chroma = np.concatenate([blocks(planes[..., plane], CHROMA_EDGE) for plane in (1, 2)])
    np.testing.assert_allclose(found[luma:], chroma, atol=1.5)


@pytest.mark.parametrize("size", [(1, 256), (256, 1), (1, 1)])
def test_the_smallest_images_have_a_hash_and_a_signature(size: tuple[int, int]) -> None:
    found = perceive(Image.new("RGB", size, "teal"))
    assert (len(found["phash"]), len(found["signature"])) == (16, SIGNATURE_BYTES)
