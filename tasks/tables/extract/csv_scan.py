"""CSV line by line with numpy: which lines are records of their own, and how many fields they have."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

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
