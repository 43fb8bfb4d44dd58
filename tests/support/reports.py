"""Datasets for the report's tests, and a reader of its page."""

from __future__ import annotations

import hashlib
import io
import re
from dataclasses import replace
from datetime import UTC, datetime
from html.parser import HTMLParser
from typing import Any

import pyarrow as pa
from PIL import Image

from lookbook.tasks.datasets.differences import CHANGES, MOST_NAMES, ImageChanges
from lookbook.tasks.datasets.report.page import ReportData
from lookbook.tasks.datasets.schemas import (
    IMAGES_SCHEMA,
    OUTPUTS_SCHEMA,
    PRODUCTS_SCHEMA,
    REJECTS_SCHEMA,
    STYLES_FIELDS,
)
from lookbook.tasks.images.recipe import Recipe
from tests.support.desks import shared_desk

CATEGORIES = ("Shirts", "Shoes", "Watches")


class Page(HTMLParser):
    """A parsed page: its elements with attributes, and the text of each element by its tag."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict[str, str]]] = []
        self.texts: dict[str, list[str]] = {}
        self.open: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, {name: value or "" for name, value in attrs}))
        self.texts.setdefault(tag, []).append("")
        if tag not in ("meta", "img"):
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, {name: value or "" for name, value in attrs}))

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag, f"</{tag}> closes another element"

    def handle_data(self, data: str) -> None:
        for tag in set(self.open):
            self.texts[tag][-1] += data if tag == "script" else f"{data} "

    def all(self, tag: str, attribute: str) -> list[str]:
        return [attributes[attribute] for name, attributes in self.elements if name == tag and attribute in attributes]

    @property
    def body(self) -> str:
        return " ".join(self.texts["body"][0].split())


def picture(number: int, edge: int = 32) -> bytes:
    target = io.BytesIO()
    Image.new("RGB", (edge, edge), (number * 37 % 256, number * 91 % 256, 120)).save(target, "JPEG")
    return target.getvalue()


def sha(number: int) -> str:
    return hashlib.sha256(str(number).encode()).hexdigest()


def image_row(number: int, **values: Any) -> dict[str, Any]:
    return {
        "key": f"images/{number}.jpg", "outcome": "loaded", "rule": "", "error_message": "", "sha256": sha(number),
        "bytes": 1000 + number, "orphan": False, "product_key": str(number), "original_width": 60 + number,
        "original_height": 80, "mode": "RGB", "format": "JPEG", "dominant_colour": "#204080",
        "brightness": 0.5, "contrast": 0.2, "sharpness": 10.0 * (number + 1),
    } | values  # fmt: skip


def product_row(number: int, **values: Any) -> dict[str, Any]:
    return {
        "file": "styles.csv", "line": number + 2, "product_key": str(number), "outcome": "matched", "repaired": False,
        "image_key": f"images/{number}.jpg", "sha256": sha(number), "id": number, "gender": "Men",
        "subCategory": CATEGORIES[number % 3], "baseColour": "Navy Blue" if number % 2 else "Multi",
        "season": "Summer" if number % 2 else "Winter", "year": 2011 + number % 4,
        "productDisplayName": f"Product number {number}",
    } | values  # fmt: skip


def output_row(number: int, output: str = "thumb") -> dict[str, Any]:
    return {"sha256": sha(number), "output": output, "object_key": f"derived/{output}/{number}.jpg", "bytes": 900}


def reject_row(number: int, **values: Any) -> dict[str, Any]:
    return {
        "reject_id": f"r-{number}", "kind": "image", "locator": f"images/bad-{number}.jpg", "rule": "truncated",
        "message": "The file ends early.", "raw": "",
    } | values  # fmt: skip


def table(rows: list[dict[str, Any]], schema: pa.Schema) -> pa.Table:
    return pa.Table.from_pylist(rows, schema=schema)


PRODUCTS = pa.schema([*PRODUCTS_SCHEMA, *STYLES_FIELDS])


def data(
    images: list[dict[str, Any]],
    products: list[dict[str, Any]],
    rejects: list[dict[str, Any]] | None = None,
    **values: Any,
) -> ReportData:
    loaded = [int(row["product_key"]) for row in images if row["outcome"] == "loaded"]
    summary = {
        "images": {"found": len(images), "loaded": len(loaded), "unchanged": 0, "duplicate": 0, "rejected": 0},
        "rows": {"found": len(products), "matched": len(products), "missing_image": 0, "duplicate": 0, "rejected": 0},
        "orphan_images": 0, "outputs": {"thumb": len(loaded)}, "seconds": 2.5, "images_per_second": 4.0,
    }  # fmt: skip
    made: dict[str, Any] = {
        "dataset": "fashion", "snapshot_id": "20261121T115043Z-4f1c0a2b", "source": "sample://30",
        "created_at": datetime(2026, 11, 21, 11, 50, tzinfo=UTC), "summary": summary,
        "recipe": Recipe().model_dump(mode="json"), "versions": {"pillow": "13.0.0"}, "digest": "d1" * 32,
        "desk": shared_desk(), "changes": image_changes(None),
    }  # fmt: skip
    tables = {
        "images": table(images, IMAGES_SCHEMA), "products": table(products, PRODUCTS),
        "outputs": table([output_row(number) for number in loaded], OUTPUTS_SCHEMA),
        "rejects": table(rejects or [], REJECTS_SCHEMA),
    }  # fmt: skip
    return ReportData(**(made | {"tables": tables} | values))


def with_tables(made: ReportData, **tables: pa.Table) -> ReportData:
    """The same with other tables."""
    return replace(made, tables={**made.tables, **tables})


def image_changes(previous: str | None, **keys: list[str]) -> ImageChanges:
    """What a report tells of the keys that were added, removed, changed."""
    listed = {kind: keys.get(kind, []) for kind in CHANGES}
    return ImageChanges(
        previous,
        {kind: len(each) for kind, each in listed.items()},
        {k: each[:MOST_NAMES] for k, each in listed.items()},
    )


def read_object(key: str) -> bytes:
    return picture(int(re.findall(r"\d+", key)[-1]))


def fashion(count: int = 30) -> ReportData:
    return data([image_row(n) for n in range(count)], [product_row(n) for n in range(count)])
