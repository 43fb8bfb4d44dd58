"""The two sets of tests: the fast one is run with each change, the full one holds what repeats its behaviours."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from typing import Any

import pytest


def sampled(values: Iterable[Any], fast: Collection[Any]) -> list[Any]:
    """Parameters of a test, of which only those in `fast` are tried in the fast set, all others in the full one."""
    values = list(values)
    assert all(value in values for value in fast), f"{fast} are not all among {values}"
    return [value if value in fast else _in_full(value) for value in values]


def _in_full(value: Any) -> Any:
    return pytest.param(*(value if isinstance(value, tuple) else (value,)), marks=pytest.mark.full)
