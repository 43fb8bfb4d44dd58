"""A snapshot of a million images that nobody drew: rows as an ingest writes them, and bytes made when they are read.

``python -m benchmarks.scale_lake write HOME COUNT``, then ``export HOME`` and ``verify HOME``: each prints seconds and
the most megabytes that its process held.
"""

from __future__ import annotations

import hashlib
import io
import sys
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import pyarrow as pa
from PIL import Image

from benchmarks.peers import clock
from lookbook.blocks.lake import FolderLake
from lookbook.blocks.workspace import Workspace, local_workspace
from lookbook.tasks.datasets import follow
from lookbook.tasks.datasets.manifest import Manifest, require_published
from lookbook.tasks.datasets.pieces import write_tables
from lookbook.tasks.datasets.publish import commit
from lookbook.tasks.datasets.schemas import IMAGES_SCHEMA, LINKS_SCHEMA, OUTPUTS_SCHEMA, PRODUCTS_SCHEMA, REJECTS_SCHEMA
from lookbook.tasks.datasets.verify import verify
from lookbook.tasks.exports.export import prepare
from lookbook.tasks.exports.places import export_to_folder
from lookbook.tasks.exports.request import read_request
from lookbook.tasks.images.recipe import Recipe

DATASET = "scale"
#: Rows that are made at once.
CHUNK = 100_000


def _picture() -> bytes:
    file = io.BytesIO()
    Image.linear_gradient("L").resize((32, 32)).save(file, "JPEG")
    return file.getvalue()


PICTURE = _picture()


class NumberedLake(FolderLake):
    """A lake whose originals and outputs are one small picture, each with the number in its key behind it."""

    def get(self, key: str) -> bytes:
        """Make an image; read anything else."""
        if key.startswith(("originals/", "derived/")):
            return PICTURE + key.encode()
        return super().get(key)


def workspace_of(home: Path) -> Workspace:
    """The workspace of a home, with this lake."""
    return replace(local_workspace(home), lake=NumberedLake(root=home / "lake"))


def write(home: Path, count: int) -> int:
    """Publish `count` images, each of a product of its own and with one output; registry and warehouse follow."""
    place = workspace_of(home)
    numbers = range(count)
    keys = [f"originals/{number % 256:02x}/{number:09}.jpg" for number in numbers]
    drawn = [f"derived/d/{number % 256:02x}/{number:09}.jpg" for number in numbers]
    hashes, drawn_hashes = ([_sha256(key) for key in some] for some in (keys, drawn))
    tables = _tables(count, keys, drawn, hashes, drawn_hashes)
    recipe = Recipe()
    manifest = Manifest(
        dataset=DATASET,
        snapshot_id=f"scale-{count}",
        created_at=datetime(2026, 1, 1, tzinfo=UTC),
        source="/nowhere",
        digest=hashlib.sha256(str(count).encode()).hexdigest(),
        previous=None,
        recipe=recipe,
        rules_digest=recipe.rules_digest(),
        output_digests={},
        versions={},
        summary={},
        files=[],
    )
    manifest.files = write_tables(place.lake, manifest, tables, None)
    commit(place.lake, manifest, None)
    published = require_published(place.lake, DATASET).manifest
    follow.index(place, published)
    follow.load(place, published)
    return count


def _sha256(key: str) -> str:
    return hashlib.sha256(PICTURE + key.encode()).hexdigest()


def _tables(
    count: int, keys: list[str], drawn: list[str], hashes: list[str], drawn_hashes: list[str]
) -> dict[str, pa.Table]:
    names = [f"{number:09}.jpg" for number in range(count)]
    products = [f"{number:09}" for number in range(count)]  # the order of an export is theirs
    random = np.random.default_rng(1)
    size = len(PICTURE) + len(keys[0])
    images = {
        "key": names, "fingerprint": names, "outcome": ["loaded"] * count, "sha256": hashes, "bytes": [size] * count,
        "width": [32] * count, "height": [32] * count, "orphan": [False] * count, "product_key": products,
        "original_key": keys, "format": ["JPEG"] * count, "original_width": [32] * count,
        "original_height": [32] * count,
    }  # fmt: skip
    for field in IMAGES_SCHEMA:
        if field.name not in images and pa.types.is_float64(field.type):
            images[field.name] = pa.array(random.random(count))
        elif field.name not in images and pa.types.is_boolean(field.type):
            images[field.name] = pa.array(random.random(count) < 0.1)  # noqa: PLR2004
    outputs = {
        "sha256": hashes, "output": ["thumb"] * count, "output_digest": ["d"] * count, "object_key": drawn,
        "output_sha256": drawn_hashes, "bytes": [size] * count, "width": [32] * count, "height": [32] * count,
    }  # fmt: skip
    rows = {
        "file": ["styles.csv"] * count, "line": list(range(2, count + 2)), "product_key": products,
        "outcome": ["matched"] * count, "image_key": names, "sha256": hashes, "matched_by": ["name"] * count,
        "repaired": [False] * count,
    }  # fmt: skip
    own = {
        "id": pa.array(range(count)),
        "gender": _of(count, ["Women", "Men", "Girls", "Boys"]),
        "subCategory": _of(count, ["Shoes", "Topwear", "Bags", "Watches", "Socks"]),
        "baseColour": _of(count, ["Red", "Navy Blue", "Black"]),
        "season": _of(count, ["Summer", "Fall"]),
        "year": pa.array([2010 + number % 9 for number in range(count)]),
        "productDisplayName": pa.array([f"Maker {n % 997} Women Navy Blue Shirt {n // 3}" for n in range(count)]),
    }
    return {
        "images": pa.table(_columns(images, IMAGES_SCHEMA), schema=IMAGES_SCHEMA),
        "outputs": pa.table(_columns(outputs, OUTPUTS_SCHEMA), schema=OUTPUTS_SCHEMA),
        "products": pa.table(_columns(rows, PRODUCTS_SCHEMA) | own),
        "image_links": LINKS_SCHEMA.empty_table(),
        "rejects": REJECTS_SCHEMA.empty_table(),
    }


def _of(count: int, values: list[str]) -> pa.Array:
    return pa.array([values[number % len(values)] for number in range(count)])


def _columns(values: dict[str, list[object] | pa.Array], schema: pa.Schema) -> dict[str, pa.Array]:
    count = len(next(iter(values.values())))
    return {
        field.name: pa.array(values[field.name], field.type) if field.name in values else pa.nulls(count, field.type)
        for field in schema
    }


def export(home: Path) -> int:
    """Export links to all originals, with their metadata: all of an export but the pixels."""
    lake = workspace_of(home).lake
    split = {"train": 0.8, "validation": 0.1, "test": 0.1}
    request = read_request({"dataset": DATASET, "format": "csv", "split": split, "stratify": "subCategory"})
    books = export_to_folder(lake, prepare(lake, request), home / "out").books
    return int(books["exported"])


def check(home: Path) -> int:
    """Verify the snapshot."""
    found = verify(workspace_of(home), DATASET)
    if found.differences:
        sys.exit(found.differences[0].line)
    return found.objects


def main(what: str, home: Path, count: int) -> None:
    """Do it and print its figures."""
    work = {"write": lambda: write(home, count), "export": lambda: export(home), "verify": lambda: check(home)}[what]
    measured = clock.measured(work)
    clock.write(measured | {"peak_mb": clock.peak_mb()})


if __name__ == "__main__":
    main(sys.argv[1], Path(sys.argv[2]), int(sys.argv[3]) if len(sys.argv) > 3 else 0)  # noqa: PLR2004
