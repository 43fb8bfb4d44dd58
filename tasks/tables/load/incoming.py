"""The rows that a load is given: their columns, and what can be learned of their values in one look."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from itertools import islice
from typing import TYPE_CHECKING

from tasks.tables.engine import quoted
from tasks.tables.load.column_types import INFERRED, TEXT, as_canonical, canonical, fitted
from tasks.tables.staging import INPUT, LINE

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
        raw: its name in the rows.
        name: its name in the table.
        type: its canonical type.
        value: SQL for its value, of that type.
    """

    raw: str
    name: str
    type: str
    value: str


def incoming_columns(connection: DuckDBPyConnection, names: Mapping[str, str]) -> list[Incoming]:
    """The columns of the view `ROWS` that have a name in the table."""
    described = connection.execute(f"DESCRIBE {ROWS}").fetchall()
    return [
        Incoming(raw, names[raw], canonical(found), as_canonical(quoted(raw), found))
        for raw, found, *_ in described
        if raw in names
    ]


def raw_names(connection: DuckDBPyConnection) -> list[str]:
    """The names of the rows' own columns."""
    described = connection.execute(f"DESCRIBE {ROWS}").fetchall()
    return [name for name, *_ in described if name not in (INPUT, LINE)]


def count(connection: DuckDBPyConnection, conditions: Iterable[str], source: str = ROWS) -> list[int]:
    """For each condition, how many rows meet it: `CONDITIONS` of them are counted in one look at the rows."""
    waiting, numbers = iter(conditions), []
    while some := list(islice(waiting, CONDITIONS)):
        counts = ", ".join(f"count(*) FILTER (WHERE {condition})" for condition in some)
        found = connection.execute(f"SELECT {counts} FROM {source}").fetchone()  # noqa: S608 - names are quoted
        numbers += [int(number) for number in found or ()]
    return numbers


def filled(connection: DuckDBPyConnection, columns: Iterable[Incoming]) -> dict[str, int]:
    """How many values each of some columns has that are not null."""
    asked = list(columns)
    found = count(connection, [f"{quoted(column.raw)} IS NOT NULL" for column in asked])
    return {column.name: number for column, number in zip(asked, found, strict=True)}


def inferred_types(connection: DuckDBPyConnection, columns: Iterable[Incoming]) -> dict[str, str]:
    """The type of each of some columns; of text, what all its values are: a number, a truth value, a date, a time."""
    asked = list(columns)
    texts = [column for column in asked if column.type == TEXT]
    connection.execute(f"CREATE TEMP TABLE {SAMPLED} AS FROM {ROWS} LIMIT {SAMPLE}")
    sure = _possible(connection, dict.fromkeys(texts, INFERRED), SAMPLED)
    if count(connection, ["true"], SAMPLED) == [SAMPLE]:
        sure = _possible(connection, sure, ROWS)
    connection.execute(f"DROP TABLE {SAMPLED}")
    types = {column.name: column.type for column in asked}
    return types | {column.name: kinds[0] for column, kinds in sure.items() if kinds}


def _possible(
    connection: DuckDBPyConnection, kinds: Mapping[Incoming, tuple[str, ...]], source: str
) -> dict[Incoming, tuple[str, ...]]:
    """Of the types that columns may have, those that no value contradicts."""
    pairs = [(column, kind) for column, possible in kinds.items() for kind in possible]
    against = [
        f"{quoted(column.raw)} IS NOT NULL AND {fitted(quoted(column.raw), TEXT, kind, strict=True)} IS NULL"
        for column, kind in pairs
    ]
    left: dict[Incoming, tuple[str, ...]] = dict.fromkeys(kinds, ())
    for (column, kind), number in zip(pairs, count(connection, against, source), strict=True):
        if not number:
            left[column] += (kind,)
    return left
