"""The names of columns in a table: snake_case, by dlt's convention."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from functools import lru_cache
from typing import TYPE_CHECKING, Any

from lookbook.blocks.errors import LookbookError
from lookbook.tasks.tables.engine import told_apart
from lookbook.tasks.tables.spec.loading import LoadSettings

if TYPE_CHECKING:
    from dlt.common.normalizers.naming.snake_case import NamingConvention

#: PostgreSQL's bound; dlt cuts a longer name and puts a hash into it.
LONGEST = 63


def snake_case(name: str) -> str:
    """Return a column's name in a table: productDisplayName becomes product_display_name; ``__`` stays between levels.

    Raises:
        LookbookError: it has no letter, digit or sign of which a name could be made.
    """
    try:
        return str(_convention().normalize_path(name))
    except ValueError as error:
        raise LookbookError(f"A column is called {name!r}, of which no name can be made.", _RENAME) from error


def column_names(columns: Collection[str], taken: Iterable[str] = ()) -> dict[str, str]:
    """Return for each column of the rows, its name in the table.

    Args:
        columns: as the rows have them.
        taken: names that the table has for other ends.

    Raises:
        LookbookError: two columns would get one name, or one gets a name that is taken.
    """
    names: dict[str, str] = {}
    owners = dict.fromkeys(taken, "")
    for column in columns:
        name = snake_case(column)
        owner = owners.get(name)
        if owner is not None:
            other = f"as {owner!r} does" if owner else "which every row carries for its load"
            seen = told_apart(columns)
            shown = [each for each in (owner, column) if seen.get(each, each) != each]
            numbered = f"; there they are {' and '.join(map(seen.__getitem__, shown))}" if shown else ""
            raise LookbookError(
                f"The column {column!r} would get the name {name}, {other}.", f"{_RENAME[:-1]}{numbered}."
            )
        owners[name] = column
        names[column] = name
    return names


def named(settings: LoadSettings) -> LoadSettings:
    """Return the settings with the columns that they name as the table names them."""
    update: dict[str, Any] = {
        "primary_key": tuple(map(snake_case, settings.primary_key)),
        "partition_by": tuple(map(snake_case, settings.partition_by)),
        "dedup_sort": _keys(settings.dedup_sort),
        "fields": _keys(settings.fields),
        "hard_delete": snake_case(settings.hard_delete) if settings.hard_delete else None,
    }
    return settings.model_copy(update=update)


def _keys(values: Mapping[str, Any]) -> dict[str, Any]:
    names = column_names(values)
    return {names[name]: value for name, value in values.items()}


@lru_cache(maxsize=1)
def _convention() -> NamingConvention:
    from dlt.common.normalizers.naming.snake_case import NamingConvention  # noqa: PLC0415 - late: dlt takes its time

    return NamingConvention(LONGEST)


_RENAME = "Give it another name in a sql task between extract and load."
