"""Finished exports of a lake: found by their ids, read, streamed as archives, removed."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import pyarrow as pa

from blocks.errors import LookbookError, ObjectNotFoundError, UsageError
from blocks.lake import Lake
from tasks.exports.archive import Archive
from tasks.exports.build import Place
from tasks.images.parquet import from_parquet

FOLDER = "exports"
_ID = re.compile(r"[0-9a-f]{32}")


def place_of(lake: Lake, export_id: str) -> Place:
    """Where an export lies in a lake.

    Raises:
        UsageError: that is no id of an export.
    """
    if not _ID.fullmatch(export_id):
        raise UsageError(f"{export_id!r} is no id of an export.", "An id has 32 hex digits.")
    return Place(lake, f"{FOLDER}/{export_id}/")


@dataclass(frozen=True)
class Finished:
    """An export that is complete.

    Attributes:
        id: its id.
        dataset: of which dataset.
        place: where it lies.
        books: as they stand in its export.json.
        files_sha256: checksum of the list of its files.
    """

    id: str
    dataset: str
    place: Place
    books: dict[str, Any]
    files_sha256: str

    @cached_property
    def files(self) -> pa.Table:
        """Its files: ``name``, ``size``, ``sha256`` and ``crc32`` of each.

        Raises:
            LookbookError: the list is missing or damaged.
        """
        key = f"{self.place.folder}files.parquet"
        data = self.place.lake.get(key)
        if hashlib.sha256(data).hexdigest() != self.files_sha256:
            raise LookbookError(f"{key} is damaged.", "Ask for the export again: it is made anew.")
        return from_parquet(data)[0]

    def read(self, name: str) -> bytes:
        """The bytes of one of its files.

        Raises:
            UsageError: it has no such file.
        """
        if name not in self._names:
            raise UsageError(f"{name!r}: the export {self.id} has no such file.", "metadata.csv names its images.")
        return self.place.lake.get(self.place.file(name))

    @cached_property
    def _names(self) -> frozenset[str]:
        return frozenset(self.files["name"].to_pylist())

    @cached_property
    def archive(self) -> Archive:
        """Its ZIP archive, with all files in one folder."""
        names = [f"{self.dataset}-{self.id[:8]}/{name}" for name in self.files["name"].to_pylist()]
        return Archive(names, self.files["size"].to_pylist(), self.files["crc32"].to_pylist())

    def stream(self, start: int = 0, stop: int | None = None) -> Iterator[bytes]:
        """The bytes of its archive, or of a range of it."""
        names = self.files["name"]
        return self.archive.chunks(
            lambda number: self.place.lake.get(self.place.file(names[number].as_py())), start, stop
        )

    def is_whole(self) -> bool:
        """Whether every file is there with its size."""
        there = {info.key: info.size for info in self.place.lake.list(f"{self.place.folder}files")}
        names, sizes = self.files["name"].to_pylist(), self.files["size"].to_pylist()
        return all(there.get(self.place.file(name)) == size for name, size in zip(names, sizes, strict=True))


def find_finished(lake: Lake, export_id: str) -> Finished | None:
    """An export that is complete; None where it is not there, or not yet."""
    place = place_of(lake, export_id)
    try:
        found = json.loads(lake.get(f"{place.folder}manifest.json"))
        return Finished(export_id, found["dataset"], place, found["books"], found["files_sha256"])
    except (ObjectNotFoundError, ValueError, KeyError):
        return None


def require_finished(lake: Lake, export_id: str) -> Finished:
    """As `find_finished`.

    Raises:
        LookbookError: it is not there, or not yet complete.
    """
    found = find_finished(lake, export_id)
    if found is None:
        raise LookbookError(f"{export_id}: no finished export has this id.", "Ask for it again.")
    return found


def remove_export(lake: Lake, export_id: str) -> bool:
    """Remove an export, finished or not: first what says that it is complete. Whether there was one."""
    place = place_of(lake, export_id)
    lake.remove(f"{place.folder}manifest.json")
    keys = [info.key for info in lake.list(place.folder.rstrip("/"))]
    for key in keys:
        lake.remove(key)
    return bool(keys)
