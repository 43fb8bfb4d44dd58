"""Records of CSV one by one: those with quotes that a line alone does not explain."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

from lookbook.tasks.tables.extract.pieces import MAX_RECORD

#: A quote that opens a field and is not closed as RFC 4180 says; a record that goes on behind what was read.
BROKEN, UNFINISHED = "broken", "unfinished"


@dataclass(frozen=True)
class Record:
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


@lru_cache
def patterns(delimiter: bytes) -> Patterns:
    """Return the patterns of fields. Possessive repeats: a field is looked through once, whatever quotes are in it."""
    stop = re.escape(delimiter)
    return Patterns(
        re.compile(rb'"[^"]*+(?:""[^"]*+)*+"(?=%b|\r?\n)' % stop),
        re.compile(rb'"[^"]*+(?:""[^"]*+)*+'),
        re.compile(rb"[^%b\n]*" % stop),
    )


def record_at(data: bytes, start: int, delimiter: bytes, *, final: bool) -> Record | str:
    """Return the record that starts at `start` of the data, which end with a line's end if they are final.

    A quote within a field that does not start with one is text, as pandas, Arrow and Python's csv take it.

    Returns:
        The record; `BROKEN`: a field starts with a quote and is not well-formed; `UNFINISHED`: more data tell.
    """
    known = patterns(delimiter)
    fields: list[bytes] = []
    position = start
    while True:
        if data.startswith(b'"', position):
            match = known.quoted.match(data, position)
            if match is None:
                return _why(data, start, position, known, final=final)
            field, position = match[0], match.end()
        else:
            match = known.plain.match(data, position)
            assert match is not None  # noqa: S101 - it matches nothing at all, too
            field, position = match[0], match.end()
            if position == len(data):
                return UNFINISHED
            if data.startswith(b"\n", position):
                field = field.removesuffix(b"\r")
        fields.append(field)
        if data.startswith(delimiter, position):
            position += 1
            continue
        return Record(fields, data.index(b"\n", position) + 1)


def _why(data: bytes, start: int, position: int, known: Patterns, *, final: bool) -> str:
    """Return whether a quoted field that does not match is broken, or may end behind the data."""
    if final or len(data) - start > MAX_RECORD:
        return BROKEN
    match = known.unclosed.match(data, position)
    assert match is not None  # noqa: S101 - it starts with a quote
    # Behind the closing quote come a delimiter, a line's end of two bytes, or another quote.
    return UNFINISHED if match.end() + 3 > len(data) else BROKEN


def value_of(field: bytes) -> bytes:
    """Return what a field says: without its quotes."""
    return field[1:-1].replace(b'""', b'"') if field.startswith(b'"') else field


def requoted(fields: Sequence[bytes], delimiter: bytes) -> bytes:
    """Return a record as a reader of plain RFC 4180 takes it: fields with a carriage return or a quote get quotes."""
    return delimiter.join(map(_requoted, fields)) + b"\n"


def _requoted(field: bytes) -> bytes:
    if field.startswith(b'"') or not (b"\r" in field or b'"' in field):
        return field
    return b'"' + field.replace(b'"', b'""') + b'"'
