"""The ingest of images that are nowhere: listed, planned and published as any others, and never drawn."""

from __future__ import annotations

import hashlib
import sys
import uuid
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from io import BytesIO
from pathlib import Path
from unittest.mock import patch

import numpy as np
from PIL import Image

from benchmarks.peers import clock
from lookbook.blocks.lake import Lake
from lookbook.blocks.workspace import local_workspace
from lookbook.tasks.datasets import inventory as inventory_module
from lookbook.tasks.datasets.estimate import estimate
from lookbook.tasks.datasets.inventory import Request, inputs_digest, list_source, take_inventory
from lookbook.tasks.datasets.publish import finalize, unchanged
from lookbook.tasks.datasets.sources.base import SourceFile
from lookbook.tasks.images.items import Drawn, Item, Locator, Outcome
from lookbook.tasks.images.measure import SIGNATURE_BYTES
from lookbook.tasks.images.parquet import from_parquet, manifest_items, part_table, to_parquet
from lookbook.tasks.images.recipe import Recipe
from lookbook.tasks.runs.parameters import BATCH_SIZE
from lookbook.tasks.runs.records import end_run, start_run

#: The one object that stands for all outputs.
SHARED = "outputs/shared.jpg"


@dataclass(frozen=True)
class Synthetic:
    """A source of `count` images that are nowhere, with a catalogue that is."""

    count: int
    catalogue: Path

    @property
    def uri(self) -> str:
        """Return its name in messages."""
        return f"synthetic://{self.count}"

    def files(self) -> Iterator[SourceFile]:
        """Yield the images and the catalogue."""
        path = bytes(self.catalogue)
        for number in range(self.count):
            size = 5_000 + number * 7919 % 200_003
            key = f"images/{number:08d}.jpg"
            yield SourceFile(key, size, f"mtime:{number:x}", Locator("file", b"/nowhere/" + key.encode(), size=size))
        size = self.catalogue.stat().st_size
        yield SourceFile("styles.csv", size, "mtime:1", Locator("file", path, size=size))


def write_catalogue(path: Path, count: int) -> None:
    """Write a `styles.csv` of so many products."""
    kinds = [("Apparel", "Topwear", "Shirts"), ("Footwear", "Shoes", "Heels"), ("Accessories", "Bags", "Handbags")]
    with path.open("w", encoding="utf-8") as file:
        file.write("id,gender,masterCategory,subCategory,articleType,baseColour,season,year,usage,productDisplayName\n")
        for number in range(count):
            kind = ",".join(kinds[number % 3])
            file.write(f"{number:08d},Men,{kind},Blue,Summer,{2000 + number % 20},Casual,Product {number} of a brand\n")


def do_batch(lake: Lake, batch: str, recipe: Recipe) -> None:
    """Write the part of a batch as if it had been drawn."""
    table, metadata = from_parquet(lake.get(f"{batch}/manifest.parquet"))
    outcomes = [_outcome(item, recipe) for item in manifest_items(table)]
    lake.replace(f"{batch}/part.parquet", to_parquet(part_table(outcomes), metadata))


def _outcome(item: Item, recipe: Recipe) -> Outcome:
    sha256 = hashlib.sha256(item.key.encode()).hexdigest()
    noise = np.random.default_rng(int(sha256[:16], 16))
    scores = dict.fromkeys(
        [f"{name}_score" for name in ("dark", "light", "blurry", "low_information", "odd_aspect_ratio", "grayscale")],
        0.9,
    )
    asset = scores | {
        "original_key": f"originals/{sha256[:2]}/{sha256}",
        "original_width": 1800,
        "original_height": 2400,
        "mode": "RGB",
        "format": "JPEG",
        "n_frames": 1,
        "orientation": 1,
        "exif": '{"Make": "Canon", "Model": "EOS 5D", "Software": "Adobe Photoshop CS5 Windows"}',
        "camera_make": "Canon",
        "dominant_colour": f"#{sha256[:6]}",
        "mean_red": float(noise.random()),
        "brightness": float(noise.random()),
        "contrast": float(noise.random()),
        "sharpness": float(noise.random()),
        "phash": sha256[:16],
        "signature": noise.bytes(SIGNATURE_BYTES),
    }
    drawn = [
        Drawn(name, output.digest(), SHARED, sha256[::-1], 4000, 300, 400) for name, output in recipe.outputs.items()
    ]
    return Outcome(item.key, item.fingerprint, "ok", sha256=sha256, bytes=item.locator.size, asset=asset, drawn=drawn)


def plan(request: Request) -> int:
    """Plan an ingest."""
    return int(estimate(request)["files"]["images"])


def draw(request: Request) -> int:
    """Write the parts of all batches: what an ingest's workers do, but for the drawing."""
    file = BytesIO()
    Image.new("RGB", (60, 80)).save(file, "JPEG")
    request.workspace.lake.put(SHARED, file.getvalue())
    inventory = take_inventory(request)
    for batch in inventory.batches:
        do_batch(request.workspace.lake, batch, request.recipe)
    return inventory.work["todo"]


def publish(request: Request) -> int:
    """Do all of an ingest but the drawing, and to index and load the snapshot."""
    started, run_id = datetime.now(UTC), uuid.uuid4().hex
    registry = request.workspace.registry
    start_run(registry, run_id, request.dataset, request.source)
    listing = list_source(request)
    inputs = inputs_digest(request, listing)
    finished = unchanged(request, listing, inputs, started)
    if finished is None:
        finished = finalize(request, take_inventory(request, listing), started)
    end_run(registry, run_id, finished.summary | {"inputs": inputs}, None)
    return int(finished.summary["images"]["found"])


def main(what: str, home: Path, count: int) -> None:
    """Do it and print its figures."""
    catalogue = home / "styles.csv"
    if not catalogue.exists():
        write_catalogue(catalogue, count)
    request = Request(local_workspace(home), str(home), "scale", Recipe(), None, BATCH_SIZE, 1.0)
    work = {"plan": plan, "draw": draw}.get(what, publish)
    before = _dataset_mb(request.workspace.lake)
    with patch.object(inventory_module, "open_source", lambda *_: Synthetic(count, catalogue)):
        measured = clock.measured(lambda: work(request))
    written = _dataset_mb(request.workspace.lake) - before
    clock.write(measured | {"peak_mb": clock.peak_mb(), "written_mb": written})


def _dataset_mb(lake: Lake) -> float:
    """Return the megabytes of all snapshots."""
    return sum(info.size for info in lake.list("datasets")) / 1e6


if __name__ == "__main__":
    main(sys.argv[1], Path(sys.argv[2]), int(sys.argv[3]))
