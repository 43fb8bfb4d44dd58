"""Records of JSON text: an array, one object, or objects one behind the other with anything or nothing between them."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterator
from dataclasses import dataclass
from decimal import Decimal
from typing import Any

from lookbook.tasks.tables.extract.pieces import MAX_RECORD
from lookbook.tasks.tables.extract.text import has_marks

_BETWEEN = re.compile(r"[\s,]*")
#: Strings that end on their line, and what opens and closes.
_SIGNS = re.compile(r'"(?:[^"\\\n]|\\[^\n])*"|[\[\]{}"]')
#: What stands where a record should begin, up to where one may.
_NO_OBJECT = re.compile(r"[^{\[\],\n]+")
#: So near to the end of what was read, a fault may only be that the rest is missing.
_NEAR = 16
#: A number of so few characters is written with as many digits as a double always keeps.
_SHORT = 15


def _number(text: str) -> float | Decimal:
    """A number with a fraction or power of ten: a float, or a decimal where no float is written with its digits."""
    found = float(text)
    if (len(text) <= _SHORT and "e" not in text and "E" not in text) or repr(found) == text:
        return found
    exact = Decimal(text)
    return found if math.isfinite(found) and Decimal(repr(found)) == exact else exact


_decode = json.JSONDecoder(parse_float=_number).raw_decode


@dataclass(frozen=True)
class Found:
    """A record, or what stands in place of one.

    Attributes:
        value: of the record.
        raw: text of what is none.
        fault: a rule and why it holds; None of a record.
        size: characters of a record.
    """

    value: Any = None
    raw: str = ""
    fault: tuple[str, str] | None = None
    size: int = 0


def parse(text: str, start: int = 0) -> tuple[Any, int]:
    """Return the JSON value that begins at `start`, and where it ends.

    Raises:
        json.JSONDecodeError: it is none.
        ValueError: it has an integer of thousands of digits.
        RecursionError: it is nested too deep.
    """
    return _decode(text, start)


def fault_of(error: Exception) -> tuple[str, str]:
    """Return the rule that a record broke which cannot be parsed."""
    if isinstance(error, RecursionError):
        return "too_deep", "values are nested too deep"
    if isinstance(error, json.JSONDecodeError):
        return "bad_json", f"{error.msg} (column {error.colno})"
    return "bad_json", "an integer of more than 4300 digits"


class JsonStream:
    """The records of text that comes in blocks.

    Commas too many, behind the last record of an array for instance, are no fault: nothing is lost by them.
    """

    def __init__(self, blocks: Iterator[str]) -> None:
        self._blocks = blocks
        self._text, self._at, self._ended = "", 0, False
        self._arrays = 0
        self._marks = False

    def __iter__(self) -> Iterator[Found]:
        while self._next_sign():
            sign = self._text[self._at]
            if sign == "[" and not self._arrays:
                self._arrays, self._at = 1, self._at + 1
            elif sign == "]" and self._arrays:
                self._arrays, self._at = 0, self._at + 1
            elif (found := self._record()) is not None:
                yield found
        if self._arrays:
            yield Found(raw="", fault=("bad_json", "the file ends within its array"))

    def _next_sign(self) -> bool:
        """Go to the next sign that is no blank and no comma; whether there is one."""
        while True:
            match = _BETWEEN.match(self._text, self._at)
            self._at = match.end() if match else self._at
            if self._at < len(self._text):
                return True
            if not self._more(1):
                return False

    def _more(self, least: int) -> bool:
        """Read on, so many characters at least if there are; whether there were any."""
        pieces = [self._text[self._at :]]
        self._at, got = 0, 0
        while got < least and not self._ended:
            block = next(self._blocks, None)
            if block is None:
                self._ended = True
            else:
                pieces.append(block)
                got += len(block)
        self._text = "".join(pieces)
        self._marks = has_marks(self._text)
        return got > 0

    def _record(self) -> Found | None:
        """Return the record that begins here; None where more was read first."""
        try:
            value, end = parse(self._text, self._at)
        except (ValueError, RecursionError) as error:
            if self._may_go_on(error) and self._more(len(self._text) - self._at):
                return None
            return self._skip(fault_of(error))
        if end == len(self._text) and not isinstance(value, dict | list) and self._more(1):
            return None  # of a number the rest may follow
        size = end - self._at
        raw, self._at = self._text[self._at : end] if self._marks else "", end
        if has_marks(raw):
            return Found(raw=raw, fault=("bad_encoding", "bytes that the encoding has no character for"))
        return Found(value, size=size)

    def _may_go_on(self, error: Exception) -> bool:
        if self._ended or len(self._text) - self._at > MAX_RECORD or not isinstance(error, json.JSONDecodeError):
            return False
        return error.msg.startswith("Unterminated string") or error.pos >= len(self._text) - _NEAR

    def _skip(self, fault: tuple[str, str]) -> Found:
        """Go behind what cannot be parsed: to where its brackets are closed, else to a line that begins like it."""
        while (end := self._closed()) is None and (end := self._next_like_it()) is None:
            if len(self._text) - self._at > MAX_RECORD or not self._more(len(self._text) - self._at):
                end = len(self._text)
                break
        raw, self._at = self._text[self._at : end], end
        return Found(raw=raw.rstrip(), fault=fault)

    def _closed(self) -> int | None:
        """Return where the brackets that open here are closed, all strings being whole."""
        if self._text[self._at] not in "{[":
            match = _NO_OBJECT.match(self._text, self._at)
            end = match.end() if match else self._at + 1
            return end if end < len(self._text) or self._ended else None
        depth = 0
        for sign in _SIGNS.finditer(self._text, self._at):
            if sign[0] == '"':
                return None
            depth += {"{": 1, "[": 1, "}": -1, "]": -1}.get(sign[0], 0)
            if depth == 0:
                return sign.end()
        return None

    def _next_like_it(self) -> int | None:
        """Return where the next line begins that has the same indentation and opens an object."""
        line = self._text.rfind("\n", 0, self._at) + 1
        indentation = self._text[line : self._at]
        if indentation.strip():
            indentation = ""
        match = re.compile(rf"\n{re.escape(indentation)}(?=\{{)").search(self._text, self._at)
        return match.end() if match else None
