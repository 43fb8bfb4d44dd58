"""EXIF, resolution and profile, whole or damaged."""

from __future__ import annotations

import io
import json
import struct
from datetime import datetime
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import ExifTags, Image
from PIL.PngImagePlugin import PngInfo
from PIL.TiffImagePlugin import IFDRational

from lookbook.tasks.images.decode import decode, open_image
from lookbook.tasks.images.metadata import describe
from lookbook.tasks.images.recipe import Recipe
from tests.support.handmade import tiff, tiff_tags
from tests.support.pictures import adobe_rgb_profile, encoded

# Pillow warns of damaged metadata; pytest shows what lookbook.tasks.images.decode turns off.
pytestmark = pytest.mark.filterwarnings("ignore::UserWarning")

Base, IFD = ExifTags.Base, ExifTags.IFD
COLUMNS = {
    "orientation", "exif", "camera_make", "camera_model", "software", "taken_at", "exposure_seconds",
    "f_number", "iso", "focal_length_mm", "icc_profile", "dpi", "has_xmp", "has_iptc",
}  # fmt: skip


def described(
    main: dict[int, Any] | None = None,
    photo: dict[int, Any] | None = None,
    gps: dict[int, Any] | None = None,
    *,
    kind: str = "JPEG",
    keep_gps: bool = False,
    keep_maker_notes: bool = False,
    **options: Any,
) -> dict[str, Any]:
    """What is read back from a file with these tags."""
    exif = Image.Exif()
    exif.update(main or {})
    if photo:
        exif.get_ifd(IFD.Exif).update(photo)
    if gps:
        exif.get_ifd(IFD.GPSInfo).update(gps)
    if main or photo or gps:
        options["exif"] = exif.tobytes()
    image = Image.open(io.BytesIO(encoded(Image.new("RGB", (8, 8)), kind, **options)))
    return describe(image, keep_gps=keep_gps, keep_maker_notes=keep_maker_notes)


CAMERA: dict[int, Any] = {
    Base.Make: "Canon",
    Base.Model: "Canon EOS 1000D",
    Base.Software: "Adobe Photoshop",
    Base.Orientation: 6,
}
PHOTO: dict[int, Any] = {
    Base.DateTimeOriginal: "2011:12:30 05:39:04",
    Base.ExposureTime: IFDRational(1, 125),
    Base.FNumber: IFDRational(28, 10),
    Base.ISOSpeedRatings: 400,
    Base.FocalLength: IFDRational(79, 1),
    Base.ExifVersion: b"0221",
    Base.MakerNote: b"\x01\x02private\x00",
}
GPS: dict[int, Any] = {1: "N", 2: (52.0, 31.0, 12.5), 3: "E", 4: (13.0, 24.0, 18.0)}


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "TIFF", "AVIF", "HEIF"])
def test_typed_fields_of_every_format_that_carries_exif(kind: str) -> None:
    found = described(CAMERA, PHOTO, kind=kind)
    assert set(found) == COLUMNS
    assert (found["camera_make"], found["camera_model"]) == ("Canon", "Canon EOS 1000D")
    turned = 1 if kind == "HEIF" else 6  # which is turned by its container
    assert (found["software"], found["orientation"]) == ("Adobe Photoshop", turned)
    assert found["taken_at"] == datetime(2011, 12, 30, 5, 39, 4)  # noqa: DTZ001 - EXIF has no zone
    assert found["exposure_seconds"] == pytest.approx(1 / 125)
    assert found["f_number"] == pytest.approx(2.8)
    assert (found["iso"], found["focal_length_mm"]) == (400, 79.0)


def test_the_whole_exif_is_json_with_names() -> None:
    text = described(CAMERA | {0xEA1C: "unknown"}, PHOTO)["exif"]
    exif = json.loads(text)
    assert exif["Make"] == "Canon"
    assert exif["ExposureTime"] == pytest.approx(0.008)
    assert exif["ExifVersion"] == "30323231"
    assert "ExifOffset" not in exif
    assert exif == json.loads(described(CAMERA | {0xEA1C: "unknown"}, PHOTO)["exif"])


def test_position_and_private_notes_are_kept_only_where_asked_for() -> None:
    without = json.loads(described(CAMERA, PHOTO, GPS)["exif"])
    assert not {"GPSInfo", "MakerNote"} & set(without)
    both = json.loads(described(CAMERA, PHOTO, GPS, keep_gps=True, keep_maker_notes=True)["exif"])
    assert both["GPSInfo"]["GPSLatitudeRef"] == "N"
    assert both["GPSInfo"]["GPSLatitude"] == [52.0, 31.0, 12.5]
    assert bytes.fromhex(both["MakerNote"]) == PHOTO[Base.MakerNote]
    assert {name for name in both if name not in without} == {"GPSInfo", "MakerNote"}


def test_no_metadata_is_none_and_orientation_one() -> None:
    found = described(kind="PNG")
    assert (found.pop("orientation"), found.pop("has_xmp"), found.pop("has_iptc")) == (1, False, False)
    assert set(found.values()) == {None}


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("2010:13:45 10:00:00", None),
        ("2010:13:45", None),
        ("0000:00:00 00:00:00", None),
        ("    :  :     :  :  ", None),
        ("", None),
        ("2010-08-13T16:24:26", None),
        ("2010:08:13 16:24:26", datetime(2010, 8, 13, 16, 24, 26)),  # noqa: DTZ001 - EXIF has no zone
        ("2010:08:13 16:24:26+02:00", datetime(2010, 8, 13, 16, 24, 26)),  # noqa: DTZ001
    ],
)
def test_times_are_times_or_none(text: str, expected: datetime | None) -> None:
    assert described({}, {Base.DateTimeOriginal: text})["taken_at"] == expected


def test_the_digitised_time_stands_in_and_the_time_of_editing_does_not() -> None:
    found = described({Base.DateTime: "2012:01:01 00:00:00"}, {Base.DateTimeDigitized: "2011:01:01 00:00:00"})
    assert found["taken_at"] == datetime(2011, 1, 1)  # noqa: DTZ001 - EXIF has no zone
    assert described({Base.DateTime: "2012:01:01 00:00:00"})["taken_at"] is None


def test_numbers_that_are_none_are_null() -> None:
    found = described({}, {Base.ExposureTime: IFDRational(0, 0), Base.FNumber: IFDRational(0, 1)})
    assert (found["exposure_seconds"], found["f_number"]) == (None, None)
    assert json.loads(found["exif"])["ExposureTime"] is None


@pytest.mark.parametrize(("value", "expected"), [(2**31 - 1, 2**31 - 1), (2**31, None), (2**32 - 1, None), (0, None)])
def test_iso_fits_its_column_or_is_none(value: int, expected: int | None) -> None:
    # Written as a LONG, which the standard does not allow but some writers do.
    assert described({}, {Base.ISOSpeedRatings: value})["iso"] == expected


@pytest.mark.parametrize("value", [0, 9, 65535])
def test_an_orientation_out_of_range_is_one(value: int) -> None:
    assert described({Base.Orientation: value})["orientation"] == 1


def test_text_is_fit_for_postgresql_and_utf8() -> None:
    image = Image.open(io.BytesIO(encoded(Image.new("RGB", (8, 8)), "JPEG")))
    exif = image.getexif()
    exif[Base.Make] = "Ca\x00non \x00"
    exif[Base.Model] = "model \ud800"
    exif[Base.ImageDescription] = "Zürich – 東京"
    exif[Base.Software] = " \x00 "
    found = describe(image, keep_gps=False, keep_maker_notes=False)
    assert (found["camera_make"], found["camera_model"], found["software"]) == ("Canon", "model ?", None)
    assert "\\u0000" not in found["exif"]
    assert json.loads(found["exif"].encode())["ImageDescription"] == "Zürich – 東京"


def with_orientation(kind: int, value: bytes) -> bytes:
    """EXIF whose orientation has this type."""
    return b"Exif\x00\x00II*\x00\x08\x00\x00\x00\x01\x00" + struct.pack("<HHI", 0x112, kind, 1) + value + bytes(4)


XMP = b'<x:xmpmeta><rdf:Description tiff:Orientation="6"/></x:xmpmeta>'


@pytest.mark.parametrize(
    ("options", "orientation"),
    [
        ({"exif": with_orientation(3, b"\x06\x00\x00\x00")}, 6),
        ({"exif": with_orientation(1, b"\x06\x00\x00\x00")}, 1),
        ({"exif": with_orientation(4, b"\x06\x00\x00\x00")}, 1),
        ({"xmp": XMP}, 1),
        ({"xmp": XMP, "exif": with_orientation(3, b"\x03\x00\x00\x00")}, 3),
    ],
    ids=["short", "byte", "long", "XMP", "both"],
)
@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP"])
def test_an_orientation_counts_where_browsers_turn_the_picture(
    kind: str, options: dict[str, Any], orientation: int
) -> None:
    if kind == "PNG" and "xmp" in options:
        info = PngInfo()
        info.add_itxt("XML:com.adobe.xmp", XMP.decode())
        options = options | {"pnginfo": info}
    image = open_image(encoded(Image.new("RGB", (20, 30)), kind, **options), Recipe())
    found = describe(image, keep_gps=False, keep_maker_notes=False)
    assert found["orientation"] == orientation
    assert ("Orientation" in json.loads(found["exif"] or "{}")) is (orientation > 1)


def test_a_tiff_is_turned_by_its_tag_and_not_by_xmp() -> None:
    data = encoded(Image.new("RGB", (20, 30)), "TIFF", tiffinfo={700: XMP})
    image = open_image(data, Recipe())
    assert describe(image, keep_gps=False, keep_maker_notes=False)["orientation"] == 1
    assert decode(image, data, 1).image.size == (20, 30)
    data = encoded(Image.new("RGB", (20, 30)), "TIFF", tiffinfo={274: 6})
    turned = open_image(data, Recipe())
    assert describe(turned, keep_gps=False, keep_maker_notes=False)["orientation"] == 6
    assert decode(turned, data, 1).image.size == (30, 20)


@pytest.mark.parametrize("name", ["ori6_byte.jpg", "ori_xmp_only.jpg"])
def test_the_orientations_that_were_handed_to_us(name: str) -> None:
    path = Path(__file__).parents[4] / "shared" / "cases" / "images" / name
    if not path.exists():
        pytest.skip("the shared cases are not here")
    image = open_image(path.read_bytes(), Recipe())
    assert describe(image, keep_gps=False, keep_maker_notes=False)["orientation"] == 1


@pytest.mark.parametrize("encoding", ["utf-8", "shift_jis", "cp1252"])
@pytest.mark.parametrize(
    "text",
    [
        "Ricoh Café",
        "型号X",
        "© Müller Fotografie",
        "東京",
        "カメラ 50mm",
        "Größe “XL” – d\u2019été",
        "Rétro",
        "Fotograf\u2019s",
    ],
)
def test_texts_are_read_in_the_encoding_that_fits(text: str, encoding: str) -> None:
    try:
        stored = text.encode(encoding)
    except UnicodeEncodeError:
        return  # it cannot have been written so
    image = Image.open(io.BytesIO(encoded(Image.new("RGB", (8, 8)), "JPEG")))
    image.getexif()[Base.Make] = stored.decode("latin-1")  # as Pillow reads it
    found = describe(image, keep_gps=False, keep_maker_notes=False)
    assert found["camera_make"] == text
    assert json.loads(found["exif"])["Make"] == text


def test_the_texts_that_were_handed_to_us() -> None:
    path = Path(__file__).parents[4] / "shared" / "cases" / "images" / "exif_utf8.jpg"
    if not path.exists():
        pytest.skip("the shared cases are not here")
    found = describe(Image.open(path), keep_gps=False, keep_maker_notes=False)
    assert (found["camera_make"], found["camera_model"]) == ("Ricoh Café", "型号X")


def test_long_bytes_and_tables_are_left_out() -> None:
    exif = json.loads(described({Base.Make: "x", 0xC6D2: bytes(1000)}, {Base.CFAPattern: b"\x01" * 257})["exif"])
    assert exif == {"Make": "x"}


def test_resolution_and_profile_are_named() -> None:
    found = described(dpi=(300, 300), icc_profile=adobe_rgb_profile())
    assert (found["dpi"], found["icc_profile"]) == (300.0, "Made like Adobe RGB")
    assert described(kind="PNG", dpi=(144, 144))["dpi"] == pytest.approx(144, abs=0.01)
    assert described(icc_profile=b"nonsense")["icc_profile"] is None


XMP = b'<x:xmpmeta xmlns:x="adobe:ns:meta/"/>'
CAPTION = b"\x1c\x02\x78\x00\x05hello"  # IPTC-IIM 4.2: record 2, data set 120


def photoshop(resource: int, content: bytes) -> bytes:
    """An image resource block (Photoshop File Formats, Image Resource Blocks)."""
    return b"8BIM" + struct.pack(">HHI", resource, 0, len(content)) + content + bytes(len(content) % 2)


def jpeg_with(resource: int) -> bytes:
    """A JPEG with a block of Photoshop's."""
    data, block = encoded(Image.new("RGB", (8, 8)), "JPEG"), b"Photoshop 3.0\x00" + photoshop(resource, CAPTION)
    return data[:2] + b"\xff\xed" + struct.pack(">H", 2 + len(block)) + block + data[2:]


def presence(data: bytes) -> tuple[bool, bool]:
    image = Image.open(io.BytesIO(data))
    image.load()
    found = describe(image, keep_gps=False, keep_maker_notes=False)
    return found["has_xmp"], found["has_iptc"]


def test_the_presence_of_xmp_is_told() -> None:
    image = Image.new("RGB", (8, 8))
    text = PngInfo()
    text.add_itxt("XML:com.adobe.xmp", XMP.decode())
    assert presence(encoded(image, "JPEG", xmp=XMP)) == (True, False)
    assert presence(encoded(image, "PNG", pnginfo=text)) == (True, False)
    assert presence(encoded(image, "WEBP", xmp=XMP)) == (True, False)
    assert presence(encoded(image, "AVIF", xmp=XMP)) == (True, False)
    assert presence(encoded(image, "TIFF", tiffinfo={700: XMP})) == (True, False)
    for kind in ("JPEG", "PNG", "WEBP", "AVIF", "TIFF", "GIF", "BMP"):
        assert presence(encoded(Image.new("RGB", (8, 8)), kind)) == (False, False), kind


def test_the_presence_of_iptc_is_told() -> None:
    text = PngInfo()
    text.add_text("Raw profile type iptc", "\niptc\n      10\n1c0278000568656c6c6f\n", zip=True)
    assert presence(jpeg_with(0x0404)) == (False, True)
    assert presence(jpeg_with(0x040C)) == (False, False), "a thumbnail is none"
    assert presence(encoded(Image.new("RGB", (8, 8)), "PNG", pnginfo=text)) == (False, True)
    levels = np.zeros((8, 8, 3), np.uint8)
    for tag, content in ((33723, CAPTION), (34377, photoshop(0x0404, CAPTION))):
        shorts = struct.unpack(f"<{len(content) // 2}H", content)
        data = tiff(tiff_tags(levels, 2) | {tag: shorts}, levels.tobytes())
        # They are of type BYTE.
        data = data.replace(struct.pack("<HHI", tag, 3, len(shorts)), struct.pack("<HHI", tag, 1, len(content)))
        assert presence(data) == (False, True), tag


def with_camera() -> bytes:
    exif = Image.Exif()
    exif.update(CAMERA)
    exif.get_ifd(IFD.Exif).update(PHOTO)
    return encoded(Image.new("RGB", (8, 8)), "JPEG", exif=exif)


WHOLE = with_camera()


@settings(max_examples=300, deadline=None)
@given(st.data())
def test_damaged_exif_never_raises_and_always_fits_json(data: st.DataObject) -> None:
    start = WHOLE.index(b"Exif\x00\x00") + 6
    end = start + int.from_bytes(WHOLE[start - 8 : start - 6], "big") - 8
    damaged = bytearray(WHOLE)
    for _ in range(data.draw(st.integers(1, 8))):
        damaged[data.draw(st.integers(start, end - 1))] = data.draw(st.integers(0, 255))
    image = Image.open(io.BytesIO(bytes(damaged)))
    found = describe(image, keep_gps=True, keep_maker_notes=True)
    assert found["orientation"] in range(1, 9)
    if found["exif"] is not None:
        assert json.loads(found["exif"].encode("utf-8"))
        assert "\\u0000" not in found["exif"]
