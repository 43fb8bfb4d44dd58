"""Numbers of several runs, their ratios, and what was aimed at: pure functions."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from dataclasses import dataclass, field


@dataclass
class Series:
    """The measurements of one thing, one number a run."""

    values: dict[str, list[float]] = field(default_factory=dict)

    def add(self, measured: dict[str, float]) -> None:
        """Take up the numbers of one run."""
        for name, value in measured.items():
            self.values.setdefault(name, []).append(value)

    def median(self, name: str) -> float:
        """The median of one number."""
        return statistics.median(self.values[name])

    def cell(self, name: str, digits: int = 1) -> str:
        """Median, minimum and maximum, as a table's cell."""
        return spread(self.values[name], digits)

    def ratios(self, name: str, other: Series) -> list[float]:
        """This by the other, run by run, as far as both have runs: those of one round stand together."""
        return [mine / theirs for mine, theirs in zip(self.values[name], other.values[name], strict=False)]


@dataclass(frozen=True)
class Aim:
    """What was aimed at.

    Attributes:
        text: what is compared.
        values: what was measured, one number a run; empty where it could not be.
        limit: the number to reach, by the median.
        at_least: whether more is better.
        digits: of the figures in the table.
    """

    text: str
    values: Sequence[float]
    limit: float
    at_least: bool = False
    digits: int = 2

    @property
    def met(self) -> bool:
        """Whether the median reaches the limit."""
        median = statistics.median(self.values)
        return median >= self.limit if self.at_least else median <= self.limit

    def row(self) -> str:
        """The aim as a row of `aims_table`."""
        wanted = f"{'at least' if self.at_least else 'at most'} {self.limit:g}"
        if not self.values:
            return f"| {self.text} | {wanted} | not measured | |"
        return f"| {self.text} | {wanted} | {spread(self.values, self.digits)} | {'met' if self.met else 'short'} |"


def spread(values: Sequence[float], digits: int) -> str:
    """Median (minimum–maximum); one number alone where there was one run."""
    median = f"{statistics.median(values):.{digits}f}"
    return median if len(values) == 1 else f"{median} ({min(values):.{digits}f}–{max(values):.{digits}f})"


def aims_table(aims: Sequence[Aim]) -> str:
    """A Markdown table of aims, with what was measured."""
    return "\n".join(["| what | aim | measured | |", "|---|---|---|---|", *(aim.row() for aim in aims), ""])
