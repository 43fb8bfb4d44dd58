"""The main job without Prefect: the same functions that the flow calls, in this process."""

from __future__ import annotations

import csv
import io
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from functools import lru_cache
from pathlib import Path
from typing import Any

from PIL import Image

from lookbook.blocks.workspace import Workspace
from lookbook.tasks.datasets import follow
from lookbook.tasks.datasets.inventory import Inventory, Request, clear_batches, take_inventory
from lookbook.tasks.datasets.manifest import require_published
from lookbook.tasks.datasets.publish import finalize
from lookbook.tasks.datasets.unpublished import noting_rejects
from lookbook.tasks.images.batch import process_batch
from lookbook.tasks.images.recipe import OutputDefinition, Recipe

#: Small outputs: these tests are about books, not about pixels.
SMALL = Recipe(
    outputs={
        "standard": OutputDefinition(image_size=32),
        "grey": OutputDefinition(image_size=32, colour_mode="grey"),
        "thumb": OutputDefinition(image_size=16),
    }
)


def request(workspace: Workspace, source: Path | str, **changes: Any) -> Request:
    """A request with defaults for tests."""
    values: dict[str, Any] = {
        "workspace": workspace,
        "source": str(source),
        "dataset": "things",
        "recipe": SMALL,
        "limit": None,
        "batch_size": 3,
        "reject_limit": 1.0,
    }
    return Request(**(values | changes))


def run(asked: Request, between: Callable[[Inventory], None] = lambda _: None) -> dict[str, Any]:
    """Run the main job; `between` is called when all batches are done and nothing is concluded yet."""
    with noting_rejects(asked, "a-run", datetime.now(UTC)) as notes:
        inventory = take_inventory(asked)
        notes.found(inventory)
        for batch in inventory.batches:
            process_batch(asked.workspace.lake, batch, threads=2)
        between(inventory)
        finished = finalize(asked, inventory, datetime.now(UTC))
        notes.ended(finished.note if finished.changed else "")
    if finished.published:
        manifest = require_published(asked.workspace.lake, asked.dataset).manifest
        follow.index(asked.workspace, manifest)
        follow.load(asked.workspace, manifest)
        clear_batches(asked.workspace.lake, asked.dataset)
    return finished.summary


def photo(number: int, size: tuple[int, int] = (24, 32)) -> bytes:
    """A small JPEG, another one for each number."""
    image = Image.new("RGB", size, (number * 37 % 256, number * 91 % 256, number * 53 % 256))
    image.putpixel((0, 0), (255 - number % 256, 0, number // 256 % 256))
    sink = io.BytesIO()
    image.save(sink, "JPEG", quality=95)
    return sink.getvalue()


@lru_cache(maxsize=1)
def _slow_photo() -> bytes:
    sink = io.BytesIO()
    Image.effect_noise((3000, 3000), 12).convert("RGB").save(sink, "JPEG", quality=40, progressive=True)
    return sink.getvalue()


def write_slow_collection(folder: Path, count: int) -> Path:
    """A folder of photos that are made at once and take long to draw: 9 megapixels, each of another size in bytes."""
    photo = _slow_photo()
    return write_collection(folder, {f"{number:03}.jpg": photo + bytes(number) for number in range(count)})


def write_collection(
    folder: Path, images: Mapping[str, bytes], rows: Sequence[Mapping[str, object]] | None = None
) -> Path:
    """A folder with image files, and a styles.csv where `rows` are given."""
    for name, data in images.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)
    if rows is not None:
        with (folder / "styles.csv").open("w", newline="", encoding="utf-8") as file:
            writer = csv.DictWriter(file, ["id", "gender", "baseColour", "year", "productDisplayName"])
            writer.writeheader()
            writer.writerows(rows)
    return folder


def two_snapshots(workspace: Workspace, folder: Path, name: str = "1.jpg", title: str = "Other 2") -> None:
    """Publish two snapshots of three photos as ``things``: `name` has other bytes, and product 2 another title."""
    names = (name, "2.jpg", "3.jpg")
    rows = [row(n) for n in (1, 2, 3)]
    for version in (1, 9):
        rows[1]["productDisplayName"] = "Thing 2" if version == 1 else title
        photos = {each: photo(version if each == name else at) for at, each in enumerate(names, 1)}
        run(request(workspace, write_collection(folder, photos, rows)))


def row(number: int) -> dict[str, object]:
    """A catalogue row for product `number`."""
    return {
        "id": number,
        "gender": "Women",
        "baseColour": "Blue",
        "year": 2012,
        "productDisplayName": f"Thing {number}",
    }
