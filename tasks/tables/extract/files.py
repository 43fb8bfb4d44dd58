"""Reading one file, whatever its format and however it is packed."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from lookbook.blocks.errors import OutOfReachError
from lookbook.tasks.tables.extract.arrow_files import read_parquet
from lookbook.tasks.tables.extract.csv_files import read_csv
from lookbook.tasks.tables.extract.json_files import read_json, read_json_lines
from lookbook.tasks.tables.extract.kinds import Kind
from lookbook.tasks.tables.extract.packed import Member, as_file, check, members, opened
from lookbook.tasks.tables.extract.pieces import Piece, Reject, UnreadableError
from lookbook.tasks.tables.spec.sources import Delimited, FileFormat


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
    return Piece(rejects=[Reject(error.rule, error.message, address, address)])


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
