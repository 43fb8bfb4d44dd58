"""Names of columns and groups, as dlt's naming convention makes them."""

from __future__ import annotations

import re
from collections.abc import Sequence
from functools import lru_cache
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from dlt.common.normalizers.naming.snake_case import NamingConvention

#: PostgreSQL's bound; dlt cuts a longer name and puts a hash into it.
LONGEST = 63
_SIGN = re.compile("[A-Za-z0-9]")
_TABLE = re.compile(r"[a-z][a-z0-9_]{0,62}")


@lru_cache(maxsize=100_000)
def snake_case(name: str) -> str:
    """Return a name in dlt's snake case: ``Post Created`` is ``post_created``. Empty, where nothing is left of it."""
    try:
        return str(_convention().normalize_path(name))
    except ValueError:
        return ""


def column_named(columns: Sequence[str], wanted: str) -> str | None:
    """Return the column of this very name, or else the one that gets it at the load."""
    if wanted in columns:
        return wanted
    return next((column for column in columns if snake_case(column) == snake_case(wanted)), None)


def group_of(value: str) -> str | None:
    """Return the name of the table for a value that rows are split by; None: it makes none."""
    if not _SIGN.search(value):
        return None  # dlt would call it x
    name = snake_case(value)
    return name if _TABLE.fullmatch(name) else None


@lru_cache(maxsize=1)
def _convention() -> NamingConvention:
    from dlt.common.normalizers.naming.snake_case import NamingConvention  # noqa: PLC0415 - takes a second

    return NamingConvention(LONGEST)
