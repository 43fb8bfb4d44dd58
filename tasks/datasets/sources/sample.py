"""A made-up catalogue of any size, drawn with Pillow: which product stands at an index, and its files."""

from __future__ import annotations

import csv
import errno
import io
import json
import os
import random
import re
import shutil
import uuid
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from lookbook.blocks.errors import LookbookError, UsageError
from lookbook.tasks.datasets.sources.base import SourceFile
from lookbook.tasks.datasets.sources.local import FolderSource
from lookbook.tasks.datasets.sources.sample_drawing import COLOURS, Photo, encoded

HEADER = [
    "id",
    "gender",
    "masterCategory",
    "subCategory",
    "articleType",
    "baseColour",
    "season",
    "year",
    "usage",
    "productDisplayName",
]

#: Defects come back every so many images; fewer than the other number of images have none.
PERIOD, FEWEST_WITH_DEFECTS = 250, 20
FLOAT_YEAR, RAGGED, ROW_TWICE, ORPHAN, COPY, ROW_ALONE, TRUNCATED, EMPTY, HTML = 5, 7, 11, 13, 17, 19, 31, 71, 113

CATEGORIES: dict[str, tuple[str, str, str]] = {
    "Tshirts": ("Apparel", "Topwear", "Casual"),
    "Shirts": ("Apparel", "Topwear", "Formal"),
    "Dresses": ("Apparel", "Dress", "Party"),
    "Jeans": ("Apparel", "Bottomwear", "Casual"),
    "Sports Shoes": ("Footwear", "Shoes", "Sports"),
    "Handbags": ("Accessories", "Bags", "Casual"),
    "Watches": ("Accessories", "Watches", "Formal"),
    "Caps": ("Accessories", "Headwear", "Sports"),
    "Sunglasses": ("Accessories", "Eyewear", "Travel"),
    "Perfume and Body Mist": ("Personal Care", "Fragrance", "Casual"),
}
WIDE = {"Sports Shoes", "Caps", "Sunglasses"}
WOMEN_ONLY = {"Dresses", "Handbags"}
BRANDS = ["Alderway", "Brightmoor", "Corvina", "Dunmere", "Ellory", "Fennick", "Galewood", "Harrowby"]


def product_id(index: int) -> int:
    """Return the id of the product at `index`."""
    return 10_000 + index


def defect(index: int, count: int) -> int:
    """Return which defect stands at `index` of a sample of `count` images: one of the numbers above, else -1."""
    return index % PERIOD if count >= FEWEST_WITH_DEFECTS else -1


def photo_at(index: int, count: int) -> Photo:
    """Return the photo at `index`, without regard to what a defect makes of its file."""
    chance = random.Random(-1 - index)  # noqa: S311 - must be the same each time
    article = list(CATEGORIES)[index % len(CATEGORIES)]
    colour = chance.choice(list(COLOURS))
    size = (450, 600)
    if article in WIDE and index // 10 % 2 == 0:
        size = (600, 450)
    elif index // 4 % 3 == 0 and index % 4 == 0:
        size = (900, 1200)
    if defect(index, count) in (TRUNCATED, EMPTY, HTML):
        return Photo(index, article, colour, size)
    extension = {12: "png", 33: "webp"}.get(index % 40, "jpg")
    mode = {21: "L", 46: "CMYK"}.get(index % 50, "RGB")
    orientation = {3: 6, 28: 8, 45: 3}.get(index % 60, 1)
    if extension != "jpg":
        return Photo(index, article, colour, size, extension)
    return Photo(index, article, colour, size, extension, mode, orientation)


def image_file(index: int, count: int) -> tuple[str, bytes]:
    """Return the name and the bytes of the image at `index`."""
    kind = defect(index, count)
    shown = photo_at(index - 1 if kind == COPY else index, count)
    name = f"{product_id(index)}.{shown.extension}"
    if kind == EMPTY:
        return name, b""
    if kind == HTML:
        return name, b"<!DOCTYPE html>\n<html><head><title>404 Not Found</title></head><body>Not Found</body></html>\n"
    data = encoded(shown)
    return name, data[: len(data) * 3 // 5] if kind == TRUNCATED else data


def product_row(index: int, count: int) -> list[str]:
    """Return the row of `styles.csv` for the product at `index`."""
    chance = random.Random(-1_000_001 - index)  # noqa: S311 - must be the same each time
    photo = photo_at(index, count)
    master, sub, usage = CATEGORIES[photo.article]
    gender = "Women" if photo.article in WOMEN_ONLY else chance.choice(["Men", "Men", "Women", "Unisex"])
    season = chance.choice(["Summer", "Summer", "Fall", "Winter", "Spring"])
    year = str(chance.choice([2010, 2011, 2011, 2012, 2012, 2012, 2013, 2014]))
    brand = BRANDS[index * 5 % len(BRANDS)]
    name = f"{brand} {'' if gender == 'Unisex' else gender + ' '}{photo.colour} {photo.article}"
    if defect(index, count) == FLOAT_YEAR:
        year = "2012.0"
    if defect(index, count) == RAGGED:
        name += ", Pack of 2"
    return [str(product_id(index)), gender, master, sub, photo.article, photo.colour, season, year, usage, name]


def csv_text(rows: Iterable[list[str]]) -> str:
    """Return rows as CSV text with Unix line ends."""
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerows(rows)
    return text.getvalue()


def catalogue_lines(index: int, count: int) -> str:
    """Return what stands in `styles.csv` for `index`: mostly one line."""
    kind = defect(index, count)
    row = product_row(index, count)
    if kind == ORPHAN:
        return ""
    if kind == RAGGED:
        return ",".join(row) + "\n"  # Its comma is not quoted, as in the published catalogue.
    if kind == ROW_TWICE:
        return csv_text([row, row])
    if kind == ROW_ALONE:
        return csv_text([row, [str(9_000_000 + index), *row[1:-1], f"{row[-1]} (not photographed)"]])
    return csv_text([row])


def style_file(index: int, count: int) -> tuple[str, bytes] | None:
    """Return the name and the text of the product's JSON file; every fourth product has one."""
    if index % 4 or defect(index, count) == ORPHAN:
        return None
    row = product_row(index, count)
    price = 299 + index * 37 % 40 * 100
    about = f"<p>{row[5]} {row[4].lower()} for {row[6].lower()}.<br>Made to last &amp; easy to care for.</p>"
    data = {
        "id": product_id(index),
        "price": price,
        "discountedPrice": price - price // 5 if index % 3 else price,
        "productDisplayName": row[9],
        "brandName": row[9].split()[0],
        "ageGroup": f"Adults-{row[1]}",
        "productDescriptors": {"description": {"descriptorType": "description", "value": about}},
    }
    return f"{product_id(index)}.json", json.dumps({"meta": {"code": 200}, "data": data}).encode()


MAX_IMAGES = 1_000_000
#: Raise it when other files are written: samples of another version are made anew.
SAMPLE_VERSION = 1
#: 2024-01-01 00:00:00 UTC, the time of change of every file, so that fingerprints stay the same.
FILE_TIME = 1_704_067_200
CHUNK = 64


class SampleSource:
    """A deterministic, product-like catalogue with a few honest defects, made in `scratch` on first use.

    Args:
        uri: ``sample://N`` with the number of images, 1 to 1,000,000.
        scratch: the folder that keeps the sample for the next run.

    Raises:
        UsageError: there is no such number in the address.
    """

    def __init__(self, uri: str, scratch: Path) -> None:
        match = re.fullmatch(r"sample://([0-9]{1,7})/?", uri, re.IGNORECASE)
        if match is None or not 1 <= int(match[1]) <= MAX_IMAGES:
            raise UsageError(
                f"SOURCE {uri}: it takes the number of images, 1 to {MAX_IMAGES}, as in sample://500.",
            )
        self.count = int(match[1])
        self.uri = f"sample://{self.count}"
        self.folder = scratch.absolute() / f"sample-v{SAMPLE_VERSION}-{self.count}"

    def files(self) -> Iterator[SourceFile]:
        """See `Source.files`. The first call makes the files.

        Raises:
            LookbookError: they cannot be written.
        """
        if not self.folder.is_dir():
            self._make()
        yield from FolderSource(self.folder).files()

    def _make(self) -> None:
        aside = self.folder.with_name(f"{self.folder.name}.{uuid.uuid4().hex}.part")
        try:
            _write_sample(aside, self.count)
            _rename(aside, self.folder)
        except OSError as error:
            raise LookbookError(
                f"The sample cannot be written to {self.folder.parent}: {error.strerror}.",
                "Free some space, or point LOOKBOOK_HOME to a folder that you may write to.",
            ) from error
        finally:
            shutil.rmtree(aside, ignore_errors=True)


def _write_sample(folder: Path, count: int) -> None:
    for name in ("images", "styles"):
        (folder / name).mkdir(parents=True)
    with ThreadPoolExecutor(os.cpu_count()) as threads:
        starts = range(0, count, CHUNK)
        names = [
            name for chunk in threads.map(lambda start: _write_images(folder, start, count), starts) for name in chunk
        ]
    for index in range(count):
        style = style_file(index, count)
        if style is not None:
            _write(folder / "styles" / style[0], style[1])
    rows = "".join(catalogue_lines(index, count) for index in range(count))
    _write(folder / "styles.csv", (csv_text([HEADER]) + rows).encode())
    links = [[name, f"https://images.example.com/catalogue/{name}"] for name in names]
    _write(folder / "images.csv", csv_text([["filename", "link"], *links]).encode())


def _write_images(folder: Path, start: int, count: int) -> list[str]:
    names = []
    for index in range(start, min(start + CHUNK, count)):
        name, data = image_file(index, count)
        _write(folder / "images" / name, data)
        names.append(name)
    return names


def _write(path: Path, data: bytes) -> None:
    path.write_bytes(data)
    os.utime(path, (FILE_TIME, FILE_TIME))


def _rename(aside: Path, folder: Path) -> None:
    try:
        aside.rename(folder)
    except OSError as error:
        # Another run made the same sample in the meantime: the same files.
        if error.errno not in (errno.ENOTEMPTY, errno.EEXIST):
            raise
