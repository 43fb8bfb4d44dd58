"""Flat rows of nested objects: names are joined by two underscores as dlt does, lists stay JSON."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import simplejson

SEPARATOR = "__"


class AmbiguousNameError(ValueError):
    """Two values of one object get the same name."""


def flat(record: Mapping[str, Any]) -> dict[str, Any]:
    """Return the values of an object by their names; an object in it gives its values, and none of its own.

    Raises:
        AmbiguousNameError: as for ``{"a": {"b": 1}, "a__b": 2}``.
        RecursionError: nested too deep.
    """
    for value in record.values():
        if isinstance(value, dict | list):
            break
    else:
        return dict(record)
    row: dict[str, Any] = {}
    _flatten(record, "", row)
    return row


def _flatten(record: Mapping[str, Any], prefix: str, row: dict[str, Any]) -> None:
    for name, value in record.items():
        column = prefix + name
        if isinstance(value, dict):
            _flatten(value, column + SEPARATOR, row)
            continue
        if column in row:
            raise AmbiguousNameError(column)
        row[column] = as_json(value) if isinstance(value, list) else value


def as_json(value: Any) -> str:  # noqa: ANN401 - whatever JSON can say
    """Return a value as JSON, without blanks; decimals are numbers with all their digits."""
    return str(
        simplejson.dumps(
            value, ensure_ascii=False, separators=(",", ":"), default=str, use_decimal=True, allow_nan=True
        )
    )
