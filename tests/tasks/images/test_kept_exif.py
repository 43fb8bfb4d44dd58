"""The EXIF of outputs: none unless the recipe says so, and then true of the output."""

from __future__ import annotations

import io
import struct
from pathlib import Path
from typing import Any

import pytest
from PIL import ExifTags, Image
from PIL.PngImagePlugin import PngInfo

from lookbook.tasks.images.metadata import MOST_BYTES, kept_exif
from lookbook.tasks.images.recipe import OutputDefinition, Recipe
from lookbook.tasks.images.render import render
from tests.support.pictures import encoded

FORMATS = ["jpeg", "png", "webp", "avif"]
PICTURE = Image.new("RGB", (60, 80), "teal")


def camera_exif(orientation: int = 6) -> Image.Exif:
    exif = Image.Exif()
    exif[ExifTags.Base.Make] = "Nikon"
    exif[ExifTags.Base.Orientation] = orientation
    exif[ExifTags.Base.ImageWidth] = 99
    exif.get_ifd(ExifTags.IFD.Exif).update(
        {ExifTags.Base.ExposureTime: 0.01, ExifTags.Base.MakerNote: b"private", ExifTags.Base.ExifImageWidth: 99}
    )
    exif.get_ifd(ExifTags.IFD.GPSInfo).update({ExifTags.GPS.GPSLatitudeRef: "N", ExifTags.GPS.GPSLatitude: (52, 31, 0)})
    return exif


def exif_of(fields: dict[int, tuple[int, bytes]], order: str) -> bytes:
    """EXIF of these fields (type and bytes of their values), without the name before it."""
    sizes = {1: 1, 2: 1, 4: 4}
    entries, beside, place = b"", b"", 8 + 2 + 12 * len(fields) + 4
    for tag, (kind, value) in sorted(fields.items()):
        entries += struct.pack(f"{order}HHI", tag, kind, len(value) // sizes[kind])
        if len(value) > 4:
            entries += struct.pack(f"{order}I", place + len(beside))
            beside += value + bytes(len(value) % 2)
        else:
            entries += value.ljust(4, b"\x00")
    head = (b"II*\x00" if order == "<" else b"MM\x00*") + struct.pack(f"{order}IH", 8, len(fields))
    return head + entries + bytes(4) + beside


def drawn(kind: str, exif: str, stored: bytes) -> bytes:
    recipe = Recipe(outputs={"out": OutputDefinition(image_size=64, encode_format=kind, exif=exif)})
    data = encoded(PICTURE, "JPEG", exif=b"Exif\x00\x00" + stored)
    return render(data, recipe, ["out"]).files["out"].data


def read_back(kind: str, exif: str, source: Image.Exif) -> Image.Exif:
    stored = source.tobytes().removeprefix(b"Exif\x00\x00")
    return Image.open(io.BytesIO(drawn(kind, exif, stored))).getexif()


@pytest.mark.parametrize("kind", FORMATS)
def test_outputs_carry_none_unless_the_recipe_says_so(kind: str) -> None:
    assert not dict(read_back(kind, "drop", camera_exif()))


@pytest.mark.parametrize("kind", FORMATS)
@pytest.mark.parametrize("exif", ["keep", "keep_with_gps"])
def test_what_is_kept_is_true_of_the_output(kind: str, exif: str) -> None:
    kept = read_back(kind, exif, camera_exif())
    photo = kept.get_ifd(ExifTags.IFD.Exif)
    assert kept[ExifTags.Base.Make] == "Nikon"
    assert float(photo[ExifTags.Base.ExposureTime]) == pytest.approx(0.01)
    assert ExifTags.Base.Orientation not in kept, "it stands upright already"
    assert ExifTags.Base.ImageWidth not in kept
    assert not {ExifTags.Base.MakerNote, ExifTags.Base.ExifImageWidth} & set(photo)


def test_the_position_is_kept_only_when_asked_for() -> None:
    assert not read_back("jpeg", "keep", camera_exif()).get_ifd(ExifTags.IFD.GPSInfo)
    position = read_back("jpeg", "keep_with_gps", camera_exif()).get_ifd(ExifTags.IFD.GPSInfo)
    assert tuple(map(float, position[ExifTags.GPS.GPSLatitude])) == (52, 31, 0)


def test_what_only_the_original_is_stays_behind() -> None:
    """GeoTIFF's place on earth, IPTC, Photoshop's thumbnail, the structure of a TIFF; colours and places of pixels."""
    exif = camera_exif()
    private = {33922: (13.4, 52.5, 0.0), 33723: b"\x1c\x02\x5a\x00\x06Berlin", 34377: b"8BIM", 330: 8, 322: 256}
    exif._data.update(private)
    exif.get_ifd(ExifTags.IFD.Exif).update({ExifTags.Base.ColorSpace: 65535, 0x9214: (9, 9)})
    image = Image.new("RGB", (4, 4))
    image.info["exif"] = exif.tobytes()
    assert set(private) <= set(image.getexif())
    kept = Image.Exif()
    kept.load(kept_exif(image, with_gps=False))
    assert set(kept) == {ExifTags.Base.Make, ExifTags.IFD.Exif}
    assert set(kept.get_ifd(ExifTags.IFD.Exif)) == {ExifTags.Base.ExposureTime}


@pytest.mark.parametrize("order", "<>")
@pytest.mark.parametrize("kind", FORMATS)
def test_texts_are_kept_byte_for_byte(kind: str, order: str) -> None:
    """Whatever encoding they are in; and numbers in the type that they have."""
    fields: dict[int, tuple[int, bytes]] = {
        ExifTags.Base.ImageDescription: (2, "Café 東京".encode() + b"\x00"),
        ExifTags.Base.Make: (2, "石川".encode("shift_jis") + b"\x00"),
        ExifTags.Base.Model: (2, b"M\xfcller\x00"),
        ExifTags.Base.Artist: (2, b"a\x00b\x00"),
        ExifTags.Base.Rating: (4, struct.pack(f"{order}I", 4)),
        ExifTags.Base.XPTitle: (1, "Schön".encode("utf-16-le")),
    }
    stored = Image.open(io.BytesIO(drawn(kind, "keep", exif_of(fields, order)))).info["exif"]
    assert stored.removeprefix(b"Exif\x00\x00") == exif_of(fields, order)


def test_the_exif_of_a_tiff_and_of_an_old_png_is_kept() -> None:
    fields: dict[int, tuple[int, bytes]] = {ExifTags.Base.Make: (2, "Café".encode() + b"\x00")}
    exif = exif_of(fields, "<")
    text = PngInfo()
    text.add_text("Raw profile type exif", f"\nexif\n      {len(exif)}\n{exif.hex()}\n")
    tagged = {271: "Café".encode()}
    for data in (encoded(PICTURE, "PNG", pnginfo=text), encoded(PICTURE, "TIFF", tiffinfo=tagged)):
        kept = Image.open(io.BytesIO(data))
        kept.load() if kept.format == "PNG" else None
        assert b"Caf\xc3\xa9" in kept_exif(kept, with_gps=False)


def test_the_exif_that_was_handed_to_us_is_kept() -> None:
    path = Path(__file__).parents[4] / "shared" / "cases" / "images" / "exif_utf8.jpg"
    if not path.exists():
        pytest.skip("the shared cases are not here")
    kept = kept_exif(Image.open(path), with_gps=False)
    assert kept == Image.open(path).info["exif"].rstrip(b"\x00") + b"\x00"


def test_what_no_file_can_hold_is_left_out() -> None:
    image = Image.new("RGB", (4, 4))
    image.info["exif"] = exif_of({ExifTags.Base.ImageDescription: (2, b"x" * MOST_BYTES)}, "<")
    assert kept_exif(image, with_gps=False) == b""


@pytest.mark.parametrize("value", [b"", b"Exif\x00\x00", b"II*\x00", b"MM\x00*\xff\xff\xff\xff", bytes(40), 7])
def test_damaged_exif_is_no_fault(value: Any) -> None:
    image = Image.new("RGB", (4, 4))
    image.info["exif"] = value
    assert kept_exif(image, with_gps=True) == b""


def test_an_image_without_exif_gives_outputs_without() -> None:
    assert kept_exif(Image.new("RGB", (4, 4)), with_gps=True) == b""
