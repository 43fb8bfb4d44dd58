"""The EXIF of outputs: none unless the recipe says so, and then true of the output."""

from __future__ import annotations

import io
from typing import Any

import pytest
from PIL import ExifTags, Image

from lookbook.tasks.images.metadata import MOST_BYTES, kept_exif
from lookbook.tasks.images.recipe import OutputDefinition, Recipe
from lookbook.tasks.images.render import render
from tests.support.pictures import encoded

FORMATS = ["jpeg", "png", "webp", "avif"]


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


def read_back(kind: str, exif: str, source: Image.Exif) -> Image.Exif:
    recipe = Recipe(outputs={"out": OutputDefinition(image_size=64, encode_format=kind, exif=exif)})
    data = encoded(Image.new("RGB", (60, 80), "teal"), "JPEG", exif=source.tobytes())
    return Image.open(io.BytesIO(render(data, recipe, ["out"]).files["out"].data)).getexif()


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
    image.getexif().load(exif.tobytes())
    assert set(private) <= set(image.getexif())
    kept = Image.Exif()
    kept.load(kept_exif(image, with_gps=False))
    assert set(kept) == {ExifTags.Base.Make, ExifTags.IFD.Exif}
    assert set(kept.get_ifd(ExifTags.IFD.Exif)) == {ExifTags.Base.ExposureTime}


def test_what_no_file_can_hold_is_left_out() -> None:
    image = Image.new("RGB", (4, 4))
    image.getexif()[ExifTags.Base.ImageDescription] = "x" * (MOST_BYTES + 1)
    assert kept_exif(image, with_gps=False) == b""


@pytest.mark.parametrize("value", [{"a": 1}, object(), 2**80])
def test_damaged_exif_is_no_fault(value: Any) -> None:
    image = Image.new("RGB", (4, 4))
    image.getexif()[ExifTags.Base.Software] = value
    assert isinstance(kept_exif(image, with_gps=True), bytes)


def test_an_image_without_exif_gives_outputs_without() -> None:
    assert kept_exif(Image.new("RGB", (4, 4)), with_gps=True) == b""
