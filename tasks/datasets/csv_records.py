"""CSV as it is found, RFC 4180 and what people make of it: encodings, delimiters, records, odd quotes.

Its reader chooses what becomes of a quote that is not closed where a field ends: pipelines reject the line, catalogues
repair it.
"""

from __future__ import annotations

import codecs
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import lru_cache

#: Byte order marks, and how what follows them is decoded.
BOMS = (
    (codecs.BOM_UTF32_LE, "utf-32"),
    (codecs.BOM_UTF32_BE, "utf-32"),
    (codecs.BOM_UTF8, "utf-8-sig"),
    (codecs.BOM_UTF16_LE, "utf-16"),
    (codecs.BOM_UTF16_BE, "utf-16"),
)
#: What separates fields where nothing else is said, and how many lines are asked.
DELIMITERS, ASKED_LINES = ",;\t|", 20
#: Says of a line whether it looks like a record of its own: then no quoted field reaches over it.
LooksLikeRecord = Callable[[bytes], bool]

LINE_END = re.compile(rb"\r\n|\r|\n")
_WELL_QUOTED = re.compile(rb'"[^"]*+(?:""[^"]*+)*+"')


def guess_delimiter(head: bytes, signs: str = DELIMITERS) -> bytes:
    """Return the sign that most of the first lines have as often as the first one does, outside of quotes."""
    lines = [line for line in LINE_END.split(head, ASKED_LINES)[:ASKED_LINES] if line.strip()]
    counts = {sign: [_outside_quotes(line).count(sign.encode()) for line in lines] for sign in signs}

    def votes(sign: str) -> tuple[int, int]:
        first = counts[sign][0]
        return (sum(count == first for count in counts[sign]), first) if first else (0, 0)

    return (max(signs, key=votes) if lines else signs[0]).encode()


def _outside_quotes(line: bytes) -> bytes:
    return b"".join(line.split(b'"')[::2])


#: A quote that opens a field and is not closed as RFC 4180 says; a record that goes on behind what was read.
BROKEN, UNFINISHED = "broken", "unfinished"


@dataclass(frozen=True)
class CsvRecord:
    """One record.

    Attributes:
        fields: as they stand between the delimiters, quotes included.
        end: where the next one begins.
    """

    fields: Sequence[bytes]
    end: int


@dataclass(frozen=True)
class Patterns:
    """What fields look like with a delimiter."""

    quoted: re.Pattern[bytes]
    unclosed: re.Pattern[bytes]
    plain: re.Pattern[bytes]
    unquoted_line: re.Pattern[bytes]


@lru_cache
def patterns(delimiter: bytes, *, lone_returns: bool) -> Patterns:
    """Return the patterns of fields. Possessive repeats: a field is looked through once, whatever quotes are in it.

    With `lone_returns` a carriage return ends a line, too.
    """
    stop, ends = re.escape(delimiter), rb"\r\n" if lone_returns else rb"\n"
    line_end = rb"(?:\r\n?|\n)" if lone_returns else rb"\r?\n"
    return Patterns(
        re.compile(rb"%b(?=%b|%b)" % (_WELL_QUOTED.pattern, stop, line_end)),
        re.compile(rb'"[^"]*+(?:""[^"]*+)*+'),
        re.compile(rb"[^%b%b]*" % (stop, ends)),
        re.compile(rb'([^"%b]*+)%b' % (ends, line_end)),
    )


def record_at(
    data: bytes, start: int, delimiter: bytes, *, final: bool, repair: LooksLikeRecord | None = None
) -> CsvRecord | str:
    """Return the record that starts at `start` of the data, which end with a line's end if they are final.

    A quote within a field that does not start with one is text, as pandas, Arrow and Python's csv take it.

    Args:
        data: of the file, in UTF-8.
        start: of the record.
        delimiter: between fields.
        final: nothing behind the data is waited for.
        repair: take a quote as text that opens a field and is not closed as RFC 4180 says, or only behind a line for
            which this is true: it does not swallow the lines behind it. And lone carriage returns end lines.

    Returns:
        The record; `BROKEN`: a field starts with a quote and is not well-formed; `UNFINISHED`: more data tell.
    """
    known = patterns(delimiter, lone_returns=repair is not None)
    if (match := known.unquoted_line.match(data, start)) is not None:
        return CsvRecord(match[1].removesuffix(b"\r").split(delimiter), match.end())
    fields: list[bytes] = []
    position = start
    while True:
        match = None
        if data.startswith(b'"', position):
            match = known.quoted.match(data, position)
            if match is None and repair is None:
                return _why(data, position, known, final=final)
            if match is not None and repair is not None and any(map(repair, LINE_END.split(match[0][1:-1])[1:])):
                match = None
        match = match or known.plain.match(data, position)
        assert match is not None  # noqa: S101 - it matches nothing at all, too
        field, position = match[0], match.end()
        if position == len(data):
            return UNFINISHED
        if data.startswith(delimiter, position):
            fields.append(field)
            position += 1
            continue
        fields.append(field.removesuffix(b"\r"))
        return CsvRecord(fields, position + (2 if data.startswith(b"\r\n", position) else 1))


def _why(data: bytes, position: int, known: Patterns, *, final: bool) -> str:
    """Return whether a quoted field that does not match is broken, or may end behind the data."""
    match = known.unclosed.match(data, position)
    assert match is not None  # noqa: S101 - it starts with a quote
    # Behind the closing quote come a delimiter, a line's end of two bytes, or another quote.
    return UNFINISHED if not final and match.end() + 3 > len(data) else BROKEN


def value_of(field: bytes) -> bytes:
    """Return what a field says: without its quotes, if it is well quoted."""
    if field.startswith(b'"') and _WELL_QUOTED.fullmatch(field):
        return field[1:-1].replace(b'""', b'"')
    return field
