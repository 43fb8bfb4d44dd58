"""Reading JSON: records of a text, scalars with their types, nested objects flattened, the rest set aside."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterator
from dataclasses import dataclass
from decimal import Decimal
from typing import Any

import pyarrow as pa

from lookbook.tasks.tables.extract.pieces import (
    MAX_RECORD,
    AmbiguousNameError,
    InputReject,
    Piece,
    as_json,
    check_width,
    flat,
    located,
    shortened,
    to_array,
)
from lookbook.tasks.tables.extract.text import Readable, has_marks, shown, text_blocks

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
    """Read a number with a fraction or exponent: a float, or a decimal where no float is written with its digits."""
    found = float(text)
    if (len(text) <= _SHORT and "e" not in text and "E" not in text) or repr(found) == text:
        return found
    exact = Decimal(text)
    return found if math.isfinite(found) and Decimal(repr(found)) == exact else exact


_decode = json.JSONDecoder(parse_float=_number).raw_decode


@dataclass(frozen=True)
class FoundRecord:
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

    def __iter__(self) -> Iterator[FoundRecord]:
        while self._next_sign():
            sign = self._text[self._at]
            if sign == "[" and not self._arrays:
                self._arrays, self._at = 1, self._at + 1
            elif sign == "]" and self._arrays:
                self._arrays, self._at = 0, self._at + 1
            elif (found := self._record()) is not None:
                yield found
        if self._arrays:
            yield FoundRecord(raw="", fault=("bad_json", "the file ends within its array"))

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

    def _record(self) -> FoundRecord | None:
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
            return FoundRecord(raw=raw, fault=("bad_encoding", "bytes that the encoding has no character for"))
        return FoundRecord(value, size=size)

    def _may_go_on(self, error: Exception) -> bool:
        if self._ended or len(self._text) - self._at > MAX_RECORD or not isinstance(error, json.JSONDecodeError):
            return False
        return error.msg.startswith("Unterminated string") or error.pos >= len(self._text) - _NEAR

    def _skip(self, fault: tuple[str, str]) -> FoundRecord:
        """Go behind what cannot be parsed: to where its brackets are closed, else to a line that begins like it."""
        while (end := self._closed()) is None and (end := self._next_like_it()) is None:
            if len(self._text) - self._at > MAX_RECORD or not self._more(len(self._text) - self._at):
                end = len(self._text)
                break
        raw, self._at = self._text[self._at : end], end
        return FoundRecord(raw=raw.rstrip(), fault=fault)

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


#: What is put together at the most: rows, characters of their text, cells of their table.
ROWS, CHARACTERS, CELLS = 20_000, 8 * 2**20, 4_000_000


def read_json(file: Readable, address: str, encoding: str) -> Iterator[Piece]:
    """Yield the rows of a JSON file: of its array, of its one object, or of all objects one behind the other.

    The line of a row is its number, from 1: records may share a line, or have many.
    """
    yield from _pieces(enumerate(JsonStream(text_blocks(file, encoding)), 1), address)


def read_json_lines(file: Readable, address: str, encoding: str) -> Iterator[Piece]:
    """Yield the rows of a file with an object on each line."""
    yield from _pieces(_of_lines(text_blocks(file, encoding)), address)


def _of_lines(blocks: Iterator[str]) -> Iterator[tuple[int, FoundRecord]]:
    for number, line in enumerate(_lines(blocks), 1):
        text = line.strip()
        if len(line) > MAX_RECORD:
            why = f"a line of more than {MAX_RECORD} characters, of which the first are kept"
            yield number, FoundRecord(raw=line, fault=("too_long", why))
        elif text:
            yield number, _of_line(text)


def _lines(blocks: Iterator[str]) -> Iterator[str]:
    """Lines; of one that is longer than a record may be, its beginning."""
    rest = ""
    for block in blocks:
        first, *others = block.split("\n")
        rest = rest + first if len(rest) <= MAX_RECORD else rest
        for other in others:
            yield rest
            rest = other
    if rest:
        yield rest


def _of_line(text: str) -> FoundRecord:
    if has_marks(text):
        return FoundRecord(raw=text, fault=("bad_encoding", "bytes that the encoding has no character for"))
    try:
        value, end = parse(text)
    except (ValueError, RecursionError) as error:
        return FoundRecord(raw=text, fault=fault_of(error))
    if end < len(text):
        return FoundRecord(raw=text, fault=("bad_json", f"more than one value on its line (column {end + 1})"))
    return FoundRecord(value, size=len(text))


def _pieces(records: Iterator[tuple[int, FoundRecord]], address: str) -> Iterator[Piece]:
    batch = _Batch(address)
    for number, found in records:
        batch.add(number, found)
        if batch.is_full():
            yield batch.piece()
            batch = _Batch(address)
    if batch.rows or batch.rejects:
        yield batch.piece()


class _Batch:
    """Records of one file that are put together."""

    def __init__(self, address: str) -> None:
        self.rows: list[tuple[int, dict[str, Any]]] = []
        self.rejects: list[InputReject] = []
        self._address = address
        self._names: dict[str, None] = {}
        self._characters = 0

    def add(self, number: int, found: FoundRecord) -> None:
        """Take a record, or what stands in place of one."""
        fault, raw = found.fault, found.raw
        if fault is None:
            row = _row(found.value)
            if isinstance(row, dict):
                self.rows.append((number, row))
                self._names.update(dict.fromkeys(row))
                check_width(self._address, self._names)
                self._characters += found.size
                return
            fault, raw = row, as_json_or_repr(found.value)
        self._reject(fault, raw, number)

    def is_full(self) -> bool:
        """Return whether it is time to make a piece of them."""
        rows = len(self.rows)
        return rows + len(self.rejects) >= ROWS or self._characters >= CHARACTERS or rows * len(self._names) >= CELLS

    def piece(self) -> Piece:
        """Return the records as rows."""
        try:
            return Piece(self._table(), self.rejects)
        except UnicodeEncodeError:
            self._reject_broken_text()
            return Piece(self._table(), self.rejects)

    def _table(self) -> pa.Table | None:
        if not self.rows:
            return None
        arrays = {name: to_array([row.get(name) for _, row in self.rows]) for name in self._names}
        # Objects without values are rows all the same.
        table = pa.table(arrays or {"column_1": pa.nulls(len(self.rows))})
        return located(table, self._address, pa.array([number for number, _ in self.rows], pa.int64()))

    def _reject_broken_text(self) -> None:
        """Set rows aside with a text that has half of a character."""
        rows, self.rows, self._names = self.rows, [], {}
        for number, row in rows:
            text = as_json(row)
            if has_marks(text):
                self._reject(("bad_encoding", "half of a character of two (a lone surrogate)"), text, number)
            else:
                self.rows.append((number, row))
                self._names.update(dict.fromkeys(row))

    def _reject(self, fault: tuple[str, str], raw: str, number: int) -> None:
        self.rejects.append(InputReject(*fault, shortened(shown(raw)), self._address, number))


def _row(value: Any) -> dict[str, Any] | tuple[str, str]:  # noqa: ANN401 - any JSON
    """Return a row, or the rule that it breaks."""
    if not isinstance(value, dict):
        return "not_an_object", f"a record is an object, and this is {_kind(value)}"
    try:
        return flat(value)
    except AmbiguousNameError as error:
        return "ambiguous_names", f"two values get the name {shown(str(error))}"
    except RecursionError:
        return "too_deep", "values are nested too deep"


def _kind(value: Any) -> str:  # noqa: ANN401 - any JSON
    kinds = {list: "a list", str: "a text", bool: "a truth value", type(None): "null"}
    return kinds.get(type(value), "a number")


def as_json_or_repr(value: Any) -> str:  # noqa: ANN401 - any JSON
    """Return a value as JSON; one that is nested too deep shows nothing."""
    try:
        return as_json(value)
    except RecursionError:
        return "…"
