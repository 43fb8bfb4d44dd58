"""Reading CSV and TSV: every value as text, exactly as it stands; what is no record becomes a reject with its line."""

from __future__ import annotations

import re
from collections.abc import Iterator

import numpy as np
import pyarrow as pa
import pyarrow.csv as pacsv

from lookbook.blocks.errors import LookbookError
from lookbook.tasks.tables.extract.csv_blocks import Records, Splitter, in_order, whole_lines
from lookbook.tasks.tables.extract.csv_records import UNFINISHED, Record, record_at, value_of
from lookbook.tasks.tables.extract.pieces import MAX_RECORD, Piece, UnreadableError, located, unique_names
from lookbook.tasks.tables.extract.text import Readable, utf8_blocks
from lookbook.tasks.tables.spec.sources import Delimited

#: What separates fields where nothing else is said, and how many lines are asked.
DELIMITERS, ASKED_LINES = ",;\t|", 20
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
        return told or _guessed(head, DELIMITERS.replace(settings.decimal, ""))
    if not settings.delimiter.isascii() or settings.delimiter in '"\r\n\0':
        raise LookbookError(
            f"csv.delimiter {settings.delimiter!r} is no character that can separate fields.",
            "Name an ASCII character, neither a quote nor a line's end.",
        )
    return settings.delimiter.encode()


def _guessed(head: bytes, signs: str) -> bytes:
    """Return the sign that most of the first lines have as often as the first one does, outside of quotes."""
    lines = [line for line in head.split(b"\n", ASKED_LINES + 1)[:ASKED_LINES] if line.strip()]
    counts = {sign: [_outside_quotes(line).count(sign.encode()) for line in lines] for sign in signs}

    def votes(sign: str) -> tuple[int, int]:
        first = counts[sign][0]
        return (sum(count == first for count in counts[sign]), first) if first else (0, 0)

    return (max(signs, key=votes) if lines else signs[0]).encode()


def _outside_quotes(line: bytes) -> bytes:
    return b"".join(line.split(b'"')[::2])


def _header(buffer: _Buffer, delimiter: bytes, *, header: bool) -> tuple[list[str], int]:
    """Return the names of the columns, and the line on which the records begin. None of an empty file."""
    line = 1
    while True:
        text = buffer.data.lstrip(b"\r\n")
        blank = len(buffer.data) - len(text)
        record = record_at(text, 0, delimiter, final=buffer.final) if text else UNFINISHED
        if record == UNFINISHED and not buffer.final and len(text) <= MAX_RECORD:
            buffer.more()
            continue
        if not text:
            return [], line
        break
    if not isinstance(record, Record):
        raise UnreadableError("bad_header", "the quotes of its first line are broken, or it has no end")
    line += buffer.data.count(b"\n", 0, blank)
    if not header:
        buffer.drop(blank)
        return [f"column_{number}" for number in range(1, len(record.fields) + 1)], line
    buffer.drop(blank + record.end)
    return _names(record), line + text.count(b"\n", 0, record.end)


def _names(record: Record) -> list[str]:
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
