"""Which colour space a PNG is in: cICP, iCCP, sRGB, gAMA and cHRM, and their precedence."""

from __future__ import annotations

import io
import struct
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from lookbook.tasks.images.colour import profile_name, profile_of
from lookbook.tasks.images.recipe import OutputDefinition, Recipe
from lookbook.tasks.images.render import render
from tests.support.handmade import GREY, GREY_ALPHA, RGB, chunk, png
from tests.support.pictures import (
    ADOBE_RGB_TO_XYZ,
    DISPLAY_P3_TO_XYZ,
    SRGB_TO_XYZ,
    adobe_rgb_profile,
    encoded,
    natural,
    pixels,
    srgb_levels,
)

AS_IT_IS = Recipe(outputs={"out": OutputDefinition(resize_mode="no", encode_format="png")})
COLOURS = np.asarray(natural(40, 30))
SRGB = chunk(b"sRGB", b"\x00")
ICCP = chunk(b"iCCP", b"x\x00\x00" + zlib.compress(adobe_rgb_profile()))
CICP_P3, CICP_SRGB, CICP_HDR = (
    chunk(b"cICP", bytes(points)) for points in ((12, 13, 0, 1), (1, 13, 0, 1), (9, 16, 0, 1))
)
#: White and primaries, in the order of the chunk: of sRGB, and of Adobe RGB (1998).
CHRM_SRGB, CHRM_ADOBE = (
    chunk(b"cHRM", struct.pack(">8I", *(round(100_000 * value) for value in (0.3127, 0.3290, *primaries))))
    for primaries in ((0.64, 0.33, 0.30, 0.60, 0.15, 0.06), (0.64, 0.33, 0.21, 0.71, 0.15, 0.06))
)


def gama(value: int) -> bytes:
    return chunk(b"gAMA", struct.pack(">I", value))


def drawn(data: bytes) -> NDArray[np.int16]:
    return pixels(render(data, AS_IT_IS, ["out"]).files["out"].data)


def light(levels: NDArray[np.uint8]) -> NDArray[np.float64]:
    shares = levels / 255
    return np.where(shares <= 0.04045, shares / 12.92, ((shares + 0.055) / 1.055) ** 2.4)


@pytest.mark.parametrize("gamma", [100_000, 55_556, 66_667, 35_000])
@pytest.mark.parametrize("more", [b"", CHRM_SRGB], ids=["alone", "with the primaries of sRGB"])
def test_a_gamma_alone_is_converted_to_srgb(gamma: int, more: bytes) -> None:
    # PNG, third edition, 11.3.2.2 and 13.13: a sample is light to the power of gAMA.
    expected = srgb_levels((COLOURS / 255) ** (100_000 / gamma))
    assert np.abs(drawn(png(COLOURS, RGB, gama(gamma), more)) - expected).max() <= 1.5
    grey = COLOURS[:, :, :1]
    for samples, colour in ((grey, GREY), (np.dstack([grey, np.full_like(grey, 255)]), GREY_ALPHA)):
        seen = drawn(png(samples, colour, gama(gamma), more))
        assert np.abs(seen - np.repeat(expected[:, :, :1], 3, axis=2)).max() <= 1.5


@pytest.mark.parametrize("gamma", [45_455, 45_000, 46_000, 0, 1, 5_000_000, 2**32 - 1])
def test_a_gamma_like_that_of_srgb_or_of_no_sense_changes_nothing(gamma: int) -> None:
    assert np.array_equal(drawn(png(COLOURS, RGB, gama(gamma))), COLOURS)
    assert np.array_equal(drawn(png(COLOURS, RGB, gama(gamma), CHRM_SRGB)), COLOURS)


def test_primaries_are_converted_with_their_gamma() -> None:
    linear = (COLOURS / 255) ** (1 / 0.5) @ ADOBE_RGB_TO_XYZ.T @ np.linalg.inv(SRGB_TO_XYZ).T
    assert np.abs(drawn(png(COLOURS, RGB, gama(50_000), CHRM_ADOBE)) - srgb_levels(linear)).max() <= 2
    assert np.array_equal(drawn(png(COLOURS, RGB, CHRM_ADOBE)), COLOURS), "without gAMA they say nothing"
    nonsense = chunk(b"cHRM", bytes(32))
    expected = drawn(png(COLOURS, RGB, gama(55_556)))
    assert np.array_equal(drawn(png(COLOURS, RGB, gama(55_556), nonsense)), expected)
    one_point = chunk(b"cHRM", struct.pack(">8I", *[33_333] * 8))
    assert np.array_equal(drawn(png(COLOURS, RGB, gama(55_556), one_point)), COLOURS)


def test_code_points_of_display_p3_are_converted() -> None:
    expected = srgb_levels(light(COLOURS) @ DISPLAY_P3_TO_XYZ.T @ np.linalg.inv(SRGB_TO_XYZ).T)
    assert np.abs(drawn(png(COLOURS, RGB, CICP_P3)) - expected).max() <= 2


def media(kind: str, primaries: int, transfer: int, **options: Any) -> bytes:
    """An AVIF or HEIF of `COLOURS`, nearly lossless, whose nclx box says these code points."""
    of_kind: dict[str, dict[str, Any]] = {"AVIF": {"subsampling": "4:4:4"}, "HEIF": {"chroma": 444}}
    data = encoded(Image.fromarray(COLOURS), kind, quality=100, **of_kind[kind], **options)
    at = data.index(b"nclx") + 4
    return data[:at] + struct.pack(">HH", primaries, transfer) + data[at + 4 :]


#: As the others: adapted to D50.
BT2020_TO_XYZ = np.array([[0.67348, 0.16567, 0.12505], [0.27904, 0.67535, 0.04561], [-0.00194, 0.02998, 0.79684]])


@pytest.mark.parametrize(("primaries", "to_xyz"), [(12, DISPLAY_P3_TO_XYZ), (9, BT2020_TO_XYZ), (1, SRGB_TO_XYZ)])
@pytest.mark.parametrize(("kind", "transfer"), [("AVIF", 4), ("AVIF", 8), ("AVIF", 13), ("HEIF", 8)])
def test_code_points_give_an_avif_a_heif_and_a_png_the_same_colours(
    kind: str, primaries: int, to_xyz: NDArray[np.float64], transfer: int
) -> None:
    linear = {4: (COLOURS / 255) ** 2.2, 8: COLOURS / 255, 13: light(COLOURS)}[transfer]
    expected = srgb_levels(np.clip(linear @ to_xyz.T @ np.linalg.inv(SRGB_TO_XYZ).T, 0, 1))
    from_png = drawn(png(COLOURS, RGB, chunk(b"cICP", bytes((primaries, transfer, 0, 1)))))
    assert np.abs(from_png - expected).max() <= 2
    decoded = np.asarray(Image.open(io.BytesIO(media(kind, primaries, transfer))).convert("RGB"))
    same = drawn(png(decoded, RGB, chunk(b"cICP", bytes((primaries, transfer, 0, 1)))))
    assert np.abs(drawn(media(kind, primaries, transfer)) - same).max() <= 2


def test_the_curve_of_video_is_srgbs_in_an_avif_and_its_own_in_a_png() -> None:
    assert np.array_equal(drawn(media("AVIF", 12, 1)), drawn(media("AVIF", 12, 13)))
    linear = np.where(COLOURS / 255 < 0.081, COLOURS / 255 / 4.5, ((COLOURS / 255 + 0.099) / 1.099) ** (1 / 0.45))
    seen = drawn(png(COLOURS, RGB, chunk(b"cICP", bytes((1, 1, 0, 1)))))
    assert np.abs(seen - srgb_levels(linear)).max() <= 2


def test_greys_follow_the_curve_of_their_code_points() -> None:
    grey = COLOURS[:, :, :1]
    seen = drawn(png(grey, GREY, chunk(b"cICP", bytes((12, 8, 0, 1)))))
    assert np.abs(seen - np.repeat(srgb_levels(grey / 255), 3, axis=2)).max() <= 2
    assert np.array_equal(drawn(png(grey, GREY, CICP_P3)), np.repeat(grey, 3, axis=2))


def test_the_profile_of_an_avif_goes_before_its_code_points() -> None:
    assert np.array_equal(
        drawn(media("AVIF", 12, 13, icc_profile=adobe_rgb_profile())),
        drawn(media("AVIF", 1, 13, icc_profile=adobe_rgb_profile())),
    )


def test_hdr_code_points_of_an_avif_are_not_followed() -> None:
    assert np.array_equal(drawn(media("AVIF", 9, 16)), drawn(media("AVIF", 1, 13)))


@pytest.mark.parametrize("name", ["avif_p3.avif", "cicp_p3.png"])
def test_the_colours_that_were_handed_to_us(name: str) -> None:
    path = Path(__file__).parents[4] / "shared" / "cases" / "images" / name
    if not path.exists():
        pytest.skip("the shared cases are not here")
    assert np.abs(drawn(path.read_bytes())[0, 0] - (217, 42, 52)).max() <= 2


@pytest.mark.parametrize(
    ("chunks", "winner"),
    [
        ((gama(55_556), SRGB), ()),
        ((SRGB, gama(55_556), CHRM_ADOBE), ()),
        ((gama(55_556), ICCP), (ICCP,)),
        ((ICCP, CICP_SRGB, gama(55_556)), ()),
        ((ICCP, CICP_P3), (CICP_P3,)),
        ((CICP_HDR, ICCP), (ICCP,)),
        ((CICP_HDR,), ()),
    ],
    ids=["sRGB", "sRGB first", "iCCP", "cICP of sRGB", "cICP of P3", "HDR and iCCP", "HDR"],
)
def test_the_first_of_code_points_profile_srgb_and_gamma_holds(
    chunks: tuple[bytes, ...], winner: tuple[bytes, ...]
) -> None:
    # PNG, third edition, 4.3: cICP, iCCP, sRGB, then gAMA and cHRM. HDR code points are not followed.
    assert np.array_equal(drawn(png(COLOURS, RGB, *chunks)), drawn(png(COLOURS, RGB, *winner)))


def test_the_described_profile_is_the_files_own() -> None:
    assert render(png(COLOURS, RGB, gama(55_556)), AS_IT_IS, ()).asset["icc_profile"] is None
    assert render(png(COLOURS, RGB, ICCP), AS_IT_IS, ()).asset["icc_profile"] == "Made like Adobe RGB"


def test_of_other_formats_the_icc_profile_is_taken() -> None:
    data = encoded(natural(8, 8), "JPEG", icc_profile=adobe_rgb_profile())
    icc = profile_of(Image.open(io.BytesIO(data)), data)
    assert profile_name(icc or b"") == "Made like Adobe RGB"
    bare = encoded(natural(8, 8), "JPEG")
    assert profile_of(Image.open(io.BytesIO(bare)), bare) is None
