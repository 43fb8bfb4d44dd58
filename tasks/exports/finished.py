"""Finished exports: found again, compared with their checksums, and read as one archive."""

from __future__ import annotations

import hashlib
import json
import re
import struct
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from lookbook.blocks.errors import LookbookError, ObjectNotFoundError, UsageError
from lookbook.blocks.lake import OBJECTS_AHEAD, Lake, ObjectInfo, compare_objects, fault_of, read_object
from lookbook.tasks.exports.build import ExportFolder
from lookbook.tasks.images.parquet import from_parquet
from lookbook.tasks.runs.removal import Rule

# Members are stored, not compressed (images are), with one fixed time: equal exports give equal bytes. The format is
# that of APPNOTE.TXT 6.3.10; sizes, offsets and counts beyond 32 and 16 bits are told in its ZIP64 records.

_LIMIT = 0xFFFFFFFF
_MOST_ENTRIES = 0xFFFF
_TIME, _DATE = 0, 33  # 1980-01-01, 00:00:00
_UTF8 = 0x0800
_PLAIN, _ZIP64 = 20, 45  # versions needed to extract
_UNIX = 3 << 8
_MODE = 0o100644 << 16


class Archive:
    """The layout of an archive.

    Args:
        names: of the members.
        sizes: of them, in bytes.
        crcs: their CRC-32.
    """

    def __init__(self, names: Sequence[str], sizes: Sequence[int], crcs: Sequence[int]) -> None:
        self._names = names
        self._sizes = np.array(sizes, np.int64)
        self._crcs = crcs
        count = len(names)
        lengths = np.array([len(name.encode()) for name in names], np.int64)
        large = self._sizes >= _LIMIT
        headers = 30 + lengths + 20 * large
        pairs = headers + self._sizes
        self._offsets = np.concatenate([[0], np.cumsum(pairs)[:-1]]) if count else np.zeros(0, np.int64)
        far = self._offsets >= _LIMIT
        entries = 46 + lengths + np.where(large | far, 4 + 16 * large + 8 * far, 0)
        self._directory = int(pairs.sum())
        self._directory_size = int(entries.sum())
        members = np.empty(2 * count, np.int64)
        members[0::2], members[1::2] = headers, self._sizes
        segments = np.concatenate([members, entries, [len(self._end())]])
        self._starts = np.concatenate([[0], np.cumsum(segments)])

    @property
    def size(self) -> int:
        """Bytes of the whole archive."""
        return int(self._starts[-1])

    def chunks(self, read: Callable[[int], bytes], start: int = 0, stop: int | None = None) -> Iterator[bytes]:
        """Yield the archive's bytes from `start` up to `stop`, or to its end, piece by piece.

        Args:
            read: gives the bytes of the member of a number.
            start: first byte.
            stop: one past the last byte.
        """
        stop = self.size if stop is None else min(stop, self.size)
        segment = int(np.searchsorted(self._starts, start, side="right")) - 1
        while start < stop:
            begin, end = int(self._starts[segment]), int(self._starts[segment + 1])
            if end > start:
                yield self._segment(segment, read)[start - begin : stop - begin]
                start = end
            segment += 1

    def _segment(self, number: int, read: Callable[[int], bytes]) -> bytes:
        count = len(self._names)
        if number < 2 * count:
            return read(number // 2) if number % 2 else self._header(number // 2)
        if number < 3 * count:
            return self._entry(number - 2 * count)
        return self._end()

    def _header(self, member: int) -> bytes:
        name, size = self._names[member].encode(), int(self._sizes[member])
        large = size >= _LIMIT
        extra = struct.pack("<HHQQ", 1, 16, size, size) if large else b""
        told = _LIMIT if large else size
        fields = (0x04034B50, _ZIP64 if large else _PLAIN, _UTF8, 0, _TIME, _DATE, self._crcs[member], told, told)
        return struct.pack("<IHHHHHIIIHH", *fields, len(name), len(extra)) + name + extra

    def _entry(self, member: int) -> bytes:
        name, size, offset = self._names[member].encode(), int(self._sizes[member]), int(self._offsets[member])
        large, far = size >= _LIMIT, offset >= _LIMIT
        told = (struct.pack("<QQ", size, size) if large else b"") + (struct.pack("<Q", offset) if far else b"")
        extra = struct.pack("<HH", 1, len(told)) + told if told else b""
        version = _ZIP64 if told else _PLAIN
        sizes = (_LIMIT, _LIMIT) if large else (size, size)
        fields = (0x02014B50, _UNIX | version, version, _UTF8, 0, _TIME, _DATE, self._crcs[member], *sizes)
        more = (len(name), len(extra), 0, 0, 0, _MODE, _LIMIT if far else offset)
        return struct.pack("<IHHHHHHIIIHHHHHII", *fields, *more) + name + extra

    def _end(self) -> bytes:
        count, size, offset = len(self._names), self._directory_size, self._directory
        records = b""
        if count >= _MOST_ENTRIES or size >= _LIMIT or offset >= _LIMIT:
            version = _UNIX | _ZIP64
            records = struct.pack("<IQHHIIQQQQ", 0x06064B50, 44, version, _ZIP64, 0, 0, count, count, size, offset)
            records += struct.pack("<IIQI", 0x07064B50, 0, offset + size, 1)
        few = min(count, _MOST_ENTRIES)
        return records + struct.pack("<IHHHHIIH", 0x06054B50, 0, 0, few, few, min(size, _LIMIT), min(offset, _LIMIT), 0)


SUMS = "SHA256SUMS"


def wrong_files(folder: Path) -> list[str]:
    """Return the names of files that are missing or differ from SHA256SUMS; that of SHA256SUMS if it is missing."""
    try:
        lines = (folder / SUMS).read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError):
        return [SUMS]
    listed = [line.partition("  ") for line in lines]
    return [name for digest, _, name in listed if _digest(folder / name) != digest]


def _digest(path: Path) -> str:
    try:
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError:
        return ""


FOLDER = "exports"
_ID = re.compile(r"[0-9a-f]{32}")


def is_export_id(name: str) -> bool:
    """Return whether a folder's name is the id of an export."""
    return _ID.fullmatch(name) is not None


def place_of(lake: Lake, export_id: str) -> ExportFolder:
    """Return where an export lies in a lake.

    Raises:
        UsageError: that is no id of an export.
    """
    if not is_export_id(export_id):
        raise UsageError(f"{export_id!r} is no id of an export.", "An id has 32 hex digits.")
    return ExportFolder(lake, f"{FOLDER}/{export_id}/")


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
    place: ExportFolder
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

    def noted(self) -> Iterator[tuple[str, str | None, str | None]]:
        """List its files: the key of each and its SHA-256; or the list itself, and what is wrong with it."""
        listed = f"{self.place.folder}files.parquet"
        data = read_object(self.place.lake, listed)
        fault = fault_of(data, self.files_sha256)
        yield (listed, None, fault) if fault else (listed, self.files_sha256, None)
        if data is None or fault:
            return
        for some in pq.ParquetFile(pa.BufferReader(data)).iter_batches(OBJECTS_AHEAD, columns=["name", "sha256"]):
            for row in some.to_pylist():
                yield self.place.file(row["name"]), row["sha256"], None

    def is_whole(self) -> bool:
        """Tell whether every file has the bytes that were noted; reading ends at the first that has not."""
        noted = ((key, sha256 or "", None) for key, sha256, _ in self.noted())
        return all(fault is None for _, fault, _ in compare_objects(self.place.lake, noted))


def find_finished(lake: Lake, export_id: str) -> Finished | None:
    """Return an export that is complete; None where it is not there, or not yet."""
    place = place_of(lake, export_id)
    try:
        found = json.loads(lake.get(f"{place.folder}manifest.json"))
        return Finished(export_id, found["dataset"], place, found["books"], found["files_sha256"])
    except (ObjectNotFoundError, ValueError, KeyError, TypeError):
        return None


def require_finished(lake: Lake, export_id: str) -> Finished:
    """Find a finished export as `find_finished` does.

    Raises:
        LookbookError: it is not there, or not yet complete.
    """
    found = find_finished(lake, export_id)
    if found is None:
        raise LookbookError(f"{export_id}: no finished export has this id.", "Ask for it again.")
    return found


def list_files(lake: Lake, dataset: str) -> Iterator[tuple[str, str | None, str | None]]:
    """List the files of a dataset's finished exports: the key of each, and its SHA-256, or what is wrong with it.

    A manifest that cannot be read does not say whose it is, and is named for every dataset.
    """
    for export_id in lake.folders(FOLDER):
        if not is_export_id(export_id):
            continue
        key = f"{place_of(lake, export_id).folder}manifest.json"
        if read_object(lake, key) is None:
            continue  # one that is being made, or was left off
        found = find_finished(lake, export_id)
        if found is None:
            yield key, None, "is damaged: it cannot be read"
        elif found.dataset == dataset:
            yield from found.noted()


def remove_export(lake: Lake, export_id: str) -> bool:
    """Remove an export, finished or not: first what says that it is complete. Whether there was one."""
    place = place_of(lake, export_id)
    lake.remove(f"{place.folder}manifest.json")
    keys = [info.key for info in lake.list(place.folder.rstrip("/"))]
    for key in keys:
        lake.remove(key)
    return bool(keys)


def old_exports(
    lake: Lake, rule: Rule, dataset: str | None, digests: Mapping[str, Collection[str | None]]
) -> Iterator[str]:
    """Yield the ids of exports that may go: old ones, left-off ones too, and those of snapshots that are no more.

    Args:
        lake: that holds them.
        rule: what may go.
        dataset: whose they are; None: those of all, and those that were left off, which do not say it.
        digests: those of the snapshots that stay, by dataset; with None among them not all are known.
    """
    for export_id in lake.folders(FOLDER):
        if not is_export_id(export_id):
            continue
        found = find_finished(lake, export_id)
        if dataset is not None and (found is None or found.dataset != dataset):
            continue
        stay = digests.get(found.dataset, ()) if found is not None else (None,)
        lost = found is not None and None not in stay and _digest_of(found) not in {None, *stay}
        if lost or rule.are_old(lake.list(f"{FOLDER}/{export_id}")):
            yield export_id


def _digest_of(export: Finished) -> str | None:
    """Return the digest of the snapshot that an export is of; None where it is damaged."""
    try:
        digest = json.loads(export.place.lake.get(export.place.file("export.json")))["snapshot"]
    except (ObjectNotFoundError, ValueError, KeyError, TypeError):
        return None
    return digest if isinstance(digest, str) else None


def objects_of_export(lake: Lake, export_id: str) -> Iterator[ObjectInfo]:
    """Yield what lies of an export, first what says that it is complete."""
    folder = place_of(lake, export_id).folder
    manifest = f"{folder}manifest.json"
    yield from (info for info in lake.list(folder.rstrip("/")) if info.key == manifest)
    yield from (info for info in lake.list(folder.rstrip("/")) if info.key != manifest)
