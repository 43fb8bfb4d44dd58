"""The reference of the quality figures."""

from __future__ import annotations

import math
from io import BytesIO

import numpy as np
import pytest
from PIL import Image

from benchmarks.quality import bordered, inner, psnr


def test_psnr_of_a_known_error() -> None:
    black, grey = Image.new("L", (4, 4)), Image.new("L", (4, 4), 5)
    assert psnr(black, grey) == pytest.approx(20 * math.log10(255 / 5))
    assert psnr(grey, grey) == math.inf


@pytest.mark.parametrize("size", [(48, 64), (47, 64), (64, 31)])
def test_the_picture_within_its_border_is_found_again(size: tuple[int, int]) -> None:
    noise = np.random.default_rng(1).integers(0, 256, (size[1], size[0], 3), dtype=np.uint8)
    picture, file = Image.fromarray(noise), BytesIO()
    bordered(picture, 64).save(file, "PNG")
    assert psnr(inner(file.getvalue(), size), picture) == math.inf
