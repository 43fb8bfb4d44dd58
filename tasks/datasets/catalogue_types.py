"""Columns as a person would type them, names that every store takes, and what is refused, by which rule."""

from __future__ import annotations

import datetime
import hashlib
import json
import re
import unicodedata
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from typing import Any, Literal

import pyarrow as pa
import pyarrow.compute as pc

from lookbook.tasks.datasets.schemas import PRODUCTS_SCHEMA

RejectKind = Literal["image", "row", "link", "style", "file", "ignored", "forgotten"]


@dataclass(frozen=True)
class SourceReject:
    """Something of a source that was refused, kept whole.

    Attributes:
        kind: an image; a row of a catalogue; a row of `images.csv`; a product's JSON file; a whole catalogue file;
            a file that is ignored, as it is neither an image nor of a catalogue; something that was forgotten.
        locator: a file's key, or key and line: ``styles.csv:6044``; of something forgotten a salted hash.
        rule: the rule's name, such as ``ragged_row``.
        message: the rule's reason, for people.
        raw: the text as it stood, or "".
    """

    kind: RejectKind
    locator: str
    rule: str
    message: str
    raw: str = ""

    @property
    def reject_id(self) -> str:
        """``r-`` and twelve hex digits, the same on each run as long as the reject is."""
        named = "\0".join((self.kind, self.locator, self.rule, self.raw))
        return "r-" + hashlib.sha256(named.encode("utf-8", "backslashreplace")).hexdigest()[:12]


#: The columns that every catalogue's table starts with.
OWN_FIELDS: list[pa.Field] = [
    pa.field("file", pa.string()),  # key of the catalogue file
    pa.field("line", pa.int64()),  # physical line the record starts on; of a Parquet file the row, from 1
    pa.field("product_key", pa.string()),  # canonical text of the id
    pa.field("outcome", pa.string()),  # "" or "duplicate"
    pa.field("repaired", pa.bool_()),
    pa.field("file_name", pa.string()),  # the image that the catalogue names, null where it names none
]

_INTEGER = re.compile(r"-?(0|[1-9][0-9]*)(\.0+)?")
_NUMBER = re.compile(r"-?(0|[1-9][0-9]*)?(\.[0-9]+)?([eE][+-]?[0-9]+)?")
_LOOSE_INTEGER = re.compile(r"\s*([+-]?[0-9]+)(\.0*)?\s*")
_DATE = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}")
_BOOLEANS = {"true": True, "false": False}


def parse_integer(text: str) -> int | None:
    """Return a whole number of 64 bits, also written as ``2012.0``; None if it is none."""
    match = _LOOSE_INTEGER.fullmatch(text)
    if match is None or len(match[1]) > 20:  # noqa: PLR2004 - digits of 64 bits, and a sign
        return None
    number = int(match[1])
    return number if -(2**63) <= number < 2**63 else None


def infer_column(values: pa.ChunkedArray) -> pa.ChunkedArray:
    """Return a typed column of texts: whole numbers, numbers, true and false, ISO dates, else text. Empty is null.

    Numbers with leading zeros are codes, and stay text.
    """
    kinds: list[tuple[Callable[[str], Any], pa.DataType]] = [
        (_strict_integer, pa.int64()),
        (_strict_number, pa.float64()),
        (_boolean, pa.bool_()),
        (_date, pa.date32()),
    ]
    if pc.any(pc.not_equal(values, "")).as_py():
        for parse, kind in kinds:
            with suppress(ValueError):
                return converted(values, partial(_unless_empty, parse), kind)
    return pc.if_else(pc.equal(values, ""), None, values)


def _unless_empty(parse: Callable[[str], Any], text: str | None) -> Any:  # noqa: ANN401
    return parse(text) if text else None


def converted(values: pa.ChunkedArray, parse: Callable[[str | None], Any], kind: pa.DataType) -> pa.ChunkedArray:
    """Return what each text means, chunk by chunk: as values of Python they take ten times the memory."""
    chunks = [pa.array([parse(text) for text in chunk.to_pylist()], kind) for chunk in values.chunks]
    return pa.chunked_array(chunks, kind)


def _strict_integer(text: str) -> int:
    number = parse_integer(text) if _INTEGER.fullmatch(text) else None
    if number is None:
        raise ValueError(text)
    return number


def _strict_number(text: str) -> float:
    if not any(digit in text for digit in "0123456789") or not _NUMBER.fullmatch(text):
        raise ValueError(text)
    if text.lstrip("-").isdigit() and parse_integer(text) is None:
        raise ValueError(text)  # A whole number of more than 64 bits is a code: a float would lose digits.
    return float(text)


def _boolean(text: str) -> bool:
    if text.lower() not in _BOOLEANS:
        raise ValueError(text)
    return _BOOLEANS[text.lower()]


def _date(text: str) -> datetime.date:
    if not _DATE.fullmatch(text):
        raise ValueError(text)
    return datetime.date.fromisoformat(text)


def clean_names(names: Sequence[str], taken: Sequence[str] = ()) -> list[str]:
    """Return names of letters and digits of any script and underscores, unique whatever their case.

    None is one of our own columns'. DuckDB takes them, and so does BigQuery (flexible column names).

    Args:
        names: the columns' names as they stand.
        taken: further names that are in use.
    """
    used = {*PRODUCTS_SCHEMA.names} | {name.lower() for name in taken}
    cleaned = []
    for name in names:
        plain = re.sub(r"\W+", "_", unicodedata.normalize("NFC", name.strip())) or "column"
        if plain.lower() in used:
            plain += "_"
        unique, number = plain, 2
        while unique.lower() in used:
            unique, number = f"{plain}{number}", number + 1
        used.add(unique.lower())
        cleaned.append(unique)
    return cleaned


def clean_text(text: str) -> str:
    """Return text that every store takes: without NUL characters and halves of surrogate pairs."""
    return text.replace("\0", "").encode("utf-8", "replace").decode("utf-8")


def plain_column(column: pa.ChunkedArray) -> pa.ChunkedArray:
    """Return a Parquet column as a table for people holds it: lists and structures become JSON text."""
    kind = column.type
    if pa.types.is_dictionary(kind):
        kind = kind.value_type
    if pa.types.is_nested(kind):
        texts = [None if value is None else json.dumps(value, default=str) for value in column.to_pylist()]
        return pa.chunked_array([pa.array(texts, pa.string())])
    if pa.types.is_large_string(kind) or pa.types.is_string_view(kind) or pa.types.is_null(kind):
        kind = pa.string()
    return column.cast(kind)


def stack_tables(tables: Sequence[pa.Table]) -> pa.Table:
    """Return one table of several: a column of unlike types becomes a number where all are numbers, else text."""
    kinds: dict[str, pa.DataType] = {}
    for table in tables:
        for field in table.schema:
            before = kinds.get(field.name, field.type)
            kinds[field.name] = _common_type(before, field.type)
    schema = pa.schema(list(kinds.items()))
    return pa.concat_tables([_fitted(table, schema) for table in tables])


def _common_type(first: pa.DataType, second: pa.DataType) -> pa.DataType:
    if first == second or pa.types.is_null(second):
        return first
    if pa.types.is_null(first):
        return second
    numbers = all(pa.types.is_integer(kind) or pa.types.is_floating(kind) for kind in (first, second))
    return pa.float64() if numbers else pa.string()


def _fitted(table: pa.Table, schema: pa.Schema) -> pa.Table:
    absent = pa.nulls(table.num_rows)
    columns = [table[field.name] if field.name in table.column_names else absent for field in schema]
    return pa.table([column.cast(field.type) for column, field in zip(columns, schema, strict=True)], schema=schema)
