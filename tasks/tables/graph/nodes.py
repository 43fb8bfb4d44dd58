"""Nodes: the rows of an entity's table, each key once."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

from tasks.tables.graph.tables import Batches, as_text
from tasks.tables.spec.graphs import Entity, Link


@dataclass
class Nodes:
    """The nodes of an entity, and what its rows say of others.

    Attributes:
        batches: the rows of its table.
        labels: for each key its label; where a row has none, its key.
        terms: for each key its label, empty where a row has none.
        foreign: for each column that links, how often each pair of a key and a value stands there.
        repeated: rows whose key an earlier one has: that one counts.
        nameless: rows without a key.
    """

    entity: str
    spec: Entity
    batches: Batches
    labels: dict[str, str] = field(default_factory=dict)
    terms: dict[str, str] = field(default_factory=dict)
    foreign: dict[str, Counter[tuple[str, str]]] = field(default_factory=dict)
    repeated: int = 0
    nameless: int = 0

    def read(self, links: Sequence[Link]) -> None:
        """Read keys, labels and foreign keys."""
        self.foreign = {link.by: Counter() for link in links}
        label = self.spec.label or self.spec.key
        for key, row in self._rows([label, *self.foreign], count=True):
            told = as_text(row[0])
            self.labels[key], self.terms[key] = told or key, told or ""
            for column, value in zip(self.foreign, row[1:], strict=True):
                if (text := as_text(value)) is not None:
                    self.foreign[column][key, text] += 1

    def texts(self, columns: Sequence[str]) -> Iterator[tuple[str, list[str | None]]]:
        """For each node its key and the texts of these columns."""
        for key, row in self._rows(columns):
            yield key, [as_text(value) for value in row]

    def _rows(self, columns: Sequence[str], *, count: bool = False) -> Iterator[tuple[str, list[object]]]:
        """The first row of each key."""
        seen: set[str] = set()
        for batch in self.batches():
            for value, *row in zip(batch[self.spec.key], *(batch[column] for column in columns), strict=True):
                key = as_text(value)
                if key is None or key in seen:
                    if count:
                        self.nameless += key is None
                        self.repeated += key is not None
                    continue
                seen.add(key)
                yield key, row

    def problems(self) -> Iterator[str]:
        """What its rows have that no node shows."""
        place = f"entities.{self.entity}: {self.spec.table}"
        if self.nameless:
            yield f"{place}: {_rows(self.nameless)} without a {self.spec.key}: no node"
        if self.repeated:
            yield f"{place}: {_rows(self.repeated)} with a {self.spec.key} that an earlier one has: that one counts"


def _rows(number: int) -> str:
    return "1 row" if number == 1 else f"{number} rows"
