"""A small snapshot's Parquet files, with every outcome that an image or a catalogue row can have."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from lookbook.blocks.warehouse import SnapshotLoad
from lookbook.tasks.datasets.schemas import (
    IMAGES_SCHEMA,
    LINKS_SCHEMA,
    OUTPUTS_SCHEMA,
    PRODUCTS_SCHEMA,
    REJECTS_SCHEMA,
    STYLES_FIELDS,
)

#: id, category, colour, season, year, gender, usage, outcome, reason. 8 repeats 3; 6 has nothing but a name.
_STYLES: list[tuple[Any, ...]] = [
    (1, ("Apparel", "Topwear", "Tshirts"), "Blue", "Summer", 2012, "Men", "Casual", "matched", None),
    (2, ("Apparel", "Topwear", "Shirts"), "Navy Blue", "Fall", 2011, "Men", "Formal", "matched", None),
    (3, ("Footwear", "Shoes", "Heels"), "Black", "Winter", 2012, "Women", "Casual", "matched", None),
    (
        4,
        ("Apparel", "Topwear", "Tshirts"),
        "Blue",
        "Summer",
        2012,
        "Women",
        None,
        "missing_image",
        "no_image",
    ),
    (5, ("Accessories", "Bags", "Handbags"), None, "Summer", None, "Women", "Casual", "matched", None),
    (6, (None, None, None), None, None, None, None, None, "matched", None),
    (
        7,
        ("Apparel", None, None),
        "Red",
        None,
        2010,
        "Men",
        "Sports",
        "missing_image",
        "image_rejected:truncated",
    ),
    (3, ("Footwear", "Shoes", "Heels"), "Black", "Winter", 2012, "Women", "Casual", "duplicate", None),
]


def build_snapshot_files(
    folder: Path, *, products: pa.Table | None = None, brightness: float = 0.5
) -> dict[str, list[str]]:
    """Write the five tables of a snapshot, that of the images in two files.

    Args:
        folder: where to; it is made.
        products: in place of the built-in catalogue.
        brightness: of the first image: another value makes another snapshot.

    Returns:
        For each staging table the absolute paths of its files.
    """
    folder.mkdir(parents=True, exist_ok=True)
    images = _images(brightness)
    tables = {
        "products": _products() if products is None else products,
        "image_links": pa.Table.from_pylist(
            [{"file": "images.csv", "line": n + 1, "filename": f"{n}.jpg"} for n in (1, 2)],
            schema=LINKS_SCHEMA,
        ),
        "images": pa.Table.from_pylist(images, schema=IMAGES_SCHEMA),
        "outputs": pa.Table.from_pylist(_outputs(images), schema=OUTPUTS_SCHEMA),
        "rejects": pa.Table.from_pylist(_rejects(images), schema=REJECTS_SCHEMA),
    }
    paths = {name: [folder.absolute() / f"{name}.parquet"] for name in tables}
    paths["images"].append(folder.absolute() / "more-images.parquet")
    for name, table in tables.items():
        half = len(table) // len(paths[name]) if len(paths[name]) > 1 else len(table)
        for at, path in enumerate(paths[name]):
            pq.write_table(table.slice(at * half, None if at else half), path)
    return {name: [str(path) for path in files] for name, files in paths.items()}


def snapshot_load(
    folder: Path, dataset: str = "fashion", snapshot_id: str = "s1", load_id: str = "load-1", **made_of: Any
) -> SnapshotLoad:
    """A load of a small snapshot whose files lie in ``folder/dataset/snapshot_id``; see `build_snapshot_files`."""
    tables = build_snapshot_files(folder / dataset / snapshot_id, **made_of)
    return SnapshotLoad(dataset, snapshot_id, load_id, tables)


def products_with(columns: dict[str, pa.Array]) -> pa.Table:
    """A catalogue whose own columns are these, each product without an image."""
    count = len(next(iter(columns.values())))
    rows = [
        {
            "file": "items.csv",
            "line": n + 2,
            "product_key": str(n),
            "outcome": "missing_image",
            "missing_reason": "no_image",
        }
        for n in range(count)
    ]
    table = pa.Table.from_pylist(rows, schema=PRODUCTS_SCHEMA)
    for name, values in columns.items():
        table = table.append_column(name, values)
    return table


def _products() -> pa.Table:
    schema = pa.schema([*PRODUCTS_SCHEMA, *STYLES_FIELDS])
    rows = []
    for n, (id_, category, colour, season, year, gender, usage, outcome, reason) in enumerate(_STYLES):
        row = {
            "file": "styles.csv",
            "line": n + 2,
            "product_key": str(id_),
            "outcome": outcome,
            "repaired": n == 4,
        }
        row |= {"missing_reason": reason, "image_key": f"images/{id_}.jpg", "sha256": _sha256(id_)}
        if reason == "no_image":
            row |= {"image_key": None, "sha256": None}
        row |= dict(zip(("masterCategory", "subCategory", "articleType"), category, strict=True))
        row |= {
            "id": id_,
            "baseColour": colour,
            "season": season,
            "year": year,
            "gender": gender,
            "usage": usage,
        }
        rows.append(row | {"productDisplayName": f"Product {id_}"})
    return pa.Table.from_pylist(rows, schema=schema)


def _images(brightness: float) -> list[dict[str, Any]]:
    """Images of products 1, 2, 3, 5 (drawn), 6 (same bytes as 1), 7 (cut off), and 9, of which no row speaks."""
    rows = [_image(n, 60 if n < 3 else 80) for n in (1, 2, 3, 5, 9)]
    rows[0]["brightness"] = brightness
    rows[4] |= {"orphan": True, "product_key": None}
    for near in rows[1:3]:
        near |= {"near_duplicate_of": rows[0]["key"], "near_duplicates_score": 0.5, "is_near_duplicates_issue": True}
    copy = rows[0] | {
        "key": "images/6.jpg",
        "product_key": "6",
        "outcome": "duplicate",
        "duplicate_of": rows[0]["key"],
    }
    cut: dict[str, Any] = {
        "key": "images/7.jpg",
        "outcome": "rejected",
        "rule": "truncated",
        "error_message": "cut off",
    }
    cut |= {"fingerprint": "crc32:7", "sha256": _sha256(7), "bytes": 5, "orphan": False, "product_key": "7"}
    return [*rows, copy, cut]


def _image(n: int, width: int) -> dict[str, Any]:
    return {
        "key": f"images/{n}.jpg",
        "fingerprint": f"crc32:{n}",
        "outcome": "loaded",
        "sha256": _sha256(n),
        "bytes": 1000 + n,
        "width": 512,
        "height": 512,
        "orphan": False,
        "product_key": str(n),
        "original_width": width,
        "original_height": 80,
        "mode": "RGB",
        "format": "JPEG",
        "brightness": n / 10,
        "contrast": n / 20,
        "sharpness": 5.0**n,
        "dominant_colour": "#336699",
        "dark_score": n / 10,
        "is_dark_issue": n < 3,
        "is_light_issue": False,
    }


def _outputs(images: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return [
        {"sha256": image["sha256"], "output": output, "bytes": 100, "width": edge, "height": edge}
        for image in images
        if image["outcome"] == "loaded"
        for output, edge in (("standard", 512), ("thumb", 128))
    ]


def _rejects(images: list[dict[str, Any]]) -> list[dict[str, Any]]:
    row = {"reject_id": "r-1", "kind": "row", "locator": "styles.csv:11", "rule": "bad_id", "raw": "x,y"}
    cut = [
        {"reject_id": "r-2", "kind": "image", "locator": i["key"], "rule": i["rule"]} for i in images if i.get("rule")
    ]
    return [row, *cut]


def _sha256(n: int) -> str:
    return hashlib.sha256(str(n).encode()).hexdigest()
