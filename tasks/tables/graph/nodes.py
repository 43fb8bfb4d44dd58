"""Nodes: the rows of an entity's table, each key once."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from lookbook.tasks.tables.graph.left_out import LeftOut
from lookbook.tasks.tables.graph.tables import Batches, as_text
from lookbook.tasks.tables.spec.graphs import Entity, Link
from lookbook.tasks.tables.staging import INPUT, LINE


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

    def read(self, links: Sequence[Link], left_out: LeftOut) -> None:
        """Read keys, labels and foreign keys; rows that no node shows are put among those that are `left_out`.

        One with a repeated key that says the same as the first is shown by its node.
        """
        self.foreign = {link.by: Counter() for link in links}
        label = self.spec.label or self.spec.key
        said: dict[str, int] = {}
        for key, row in self._rows():
            own = hash(tuple(as_text(value) for name, value in row.items() if name not in (INPUT, LINE)))
            if key is None:
                self.nameless += 1
                why = f"{self.entity}: no {self.spec.key}, and a node needs one"
                left_out.add(self.spec.table, "no_key", why, row)
            elif key not in said:
                said[key] = own
                self._take(key, row, label)
            else:
                self.repeated += 1
                if said[key] != own:
                    why = f"{self.entity}: an earlier row has the {self.spec.key} {key}, and that one counts"
                    left_out.add(self.spec.table, "repeated_key", why, row)

    def _take(self, key: str, row: Mapping[str, object], label: str) -> None:
        told = as_text(row[label])
        self.labels[key], self.terms[key] = told or key, told or ""
        for column, counts in self.foreign.items():
            if (text := as_text(row[column])) is not None:
                counts[key, text] += 1

    def texts(self, columns: Sequence[str]) -> Iterator[tuple[str, list[str | None]]]:
        """Yield for each node its key and the texts of these columns."""
        seen: set[str] = set()
        for key, row in self._rows():
            if key is not None and key not in seen:
                seen.add(key)
                yield key, [as_text(row[column]) for column in columns]

    def _rows(self) -> Iterator[tuple[str | None, dict[str, object]]]:
        """Yield each row with its key, if it has one."""
        for batch in self.batches():
            for values in zip(*batch.values(), strict=True):
                row = dict(zip(batch, values, strict=True))
                yield as_text(row[self.spec.key]), row

    def problems(self) -> Iterator[str]:
        """Yield what its rows have that no node shows."""
        place = f"entities.{self.entity}: {self.spec.table}"
        if self.nameless:
            yield f"{place}: {_rows(self.nameless)} without a {self.spec.key}: no node"
        if self.repeated:
            yield f"{place}: {_rows(self.repeated)} with a {self.spec.key} that an earlier one has: that one counts"


def _rows(number: int) -> str:
    return "1 row" if number == 1 else f"{number} rows"
