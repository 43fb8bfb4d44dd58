"""The tests of a model as SELECTs in DuckDB's dialect, over the models' bare names.

Each gives the values that break a rule, with two columns: ``example``, a text, and ``row_count``.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from lookbook.blocks.feed_models import MOST_EXAMPLES, FeedModel, Reference, Value

#: Of a row without a value, so many other columns are told.
_TOLD_COLUMNS = 3


@dataclass(frozen=True)
class ModelTest:
    """A rule, and the SELECT of what breaks it."""

    name: str
    failing: str


def tests_of(model: FeedModel, columns: Mapping[str, str]) -> list[ModelTest]:
    """Return what must hold of a model: its key first, then its surrogate key, then the tests that it names.

    Args:
        model: the model.
        columns: of its table, surrogate key included.
    """
    unique = dict.fromkeys([model.key, *model.unique])
    not_null = dict.fromkeys([*model.key, *model.not_null])
    tests = [ModelTest(f"unique({', '.join(names)})", _duplicates(model.name, names)) for names in unique]
    tests += [ModelTest(f"not_null({name})", _nulls(model, name, columns)) for name in not_null]
    if model.surrogate_key is not None:
        collisions = _collisions(model, model.surrogate_key)
        tests.append(ModelTest(f"surrogate_key({model.surrogate_key})", collisions))
    for column, values in model.accepted_values.items():
        tests.append(ModelTest(f"accepted_values({column})", _unknown_values(model.name, column, values)))
    for one in model.references:
        tests.append(ModelTest(f"relationships({one.column} → {one.to}.{one.field})", _dangling(model.name, one)))
    return tests


def worst(failing: str) -> str:
    """Return the first few examples of what breaks a rule, each with the number of all rows that do."""
    return (
        f"SELECT example, row_count, SUM(row_count) OVER () AS total FROM ({failing}) AS failing"  # noqa: S608 - quoted
        f" ORDER BY row_count DESC, example LIMIT {MOST_EXAMPLES}"
    )


def _quoted(name: str) -> str:
    return '"' + name.replace('"', '""') + '"'


def _literal(text: str) -> str:
    return "'" + text.replace("'", "''") + "'"


def _text(column: str) -> str:
    return f"CAST(m.{_quoted(column)} AS VARCHAR)"


def _shown(names: Iterator[str] | tuple[str, ...] | list[str]) -> str:
    return " || ', ' || ".join(f"COALESCE({_text(name)}, 'NULL')" for name in names)


def _duplicates(model: str, names: tuple[str, ...]) -> str:
    there = " AND ".join(f"m.{_quoted(name)} IS NOT NULL" for name in names)
    return (
        f"SELECT {_shown(names)} AS example, COUNT(*) AS row_count FROM {_quoted(model)} AS m"  # noqa: S608 - quoted
        f" WHERE {there} GROUP BY {', '.join(f'm.{_quoted(name)}' for name in names)} HAVING COUNT(*) > 1"
    )


def _nulls(model: FeedModel, column: str, columns: Mapping[str, str]) -> str:
    """Return rows without a value, told by the rest of their key, else by their first columns."""
    others = [name for name in model.key if name.lower() != column.lower()]
    others = others or [
        name for name in columns if name.lower() not in {column.lower(), (model.surrogate_key or "").lower()}
    ]
    told = [f"{_literal(name + '=')} || COALESCE({_text(name)}, 'NULL')" for name in others[:_TOLD_COLUMNS]]
    example = " || ', ' || ".join(told) or "'NULL'"
    return (
        f"SELECT {example} AS example, COUNT(*) AS row_count FROM {_quoted(model.name)} AS m"  # noqa: S608 - quoted
        f" WHERE m.{_quoted(column)} IS NULL GROUP BY 1"
    )


def _collisions(model: FeedModel, surrogate: str) -> str:
    key = _shown(model.key)
    return (
        f"SELECT MIN({key}) || ' and ' || MAX({key}) AS example, COUNT(*) AS row_count"  # noqa: S608 - quoted
        f" FROM {_quoted(model.name)} AS m WHERE m.{_quoted(surrogate)} IS NOT NULL"
        f" GROUP BY m.{_quoted(surrogate)} HAVING COUNT(DISTINCT {key}) > 1"
    )


def _unknown_values(model: str, column: str, values: tuple[Value, ...]) -> str:
    """Texts are compared with the value as text, numbers as numbers: 1 is 1.0, whatever the column's type."""
    texts = [str(value).lower() if isinstance(value, bool) else value for value in values if not _is_number(value)]
    numbers = [repr(float(value)) for value in values if _is_number(value)]
    accepted = []
    if texts:
        accepted.append(f"{_text(column)} IN ({', '.join(_literal(str(text)) for text in texts)})")
    if numbers:
        accepted.append(f"COALESCE(TRY_CAST({_text(column)} AS DOUBLE) IN ({', '.join(numbers)}), FALSE)")
    known = " OR ".join(accepted) or "FALSE"
    return (
        f"SELECT {_text(column)} AS example, COUNT(*) AS row_count FROM {_quoted(model)} AS m"  # noqa: S608 - quoted
        f" WHERE m.{_quoted(column)} IS NOT NULL AND NOT ({known}) GROUP BY 1"
    )


def _is_number(value: Value) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _dangling(model: str, reference: Reference) -> str:
    to = ".".join(_quoted(part) for part in reference.to.split("."))
    field = _quoted(reference.field)
    return (
        f"SELECT {_text(reference.column)} AS example, COUNT(*) AS row_count FROM {_quoted(model)} AS m"  # noqa: S608
        f" LEFT JOIN (SELECT DISTINCT {field} AS field FROM {to}) AS t ON m.{_quoted(reference.column)} = t.field"
        f" WHERE m.{_quoted(reference.column)} IS NOT NULL AND t.field IS NULL GROUP BY 1"
    )
