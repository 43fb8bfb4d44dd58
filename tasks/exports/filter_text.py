"""The short form of conditions, as people type them: ``gender=Women``, ``year>=2012``, ``season in Summer,Fall``."""

from __future__ import annotations

import csv
import re
from collections.abc import Iterable

from lookbook.blocks.errors import UsageError
from lookbook.tasks.exports.filters import Filter, all_of, read_filter

TAKES = (
    "It takes COLUMN=VALUE, also with !=, <, <=, >, >=; COLUMN in A,B; COLUMN not in A,B; COLUMN contains TEXT; "
    "COLUMN is null; COLUMN is not null."
)

_COLUMN = r"\s*(?P<column>[A-Za-z0-9_]+)\s*"
_COMPARISON = re.compile(_COLUMN + r"(?P<op>!=|<=|>=|==|=|<|>)(?P<value>.*)", re.DOTALL)
_LIST = re.compile(_COLUMN.removesuffix(r"\s*") + r"\s+(?P<op>not\s+in|in)\s+(?P<value>.*)", re.DOTALL | re.IGNORECASE)
_CONTAINS = re.compile(_COLUMN.removesuffix(r"\s*") + r"\s+(?P<op>contains)\s+(?P<value>.*)", re.DOTALL | re.IGNORECASE)
_EMPTY = re.compile(_COLUMN.removesuffix(r"\s*") + r"\s+(?P<op>is\s+not\s+null|is\s+null)\s*", re.IGNORECASE)


def read_condition(text: str) -> Filter:
    """Return one condition in its short form. Values stay texts: the snapshot's columns say what they are.

    A value may stand in double quotes, as in CSV: ``productDisplayName in "Tee, blue",Cap``.

    Raises:
        UsageError: it is no condition.
    """
    if found := _EMPTY.fullmatch(text):
        document = {"column": found["column"], "op": _words(found["op"])}
    elif found := _LIST.fullmatch(text):
        document = {"column": found["column"], "op": _words(found["op"]), "value": _values(text, found["value"])}
    elif found := _CONTAINS.fullmatch(text):
        document = {"column": found["column"], "op": "contains", "value": _value(text, found["value"])}
    elif found := _COMPARISON.fullmatch(text):
        operator = "=" if found["op"] == "==" else found["op"]
        document = {"column": found["column"], "op": operator, "value": _value(text, found["value"])}
    else:
        raise UsageError(f"--where {text!r}: this is no condition.", TAKES)
    return read_filter(document)


def read_conditions(
    where: Iterable[str] = (),
    text: str | None = None,
    ids: Iterable[str] = (),
    wanted: Filter | None = None,
) -> Filter | None:
    """Return one filter of all that was given; each has to hold. None where nothing was.

    Args:
        where: conditions in their short form.
        text: words of the display name.
        ids: keys of products, or hashes of images.
        wanted: a filter.

    Raises:
        UsageError: one of them is no condition.
    """
    filters = [read_condition(each) for each in where]
    if text is not None:
        filters.append(read_filter({"text": text}))
    if listed := list(ids):
        filters.append(read_filter({"ids": listed}))
    if wanted is not None:
        filters.append(wanted)
    return all_of(filters)


def _words(operator: str) -> str:
    return " ".join(operator.lower().split())


def _values(text: str, listed: str) -> list[str]:
    try:
        rows = list(csv.reader([listed], skipinitialspace=True, strict=True))
    except csv.Error as error:
        raise UsageError(f"--where {text!r}: its values cannot be told apart: {error}.", TAKES) from error
    if len(rows) != 1:
        raise UsageError(f"--where {text!r}: it names no value.", TAKES)
    return [value.strip() for value in rows[0]]


def _value(text: str, written: str) -> str:
    written = written.strip()
    if written.startswith('"'):
        values = _values(text, written)
        if len(values) != 1:
            raise UsageError(f"--where {text!r}: it names {len(values)} values.", TAKES)
        return values[0]
    return written
