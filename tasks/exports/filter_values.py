"""Values of filters as those of a column: what a text, a number or a word means where it is compared."""

from __future__ import annotations

import datetime
import math
import re

import pyarrow as pa
import pyarrow.compute as pc

from lookbook.blocks.errors import UsageError
from lookbook.tasks.exports.filters import Scalar

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
