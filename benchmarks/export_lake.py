"""A lake with a snapshot of many small photos, written without ingesting them: exports alone are measured on it."""

from __future__ import annotations

import hashlib
import sys
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import pyarrow as pa
from PIL import Image

from benchmarks import corpora
from benchmarks.corpora import Corpus
from lookbook.blocks.lake import FolderLake
from lookbook.tasks.datasets.manifest import Manifest
from lookbook.tasks.datasets.pieces import write_tables
from lookbook.tasks.datasets.publish import commit
from lookbook.tasks.datasets.schemas import IMAGES_SCHEMA, LINKS_SCHEMA, OUTPUTS_SCHEMA, PRODUCTS_SCHEMA, REJECTS_SCHEMA
from lookbook.tasks.images.recipe import Recipe

NAMES = ("Shoes", "Topwear", "Bags", "Watches")


def write_lake(home: Path, dataset: str, corpus: Corpus, count: int) -> None:
    """A dataset of `count` photos: those of a corpus, again and again, each time with other bytes after their end."""
    lake = FolderLake(root=home / "lake")
    photos = sorted(corpora.folder_of(replace(corpus, count=min(corpus.count, count))).iterdir())
    contents = [photo.read_bytes() for photo in photos]
    with Image.open(photos[0]) as image:
        size = image.size

    def put(number: int) -> tuple[str, str, int]:
        data = contents[number % len(contents)]
        data += f"{number:08}".encode() if number >= len(contents) else b""
        sha256 = hashlib.sha256(data).hexdigest()
        key = f"originals/{sha256[:2]}/{sha256}.jpg"
        lake.put(key, data)
        return sha256, key, len(data)

    with ThreadPoolExecutor(8) as pool:
        written = list(pool.map(put, range(count)))
    _publish(lake, dataset, written, size)


def _publish(lake: FolderLake, dataset: str, written: list[tuple[str, str, int]], size: tuple[int, int]) -> None:
    numbers = [str(number) for number in range(len(written))]
    names = [f"{number}.jpg" for number in numbers]
    hashes, keys, sizes = (list(column) for column in zip(*written, strict=True))
    images = {"key": names, "outcome": ["loaded"] * len(names), "sha256": hashes, "bytes": sizes}
    images |= {"original_key": keys, "product_key": numbers, "format": ["JPEG"] * len(names)}
    images |= {"original_width": [size[0]] * len(names), "original_height": [size[1]] * len(names)}
    images |= {"brightness": [place % 100 / 100 for place in range(len(names))]}
    products = {"file": ["styles.csv"] * len(names), "product_key": numbers, "image_key": names, "sha256": hashes}
    products |= {"outcome": ["matched"] * len(names)}
    own = {
        "subCategory": pa.array([NAMES[place % len(NAMES)] for place in range(len(names))]),
        "productDisplayName": pa.array([f"Maker {place % 997} Shoe {place}" for place in range(len(names))]),
    }
    tables = {
        "images": _table(images, IMAGES_SCHEMA),
        "outputs": OUTPUTS_SCHEMA.empty_table(),
        "products": pa.table(_columns(products, PRODUCTS_SCHEMA) | own),
        "image_links": LINKS_SCHEMA.empty_table(),
        "rejects": REJECTS_SCHEMA.empty_table(),
    }
    recipe = Recipe()
    manifest = Manifest(
        dataset=dataset,
        snapshot_id=f"bench-{len(names)}",
        created_at=datetime(2026, 1, 1, tzinfo=UTC),
        source="benchmarks",
        digest=hashlib.sha256(str(len(names)).encode()).hexdigest(),
        previous=None,
        recipe=recipe,
        rules_digest=recipe.rules_digest(),
        output_digests={},
        versions={},
        summary={},
        files=[],
    )
    manifest.files = write_tables(lake, manifest, tables, None)
    commit(lake, manifest, None)


def _table(values: dict[str, list[object]], schema: pa.Schema) -> pa.Table:
    return pa.table(_columns(values, schema), schema=schema)


def _columns(values: dict[str, list[object]], schema: pa.Schema) -> dict[str, pa.Array]:
    count = len(next(iter(values.values())))
    return {
        field.name: pa.array(values[field.name], field.type) if field.name in values else pa.nulls(count, field.type)
        for field in schema
    }


if __name__ == "__main__":
    write_lake(Path(sys.argv[1]), sys.argv[2], getattr(corpora, sys.argv[3]), int(sys.argv[4]))
