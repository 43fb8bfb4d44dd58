"""CSV and TSV files of catalogues: their header, their records, and those that do not fit it."""

from __future__ import annotations

import posixpath
from collections.abc import Sequence
from dataclasses import dataclass, field

from lookbook.tasks.datasets.catalogue_csv import Record, decode, guess_delimiter, join_overflow, read_records
from lookbook.tasks.datasets.catalogue_types import parse_integer
from lookbook.tasks.datasets.rejects import Reject, RejectKind
from lookbook.tasks.datasets.sources.base import IMAGE_EXTENSIONS

ID_NAMES = ("id",)
FILE_NAMES = ("file_name", "filename")


def find_column(names: Sequence[str], wanted: Sequence[str]) -> int | None:
    """Return the place of the first of the `wanted` names, whatever their case."""
    lower = [name.strip().lower() for name in names]
    return next((lower.index(name) for name in wanted if name in lower), None)


@dataclass
class DelimitedFile:
    """The records of a CSV or TSV file: of the header's width, or of more fields; shorter ones are rejects.

    Attributes:
        names: the header's names.
        records: with as many values as names, but for those in `overflowing`.
        found: data records read, also those rejected.
    """

    key: str
    delimiter: str
    names: list[str]
    records: list[Record] = field(default_factory=list)
    rejects: list[Reject] = field(default_factory=list)
    found: int = 0

    def reject(self, kind: RejectKind, record: Record, rule: str, why: str) -> None:
        """Keep `record` as a reject."""
        locator = f"{self.key}:{record.line}"
        self.rejects.append(Reject(kind, locator, rule, why, record.raw.replace("\0", r"\x00")))


def read_delimited(key: str, data: bytes, kind: RejectKind) -> DelimitedFile | Reject:
    """Read a CSV or TSV file; a reject if not even its header can be read."""
    try:
        text = decode(data)
    except UnicodeDecodeError as error:
        return Reject("file", key, "bad_encoding", f"its byte order mark says {error.encoding}, but it is not")
    text = text.removeprefix("\ufeff")
    delimiter = guess_delimiter(text)
    header = next(read_records(text, delimiter, lambda _: True), None)
    if header is None:
        return Reject("file", key, "empty_file", "it is empty")
    file = DelimitedFile(key, delimiter, header.fields)
    width = len(header.fields)
    column = find_column(header.fields, (*ID_NAMES, *FILE_NAMES)) or 0

    def looks_like_record(line: str) -> bool:
        fields = line.split(delimiter)
        return len(fields) >= width and (parse_integer(fields[column]) is not None or _names_image(fields[column]))

    records = read_records(text, delimiter, looks_like_record)
    next(records)
    for record in records:
        file.found += 1
        if len(record.fields) < width:
            file.reject(kind, record, "ragged_row", f"{len(record.fields)} fields where the header has {width}")
        else:
            file.records.append(record)
    return file


def mend_overflow(file: DelimitedFile, column: int | None, kind: RejectKind) -> list[tuple[Record, list[str], bool]]:
    """Return records with as many values as the header has names, and whether they were repaired.

    The overflow goes into `column`, the last one of text; without one such records are rejected.
    """
    width = len(file.names)
    mended = []
    for record in file.records:
        if len(record.fields) == width:
            mended.append((record, record.fields, record.mended))
        elif column is not None:
            mended.append((record, join_overflow(record, file.delimiter, column, width), True))
        else:
            file.reject(kind, record, "ragged_row", f"{len(record.fields)} fields where the header has {width}")
    return mended


def _names_image(text: str) -> bool:
    return posixpath.splitext(text.strip())[1].lower().removeprefix(".") in IMAGE_EXTENSIONS
