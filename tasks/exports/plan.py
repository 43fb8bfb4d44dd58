"""The plan of an export: which objects its images are made from, and the parts that are done one by one."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import pyarrow as pa
import pyarrow.compute as pc

from lookbook.blocks.errors import LookbookError
from lookbook.blocks.lake import Lake
from lookbook.tasks.datasets.manifest import Manifest, read_table
from lookbook.tasks.exports.recipes import ORIGINALS, Crop, ExportRecipe, Resize
from lookbook.tasks.exports.resolve import Resolved
from lookbook.tasks.exports.select import SIDE, Selection
from lookbook.tasks.exports.steps import pair

#: Columns of a plan's table beside those of a selection: where an image's bytes lie, and what they are.
KEY, DIGEST, SIZE = ":key", ":digest", ":size"
#: Rows in a part of loose files, and bytes in any part, at the most: a part is written as a whole.
LOOSE_ROWS = 250
MOST_BYTES = 256 * 2**20
PACKED = ("webdataset", "parquet")


@dataclass(frozen=True)
class Part:
    """Rows of one side that are done together, and become one shard where the format has shards.

    Attributes:
        number: of the part, from 0.
        side: name of the side.
        shard: number of it within its side, from 0.
        shards: how many its side has.
        start: first row in the plan's table.
        stop: one past the last row.
    """

    number: int
    side: str
    shard: int
    shards: int
    start: int
    stop: int


@dataclass(frozen=True)
class Plan:
    """What is to be done: the rows with where their bytes lie, and the parts."""

    table: pa.Table
    parts: list[Part]


def plan_export(lake: Lake, resolved: Resolved, selection: Selection) -> Plan:
    """Plan an export: of equal selections it is the same, whatever is done already.

    Raises:
        LookbookError: the snapshot has no object of an image that it should have.
    """
    table = with_objects(lake, resolved.manifest, selection.table, stored_output(resolved))
    return Plan(table, list(_parts(table, resolved)))


def stored_output(resolved: Resolved) -> str:
    """Return the stored output that files are made from, or `ORIGINALS`."""
    return ORIGINALS if resolved.recipe else str(resolved.request.recipe)


def with_objects(lake: Lake, manifest: Manifest, table: pa.Table, output: str) -> pa.Table:
    """Return the table with `KEY`, `DIGEST`, `SIZE`, and ``width`` and ``height`` of the stored image."""
    if output == ORIGINALS:
        columns = ["original_key", "sha256", "bytes", "original_width", "original_height"]
        found = [table[name] for name in columns]
    else:
        outputs = read_table(lake, manifest, "outputs")
        outputs = outputs.filter(pc.equal(outputs["output"], output))
        places = pc.index_in(table["sha256"], value_set=outputs["sha256"])
        if places.null_count:
            raise LookbookError(
                f"{manifest.dataset}: {places.null_count} images have no output {output}.",
                'Run "lookbook verify NAME --repair".',
            )
        columns = ["object_key", "output_sha256", "bytes", "width", "height"]
        found = [outputs[name].take(places) for name in columns]
    table = table.drop_columns([name for name in ("width", "height") if name in table.column_names])
    for name, column in zip((KEY, DIGEST, SIZE, "width", "height"), found, strict=True):
        table = table.append_column(name, column)
    return table


def _parts(table: pa.Table, resolved: Resolved) -> Iterator[Part]:
    cuts = list(_cuts(table, resolved))
    shards: dict[str, int] = {}
    for side, _, _ in cuts:
        shards[side] = shards.get(side, 0) + 1
    done = dict.fromkeys(shards, 0)
    for number, (side, start, stop) in enumerate(cuts):
        yield Part(number, side, done[side], shards[side], start, stop)
        done[side] += 1


def _cuts(table: pa.Table, resolved: Resolved) -> Iterator[tuple[str, int, int]]:
    """Sides with their first rows and the rows after their last: cut by the number of images and by their bytes."""
    request = resolved.request
    most = request.shard_size if request.format in PACKED else LOOSE_ROWS
    start, images, size = 0, 0, 0
    sides, sizes = table[SIDE].to_pylist(), table[SIZE].to_pylist()
    for row, (side, stored) in enumerate(zip(sides, sizes, strict=True)):
        copies = copies_of(resolved, side)
        more = copies * expected_bytes(resolved.recipe, stored)
        full = images + copies > most or size + more > MOST_BYTES
        if row > start and (full or side != sides[start]):
            yield sides[start], start, row
            start, images, size = row, 0, 0
        images, size = images + copies, size + more
    if table.num_rows:
        yield sides[start], start, table.num_rows


def copies_of(resolved: Resolved, side: str) -> int:
    """Return files of each image of a side."""
    return resolved.request.copies if is_augmented(resolved, side) else 1


def is_augmented(resolved: Resolved, side: str) -> bool:
    """Return whether random steps are done for the images of a side: a model is tested on images as they are."""
    return resolved.request.augment == "all" or side == next(iter(resolved.request.sides))


def expected_bytes(recipe: ExportRecipe | None, stored: int) -> int:
    """About how many bytes a file will have, generously: it decides where parts are cut."""
    if recipe is None:
        return stored
    sizes = [pair(step.size) for step in recipe.steps if isinstance(step, Crop | Resize)]
    if not sizes:
        return 4 * stored
    pixels = sizes[-1][0] * sizes[-1][1]
    return 12 * pixels if recipe.encode_format == "npy" else pixels
