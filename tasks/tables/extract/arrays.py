"""Arrow arrays of Python values: of one type where they have one in common, else of text."""

from __future__ import annotations

import base64
from collections.abc import Sequence
from datetime import date, datetime, time, timedelta
from decimal import Decimal
from typing import Any
from uuid import UUID

import pyarrow as pa

from lookbook.tasks.tables.extract.json_values import as_json

#: What becomes text: Arrow would take it as something else, or not at all.
_AS_TEXT = (dict, list, tuple, set, frozenset, UUID, timedelta)
_NUMBERS = {int, float, Decimal}
_FAULTS = (pa.ArrowInvalid, pa.ArrowTypeError, pa.ArrowNotImplementedError, OverflowError, TypeError, ValueError)


def to_array(values: Sequence[Any], wanted: pa.DataType | None = None) -> pa.Array:
    """Return the values as an array.

    Args:
        values: of a column; None is a missing one.
        wanted: the type that the source names; where a value does not fit it, none does.

    Raises:
        UnicodeEncodeError: a text is no Unicode.
    """
    if wanted is not None:
        try:
            return pa.array(values, wanted)
        except UnicodeEncodeError:
            raise
        except _FAULTS:
            pass
    kinds = {type(value) for value in values} - {type(None)}
    if len(kinds) > 1 and Decimal in kinds and kinds <= _NUMBERS:
        values, kinds = [_decimal(value) for value in values], {Decimal}
    if len(kinds) > 1 and not kinds <= {int, float}:
        return pa.array([text_of(value) for value in values], pa.string())
    if any(issubclass(kind, _AS_TEXT) for kind in kinds):
        return pa.array([text_of(value) for value in values], pa.string())
    return _inferred(values, kinds)


def _decimal(value: float | Decimal | None) -> Decimal | None:
    """Make a number a decimal: of a float, the digits that it is written with."""
    return value if value is None or isinstance(value, Decimal) else Decimal(repr(value))


def _inferred(values: Sequence[Any], kinds: set[type]) -> pa.Array:
    if kinds == {memoryview}:
        values = [None if value is None else bytes(value) for value in values]
    try:
        found = _of_times(values) if kinds == {datetime} else pa.array(values)
    except UnicodeEncodeError:
        raise
    except _FAULTS:
        return pa.array([text_of(value) for value in values], pa.string())
    if pa.types.is_uint64(found.type) or pa.types.is_decimal256(found.type):
        return pa.array([text_of(value) for value in values], pa.string())
    return found


def _of_times(values: Sequence[datetime | None]) -> pa.Array:
    """Times of one kind: without a zone, or in UTC."""
    zoned = {value.tzinfo is not None for value in values if value is not None}
    if len(zoned) > 1:
        raise TypeError("times with and without a zone")
    return pa.array(values, pa.timestamp("us", "UTC" if zoned == {True} else None))


def text_of(value: Any) -> str | None:  # noqa: ANN401, PLR0911 - any value, a line for each kind
    """Return a value as text: as JSON says it where JSON knows it."""
    if value is None or isinstance(value, str):
        return value
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, dict | list | tuple):
        return as_json(value)
    if isinstance(value, set | frozenset):
        return as_json(sorted(value, key=str))
    if isinstance(value, datetime | date | time):
        return value.isoformat()
    if isinstance(value, timedelta):
        return _clock(value)
    if isinstance(value, bytes | bytearray | memoryview):
        return base64.b64encode(bytes(value)).decode()
    return str(value)


def _clock(value: timedelta) -> str:
    """A time as MySQL writes it, whose times reach from -838 hours to 838: ``-100:00:01``, ``10:11:12.345000``."""
    seconds, fraction = divmod(abs(value) // timedelta(microseconds=1), 1_000_000)
    hours, minutes = seconds // 3600, seconds // 60 % 60
    text = f"{'-' if value < timedelta() else ''}{hours:02}:{minutes:02}:{seconds % 60:02}"
    return f"{text}.{fraction:06}" if fraction else text
