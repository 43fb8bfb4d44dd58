"""Finished exports of a lake: found by their ids, read, streamed as archives, removed."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import pyarrow as pa

from lookbook.blocks.errors import LookbookError, ObjectNotFoundError, UsageError
from lookbook.blocks.lake import Lake, compare_objects, fault_of, read_object
from lookbook.tasks.exports.archive import Archive
from lookbook.tasks.exports.build import Place
from lookbook.tasks.images.parquet import from_parquet

FOLDER = "exports"
_ID = re.compile(r"[0-9a-f]{32}")


def place_of(lake: Lake, export_id: str) -> Place:
    """Return where an export lies in a lake.

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
        return from_parquet(self._checked(f"{self.place.folder}files.parquet", self.files_sha256))[0]

    def read(self, name: str) -> bytes:
        """Return the bytes of one of its files.

        Raises:
            UsageError: it has no such file.
            LookbookError: the file is missing or damaged.
        """
        if name not in self._digests:
            raise UsageError(f"{name!r}: the export {self.id} has no such file.", "metadata.csv names its images.")
        return self._checked(self.place.file(name), self._digests[name])

    @cached_property
    def _digests(self) -> dict[str, str]:
        return dict(zip(self.files["name"].to_pylist(), self.files["sha256"].to_pylist(), strict=True))

    def _checked(self, key: str, sha256: str) -> bytes:
        data = read_object(self.place.lake, key)
        fault = fault_of(data, sha256)
        if data is None or fault:
            raise LookbookError(f"{key} {fault}.", "Ask for the export again: it is made anew.")
        return data

    @cached_property
    def archive(self) -> Archive:
        """Its ZIP archive, with all files in one folder."""
        names = [f"{self.dataset}-{self.id[:8]}/{name}" for name in self.files["name"].to_pylist()]
        return Archive(names, self.files["size"].to_pylist(), self.files["crc32"].to_pylist())

    def stream(self, start: int = 0, stop: int | None = None) -> Iterator[bytes]:
        """Return the bytes of its archive, or of a range of it.

        Raises:
            LookbookError: while it is read, at a file that is missing or damaged; what came before it is right.
        """
        names = self.files["name"]
        return self.archive.chunks(lambda number: self.read(names[number].as_py()), start, stop)

    def compare(self) -> Iterator[tuple[str, str | None]]:
        """Read all of it again: the key of each file, and what is wrong with it (None: nothing)."""
        listed = f"{self.place.folder}files.parquet"
        fault = fault_of(read_object(self.place.lake, listed), self.files_sha256)
        yield listed, fault
        if fault is None:
            noted = ((self.place.file(name), sha256, None) for name, sha256 in self._digests.items())
            yield from ((key, found) for key, found, _ in compare_objects(self.place.lake, noted))

    def is_whole(self) -> bool:
        """Tell whether every file has the bytes that were noted; reading ends at the first that has not."""
        return all(fault is None for _, fault in self.compare())


def find_finished(lake: Lake, export_id: str) -> Finished | None:
    """Return an export that is complete; None where it is not there, or not yet."""
    place = place_of(lake, export_id)
    try:
        found = json.loads(lake.get(f"{place.folder}manifest.json"))
        return Finished(export_id, found["dataset"], place, found["books"], found["files_sha256"])
    except (ObjectNotFoundError, ValueError, KeyError, TypeError):
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


def compare_exports(lake: Lake, dataset: str) -> Iterator[tuple[str, str | None]]:
    """Read a dataset's finished exports again: the key of each file, and what is wrong with it (None: nothing).

    A manifest that cannot be read does not say whose it is, and is named for every dataset.
    """
    for export_id in lake.folders(FOLDER):
        if not _ID.fullmatch(export_id):
            continue
        key = f"{place_of(lake, export_id).folder}manifest.json"
        if read_object(lake, key) is None:
            continue  # one that is being made, or was left off
        found = find_finished(lake, export_id)
        if found is None:
            yield key, "is damaged: it cannot be read"
        elif found.dataset == dataset:
            yield from found.compare()


def remove_export(lake: Lake, export_id: str) -> bool:
    """Remove an export, finished or not: first what says that it is complete. Whether there was one."""
    place = place_of(lake, export_id)
    lake.remove(f"{place.folder}manifest.json")
    keys = [info.key for info in lake.list(place.folder.rstrip("/"))]
    for key in keys:
        lake.remove(key)
    return bool(keys)
