"""The rows that a load is given: their columns, and what can be learned of their values in one look."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from itertools import islice
from typing import TYPE_CHECKING

from lookbook.tasks.tables.engine import quoted
from lookbook.tasks.tables.load.column_types import (
    FLOAT,
    INFERRED,
    TEXT,
    as_canonical,
    canonical,
    fitted,
    is_fraction,
    padded,
    scale,
)

if TYPE_CHECKING:
    from duckdb import DuckDBPyConnection

#: The view over the staged files.
ROWS = "rows"
#: So many rows tell first which types a column can not have; they stand in a table.
SAMPLE, SAMPLED = 2000, "sampled"
#: Conditions that one statement counts: the engine plans them in time that grows with their square, deaf to signals.
CONDITIONS = 100


@dataclass(frozen=True)
class Incoming:
    """A column of the rows.

    Attributes:
        raw: its name in the view of the rows.
        name: its name in the table.
        type: its canonical type.
        value: SQL for its value, of that type.
        decimal: the decimal sign of the delimited files in which its texts stood: these have no types, and the values
            tell it; empty: its source has types.
    """

    raw: str
    name: str
    type: str
    value: str
    decimal: str = ""

    def text_for(self, kind: str) -> str:
        """SQL for its text as it is read for a type: of a number with a decimal comma, with a point."""
        if self.decimal != "," or not is_fraction(kind):
            return self.value
        return f"CASE WHEN NOT contains({self.value}, '.') THEN replace({self.value}, ',', '.') END"


def incoming_columns(
    connection: DuckDBPyConnection, names: Mapping[str, str], delimited: Mapping[str, str]
) -> list[Incoming]:
    """Return the columns of the view `ROWS` that have a name in the table.

    Args:
        connection: with the view.
        names: for columns of the view, their names in the table.
        delimited: columns of the view whose texts stood in delimited files, with their decimal sign.
    """
    described = connection.execute(f"DESCRIBE {ROWS}").fetchall()
    return [
        Incoming(raw, names[raw], canonical(found), as_canonical(quoted(raw), found), delimited.get(raw, ""))
        for raw, found, *_ in described
        if raw in names
    ]


def count(connection: DuckDBPyConnection, conditions: Iterable[str], source: str = ROWS) -> list[int]:
    """Return for each condition, how many rows meet it: `CONDITIONS` of them are counted in one look at the rows."""
    waiting, numbers = iter(conditions), []
    while some := list(islice(waiting, CONDITIONS)):
        counts = ", ".join(f"count(*) FILTER (WHERE {condition})" for condition in some)
        found = connection.execute(f"SELECT {counts} FROM {source}").fetchone()  # noqa: S608 - names are quoted
        numbers += [int(number) for number in found or ()]
    return numbers


def filled(connection: DuckDBPyConnection, columns: Iterable[Incoming]) -> dict[str, int]:
    """Return how many values each of some columns has that are not null."""
    asked = list(columns)
    found = count(connection, [f"{quoted(column.raw)} IS NOT NULL" for column in asked])
    return {column.name: number for column, number in zip(asked, found, strict=True)}


def inferred_types(
    connection: DuckDBPyConnection, columns: Iterable[Incoming], keys: Collection[str] = ()
) -> dict[str, str]:
    """Return the type of each of some columns; of delimited text, the one that all its values have.

    Args:
        connection: with the rows.
        columns: of the rows.
        keys: columns, as the table names them, that name a row: no double, since several texts are one double.
    """
    asked = list(columns)
    texts = [column for column in asked if column.type == TEXT and column.decimal]
    connection.execute(f"CREATE TEMP TABLE {SAMPLED} AS FROM {ROWS} LIMIT {SAMPLE}")
    sure = _possible(connection, dict.fromkeys(texts, INFERRED), SAMPLED)
    if count(connection, ["true"], SAMPLED) == [SAMPLE]:
        sure = _possible(connection, sure, ROWS)
    connection.execute(f"DROP TABLE {SAMPLED}")
    found = {column: kinds[0] for column, kinds in sure.items() if kinds}
    doubles = [column for column, kind in found.items() if kind == FLOAT]
    no_doubles = {*_padded(connection, doubles), *(column for column in doubles if column.name in keys)}
    types = {column.name: column.type for column in asked}
    return types | {column.name: kind for column, kind in found.items() if column not in no_doubles}


def _padded(connection: DuckDBPyConnection, columns: list[Incoming]) -> list[Incoming]:
    """Find the columns with texts such as 1.10 beside 1.1: two of them would be one double.

    Where all have as many digits behind the point, as prices do, they are one number each.
    """
    waiting, padded_ones = iter(columns), list[Incoming]()
    while some := list(islice(waiting, CONDITIONS)):
        texts = [column.text_for(FLOAT) for column in some]
        tests = ", ".join(f"bool_or({padded(text)}) AND count(DISTINCT {scale(text)}) > 1" for text in texts)
        found = connection.execute(f"SELECT {tests} FROM {ROWS}").fetchone() or ()  # noqa: S608 - names are quoted
        padded_ones += [column for column, several in zip(some, found, strict=True) if several]
    return padded_ones


def _possible(
    connection: DuckDBPyConnection, kinds: Mapping[Incoming, tuple[str, ...]], source: str
) -> dict[Incoming, tuple[str, ...]]:
    """Of the types that columns may have, those that no value contradicts."""
    pairs = [(column, kind) for column, possible in kinds.items() for kind in possible]
    against = [
        f"{quoted(column.raw)} IS NOT NULL AND {fitted(column.text_for(kind), TEXT, kind, strict=True)} IS NULL"
        for column, kind in pairs
    ]
    left: dict[Incoming, tuple[str, ...]] = dict.fromkeys(kinds, ())
    for (column, kind), number in zip(pairs, count(connection, against, source), strict=True):
        if not number:
            left[column] += (kind,)
    return left
