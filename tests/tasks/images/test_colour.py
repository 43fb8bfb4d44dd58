"""Every pixel layout becomes 8 bits, every colour space sRGB."""

from __future__ import annotations

import io
import struct
import zlib
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image, ImageChops, ImageCms

from lookbook.tasks.images.colour import eight_bit, profile_name, to_srgb
from lookbook.tasks.images.decode import decode, open_image
from lookbook.tasks.images.recipe import Recipe
from tests.support.handmade import RGB, chunk, png, without_adobe_marker
from tests.support.pictures import (
    ADOBE_GAMMA,
    ADOBE_RGB_TO_XYZ,
    DISPLAY_P3_TO_XYZ,
    SRGB_TO_XYZ,
    adobe_rgb_profile,
    display_p3_profile,
    encoded,
    grey_profile,
    natural,
    srgb_levels,
)


def opened(data: bytes) -> Image.Image:
    image = Image.open(io.BytesIO(data))
    image.load()
    return image


def decoded(data: bytes) -> Image.Image:
    return decode(open_image(data, Recipe()), data, 1).image


def srgb_of(data: bytes) -> Image.Image:
    image = opened(data)
    return to_srgb(eight_bit(image), image.info.get("icc_profile"))


def ramp(dtype: str, top: float) -> Image.Image:
    """Greys from 0 to `top` over 256 columns, two rows."""
    return Image.fromarray(np.tile(np.linspace(0, top, 256), (2, 1)).astype(dtype))


@pytest.mark.parametrize(
    ("image", "kind"),
    [
        (ramp("uint16", 65535), "PNG"),
        (ramp("uint16", 65535), "TIFF"),
        (ramp(">u2", 65535), "TIFF"),
        (ramp("uint16", 65535), "PPM"),
        (ramp("int32", 65535), "TIFF"),
        (ramp("int32", 2_000_000_000), "TIFF"),
        (ramp("float32", 1), "TIFF"),
        (ramp("float32", 65535), "TIFF"),
    ],
    ids=["png", "tiff", "tiff big endian", "pgm", "int32", "int32 wide", "float 0 to 1", "float wide"],
)
def test_deep_greys_are_scaled_not_clipped(image: Image.Image, kind: str) -> None:
    grey = eight_bit(opened(encoded(image, kind)))
    assert grey.mode == "L"
    assert np.abs(np.asarray(grey).astype(int)[1] - np.arange(256)).max() <= 1


def test_floats_that_are_no_numbers_become_black() -> None:
    values = np.array([[0, 0.5, 1, np.nan, np.inf]], dtype=np.float32)
    assert np.asarray(eight_bit(Image.fromarray(values))).tolist() == [[0, 128, 255, 0, 0]]


def test_white_is_zero_is_turned_over() -> None:
    grey = eight_bit(ramp("uint16", 65535), white_is_zero=True)
    assert np.asarray(grey)[0].tolist() == list(range(255, -1, -1))


def test_sixteen_bit_colour_is_scaled() -> None:
    levels = np.array([[[65535, 32768, 0], [257, 514, 771]]], np.uint16)
    image = srgb_of(png(levels, RGB))
    assert np.asarray(image).tolist() == [[[255, 128, 0], [1, 2, 3]]]


def test_one_bit_becomes_grey() -> None:
    image = Image.new("1", (4, 1))
    image.putpixel((2, 0), 1)
    plain = eight_bit(opened(encoded(image, "PNG")))
    assert (plain.mode, np.asarray(plain).tolist()) == ("L", [[0, 0, 255, 0]])


def test_palettes_keep_colours_and_transparency() -> None:
    image = Image.new("P", (3, 1))
    image.putpalette([255, 0, 0, 0, 255, 0, 0, 0, 255])
    for index in range(3):
        image.putpixel((index, 0), index)
    assert np.asarray(eight_bit(opened(encoded(image, "PNG")))).tolist() == [[[255, 0, 0], [0, 255, 0], [0, 0, 255]]]
    for kind in ("PNG", "GIF"):
        clear = eight_bit(opened(encoded(image, kind, transparency=1)))
        assert clear.mode == "RGBA"
        assert np.asarray(clear)[0, :, 3].tolist() == [255, 0, 255], kind


def test_a_transparent_grey_or_colour_becomes_alpha() -> None:
    grey = encoded(ramp("uint8", 255), "PNG", transparency=7)
    assert np.flatnonzero(np.asarray(eight_bit(opened(grey)))[0, :, 3] == 0).tolist() == [7]
    colour = encoded(Image.new("RGB", (1, 1), (1, 2, 3)), "PNG", transparency=(1, 2, 3))
    assert eight_bit(opened(colour)).getpixel((0, 0)) == (1, 2, 3, 0)


def cmyk_patches() -> tuple[Image.Image, list[tuple[int, int, int]]]:
    """Four inks, no profile: cyan, magenta, yellow and black, and what they look like (1 - ink) * (1 - black)."""
    image = Image.new("CMYK", (64, 16))
    for index, ink in enumerate([(255, 0, 0, 0), (0, 255, 0, 0), (0, 0, 255, 0), (0, 0, 0, 255)]):
        image.paste(ink, (16 * index, 0, 16 * index + 16, 16))
    return image, [(0, 255, 255), (255, 0, 255), (255, 255, 0), (0, 0, 0)]


@pytest.mark.parametrize("bits", [2, 4, 8, 16])
def test_one_grey_of_any_depth_is_transparent(bits: int) -> None:
    levels = np.arange(0, 2**bits, max(1, 2**bits // 256), dtype=np.uint64)
    packed = np.packbits((levels[:, None] >> np.arange(bits - 1, -1, -1, dtype=np.uint64) & 1).astype(np.uint8).ravel())
    header = struct.pack(">IIBBBBB", len(levels), 1, bits, 0, 0, 0, 0)
    chosen = int(levels[3])
    clear = chunk(b"tRNS", struct.pack(">H", chosen))
    pixels = chunk(b"IDAT", zlib.compress(b"\x00" + packed.tobytes()))
    seen = decoded(b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + clear + pixels + chunk(b"IEND", b""))
    expected = np.where(levels == chosen, 0, 255)
    assert np.array_equal(np.asarray(seen.getchannel("A"))[0], expected)
    shown = np.asarray(seen.convert("RGB"))[0, :, 0].astype(int)
    assert np.abs(shown - np.asarray(levels) * 255 / (2**bits - 1)).max() <= 1


@pytest.mark.parametrize("dtype", ["uint8", "uint16"])
def test_one_colour_of_any_depth_is_transparent_in_all_its_bits(dtype: str) -> None:
    colour, beside = (0x1234, 0x2345, 0x3456), (0x1235, 0x2345, 0x3456)
    levels = np.array([[colour, beside, (0, 0, 0)]]).astype(dtype)
    clear = chunk(b"tRNS", struct.pack(">HHH", *(int(level) for level in levels[0, 0])))
    for interlaced in (False, True):
        seen = decoded(png(levels, RGB, clear, interlaced=interlaced))
        assert np.asarray(seen)[0, :, 3].tolist() == [0, 255, 255]
        top = levels >> 8 if dtype == "uint16" else levels
        assert np.array_equal(np.asarray(seen)[:, :, :3], top)


@pytest.mark.parametrize("name", ["g16_trns.png", "rgb16_trns.png"])
def test_the_transparent_colours_that_were_handed_to_us(name: str) -> None:
    path = Path(__file__).parents[4] / "shared" / "cases" / "images" / name
    if not path.exists():
        pytest.skip("the shared cases are not here")
    assert decoded(path.read_bytes()).getchannel("A").getpixel((0, 0)) == 0


@pytest.mark.parametrize("stored", ["adobe jpeg", "plain jpeg", "tiff"])
def test_cmyk_looks_the_same_inverted_or_not(stored: str) -> None:
    image, expected = cmyk_patches()
    if stored == "adobe jpeg":
        data = encoded(image, "JPEG", quality=95)
        assert b"Adobe" in data
    elif stored == "plain jpeg":
        # Pillow stores the inverse, with the marker; without both it is CMYK as other writers store it.
        data = without_adobe_marker(encoded(ImageChops.invert(image), "JPEG", quality=95))
    else:
        data = encoded(image, "TIFF")
    seen = srgb_of(data)
    assert seen.mode == "RGB"
    centres = np.asarray(seen)[8, 8::16].astype(int)
    assert np.abs(centres - np.array(expected)).max() <= 3


COLOURS = np.array([[200, 120, 90], [90, 110, 160], [128, 128, 128], [240, 235, 200], [60, 70, 50]])


def assert_converted(icc: bytes, linear: NDArray[np.float64], to_xyz: NDArray[np.float64]) -> None:
    """`COLOURS` in the profile `icc` come out as the formulas say of their `linear` light."""
    expected = srgb_levels(linear @ to_xyz.T @ np.linalg.inv(SRGB_TO_XYZ).T)
    seen = np.asarray(to_srgb(Image.fromarray(COLOURS.astype(np.uint8).reshape(1, -1, 3)), icc))[0]
    assert np.abs(seen - expected).max() < 2
    assert np.abs(seen.astype(int) - COLOURS).max() > 5  # and it does change them


def test_adobe_rgb_is_converted_as_the_formulas_say() -> None:
    assert_converted(adobe_rgb_profile(), (COLOURS / 255) ** ADOBE_GAMMA, ADOBE_RGB_TO_XYZ)


def test_display_p3_is_converted_as_the_formulas_say() -> None:
    levels = COLOURS / 255
    linear = np.where(levels <= 0.04045, levels / 12.92, ((levels + 0.055) / 1.055) ** 2.4)
    assert_converted(display_p3_profile(), linear, DISPLAY_P3_TO_XYZ)


@pytest.mark.parametrize("gamma", [1.0, 1.8, 3.0])
def test_greys_of_any_gamma_are_converted_as_the_formulas_say(gamma: float) -> None:
    greys = np.arange(256, dtype=np.uint8)[None]
    seen = np.asarray(to_srgb(Image.fromarray(greys), grey_profile(gamma)).convert("L")).astype(int)
    assert np.abs(seen - srgb_levels((greys / 255) ** (round(gamma * 256) / 256))).max() <= 1


def test_alpha_survives_a_profile() -> None:
    image = natural(32, 16).convert("RGBA")
    image.putalpha(Image.linear_gradient("L").resize((32, 16)))
    seen = to_srgb(image, adobe_rgb_profile())
    assert seen.mode == "RGBA"
    assert seen.getchannel("A").tobytes() == image.getchannel("A").tobytes()
    assert seen.convert("RGB").tobytes() == to_srgb(image.convert("RGB"), adobe_rgb_profile()).tobytes()


@pytest.mark.parametrize("mode", ["L", "LA", "RGB", "RGBA"])
def test_a_profile_that_is_broken_or_of_another_space_is_ignored(mode: str) -> None:
    image = natural(32, 16).convert(mode)
    lab = ImageCms.ImageCmsProfile(ImageCms.createProfile("LAB")).tobytes()
    whole = adobe_rgb_profile()
    for icc in (b"", b"nonsense", whole[:100], whole[:300], lab):
        assert to_srgb(image, icc).tobytes() == image.tobytes()


def test_srgb_under_any_name_changes_nothing_at_all() -> None:
    image = natural(32, 16)
    assert to_srgb(image, ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()) is image


def test_a_profile_tells_its_name() -> None:
    assert profile_name(adobe_rgb_profile()) == "Made like Adobe RGB"
    assert profile_name(b"nonsense") is None
