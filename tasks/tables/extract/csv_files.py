"""Reading CSV: records found in blocks of text, their columns, and rows that do not fit."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeAlias

import numpy as np
import pyarrow as pa
import pyarrow.csv as pacsv
from numpy.typing import NDArray

from lookbook.blocks.errors import LookbookError
from lookbook.tasks.datasets.csv_records import (
    DELIMITERS,
    UNFINISHED,
    CsvRecord,
    guess_delimiter,
    record_at,
    value_of,
)
from lookbook.tasks.tables.extract.pieces import (
    MAX_RECORD,
    InputReject,
    Piece,
    UnreadableError,
    located,
    shortened,
    unique_names,
)
from lookbook.tasks.tables.extract.text import Readable, shown_bytes, utf8_blocks
from lookbook.tasks.tables.spec.tasks import Delimited

Array: TypeAlias = NDArray[Any]
_NEWLINE, _RETURN, _QUOTE = b'\n\r"'


@dataclass(frozen=True)
class Lines:
    """The lines of some data.

    Attributes:
        starts: where each begins.
        ends: where its text ends: before the line's end.
        fields: how many it has, if it is a record of its own.
        special: it has quotes that are not well-formed within the line, or a carriage return in its midst.
        damaged: it is no UTF-8.
    """

    starts: Array
    ends: Array
    fields: Array
    special: Array
    damaged: Array


def scan(data: bytes, delimiter: bytes) -> Lines:
    """Look at data that end with a line's end."""
    signs = np.frombuffer(data, np.uint8)
    newlines = np.flatnonzero(signs == _NEWLINE)
    starts = np.concatenate([[0], newlines[:-1] + 1])
    returns = (newlines > starts) & (signs[newlines - 1] == _RETURN)
    ends = newlines - returns
    delimiters = np.flatnonzero(signs == delimiter[0])
    special = np.zeros(len(starts), bool)
    if b'"' in data:
        quotes = np.flatnonzero(signs == _QUOTE)
        first = np.searchsorted(quotes, starts)
        special |= _badly_quoted(signs, quotes, first, starts, ends, delimiter)
        delimiters = delimiters[~_quoted(delimiters, quotes, first, starts)]
    lines_of_delimiters = np.searchsorted(starts, delimiters, "right") - 1
    fields = np.bincount(lines_of_delimiters, minlength=len(starts)) + 1
    if data.count(b"\r") != int(returns.sum()):
        inner = np.flatnonzero(signs == _RETURN)
        inner = inner[signs[inner + 1] != _NEWLINE]
        special[np.searchsorted(starts, inner, "right") - 1] = True
    return Lines(starts, ends, fields, special, _damaged(data, signs, starts))


def _badly_quoted(signs: Array, quotes: Array, first: Array, starts: Array, ends: Array, delimiter: bytes) -> Array:
    """Lines whose quotes are not all where a field begins or ends, in pairs.

    Args:
        signs: the data.
        quotes: places of all quotes.
        first: for each line, the number of its first quote.
        starts: of lines.
        ends: of lines.
        delimiter: between fields.
    """
    lines = np.searchsorted(starts, quotes, "right") - 1
    opening = (np.arange(len(quotes)) - first[lines]) % 2 == 0
    before, after = signs[np.maximum(quotes - 1, 0)], signs[quotes + 1]
    # A doubled quote closes its field and opens it again.
    opens_well = (quotes == starts[lines]) | (before == delimiter[0]) | (before == _QUOTE)
    closes_well = (quotes + 1 == ends[lines]) | (after == delimiter[0]) | (after == _QUOTE)
    bad = np.where(opening, ~opens_well, ~closes_well)
    special = np.zeros(len(starts), bool)
    special[lines[bad]] = True
    special[np.diff(np.concatenate([first, [len(quotes)]])) % 2 == 1] = True
    return special


def _quoted(places: Array, quotes: Array, first: Array, starts: Array) -> Array:
    """Return whether an odd number of quotes stands before each place in its line."""
    lines = np.searchsorted(starts, places, "right") - 1
    inside: Array = (np.searchsorted(quotes, places) - first[lines]) % 2 == 1
    return inside


def _damaged(data: bytes, signs: Array, starts: Array) -> Array:
    damaged = np.zeros(len(starts), bool)
    if data.isascii() or _is_utf8(data):
        return damaged
    borders = [*starts.tolist(), len(data)]
    high = np.flatnonzero(signs >= 128)  # noqa: PLR2004 - what is no ASCII
    for line in np.unique(np.searchsorted(starts, high, "right") - 1).tolist():
        damaged[line] = not _is_utf8(data[borders[line] : borders[line + 1]])
    return damaged


def _is_utf8(data: bytes) -> bool:
    try:
        data.decode()
    except UnicodeDecodeError:
        return False
    return True


def requoted(fields: Sequence[bytes], delimiter: bytes) -> bytes:
    """Return a record as a reader of plain RFC 4180 takes it: fields with a carriage return or a quote get quotes."""
    return delimiter.join(map(_requoted, fields)) + b"\n"


def _requoted(field: bytes) -> bytes:
    if field.startswith(b'"') or not (b"\r" in field or b'"' in field):
        return field
    return b'"' + field.replace(b'"', b'""') + b'"'


#: Rules with why they hold.
BAD_ENCODING = ("bad_encoding", "bytes that the encoding has no character for")
BROKEN_QUOTES = ("broken_quotes", "a field starts with a quote that is not closed where a field ends")


@dataclass
class Records:
    """Records of a block.

    Attributes:
        parts: their text, each with the number of its first line in the block, in plain RFC 4180.
        lines: for each record, the line that it starts on.
        rejects: what is no record of the right width.
        rest: where in the data the records of the next block begin.
    """

    parts: list[tuple[int, bytes]] = field(default_factory=list)
    lines: list[Array] = field(default_factory=list)
    rejects: list[InputReject] = field(default_factory=list)
    rest: int = 0


class Splitter:
    """Splits the data of one file into records.

    Args:
        address: of the file.
        delimiter: one ASCII character.
        width: fields of a record.
        line: number of the first line that it gets.
    """

    def __init__(self, address: str, delimiter: bytes, width: int, line: int) -> None:
        self._address, self._delimiter, self._width, self._line = address, delimiter, width, line

    def split(self, data: bytes, *, final: bool) -> Records:
        """Return the records of data that end with a line's end; but for the last, one may go on behind it."""
        found = Records(rest=len(data))
        if not data:
            return found
        lines = scan(data, self._delimiter)
        swallowed, stop = self._special(data, lines, found, final=final)
        found.rest = int(lines.starts[stop]) if stop < len(lines.starts) else len(data)
        kept = (lines.ends > lines.starts) & ~swallowed
        kept[stop:] = False
        fits = kept & ~lines.damaged & (lines.fields == self._width)
        self._take(data, lines, fits, found)
        for number in np.flatnonzero(kept & ~fits).tolist():
            raw = data[int(lines.starts[number]) : int(lines.ends[number])]
            why = BAD_ENCODING if lines.damaged[number] else self._ragged(int(lines.fields[number]))
            found.rejects.append(self._reject(raw, number, *why))
        self._line += stop
        return found

    def _special(self, data: bytes, lines: Lines, found: Records, *, final: bool) -> tuple[Array, int]:
        """Read the records that start on a special line.

        Returns:
            For each line, whether it was read here, and the number of lines that are to be read at all.
        """
        swallowed = np.zeros(len(lines.starts), bool)
        behind = 0
        for number in np.flatnonzero(lines.special).tolist():
            if number < behind:
                continue
            start = int(lines.starts[number])
            record = record_at(data, start, self._delimiter, final=final or len(data) - start > MAX_RECORD)
            if record == UNFINISHED:
                return swallowed, number
            behind = number + 1
            if isinstance(record, CsvRecord):
                behind += data.count(b"\n", start, record.end - 1)
                self._take_one(data[start : record.end], record, number, found)
            else:
                raw = data[start : int(lines.ends[number])]
                why = BAD_ENCODING if lines.damaged[number] else BROKEN_QUOTES
                found.rejects.append(self._reject(raw, number, *why))
            swallowed[number:behind] = True
        return swallowed, len(lines.starts)

    def _take(self, data: bytes, lines: Lines, fits: Array, found: Records) -> None:
        """Take lines that are records, in runs."""
        numbers = np.flatnonzero(fits)
        if not len(numbers):
            return
        found.lines.append(numbers + self._line)
        breaks = np.flatnonzero(np.diff(numbers) > 1)
        firsts = numbers[np.concatenate([[0], breaks + 1])].tolist()
        lasts = numbers[np.concatenate([breaks, [len(numbers) - 1]])].tolist()
        borders = [*lines.starts.tolist(), len(data)] if len(firsts) > 1 else None
        for first, last in zip(firsts, lasts, strict=True):
            if borders is not None:
                begin, end = borders[first], borders[last + 1]
            else:
                begin = int(lines.starts[first])
                end = int(lines.starts[last + 1]) if last + 1 < len(lines.starts) else len(data)
            found.parts.append((first, data[begin:end]))

    def _take_one(self, raw: bytes, record: CsvRecord, number: int, found: Records) -> None:
        text = requoted(record.fields, self._delimiter)
        try:
            text.decode()
        except UnicodeDecodeError:
            found.rejects.append(self._reject(raw, number, *BAD_ENCODING))
            return
        if len(record.fields) != self._width:
            found.rejects.append(self._reject(raw, number, *self._ragged(len(record.fields))))
            return
        found.parts.append((number, text))
        found.lines.append(np.array([number + self._line]))

    def _ragged(self, fields: int) -> tuple[str, str]:
        return "ragged_row", f"{fields} fields where the header has {self._width}"

    def _reject(self, raw: bytes, number: int, rule: str, why: str) -> InputReject:
        text = shortened(shown_bytes(raw.rstrip(b"\r\n")))
        return InputReject(rule, why, text, self._address, number + self._line)

    def too_long(self, raw: bytes) -> InputReject:
        """Return a reject of a line whose end is out of reach, which counts as a line."""
        why = f"a line of more than {MAX_RECORD} bytes, of which the first are kept"
        reject = InputReject("too_long", why, shortened(shown_bytes(raw[:MAX_RECORD])), self._address, self._line)
        self._line += 1
        return reject


def whole_lines(blocks: Iterator[bytes]) -> Iterator[bytes]:
    """Yield the blocks with line feeds where a file knows carriage returns only."""
    first = next(blocks, b"")
    while first.endswith(b"\r") and (more := next(blocks, b"")):  # half of a line's end tells nothing
        first += more
    lone = b"\r" in first and b"\n" not in first
    if first:
        yield first.replace(b"\r", b"\n") if lone else first
    for block in blocks:
        yield block.replace(b"\r", b"\n") if lone else block


def in_order(parts: Sequence[tuple[int, bytes]]) -> bytes:
    """Return the text of records in the order of their lines."""
    return b"".join(text for _, text in sorted(parts))


#: The first line of a file that Excel is told the delimiter by.
_EXCEL = re.compile(rb'"?sep=([^"\r\n])"?\r?\n', re.IGNORECASE)


def read_csv(file: Readable, address: str, settings: Delimited) -> Iterator[Piece]:
    """Yield the rows of a CSV file, in bounded memory. Lines are counted from 1, as an editor does.

    Raises:
        UnreadableError: its header cannot be read.
        LookbookError: no such encoding, or a delimiter that is none.
    """
    buffer = _Buffer(whole_lines(utf8_blocks(file, settings.encoding)))
    buffer.more()
    told, lines = _preamble(buffer, settings.skip)
    delimiter = _delimiter(settings, told, buffer.data)
    names, line = _header(buffer, delimiter, header=settings.header)
    line += lines
    if not names:
        return
    splitter = Splitter(address, delimiter, len(names), line)
    while buffer.data or not buffer.final:
        if (data := buffer.lines()) or buffer.final:
            records = splitter.split(data, final=buffer.final)
            buffer.drop(records.rest)
            yield _piece(records, names, delimiter, settings, address)
        elif len(buffer.data) > MAX_RECORD:
            yield Piece(rejects=[splitter.too_long(buffer.data)])
            buffer.skip_line()
        buffer.more()


class _Buffer:
    """What was read of a file and not yet used. At the file's end it ends with a line feed."""

    def __init__(self, blocks: Iterator[bytes]) -> None:
        self._blocks = blocks
        self.data = b""
        self.final = False

    def more(self) -> None:
        """Read a block more."""
        block = next(self._blocks, b"")
        self.data += block
        if not block:
            self.final = True
            if self.data and not self.data.endswith(b"\n"):
                self.data += b"\n"

    def lines(self) -> bytes:
        """Return the whole lines."""
        return self.data[: self.data.rfind(b"\n") + 1]

    def drop(self, size: int) -> None:
        """Forget what was used."""
        self.data = self.data[size:]

    def skip_line(self) -> None:
        """Forget all up to the next line's end."""
        while b"\n" not in self.data and not self.final:
            self.data = b""
            self.more()
        self.drop(self.data.find(b"\n") + 1)


def _preamble(buffer: _Buffer, skip: int) -> tuple[bytes, int]:
    """Return what stands before the table: lines to skip, and Excel's line that tells the delimiter.

    Returns:
        The delimiter that is told, none if empty; and how many lines were taken.
    """
    for _ in range(skip):
        buffer.skip_line()
        if not buffer.data:
            buffer.more()
    found = _EXCEL.match(buffer.data)
    if found is None:
        return b"", skip
    buffer.drop(found.end())
    return found[1], skip + 1


def _delimiter(settings: Delimited, told: bytes, head: bytes) -> bytes:
    if settings.delimiter is None:
        return told or guess_delimiter(head, DELIMITERS.replace(settings.decimal, ""))
    if not settings.delimiter.isascii() or settings.delimiter in '"\r\n\0':
        raise LookbookError(
            f"csv.delimiter {settings.delimiter!r} is no character that can separate fields.",
            "Name an ASCII character, neither a quote nor a line's end.",
        )
    return settings.delimiter.encode()


def _header(buffer: _Buffer, delimiter: bytes, *, header: bool) -> tuple[list[str], int]:
    """Return the names of the columns, and the line on which the records begin. None of an empty file."""
    line = 1
    while True:
        text = buffer.data.lstrip(b"\r\n")
        blank = len(buffer.data) - len(text)
        final = buffer.final or len(text) > MAX_RECORD
        record = record_at(text, 0, delimiter, final=final) if text else UNFINISHED
        if record == UNFINISHED and not final:
            buffer.more()
            continue
        if not text:
            return [], line
        break
    if not isinstance(record, CsvRecord):
        raise UnreadableError("bad_header", "the quotes of its first line are broken, or it has no end")
    line += buffer.data.count(b"\n", 0, blank)
    if not header:
        buffer.drop(blank)
        return [f"column_{number}" for number in range(1, len(record.fields) + 1)], line
    buffer.drop(blank + record.end)
    return _names(record), line + text.count(b"\n", 0, record.end)


def _names(record: CsvRecord) -> list[str]:
    try:
        names = [value_of(field).decode().strip() for field in record.fields]
    except UnicodeDecodeError:
        raise UnreadableError("bad_header", "its first line has bytes that the encoding has no character for") from None
    return unique_names(names)


def _piece(records: Records, names: list[str], delimiter: bytes, settings: Delimited, address: str) -> Piece:
    if not records.parts:
        return Piece(rejects=records.rejects)
    text = in_order(records.parts)
    lines = np.sort(np.concatenate(records.lines))
    rows = _table(text, names, delimiter, settings)
    if rows.num_rows != len(lines):
        raise RuntimeError(f"{address}: {len(lines)} records became {rows.num_rows} rows")
    placed = located(rows, address, pa.array(lines, pa.int64()))
    columns = placed.column_names[: rows.num_columns]
    return Piece(placed, records.rejects, delimited=dict.fromkeys(columns, settings.decimal))


def _table(text: bytes, names: list[str], delimiter: bytes, settings: Delimited) -> pa.Table:
    return pacsv.read_csv(
        pa.BufferReader(text),
        read_options=pacsv.ReadOptions(column_names=names, block_size=len(text) + 1),
        parse_options=pacsv.ParseOptions(delimiter=delimiter.decode(), newlines_in_values=True),
        convert_options=pacsv.ConvertOptions(
            column_types=dict.fromkeys(names, pa.string()),
            null_values=list(settings.nulls),
            strings_can_be_null=True,
        ),
    )
