"""The logical digest: equal for the same source, recipe and pins, whatever the batches or the executor."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable

import pyarrow as pa

from lookbook.tasks.datasets.plan import recipe_digest
from lookbook.tasks.datasets.snapshot import Snapshot
from lookbook.tasks.images.recipe import Recipe

IMAGE_COLUMNS = ["key", "outcome", "duplicate_of", "rule", "sha256", "product_key"]
OUTPUT_COLUMNS = ["sha256", "output", "output_digest", "width", "height"]
REJECT_COLUMNS = ["kind", "locator", "rule", "raw"]


def logical_digest(snapshot: Snapshot, recipe: Recipe) -> str:
    """SHA-256 over the sorted keys, contents, outcomes and catalogue values; no times, ids or file bytes."""
    # The first output gives the images their width and height.
    made = hashlib.sha256(f"{next(iter(recipe.outputs))};{recipe_digest(recipe)}".encode())
    for table, columns in (
        (snapshot.images, IMAGE_COLUMNS),
        (snapshot.outputs, OUTPUT_COLUMNS),
        (snapshot.products, snapshot.products.column_names),
        (snapshot.image_links, snapshot.image_links.column_names),
        (snapshot.rejects, REJECT_COLUMNS),
    ):
        made.update(json.dumps(columns).encode())
        for line in sorted(_lines(table.select(columns))):
            made.update(line)
    return made.hexdigest()


def _lines(table: pa.Table) -> Iterable[bytes]:
    for batch in table.to_batches(max_chunksize=10_000):
        for row in batch.to_pylist():
            yield json.dumps(list(row.values()), default=str).encode() + b"\n"
