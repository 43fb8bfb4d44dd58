"""What a filter means for the columns of a snapshot: names checked, values of the columns' types, rows found."""

from __future__ import annotations

import difflib
import functools
import re
import unicodedata
from collections.abc import Callable
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from lookbook.blocks.errors import UsageError
from lookbook.tasks.exports.filter_values import as_arrow, as_numbers, comparable, fitted_value, is_text, ordered_value
from lookbook.tasks.exports.filters import (
    And,
    Comparison,
    Containment,
    Emptiness,
    Filter,
    Ids,
    Membership,
    Not,
    Or,
    Text,
)

_COMPARED: dict[str, Callable[[Any, Any], Any]] = {
    "=": pc.equal,
    "!=": pc.not_equal,
    "<": pc.less,
    "<=": pc.less_equal,
    ">": pc.greater,
    ">=": pc.greater_equal,
}


def check_column(name: str, schema: pa.Schema, what: str = "The filter") -> pa.DataType:
    """Return the type of a column.

    Raises:
        UsageError: there is none of that name, or it can't be compared.
    """
    if name not in schema.names:
        folded = {each.replace("_", "").lower(): each for each in schema.names}
        same = folded.get(name.replace("_", "").lower())
        near = [same] if same else difflib.get_close_matches(name, schema.names, n=3)
        hint = f"Did you mean {' or '.join(near)}?" if near else f"It has {', '.join(schema.names)}."
        raise UsageError(f"{what}: there is no column {name}.", hint)
    kind = schema.field(name).type
    if pa.types.is_nested(kind) or pa.types.is_binary(kind) or pa.types.is_large_binary(kind):
        raise UsageError(f"{what}: the column {name} cannot be compared.", "Name another column.")
    return kind


def columns_of(wanted: Filter, display_name: str | None) -> set[str]:
    """Return the columns that a filter looks at."""
    if isinstance(wanted, And | Or):
        parts = wanted.all_of if isinstance(wanted, And) else wanted.any_of
        return set().union(*(columns_of(part, display_name) for part in parts))
    if isinstance(wanted, Not):
        return columns_of(wanted.none_of, display_name)
    if isinstance(wanted, Ids):
        return {"product_key", "sha256"}
    if isinstance(wanted, Text):
        return {display_name} if display_name else set()
    return {wanted.column}


def fitted(wanted: Filter, table: pa.Table, display_name: str | None) -> Filter:
    """Return the same filter with values of the columns' types, as JSON has them: ``"2012"`` becomes 2012.

    Args:
        wanted: a filter.
        table: with the columns that there are. What is put in order beside a text column is a number only where all of
            its texts are.
        display_name: the column that a text is looked for in.

    Raises:
        UsageError: a column does not exist, or a value is none of its column's type.
    """
    if isinstance(wanted, And | Or):
        key, parts = ("and", wanted.all_of) if isinstance(wanted, And) else ("or", wanted.any_of)
        return type(wanted).model_validate({key: [fitted(part, table, display_name) for part in parts]})
    if isinstance(wanted, Not):
        return Not.model_validate({"not": fitted(wanted.none_of, table, display_name)})
    if isinstance(wanted, Ids):
        return wanted
    if isinstance(wanted, Text):
        _check_text(wanted, display_name)
        return wanted
    check_column(wanted.column, table.schema)
    return _fitted_condition(wanted, table[wanted.column])


def _fitted_condition(
    wanted: Comparison | Membership | Emptiness | Containment, column: pa.ChunkedArray
) -> Comparison | Membership | Emptiness | Containment:
    name, kind = wanted.column, column.type
    if isinstance(wanted, Comparison):
        if wanted.op not in {"=", "!="}:
            if pa.types.is_boolean(kind):
                raise UsageError(f"The filter: {name} is true or false, and has no order.", "Use = or !=.")
            return wanted.model_copy(update={"value": ordered_value(name, column, wanted.value)})
        return wanted.model_copy(update={"value": fitted_value(name, kind, wanted.value)})
    if isinstance(wanted, Membership):
        return wanted.model_copy(update={"value": [fitted_value(name, kind, each) for each in wanted.value]})
    if isinstance(wanted, Containment) and not is_text(kind):
        raise UsageError(f"The filter: {name} is no text, and contains nothing.", "Compare it with = or <.")
    return wanted


def matches(wanted: Filter, table: pa.Table, display_name: str | None) -> pa.ChunkedArray:
    """Return for each row whether the filter holds; null where that can't be told for want of a value.

    Args:
        wanted: a filter, as `fitted` gives it.
        table: with the columns of `columns_of`.
        display_name: the column that a text is looked for in.
    """
    if isinstance(wanted, And | Or):
        combine, parts = (pc.and_kleene, wanted.all_of) if isinstance(wanted, And) else (pc.or_kleene, wanted.any_of)
        return functools.reduce(combine, (matches(part, table, display_name) for part in parts))
    if isinstance(wanted, Not):
        return pc.invert(matches(wanted.none_of, table, display_name))
    if isinstance(wanted, Text):
        return _has_words(table[str(display_name)], wanted.text)
    if isinstance(wanted, Ids):
        listed = pa.array(wanted.ids, pa.string())
        return pc.or_(*(pc.is_in(table[name], value_set=listed) for name in ("product_key", "sha256")))
    return _holds(wanted, comparable(table[wanted.column]))


def _holds(wanted: Comparison | Membership | Emptiness | Containment, column: pa.ChunkedArray) -> pa.ChunkedArray:
    if isinstance(wanted, Emptiness):
        return pc.is_null(column) if wanted.op == "is null" else pc.is_valid(column)
    if isinstance(wanted, Containment):
        return pc.match_substring(column, pattern=wanted.value, ignore_case=True)
    if isinstance(wanted, Comparison):
        if is_text(column.type) and not isinstance(wanted.value, str):
            column = as_numbers(column)
        return _COMPARED[wanted.op](column, as_arrow(wanted.value, column.type))
    values = [as_arrow(value, column.type) for value in wanted.value]
    listed = pa.array([value.as_py() for value in values if value.type == column.type], column.type)
    among = pc.if_else(pc.is_valid(column), pc.is_in(column, value_set=listed), pa.scalar(None, pa.bool_()))
    return among if wanted.op == "in" else pc.invert(among)


def _has_words(column: pa.ChunkedArray, text: str) -> pa.ChunkedArray:
    """Whether all words of a text stand in a column's values as whole words. Words are letters and digits alone."""
    values = pc.utf8_normalize(column, form="NFC")
    found = [
        pc.match_substring_regex(values, pattern=rf"(?:^|[^\pL\pM\pN]){word}(?:[^\pL\pM\pN]|$)", ignore_case=True)
        for word in words_of(text)
    ]
    return functools.reduce(pc.and_kleene, found)


def words_of(text: str) -> list[str]:
    """Return the words of a text: runs of letters and digits."""
    return re.findall(r"[^\W_]+", unicodedata.normalize("NFC", text))


def _check_text(wanted: Text, display_name: str | None) -> None:
    if display_name is None:
        raise UsageError("The filter: this catalogue has no display name to look for a text in.", "Name a column.")
    if not words_of(wanted.text):
        raise UsageError(f"The filter: the text {wanted.text!r} has no word.", "Give letters or digits.")
