"""The sample's catalogue: which product stands at an index, its files, and its few honest defects."""

from __future__ import annotations

import csv
import io
import json
import random
from collections.abc import Iterable

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
