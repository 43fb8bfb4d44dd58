"""Every kind of image that is read: its colours, its first frame, cut off anywhere, and with a header that lies."""

from __future__ import annotations

import contextlib
import struct

import numpy as np
import pytest

from lookbook.tasks.images.recipe import OutputDefinition, Recipe
from lookbook.tasks.images.render import Rejected, render
from tests.support.handmade import tiff, tiff_tags
from tests.support.kinds import HEIGHT, SIZE, WIDTH, Kind, kinds, picture
from tests.support.pictures import encoded, pixels, psnr

KINDS = kinds()
AS_IT_IS = Recipe(outputs={"out": OutputDefinition(resize_mode="no", encode_format="png", encode_quality=1)})


def drawn(data: bytes) -> bytes:
    """The file of the only output, at the image's own size."""
    return render(data, AS_IT_IS, ["out"]).files["out"].data


@pytest.mark.parametrize("kind", KINDS.values(), ids=KINDS)
def test_every_kind_shows_its_first_frame_in_its_colours(kind: Kind) -> None:
    rendered = render(kind.data, AS_IT_IS, ["out"])
    assert psnr(pixels(rendered.files["out"].data), kind.shown) >= kind.nearness
    assert rendered.asset["n_frames"] == kind.frames
    assert (rendered.asset["original_width"], rendered.asset["original_height"]) == SIZE


@pytest.mark.parametrize("background", ["#000000", "#00ff80"])
@pytest.mark.parametrize("name", [name for name in KINDS if "rgba" in name or "alpha" in name or "multiplied" in name])
def test_transparency_of_every_kind_stands_on_the_background(name: str, background: str) -> None:
    definition = OutputDefinition(resize_mode="no", encode_format="png", background=background)
    file = render(KINDS[name].data, Recipe(outputs={"out": definition}), ["out"]).files["out"]
    colour = np.array([int(background[at : at + 2], 16) for at in (1, 3, 5)])
    shown = KINDS[name].shown
    opacity = np.tile(np.linspace(0, 255, WIDTH).astype(np.uint8), (HEIGHT, 1))[:, :, None] / 255
    expected = np.clip(shown - (1 - opacity) * (255 - colour), 0, 255)
    assert psnr(pixels(file.data), expected) >= min(KINDS[name].nearness, 45)


@pytest.mark.parametrize("tenth", range(1, 10))
@pytest.mark.parametrize("kind", KINDS.values(), ids=KINDS)
def test_cut_off_at_any_tenth_it_is_truncated_or_the_first_frame_was_whole(kind: Kind, tenth: int) -> None:
    cut = kind.data[: len(kind.data) * tenth // 10]
    if kind.frames > 1 and tenth > 2:
        with contextlib.suppress(Rejected):
            assert drawn(cut) == drawn(kind.data)
            return
    with pytest.raises(Rejected) as refused:
        drawn(cut)
    assert refused.value.rule == "truncated", refused.value.message


@pytest.mark.parametrize("kind", KINDS.values(), ids=KINDS)
def test_noise_behind_a_good_start_is_refused_or_drawn_at_the_announced_size(kind: Kind) -> None:
    for seed, start in enumerate((16, 60, len(kind.data) // 2)):
        data = kind.data[:start] + np.random.default_rng(seed).bytes(len(kind.data) - start)
        try:
            rendered = render(data, AS_IT_IS.model_copy(update={"max_image_area": 1_000_000}), ["out"])
        except Rejected:
            continue
        file = rendered.files["out"]
        assert pixels(file.data).shape[:2] == (file.height, file.width)


def test_the_word_aligned_run_lengths_of_tiff_are_not_read() -> None:
    # Here, libtiff does not get back what it wrote itself.
    with pytest.raises(Rejected) as refused:
        drawn(encoded(picture().convert("1"), "TIFF", compression="tiff_raw_16"))
    assert refused.value.rule == "unsupported"


BOMB = 60_000
#: How each format writes a size of `SIZE`, and how it would write `BOMB`.
CLAIMS = {
    "jpeg baseline": (struct.pack(">HH", HEIGHT, WIDTH), struct.pack(">HH", BOMB, BOMB)),
    "jpeg cmyk": (struct.pack(">HH", HEIGHT, WIDTH), struct.pack(">HH", BOMB, BOMB)),
    "gif": (struct.pack("<HH", WIDTH, HEIGHT), struct.pack("<HH", BOMB, BOMB)),
    "avif": (struct.pack(">II", WIDTH, HEIGHT), struct.pack(">II", BOMB, BOMB)),
    "bmp": (struct.pack("<II", WIDTH, HEIGHT), struct.pack("<II", BOMB, BOMB)),
    "bmp rle": (struct.pack("<II", WIDTH, HEIGHT), struct.pack("<II", BOMB, BOMB)),
    "jp2": (struct.pack(">II", HEIGHT, WIDTH), struct.pack(">II", BOMB, BOMB)),
    "jp2 bare codestream": (struct.pack(">II", WIDTH, HEIGHT), struct.pack(">II", BOMB, BOMB)),
    "ppm": (b"%d %d" % SIZE, b"%d %d" % (BOMB, BOMB)),
    "ppm as text": (b"%d %d" % SIZE, b"%d %d" % (BOMB, BOMB)),
}


@pytest.mark.parametrize("name", CLAIMS)
def test_a_header_that_claims_60000_by_60000_is_refused_before_memory_is_taken(name: str) -> None:
    told, claimed = CLAIMS[name]
    assert told in KINDS[name].data
    with pytest.raises(Rejected) as refused:
        drawn(KINDS[name].data.replace(told, claimed))
    assert refused.value.rule == "too_large"


def test_a_tiff_that_claims_60000_by_60000_is_refused() -> None:
    tags = tiff_tags(np.zeros((2, 2, 3), np.uint8), 2, t256=(BOMB,), t257=(BOMB,))
    with pytest.raises(Rejected) as refused:
        drawn(tiff(tags, bytes(100)))
    assert refused.value.rule == "too_large"
