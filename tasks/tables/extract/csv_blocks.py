"""Blocks of CSV: the records that are as wide as the header, and rejects for the others."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

import numpy as np

from lookbook.tasks.tables.extract.csv_records import UNFINISHED, Record, record_at, requoted
from lookbook.tasks.tables.extract.csv_scan import Array, Lines, scan
from lookbook.tasks.tables.extract.pieces import MAX_RECORD, Reject, shortened
from lookbook.tasks.tables.extract.text import shown_bytes

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
    rejects: list[Reject] = field(default_factory=list)
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
            record = record_at(data, start, self._delimiter, final=final)
            if record == UNFINISHED:
                return swallowed, number
            behind = number + 1
            if isinstance(record, Record):
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

    def _take_one(self, raw: bytes, record: Record, number: int, found: Records) -> None:
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

    def _reject(self, raw: bytes, number: int, rule: str, why: str) -> Reject:
        text = shortened(shown_bytes(raw.rstrip(b"\r\n")))
        return Reject(rule, why, text, self._address, number + self._line)

    def too_long(self, raw: bytes) -> Reject:
        """Return a reject of a line whose end is out of reach, which counts as a line."""
        why = f"a line of more than {MAX_RECORD} bytes, of which the first are kept"
        reject = Reject("too_long", why, shortened(shown_bytes(raw[:MAX_RECORD])), self._address, self._line)
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
