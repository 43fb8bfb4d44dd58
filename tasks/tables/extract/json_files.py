"""Reading JSON: scalars keep their types, nested objects are flattened, what is no object becomes a reject."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pyarrow as pa

from lookbook.tasks.tables.extract.arrays import to_array
from lookbook.tasks.tables.extract.json_stream import Found, JsonStream, fault_of, parse
from lookbook.tasks.tables.extract.json_values import AmbiguousNameError, as_json, flat
from lookbook.tasks.tables.extract.pieces import MAX_RECORD, Piece, Reject, located, shortened
from lookbook.tasks.tables.extract.shape import check_width
from lookbook.tasks.tables.extract.text import Readable, has_marks, shown, text_blocks

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


def _of_lines(blocks: Iterator[str]) -> Iterator[tuple[int, Found]]:
    for number, line in enumerate(_lines(blocks), 1):
        text = line.strip()
        if len(line) > MAX_RECORD:
            why = f"a line of more than {MAX_RECORD} characters, of which the first are kept"
            yield number, Found(raw=line, fault=("too_long", why))
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


def _of_line(text: str) -> Found:
    if has_marks(text):
        return Found(raw=text, fault=("bad_encoding", "bytes that the encoding has no character for"))
    try:
        value, end = parse(text)
    except (ValueError, RecursionError) as error:
        return Found(raw=text, fault=fault_of(error))
    if end < len(text):
        return Found(raw=text, fault=("bad_json", f"more than one value on its line (column {end + 1})"))
    return Found(value, size=len(text))


def _pieces(records: Iterator[tuple[int, Found]], address: str) -> Iterator[Piece]:
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
        self.rejects: list[Reject] = []
        self._address = address
        self._names: dict[str, None] = {}
        self._characters = 0

    def add(self, number: int, found: Found) -> None:
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
        self.rejects.append(Reject(*fault, shortened(shown(raw)), self._address, number))


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
