"""The made-up catalogue: the same files each time, and the defects it says it has."""

from __future__ import annotations

import csv
import io
import json
from collections import Counter
from hashlib import sha256
from pathlib import Path

import pytest
from PIL import Image, ImageChops, ImageOps

from lookbook.blocks.errors import LookbookError, UsageError
from lookbook.tasks.datasets.catalogue import read_catalogue
from lookbook.tasks.datasets.sources.base import SourceFile
from lookbook.tasks.datasets.sources.sample import SampleSource
from lookbook.tasks.datasets.sources.sample_drawing import SHAPES, Photo, draw, encoded
from lookbook.tasks.images.locators import read_bytes

COUNT = 120


@pytest.fixture(scope="module")
def scratch(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("scratch")


@pytest.fixture(scope="module")
def files(scratch: Path) -> dict[str, SourceFile]:
    return {file.key: file for file in SampleSource(f"sample://{COUNT}", scratch).files()}


def _opened(file: SourceFile) -> Image.Image | None:
    try:
        image = Image.open(io.BytesIO(read_bytes(file.locator)))
        image.load()
    except OSError:
        return None
    return image


@pytest.mark.parametrize("count", [1, 19, 20])
def test_exactly_as_many_images_as_asked_for(tmp_path: Path, count: int) -> None:
    found = list(SampleSource(f"sample://{count}", tmp_path).files())
    assert sum(file.is_image for file in found) == count
    assert all(_opened(file) for file in found if file.is_image), "small samples hold no broken image"


def test_each_generation_has_the_same_bytes_and_fingerprints(files: dict[str, SourceFile], tmp_path: Path) -> None:
    again = {file.key: file for file in SampleSource(f"sample://{COUNT}", tmp_path).files()}
    assert again.keys() == files.keys()
    for key, file in again.items():
        assert file.fingerprint == files[key].fingerprint
        assert read_bytes(file.locator) == read_bytes(files[key].locator), key


def test_is_made_once_and_leaves_nothing_beside(files: dict[str, SourceFile], scratch: Path) -> None:
    assert files
    assert [path.name for path in scratch.iterdir()] == [f"sample-v1-{COUNT}"]
    kept = scratch / f"sample-v1-{COUNT}" / "images" / "mark.jpg"
    kept.touch()
    try:
        assert "images/mark.jpg" in {file.key for file in SampleSource(f"sample://{COUNT}", scratch).files()}
    finally:
        kept.unlink()


def test_images_vary_as_real_ones_do(files: dict[str, SourceFile]) -> None:
    images = [image for file in files.values() if file.is_image and (image := _opened(file))]
    assert {image.format for image in images} == {"JPEG", "PNG", "WEBP"}
    assert {image.mode for image in images} == {"RGB", "L", "CMYK"}
    upright = Counter(ImageOps.exif_transpose(image).size for image in images)
    assert set(upright) == {(450, 600), (900, 1200), (600, 450)}
    assert upright.most_common(1)[0][0] == (450, 600)
    assert {image.getexif().get(0x0112, 1) for image in images} >= {1, 3, 6, 8}
    taken = [image.getexif().get_ifd(0x8769).get(0x9003) for image in images]
    assert sum(time is not None for time in taken) > COUNT / 2


def test_broken_images_are_few_and_as_named(files: dict[str, SourceFile]) -> None:
    broken = {key: read_bytes(file.locator) for key, file in files.items() if file.is_image and not _opened(file)}
    assert len(broken) / COUNT < 0.03
    heads = {key: data[:4] for key, data in broken.items()}
    assert heads == {
        "images/10031.jpg": b"\xff\xd8\xff\xe0",
        "images/10071.jpg": b"",
        "images/10113.jpg": b"<!DO",
    }


def test_only_the_copy_has_bytes_of_another(files: dict[str, SourceFile]) -> None:
    by_content: dict[str, list[str]] = {}
    for key, file in files.items():
        if file.is_image:
            by_content.setdefault(sha256(read_bytes(file.locator)).hexdigest(), []).append(key)
    assert [keys for keys in by_content.values() if len(keys) > 1] == [["images/10016.jpg", "images/10017.jpg"]]


def test_catalogue_has_the_defects_it_should(files: dict[str, SourceFile]) -> None:
    text = read_bytes(files["styles.csv"].locator).decode()
    records = list(csv.reader(io.StringIO(text)))
    assert {len(record) for record in records} == {10, 11}
    ids = Counter(record[0] for record in records[1:])
    images = {key.split("/")[1].split(".")[0] for key, file in files.items() if file.is_image}
    assert [key for key, times in ids.items() if times > 1] == ["10011"]
    assert images - set(ids) == {"10013"}
    assert set(ids) - images == {"9000019"}
    assert text.count(",2012.0,") == 1
    catalogue = read_catalogue(list(files.values()))
    assert (catalogue.rows_found, catalogue.rejects) == (COUNT + 1, [])
    assert sum(catalogue.rows["repaired"].to_pylist()) == 1
    assert catalogue.rows["outcome"].to_pylist().count("duplicate") == 1
    styles = [json.loads(read_bytes(file.locator)) for key, file in files.items() if key.endswith(".json")]
    described = [text for text in catalogue.rows["description"].to_pylist() if text]
    assert len(described) == len(styles) == COUNT / 4
    assert all("<" not in text and "&amp;" not in text for text in described)


def test_every_product_fills_the_picture_in_its_colour_on_white() -> None:
    for index, article in enumerate(SHAPES):
        image = draw(Photo(index, article, "Red", (450, 600)))
        assert image.getpixel((2, 2)) == (255, 255, 255)
        box = ImageChops.difference(image, Image.new("RGB", image.size, "white")).point(lambda v: v // 100).getbbox()
        assert box is not None, article
        assert 0 < box[0] < box[2] < 450, article
        assert box[2] - box[0] > 100, article
        red, _, blue = image.resize((1, 1), Image.Resampling.BOX).getpixel((0, 0))  # type: ignore[misc]
        assert red > blue + 2, article


def test_rotated_file_shows_the_same_picture_upright() -> None:
    plain = Image.open(io.BytesIO(encoded(Photo(3, "Jeans", "Blue", (450, 600)))))
    for orientation in (3, 6, 8):
        photo = Photo(3, "Jeans", "Blue", (450, 600), orientation=orientation)
        rotated = ImageOps.exif_transpose(Image.open(io.BytesIO(encoded(photo))))
        difference = ImageChops.difference(plain.convert("L"), rotated.convert("L")).resize(
            (1, 1), Image.Resampling.BOX
        )
        assert difference.getpixel((0, 0)) in (0, 1)


@pytest.mark.parametrize(
    "uri", ["sample://0", "sample://", "sample://many", "sample://1000001", "sample://-1", "sample://5/x"]
)
def test_a_number_it_cannot_take_is_a_usage_error(tmp_path: Path, uri: str) -> None:
    with pytest.raises(UsageError, match=r"SOURCE sample://.*1 to 1000000"):
        SampleSource(uri, tmp_path)


def test_folder_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(LookbookError, match="file: Not a directory"):
        list(SampleSource("sample://1", tmp_path / "file").files())
    assert [path.name for path in tmp_path.iterdir()] == ["file"]
