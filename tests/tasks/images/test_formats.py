"""Which format the first bytes announce."""

from __future__ import annotations

import struct

import pytest
from PIL import Image

from lookbook.tasks.images.formats import (
    jpeg2000_length,
    media_canvas,
    media_length,
    png_chunk,
    sniff,
    unread_kind,
    webp_canvas,
)
from tests.support.kinds import SIZE, kinds
from tests.support.pictures import encoded


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "GIF", "WEBP", "AVIF", "HEIF", "BMP", "TIFF", "JPEG2000", "PPM"])
def test_each_format_that_is_read_is_known_by_its_first_bytes(kind: str) -> None:
    assert sniff(encoded(Image.new("RGB", (9, 7)), kind)) == kind


@pytest.mark.parametrize("data", [b"", b"\x00", b"<!DOCTYPE html><html>", b"PK\x03\x04", bytes(64)])
def test_what_is_no_image_has_no_format(data: bytes) -> None:
    assert sniff(data) is None
    assert unread_kind(data) is None


@pytest.mark.parametrize(
    ("data", "name"),
    [
        (b"\x00\x00\x00\x20ftypisom\x00\x00\x02\x00isomiso2", "isom"),
        (b"8BPS\x00\x01", "Photoshop"),
        (b"%!PS-Adobe-3.0 EPSF-3.0", "PostScript"),
        (b'\xef\xbb\xbf\n<?xml version="1.0"?>\n<svg width="1">', "SVG"),
        (b"<svg xmlns=", "SVG"),
    ],
)
def test_known_kinds_that_are_not_read_are_named(data: bytes, name: str) -> None:
    assert sniff(data) is None
    assert name in (unread_kind(data) or "")


@pytest.mark.parametrize(
    ("options", "mode"),
    [({"quality": 80}, "RGB"), ({"lossless": True}, "RGB"), ({"quality": 80}, "RGBA")],
    ids=["VP8", "VP8L", "VP8X"],
)
def test_webp_canvas_is_read_from_each_kind_of_header(options: dict[str, int], mode: str) -> None:
    transparent = Image.linear_gradient("L").resize((301, 77)).convert("RGB")
    if mode == "RGBA":
        transparent.putalpha(Image.radial_gradient("L").resize((301, 77)))
    assert webp_canvas(encoded(transparent, "WEBP", **options)) == (301, 77)


def test_webp_canvas_of_a_cut_header_is_empty() -> None:
    assert webp_canvas(b"RIFF" + struct.pack("<I", 22) + b"WEBPVP8X") == (0, 0)


@pytest.mark.parametrize("name", [name for name in kinds() if name.startswith("jp2")])
def test_a_jpeg_2000_says_where_it_ends(name: str) -> None:
    data = kinds()[name].data
    assert jpeg2000_length(data) == len(data)
    assert all(jpeg2000_length(data[:length]) > length for length in range(12, len(data), 7))
    assert jpeg2000_length(data + b"\x00\x00\x00\x0cxml <x/>") <= len(data) + 12, "what follows plays no part"


@pytest.mark.parametrize("name", [name for name in kinds() if name.startswith("avif")])
def test_an_avif_says_where_it_ends_and_how_large_it_is(name: str) -> None:
    data = kinds()[name].data
    assert media_length(data) == len(data)
    assert media_canvas(data) == SIZE
    assert all(media_length(data[:length]) > length for length in range(len(data) * 2 // 3, len(data), 7))


def test_the_last_tile_part_of_a_codestream_may_go_to_its_end() -> None:
    data = bytearray(kinds()["jp2 bare codestream"].data)
    start = data.index(b"\xff\x90")
    data[start + 6 : start + 10] = bytes(4)
    assert jpeg2000_length(bytes(data)) == len(data)
    assert jpeg2000_length(bytes(data[:-5])) > len(data) - 5


def test_a_chunk_of_a_png_is_found_before_its_pixels_only() -> None:
    data = kinds()["png"].data
    assert png_chunk(data, b"IHDR") == data[16:29]
    assert png_chunk(data, b"IEND") is None
    assert png_chunk(data[:20], b"cICP") is None
