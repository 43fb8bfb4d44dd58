"""Delimited text as it is found, RFC 4180 and what people make of it: header, records, and those that do not fit."""

from __future__ import annotations

import posixpath
import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import lru_cache

from lookbook.tasks.datasets.catalogue_types import RejectKind, SourceReject, parse_integer
from lookbook.tasks.datasets.sources.base import IMAGE_EXTENSIONS

# A quote that does not belong to a well-formed field is taken as text, so that it cannot swallow the lines after it.

_LINE = re.compile(r"[^\r\n]*")
_LINE_END = re.compile(r"\r\n|\r|\n")

#: Says of a line whether it looks like a record of its own: then no quoted field reaches over it.
LooksLikeRecord = Callable[[str], bool]


@dataclass(frozen=True)
class CatalogueRecord:
    """One record.

    Attributes:
        line: the physical line it starts on, from 1.
        raw: its text as it stands, without the line's end.
        fields: the values, without quotes and NUL characters.
        mended: whether a stray quote was taken as text, or a NUL character taken out.
    """

    line: int
    raw: str
    fields: list[str]
    mended: bool


def decode(data: bytes) -> str:
    """Return text from bytes: UTF-8, UTF-16 or UTF-32 with a byte order mark, and cp1252 where it is not UTF-8.

    Each line is decoded on its own, so that one odd line does not spoil the others.

    Raises:
        UnicodeDecodeError: a byte order mark promises what the bytes do not keep.
    """
    if data.startswith((b"\xff\xfe\0\0", b"\0\0\xfe\xff")):
        return data.decode("utf-32")
    if data.startswith((b"\xff\xfe", b"\xfe\xff")):
        return data.decode("utf-16")
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError:
        lines = data.removeprefix(b"\xef\xbb\xbf").split(b"\n")
        return "\n".join(_decode_line(line) for line in lines)


def _decode_line(line: bytes) -> str:
    for encoding in ("utf-8", "cp1252"):
        try:
            return line.decode(encoding)
        except UnicodeDecodeError:
            continue
    return line.decode("latin-1")  # cp1252 leaves five bytes undefined.


def guess_delimiter(text: str) -> str:
    """Return the character that separates the names in the first line: comma, semicolon, tab or bar."""
    start = text[: len(text) - len(text.lstrip("\r\n"))]
    header = _LINE.match(text, len(start))
    return max(",;\t|", key=(header[0] if header else "").count)


def read_records(text: str, delimiter: str, looks_like_record: LooksLikeRecord) -> Iterator[CatalogueRecord]:
    """Yield the records of `text`; empty lines are none."""
    position, line = 0, 1
    while position < len(text):
        end = _end_of_line(text, position)
        raw, mended = text[position:end], False
        if '"' in raw:
            fields = list(_fields(text, position, delimiter, looks_like_record))
            end, mended = fields[-1].end, any(field.stray for field in fields)
            raw, values = text[position:end], [field.value for field in fields]
        else:
            values = raw.split(delimiter)
        if "\0" in raw:
            values, mended = [value.replace("\0", "") for value in values], True
        if raw:
            yield CatalogueRecord(line, raw, values, mended)
        line += 1 + len(_LINE_END.findall(raw))
        position = end + (2 if text.startswith("\r\n", end) else 1)


def join_overflow(record: CatalogueRecord, delimiter: str, column: int, width: int) -> list[str]:
    """Return the values of a record of too many fields, the overflow joined into `column` as its text stands."""
    fields = list(_fields(record.raw, 0, delimiter, lambda _: False))
    last = column + len(fields) - width
    joined = record.raw[fields[column].start : fields[last].end].replace("\0", "")
    return [*record.fields[:column], joined, *record.fields[last + 1 :]]


@dataclass(frozen=True)
class _Field:
    start: int
    end: int
    value: str
    stray: bool


@lru_cache
def _patterns(delimiter: str) -> tuple[re.Pattern[str], re.Pattern[str]]:
    stop = re.escape(delimiter) + r"\r\n"
    # Possessive repeats: a field is looked through once, whatever quotes are in it.
    return re.compile(rf'"([^"]*+(?:""[^"]*+)*+)"(?=[{stop}]|\Z)'), re.compile(rf"[^{stop}]*")


def _fields(text: str, position: int, delimiter: str, looks_like_record: LooksLikeRecord) -> Iterator[_Field]:
    """Yield the fields of the record that starts at `position`."""
    quoted, plain = _patterns(delimiter)
    while True:
        match = quoted.match(text, position)
        if match is not None and not _swallows(match, looks_like_record):
            yield _Field(position, match.end(), match[1].replace('""', '"'), stray=False)
        else:
            match = plain.match(text, position)
            assert match is not None  # noqa: S101 - it matches nothing at all, too
            yield _Field(position, match.end(), match[0], stray=match[0].startswith('"'))
        position = match.end() + 1
        if not text.startswith(delimiter, match.end()):
            return


def _swallows(match: re.Match[str], looks_like_record: LooksLikeRecord) -> bool:
    """Return whether a quoted field reaches over lines that look like records of their own."""
    return any(looks_like_record(line) for line in _LINE_END.split(match[1])[1:])


def _end_of_line(text: str, position: int) -> int:
    match = _LINE.match(text, position)
    return match.end() if match else position


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
    records: list[CatalogueRecord] = field(default_factory=list)
    rejects: list[SourceReject] = field(default_factory=list)
    found: int = 0

    def reject(self, kind: RejectKind, record: CatalogueRecord, rule: str, why: str) -> None:
        """Keep `record` as a reject."""
        locator = f"{self.key}:{record.line}"
        self.rejects.append(SourceReject(kind, locator, rule, why, record.raw.replace("\0", r"\x00")))


def read_delimited(key: str, data: bytes, kind: RejectKind) -> DelimitedFile | SourceReject:
    """Read a CSV or TSV file; a reject if not even its header can be read."""
    try:
        text = decode(data)
    except UnicodeDecodeError as error:
        return SourceReject("file", key, "bad_encoding", f"its byte order mark says {error.encoding}, but it is not")
    text = text.removeprefix("\ufeff")
    delimiter = guess_delimiter(text)
    header = next(read_records(text, delimiter, lambda _: True), None)
    if header is None:
        return SourceReject("file", key, "empty_file", "it is empty")
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


def mend_overflow(
    file: DelimitedFile, column: int | None, kind: RejectKind
) -> list[tuple[CatalogueRecord, list[str], bool]]:
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
