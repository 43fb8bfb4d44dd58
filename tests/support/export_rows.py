"""Small images and products tables, for tests of what an export chooses from."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from typing import Any

import pyarrow as pa

from lookbook.tasks.datasets.schemas import IMAGES_SCHEMA, PRODUCTS_SCHEMA, STYLES_FIELDS
from lookbook.tasks.exports.rows import DatasetRows, join_rows


def sha256_of(name: object) -> str:
    """A hash for a name."""
    return hashlib.sha256(str(name).encode()).hexdigest()


def image(key: str, **values: Any) -> dict[str, Any]:
    """A row of an images table."""
    return {"key": key, "outcome": "loaded", "sha256": sha256_of(key), "bytes": 100, "orphan": False} | values


def product(number: int, name: str | None = None, **values: Any) -> dict[str, Any]:
    """A row of a products table, whose image is ``<number>.jpg``."""
    row = {"file": "styles.csv", "line": number + 2, "product_key": str(number), "outcome": "matched", "id": number}
    row |= {"image_key": f"{number}.jpg", "sha256": sha256_of(f"{number}.jpg"), "productDisplayName": name}
    return row | values


def rows_of(products: Sequence[Mapping[str, Any]], images: Sequence[Mapping[str, Any]] | None = None) -> DatasetRows:
    """The rows of these products, each with an image where no images are given."""
    if images is None:
        images = [image(f"{each['product_key']}.jpg", product_key=each["product_key"]) for each in products]
    schema = pa.schema([*PRODUCTS_SCHEMA, *STYLES_FIELDS])
    return join_rows(
        pa.Table.from_pylist(list(images), schema=IMAGES_SCHEMA), pa.Table.from_pylist(list(products), schema=schema)
    )
