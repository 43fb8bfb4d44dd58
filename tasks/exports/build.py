"""Building an export part by part. What is there and right is not made again: a part's own table is its commit mark."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import pyarrow as pa

from lookbook.blocks.errors import ObjectNotFoundError
from lookbook.blocks.lake import Lake, compare_objects
from lookbook.tasks.exports.packing import PackedFile, Packer
from lookbook.tasks.exports.plan import Part
from lookbook.tasks.exports.samples import AHEAD, RowResult, in_order, make_samples
from lookbook.tasks.images.parquet import from_parquet, to_parquet
from lookbook.tasks.runs import progress

THUMBNAIL = "thumbnail"


@dataclass(frozen=True)
class Place:
    """A folder of a lake in which an export is built: its files, and a table for each part.

    Attributes:
        lake: the workspace's, or a folder that is a lake for this.
        folder: in it, empty or with a slash at its end.
    """

    lake: Lake
    folder: str

    def file(self, name: str) -> str:
        """Return the key of one of the export's files."""
        return f"{self.folder}files/{name}"

    def part(self, number: int) -> str:
        """Return the key of a part's table."""
        return f"{self.folder}parts/{number:06}.parquet"


@dataclass(frozen=True)
class DonePart:
    """What became of a part.

    Attributes:
        samples: a table of `packing.SAMPLES_SCHEMA`, with small pictures of some, and addresses where files are links.
        files: name, size, sha256 and crc32 of each.
        refused: row, rule and message of each image that could not be drawn.
    """

    samples: pa.Table
    files: list[dict[str, Any]]
    refused: list[dict[str, Any]]


def build_parts(place: Place, source: Lake, packer: Packer) -> tuple[int, int]:
    """Do the parts that are not done yet.

    Args:
        place: where to.
        source: the lake of the dataset.
        packer: with the plan.

    Returns:
        How many images were made, and how many were there.
    """
    parts = packer.plan.parts
    progress.announce(packer.plan.table.num_rows)
    open_parts = [part for part in parts if not _is_there(place, part)]
    there = packer.plan.table.num_rows - sum(part.stop - part.start for part in open_parts)
    with ThreadPoolExecutor(AHEAD, thread_name_prefix="write") as pool:
        for part, results in make_samples(source, packer.resolved, packer.plan, open_parts):
            _write(place, packer, part, results, pool)
    return packer.plan.table.num_rows - there, there


def read_parts(place: Place, parts: Sequence[Part]) -> Iterator[DonePart]:
    """Yield what became of the parts, one after the other."""
    for part in parts:
        table, metadata = from_parquet(place.lake.get(place.part(part.number)))
        yield DonePart(table, json.loads(metadata["files"]), json.loads(metadata["refused"]))


def _write(place: Place, packer: Packer, part: Part, results: Sequence[RowResult], pool: ThreadPoolExecutor) -> None:
    samples = [sample for result in results for sample in result.samples]
    files, packed = packer.pack(part, samples)
    for _ in in_order(pool, lambda file: _put(place, file), files, AHEAD):
        pass
    small = {result.row: result.thumbnail for result in results if result.thumbnail}
    pictures = [small.pop(row, None) for row in packed["row"].to_pylist()]  # of a row's first copy
    refused = [
        {"row": result.row, "rule": result.refused[0], "message": result.refused[1]}
        for result in results
        if result.refused
    ]
    listed = [file.listed() for file in files]
    table = packed.append_column(THUMBNAIL, pa.array(pictures, pa.binary()))
    data = to_parquet(table, {"files": json.dumps(listed), "refused": json.dumps(refused)})
    place.lake.replace(place.part(part.number), data)
    progress.advance(len(results))
    progress.wrote(sum(len(file.data) for file in files))


def _put(place: Place, file: PackedFile) -> None:
    place.lake.replace(place.file(file.name), file.data)


def _is_there(place: Place, part: Part) -> bool:
    """Tell whether a part is done and its files have the bytes that were noted."""
    try:
        _, metadata = from_parquet(place.lake.get(place.part(part.number)))
        files = json.loads(metadata["files"])
        noted = [(place.file(file["name"]), file["sha256"], None) for file in files]
    except (ObjectNotFoundError, pa.ArrowException, OSError, ValueError, KeyError):
        return False
    if any(fault for _, fault, _ in compare_objects(place.lake, noted)):
        return False
    progress.advance(part.stop - part.start)
    progress.wrote(sum(file["size"] for file in files))
    return True
