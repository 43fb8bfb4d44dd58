"""A snapshot of any number of products without their pixels: for whatever reads tables."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import numpy as np
import pyarrow as pa

from lookbook.blocks.lake import Lake
from lookbook.tasks.datasets.manifest import Manifest, read_published
from lookbook.tasks.datasets.pieces import write_tables
from lookbook.tasks.datasets.publish import commit
from lookbook.tasks.datasets.schemas import IMAGES_SCHEMA, LINKS_SCHEMA, OUTPUTS_SCHEMA, PRODUCTS_SCHEMA, REJECTS_SCHEMA
from lookbook.tasks.images.recipe import Recipe

WORDS = {
    "gender": ("Men", "Women", "Boys", "Girls", "Unisex"),
    "masterCategory": ("Apparel", "Footwear", "Accessories", "Personal Care"),
    "subCategory": tuple(f"Category {n}" for n in range(45)),
    "articleType": tuple(f"Type {n}" for n in range(140)),
    "baseColour": tuple(f"Colour {n}" for n in range(46)),
    "season": ("Spring", "Summer", "Fall", "Winter"),
    "usage": ("Casual", "Formal", "Sports", "Ethnic"),
}
NAMES = ("Oxford", "Runner", "Classic", "Slim", "Summer", "Canvas", "Leather", "Linen")


def publish(lake: Lake, dataset: str, count: int, snapshot: int = 1) -> Manifest:
    """Publish a snapshot of `count` products, each with an image; another `snapshot` draws other values."""
    recipe = Recipe()
    found = read_published(lake, dataset)
    images = _images(count, snapshot)
    tables = {
        "images": images,
        "outputs": _outputs(images, recipe),
        "products": _products(images, snapshot),
        "image_links": LINKS_SCHEMA.empty_table(),
        "rejects": REJECTS_SCHEMA.empty_table(),
    }
    counts = {"found": count, "loaded": count, "unchanged": 0, "duplicate": 0, "rejected": 0}
    manifest = Manifest(
        dataset=dataset,
        snapshot_id=f"2026010{snapshot}T000000000Z-{snapshot:08x}",
        created_at=datetime(2026, 1, 1, tzinfo=UTC) + timedelta(days=snapshot),
        source="made up",
        digest=f"{snapshot:064x}",
        previous=None if found is None else f"2026010{snapshot - 1}T000000000Z-{snapshot - 1:08x}",
        recipe=recipe,
        rules_digest=recipe.rules_digest(),
        output_digests={name: output.digest() for name, output in recipe.outputs.items()},
        versions={},
        summary={"images": counts, "rows": {"found": count, "matched": count}},
        files=[],
    )
    manifest.files = write_tables(lake, manifest, tables, None)
    commit(lake, manifest, found)
    return manifest


def _images(count: int, seed: int) -> pa.Table:
    chance = np.random.default_rng(seed)
    columns: dict[str, pa.Array] = {
        "key": pa.array([f"images/{n:07}.jpg" for n in range(count)]),
        "outcome": pa.array(["loaded"] * count),
        "sha256": pa.array([f"{n:056x}{n * 2654435761 % 2**32:08x}" for n in range(count)]),
        "product_key": pa.array([f"{n:07}" for n in range(count)]),
        "format": pa.array(["JPEG"] * count),
        "original_key": pa.array([f"originals/{n:07}" for n in range(count)]),
        "phash": pa.array([f"{value:016x}" for value in chance.integers(0, 2**63, count).tolist()]),
    }
    for field in IMAGES_SCHEMA:
        if field.name in columns:
            continue
        if pa.types.is_floating(field.type):
            columns[field.name] = pa.array(chance.random(count))
        elif pa.types.is_integer(field.type):
            columns[field.name] = pa.array(chance.integers(1, 2000, count), field.type)
        elif pa.types.is_boolean(field.type):
            columns[field.name] = pa.array(chance.random(count) < 0.02)  # noqa: PLR2004 - few have an issue
        else:
            columns[field.name] = pa.nulls(count, field.type)
    return pa.table([columns[field.name].cast(field.type) for field in IMAGES_SCHEMA], schema=IMAGES_SCHEMA)


def _products(images: pa.Table, seed: int) -> pa.Table:
    chance, count = np.random.default_rng(seed + 100), images.num_rows
    columns: dict[str, pa.Array] = {
        "file": pa.array(["styles.csv"] * count),
        "line": pa.array(np.arange(2, count + 2)),
        "product_key": images["product_key"],
        "outcome": pa.array(["matched"] * count),
        "missing_reason": pa.nulls(count, pa.string()),
        "repaired": pa.array([False] * count),
        "image_key": images["key"],
        "sha256": images["sha256"],
    }
    assert list(columns) == PRODUCTS_SCHEMA.names  # noqa: S101 - the order of the schema
    columns["id"] = pa.array(np.arange(count))
    for name, words in WORDS.items():
        columns[name] = pa.array(np.array(words)[chance.integers(0, len(words), count)])
    columns["year"] = pa.array(chance.integers(2007, 2020, count))
    drawn = chance.integers(0, len(NAMES), (count, 2)).tolist()
    columns["productDisplayName"] = pa.array([f"{NAMES[a]} {NAMES[b]} {n}" for n, (a, b) in enumerate(drawn)])
    return pa.table(columns)


def _outputs(images: pa.Table, recipe: Recipe) -> pa.Table:
    count, names = images.num_rows, sorted(recipe.outputs)
    each = len(names)
    digests = [recipe.outputs[name].digest() for name in names]
    contents = images["sha256"].to_pylist()
    return pa.table(
        {
            "sha256": pa.array([sha256 for sha256 in contents for _ in names]),
            "output": pa.array(names * count),
            "output_digest": pa.array(digests * count),
            "object_key": pa.array([f"derived/{digest}/{s[:2]}/{s}.jpg" for s in contents for digest in digests]),
            "output_sha256": pa.array([sha256 for sha256 in contents for _ in names]),
            "bytes": pa.array(np.full(count * each, 8_000)),
            "width": pa.array(np.full(count * each, 512, np.int32)),
            "height": pa.array(np.full(count * each, 512, np.int32)),
        },
        schema=OUTPUTS_SCHEMA,
    )
