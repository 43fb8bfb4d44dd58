"""Filters as conditions on a snapshot's columns."""

from __future__ import annotations

import datetime
import difflib
import functools
import math
import re
import unicodedata
from collections.abc import Callable
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from lookbook.blocks.errors import UsageError
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
    Scalar,
    Text,
)

_BOOLEANS = {"true": True, "false": False, "yes": True, "no": False, "1": True, "0": False}
_INTEGER = re.compile(r"[+-]?[0-9]{1,300}(\.0*)?")
#: Numbers as texts of a column write them; the whole ones among them that 64 bits hold.
_NUMBER = re.compile(r"[+-]?([0-9]{1,300}(\.[0-9]{0,300})?|\.[0-9]{1,300})")
_SHORT_INTEGER = re.compile(r"[+-]?[0-9]{1,18}")


def is_text(kind: pa.DataType) -> bool:
    """Return whether a column of this type holds texts."""
    return bool(pa.types.is_string(kind) or pa.types.is_large_string(kind))


def comparable(column: pa.ChunkedArray) -> pa.ChunkedArray:
    """Return a column in the widest type of its kind, which is the one that values have."""
    kind = column.type
    if pa.types.is_integer(kind):
        return column.cast(pa.int64())
    if pa.types.is_floating(kind):
        return column.cast(pa.float64())
    if pa.types.is_timestamp(kind):
        return column.cast(pa.timestamp("us", kind.tz))
    return column


def as_arrow(value: Scalar, kind: pa.DataType) -> pa.Scalar:
    """Return a fitted value as one of a `comparable` column's type; beside whole numbers a fraction stays one."""
    if pa.types.is_date(kind):
        return pa.scalar(datetime.date.fromisoformat(str(value)), kind)
    if pa.types.is_timestamp(kind):
        return pa.scalar(datetime.datetime.fromisoformat(str(value)), kind)
    if pa.types.is_integer(kind) and isinstance(value, float):
        return pa.scalar(value, pa.float64())
    return pa.scalar(value, kind)


def fitted_value(column: str, kind: pa.DataType, value: Scalar) -> Scalar:
    """Return a value as one of the column's type, in JSON's terms.

    Raises:
        UsageError: it is none.
    """
    try:
        if is_text(kind):
            return value if isinstance(value, str) else _plain(value)
        if pa.types.is_boolean(kind):
            return value if isinstance(value, bool) else _BOOLEANS[str(value).strip().lower()]
        if pa.types.is_integer(kind):
            return _whole(value)
        if pa.types.is_floating(kind):
            return _number(value)
        if pa.types.is_date(kind):
            return datetime.date.fromisoformat(str(value)).isoformat()
        if pa.types.is_timestamp(kind):
            return datetime.datetime.fromisoformat(str(value)).isoformat()
    except (ValueError, KeyError, OverflowError):
        pass
    raise UsageError(f"The filter: {column} is {_called(kind)}, and {value!r} is none.", "Correct the value.")


def ordered_value(name: str, column: pa.ChunkedArray, value: Scalar) -> Scalar:
    """Return what a column's values are ordered beside: as `fitted_value`, but a number stays one beside texts.

    Raises:
        UsageError: it is none of the column's type, or a number, and the column has texts that are none.
    """
    written = value.strip() if isinstance(value, str) else value
    if not is_text(column.type) or isinstance(written, bool):
        return fitted_value(name, column.type, value)
    if isinstance(written, str) and not _NUMBER.fullmatch(written):
        return value
    texts = _trimmed(column)
    others = texts.filter(pc.invert(_match(texts, _NUMBER)))  # a missing value is none of them
    if len(others):
        raise UsageError(
            f"The filter: {name} is a text, and {others[0].as_py()!r} is no number to compare with {written}.",
            "Compare it with a text that is no number, or by = or in.",
        )
    return _whole(written)


def as_numbers(column: pa.ChunkedArray) -> pa.ChunkedArray:
    """Return the numbers that the texts of a column write: whole ones of 64 bits where all are, else floats."""
    texts = pc.replace_substring(_trimmed(column), "+", "")
    are_short = pc.all(_match(texts, _SHORT_INTEGER)).as_py() is not False
    return texts.cast(pa.int64() if are_short else pa.float64())


def _trimmed(column: pa.ChunkedArray) -> pa.ChunkedArray:
    """Texts without blanks around them; missing where nothing is left."""
    texts = pc.utf8_trim_whitespace(column)
    return pc.if_else(pc.equal(texts, ""), pa.scalar(None, column.type), texts)


def _match(texts: pa.ChunkedArray, pattern: re.Pattern[str]) -> pa.ChunkedArray:
    return pc.match_substring_regex(texts, f"^(?:{pattern.pattern})$")


def _plain(value: bool | float) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)


def _whole(value: Scalar) -> int | float:
    """Return a whole number of 64 bits. A fraction is compared as it is: ``year<2012.5`` means what it says."""
    if isinstance(value, bool):
        raise ValueError(value)  # noqa: TRY004 - bad data, not a bad call
    if isinstance(value, str) and _INTEGER.fullmatch(value.strip()):
        value = int(value.strip().partition(".")[0])
    number = value if isinstance(value, int) else _number(value)
    if isinstance(number, float) and number.is_integer() and abs(number) < 2**53:
        number = int(number)
    if isinstance(number, int) and not -(2**63) <= number < 2**63:
        raise ValueError(value)
    return number


def _number(value: Scalar) -> float:
    if isinstance(value, bool):
        raise ValueError(value)  # noqa: TRY004 - bad data, not a bad call
    number = float(value)
    if not math.isfinite(number):
        raise ValueError(value)
    return number


def _called(kind: pa.DataType) -> str:
    kinds = [
        (pa.types.is_boolean, "true or false"),
        (pa.types.is_integer, "a whole number"),
        (pa.types.is_floating, "a number"),
        (pa.types.is_date, "a date such as 2026-12-31"),
        (pa.types.is_timestamp, "a time such as 2026-12-31T12:00:00"),
    ]
    return next((name for test, name in kinds if test(kind)), "a text")


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
    """Find the values in which all words of a text stand as whole words. Words are letters and digits alone."""
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
