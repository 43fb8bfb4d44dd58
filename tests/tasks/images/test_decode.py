"""What is refused before and during the decode, and what a decode gives."""

from __future__ import annotations

import io
import struct
import zlib

import numpy as np
import pytest
from PIL import Image, ImageFile

from lookbook.tasks.images.decode import Rejected, count_frames, decode, draft_scale, open_image
from lookbook.tasks.images.metadata import describe
from lookbook.tasks.images.recipe import Recipe
from tests.support.pictures import encoded, natural, psnr

PHOTO = natural(160, 120)
JPEG = encoded(PHOTO, "JPEG", quality=90)


def refusal(data: bytes, recipe: Recipe | None = None) -> str:
    """The rule by which these bytes are refused."""
    with pytest.raises(Rejected) as refused:
        decode(open_image(data, recipe or Recipe()), data, 1)
    assert refused.value.message
    assert "\x00" not in refused.value.message
    assert "object at" not in refused.value.message  # a message is the same in every run
    return refused.value.rule


def png_header(width: int, height: int) -> bytes:
    """A PNG that announces pixels and holds none."""
    ihdr = b"IHDR" + struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    idat = b"IDAT" + zlib.compress(b"")
    chunks = (ihdr, idat, b"IEND")
    return b"\x89PNG\r\n\x1a\n" + b"".join(
        struct.pack(">I", len(chunk) - 4) + chunk + struct.pack(">I", zlib.crc32(chunk)) for chunk in chunks
    )


@pytest.mark.parametrize(
    ("data", "rule"),
    [
        (b"", "empty"),
        (b"<!DOCTYPE html><html><body>404</body></html>", "not_an_image"),
        (b"\xff", "not_an_image"),
        (bytes(5000), "not_an_image"),
        (np.random.default_rng(0).bytes(5000), "not_an_image"),
        (b"8BPS\x00\x01" + bytes(100), "unsupported"),
        (b"\x00\x00\x00\x18ftypheic\x00\x00\x00\x00mif1heic", "decode_error"),
        (b"\x00\x00\x00\x20ftypisom\x00\x00\x02\x00isomiso2", "unsupported"),
        (encoded(Image.new("LAB", (8, 8)), "TIFF"), "unsupported"),
        (png_header(60_000, 60_000), "too_large"),
        (png_header(0, 10), "decode_error"),
    ],
    ids=["empty", "html", "byte", "zeros", "random", "psd", "heic", "video", "lab", "bomb", "no width"],
)
def test_what_cannot_be_an_image_is_refused_by_its_rule(data: bytes, rule: str) -> None:
    assert refusal(data) == rule


@pytest.mark.parametrize("length", [2, 3, 12, 100, 300, 700, len(JPEG) // 2, len(JPEG) - 400])
def test_a_jpeg_cut_off_anywhere_is_truncated(length: int) -> None:
    assert refusal(JPEG[:length]) == ("truncated" if length > 2 else "not_an_image")


@pytest.mark.parametrize("kind", ["PNG", "GIF", "WEBP", "BMP", "PPM"])
@pytest.mark.parametrize("share", [0.02, 0.3, 0.7, 0.95])
def test_other_formats_cut_off_are_truncated(kind: str, share: float) -> None:
    data = encoded(PHOTO, kind)
    assert refusal(data[: int(len(data) * share)]) == "truncated"


def test_a_scaled_decode_finds_the_cut_as_well() -> None:
    data = encoded(natural(800, 600), "JPEG")
    cut = data[: len(data) * 3 // 4]
    with pytest.raises(Rejected) as refused:
        decode(open_image(cut, Recipe()), cut, 4)
    assert refused.value.rule == "truncated"


def test_a_damaged_png_is_a_decode_error() -> None:
    data = bytearray(encoded(PHOTO, "PNG"))
    start = data.index(b"IDAT") + 4
    data[start : start + 2] = b"\x00\x00"  # no zlib stream starts so
    assert refusal(bytes(data)) == "decode_error"


def test_limits_hold_to_the_pixel() -> None:
    assert refusal(JPEG, Recipe(max_file_bytes=len(JPEG) - 1)) == "too_large"
    assert refusal(JPEG, Recipe(max_image_area=160 * 120 - 1)) == "too_large"
    assert refusal(JPEG, Recipe(min_image_size=121)) == "too_small"
    assert refusal(JPEG, Recipe(max_aspect_ratio=1.33)) == "aspect_ratio"
    within = Recipe(max_file_bytes=len(JPEG), max_image_area=160 * 120, min_image_size=120, max_aspect_ratio=160 / 120)
    assert open_image(JPEG, within).size == (160, 120)


def test_limits_come_before_the_pixels_are_looked_at() -> None:
    assert refusal(JPEG[: len(JPEG) // 2], Recipe(min_image_size=121)) == "too_small"


def test_a_webp_canvas_is_refused_before_memory_is_taken_for_it() -> None:
    exif = Image.Exif()
    exif[0x010F] = "Maker"  # with EXIF, the header is the kind that can announce more than 16384 pixels
    data = bytearray(encoded(PHOTO, "WEBP", exif=exif))
    assert data[12:16] == b"VP8X"
    data[24:30] = b"\xff\xff\x00\xff\xff\x00"  # 65536 x 65536
    assert refusal(bytes(data)) == "too_large"


def test_a_tiff_tile_far_larger_than_its_image_is_refused() -> None:
    entries = {256: 8, 257: 8, 258: 8, 259: 1, 262: 1, 277: 1, 322: 60_000, 323: 60_000, 324: 8, 325: 64}
    directory = b"".join(struct.pack("<HHII", tag, 4, 1, value) for tag, value in entries.items())
    data = b"II*\x00" + struct.pack("<IH", 8, len(entries)) + directory + bytes(100)
    assert refusal(data) == "too_large"


def test_the_process_wide_guards_of_pillow_stay_as_they_are() -> None:
    refusal(JPEG[:700])
    assert Image.MAX_IMAGE_PIXELS is None
    assert ImageFile.LOAD_TRUNCATED_IMAGES is False


@pytest.mark.parametrize(
    ("needed", "scale"),
    [((1800, 2400), 1), ((901, 1000), 1), ((900, 1200), 2), ((450, 600), 4), ((449, 301), 4), ((1, 1), 8)],
)
def test_a_jpeg_is_scaled_down_as_far_as_leaves_what_is_needed(needed: tuple[int, int], scale: int) -> None:
    assert draft_scale("JPEG", (1800, 2400), needed) == scale
    assert draft_scale("PNG", (1800, 2400), needed) == 1


@pytest.mark.parametrize("scale", [1, 2, 4, 8])
@pytest.mark.parametrize("size", [(161, 119), (64, 64), (8, 33)])
def test_a_scaled_decode_has_the_announced_size_and_extent(scale: int, size: tuple[int, int]) -> None:
    data = encoded(PHOTO.resize(size), "JPEG")
    pixels = decode(open_image(data, Recipe()), data, scale)
    assert pixels.image.size == (-(-size[0] // scale), -(-size[1] // scale))
    assert pixels.extent == (size[0] / scale, size[1] / scale)


def test_frames_are_counted_and_the_first_is_decoded() -> None:
    frames = [Image.new("RGB", (20, 10), colour) for colour in ("red", "lime", "blue")]
    for kind in ("GIF", "TIFF", "WEBP", "PNG"):
        data = encoded(frames[0], kind, save_all=True, append_images=frames[1:])
        image = open_image(data, Recipe())
        assert count_frames(data, image) == 3, kind
        red, green, blue = decode(image, data, 1).image.convert("RGB").resize((1, 1)).tobytes()
        assert (red > 240, green < 15, blue < 15) == (True, True, True), kind


def test_a_damaged_later_frame_leaves_the_first() -> None:
    frames = [natural(64, 64, seed).quantize(64) for seed in (1, 2)]
    data = encoded(frames[0], "GIF", save_all=True, append_images=frames[1:])
    cut = data[: len(data) * 3 // 4]
    image = open_image(cut, Recipe())
    assert count_frames(cut, image) in {None, 1, 2}
    assert decode(image, cut, 1).image.size == (64, 64)


def test_the_name_or_kind_of_file_object_plays_no_part() -> None:
    assert open_image(encoded(PHOTO, "PNG"), Recipe()).format == "PNG"
    assert open_image(io.BytesIO(JPEG).getvalue(), Recipe()).format == "JPEG"


@pytest.mark.parametrize("start", [b"<!DOCTYPE html><title>404</title>", b"\n<html>", b"\xef\xbb\xbf<!doctype HTML>"])
def test_a_web_page_is_called_one(start: bytes) -> None:
    with pytest.raises(Rejected, match="It is a web page") as reject:
        open_image(start, Recipe())
    assert reject.value.rule == "not_an_image"


def test_a_heif_is_turned_by_its_container_whatever_its_exif_says() -> None:
    exif = Image.Exif()
    exif[274] = 6
    data = encoded(PHOTO, "HEIF", quality=95, exif=exif.tobytes())  # the writer puts it into the container as well
    image = open_image(data, Recipe())
    assert describe(image, keep_gps=False, keep_maker_notes=False)["orientation"] == 1
    turned = PHOTO.transpose(Image.Transpose.ROTATE_270)
    assert psnr(np.asarray(decode(image, data, 1).image), np.asarray(turned)) > 35


def test_a_heif_of_other_pixels_than_it_announces_is_refused() -> None:
    data = encoded(PHOTO, "HEIF")
    size, other = (struct.pack(">4sIII", b"ispe", 0, width, 120) for width in (160, 158))
    assert size in data
    assert refusal(data.replace(size, other)) == "decode_error"
