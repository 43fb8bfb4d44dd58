"""Reading a file: its format by its name or what its server says, unpacked from gzip and zip where it stands."""

from __future__ import annotations

import gzip
import io
import os
import re
import shutil
import tempfile
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from lzma import LZMAError
from pathlib import Path
from typing import IO, Literal, TypeAlias, cast

from lookbook.blocks.errors import OutOfReachError
from lookbook.tasks.datasets.sources.base import is_litter
from lookbook.tasks.datasets.sources.local import ArchiveBounds
from lookbook.tasks.tables.extract.arrow_files import read_parquet
from lookbook.tasks.tables.extract.csv_files import read_csv
from lookbook.tasks.tables.extract.json_files import read_json, read_json_lines
from lookbook.tasks.tables.extract.pieces import InputReject, Piece, UnreadableError
from lookbook.tasks.tables.spec.tasks import Delimited, FileFormat

Kind: TypeAlias = Literal["csv", "tsv", "json", "jsonl", "parquet"]

_ENDINGS: dict[str, Kind] = {
    "csv": "csv",
    "tsv": "tsv",
    "tab": "tsv",
    "json": "json",
    "jsonl": "jsonl",
    "ndjson": "jsonl",
    "parquet": "parquet",
    "pq": "parquet",
}
_MEDIA_TYPES: dict[str, Kind] = {
    "text/csv": "csv",
    "application/csv": "csv",
    "text/tab-separated-values": "tsv",
    "application/json": "json",
    "application/x-ndjson": "jsonl",
    "application/jsonl": "jsonl",
    "application/jsonlines": "jsonl",
    "application/vnd.apache.parquet": "parquet",
}
_PACKED = re.compile(r"\.(gz|gzip)$", re.IGNORECASE)


def kind_of_name(name: str) -> Kind | None:
    """Return the format that a name ends with, that of gzip not counted; None: it names none that is known."""
    return _ENDINGS.get(_PACKED.sub("", name).rpartition(".")[2].lower())


def is_delimited(name: str) -> bool:
    """Return whether a name is one of delimited text, which knows no types."""
    return kind_of_name(name) in ("csv", "tsv")


def kind_of_media_type(header: str) -> Kind | None:
    """Return the format that a Content-Type names."""
    return _MEDIA_TYPES.get(header.partition(";")[0].strip().lower())


BOUNDS = ArchiveBounds(max_entries=100_000)
_GZIP, _ZIP = b"\x1f\x8b", (b"PK\x03\x04", b"PK\x05\x06")
_DAMAGE = (EOFError, zlib.error, LZMAError, zipfile.BadZipFile, gzip.BadGzipFile)


@dataclass(frozen=True)
class Member:
    """A file, or one in an archive.

    Attributes:
        address: what it is called; of one in an archive ``archive.zip!/name``.
        kind: its format.
        path: of the file or archive.
        entry: of a zip; None of a file that is none.
        packed: whether it is gzip, or lies in a zip.
    """

    address: str
    kind: Kind
    path: Path
    entry: zipfile.ZipInfo | None = None
    packed: bool = False


def members(path: Path, name: str, address: str, kind: Kind | None) -> list[Member]:
    """Return the files that are to be read of a file: itself, or those of known formats in a zip.

    Args:
        path: of the file.
        name: that tells its format, where `kind` does not.
        address: what it is called.
        kind: its format, or of those in it. In a zip, files count whose names end so; where none does, all.

    Raises:
        UnreadableError: its format is not known, or it is damaged or beyond the bounds.
    """
    with path.open("rb") as file:
        head = file.read(4)
    if head.startswith(_ZIP):
        return _zipped(path, address, kind)
    found = kind or kind_of_name(name)
    if found is None:
        raise UnreadableError("unknown_format", "its name tells no format (csv, tsv, json, jsonl, parquet); say format")
    return [Member(address, found, path, packed=head.startswith(_GZIP))]


def _zipped(path: Path, address: str, kind: Kind | None) -> list[Member]:
    try:
        with zipfile.ZipFile(path) as archive:
            entries = [entry for entry in archive.infolist() if not entry.is_dir() and not is_litter(entry.filename)]
    except (*_DAMAGE, ValueError, NotImplementedError, OSError) as error:
        raise UnreadableError("damaged_file", f"it is cut off or damaged: {error}") from error
    if len(entries) > BOUNDS.max_entries:
        raise UnreadableError("archive_bomb", f"more than {BOUNDS.max_entries} files")
    known = [(entry, kind_of_name(entry.filename)) for entry in entries]
    chosen = [(entry, found) for entry, found in known if found and kind in (None, found)]
    if not chosen and kind is not None:
        chosen = [(entry, kind) for entry in entries]
    if not chosen and entries:
        raise UnreadableError("unknown_format", "no file in it has a name that tells a format")
    limit = BOUNDS.byte_limit(path.stat().st_size)
    if sum(entry.file_size for entry, _ in chosen) > limit:
        raise UnreadableError("archive_bomb", f"it unpacks to more than {limit} bytes")
    return [Member(f"{address}!/{_shown(entry.filename)}", found, path, entry, True) for entry, found in chosen]


def _shown(name: str) -> str:
    return name.encode("utf-8", "backslashreplace").decode()


@contextmanager
def opened(member: Member) -> Iterator[IO[bytes]]:
    """Yield the bytes of a member, unpacked.

    Raises:
        UnreadableError: it is encrypted, or packed in a way that is not known. Reading it raises this as well, where
            it is damaged or beyond the bounds.
    """
    if not member.packed:
        with member.path.open("rb") as file:
            yield file
        return
    limit = BOUNDS.byte_limit(member.path.stat().st_size)
    if member.entry is None:
        with gzip.open(member.path) as unpacked:
            yield _bounded(unpacked, limit)
        return
    if member.entry.flag_bits & 0x1:
        raise UnreadableError("encrypted", "it is encrypted with a password")
    with zipfile.ZipFile(member.path) as archive:
        try:
            unzipped = archive.open(member.entry)
        except (NotImplementedError, RuntimeError, zipfile.BadZipFile) as error:
            raise UnreadableError("damaged_file", f"it cannot be unpacked: {error}") from error
        with unzipped:
            inner = _bounded(unzipped, limit)
            start = inner.peek(2)[:2]
            yield _bounded(gzip.GzipFile(fileobj=inner), limit) if start == _GZIP else inner


def _bounded(file: IO[bytes] | gzip.GzipFile, limit: int) -> io.BufferedReader:
    return io.BufferedReader(_Bounded(cast("IO[bytes]", file), limit), 2**18)


class _Bounded(io.RawIOBase):
    """Unpacked bytes, up to a limit; damage has one name."""

    def __init__(self, file: IO[bytes], limit: int) -> None:
        self._file, self._limit, self._left = file, limit, limit

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: bytearray | memoryview) -> int:  # type: ignore[override]
        try:
            data = self._file.read(len(buffer))
        except UnreadableError:
            raise
        except _DAMAGE as error:
            raise UnreadableError("damaged_file", f"it is cut off or damaged: {error}") from error
        except OSError as error:
            if error.errno is not None:
                raise
            # bz2 calls damaged data an OSError, one without a number.
            raise UnreadableError("damaged_file", f"it is cut off or damaged: {error}") from error
        self._left -= len(data)
        if self._left < 0:
            raise UnreadableError("archive_bomb", f"it unpacks to more than {self._limit} bytes")
        buffer[: len(data)] = data
        return len(data)


@contextmanager
def as_file(member: Member, scratch: Path) -> Iterator[Path]:
    """Yield the path of a file with the member's bytes, unpacked to `scratch` while the block runs if need be."""
    if not member.packed:
        yield member.path
        return
    with tempfile.TemporaryDirectory(dir=scratch, prefix="unpacked-") as folder:
        path = Path(folder, "file")
        with opened(member) as source, path.open("wb") as target:
            shutil.copyfileobj(source, target, 2**20)
        yield path


def check(member: Member) -> None:
    """Read a packed member to its end.

    Raises:
        UnreadableError: it cannot be.
    """
    if member.packed:
        with opened(member) as file:
            while file.read(2**20):
                pass


@dataclass(frozen=True)
class Reading:
    """How files are to be read.

    Attributes:
        format: of the files, or of those in their archives.
        csv: of delimited text.
        scratch: a folder of this machine.
    """

    format: FileFormat
    csv: Delimited
    scratch: Path

    @property
    def kind(self) -> Kind | None:
        """The format; None: each file tells."""
        return None if self.format == "auto" else self.format


def read_file(path: Path, name: str, address: str, reading: Reading) -> Iterator[Piece]:
    """Yield the rows of a file.

    Args:
        path: of the file.
        name: that tells its format.
        address: what it is called in messages and rows.
        reading: how.

    Raises:
        UnreadableError: it cannot be read.
        OutOfReachError: it changed while it was read.
    """
    with _unchanged(path, address):
        for member in members(path, name, address, reading.kind):
            try:
                yield from _read_member(member, reading)
            except UnreadableError as error:
                inside = member.address.removeprefix(address)
                raise UnreadableError(error.rule, f"{inside}: {error.message}" if inside else error.message) from error


def read_or_reject(path: Path, name: str, address: str, reading: Reading) -> Iterator[Piece]:
    """Yield the rows of a file, and one reject for each file in it that cannot be read, of which no row is taken.

    Raises:
        OutOfReachError: it changed while it was read.
    """
    with _unchanged(path, address):
        try:
            found = members(path, name, address, reading.kind)
        except UnreadableError as error:
            yield _rejected(error, address)
            return
        for member in found:
            try:
                check(member)
                yield from _read_member(member, reading)
            except UnreadableError as error:
                yield _rejected(error, member.address)


def _rejected(error: UnreadableError, address: str) -> Piece:
    return Piece(rejects=[InputReject(error.rule, error.message, address, address)])


@contextmanager
def _unchanged(path: Path, address: str) -> Iterator[None]:
    before = _version(path)
    yield
    if _version(path) != before:
        raise OutOfReachError(f"{address} changed while it was read.", "Run it again once nobody writes it.")


def _read_member(member: Member, reading: Reading) -> Iterator[Piece]:
    if member.kind == "parquet":
        with as_file(member, reading.scratch) as path:
            yield from read_parquet(path, member.address)
        return
    with opened(member) as file:
        match member.kind:
            case "csv" | "tsv":
                yield from read_csv(file, member.address, _delimited(member.kind, reading.csv))
            case "json":
                yield from read_json(file, member.address, reading.csv.encoding)
            case "jsonl":
                yield from read_json_lines(file, member.address, reading.csv.encoding)


def _delimited(kind: Kind, csv: Delimited) -> Delimited:
    if kind == "tsv" and csv.delimiter is None:
        return csv.model_copy(update={"delimiter": "\t"})
    return csv


def _version(path: Path) -> tuple[int, int]:
    status = os.stat(path)  # noqa: PTH116 - it is asked for twice a file
    return status.st_size, status.st_mtime_ns
