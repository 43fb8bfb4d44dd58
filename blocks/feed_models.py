"""Tables that SQL models make of loaded ones: what is asked for, what is made, and which tests failed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from lookbook.blocks.errors import LookbookError

Value = str | int | float | bool

#: So many values of a failed test are named.
MOST_EXAMPLES = 3


@dataclass(frozen=True)
class Reference:
    """Each value of `column` stands in the column `field` of the table `to`: a model, or feeds.name, warehouse.name."""

    column: str
    to: str
    field: str


@dataclass(frozen=True)
class FeedModel:
    """A table that is to be made by one SELECT, and what must hold of it.

    Attributes:
        sql: in DuckDB's dialect; it names loaded tables as feeds.name, those of datasets as warehouse.name, and models
            of the same build by their bare names.
        key: columns that name one of its rows.
        surrogate_key: a column that is put first: a number made of the key.
        partition_by: a column with dates, for a warehouse that partitions.
        unique: columns, or several together, whose values are there once each; null is none.
        not_null: columns without missing values.
        accepted_values: for columns, the values that they may have; null is none.
        references: foreign keys; null is none.
    """

    name: str
    sql: str
    key: tuple[str, ...]
    surrogate_key: str | None = None
    partition_by: str | None = None
    unique: tuple[tuple[str, ...], ...] = ()
    not_null: tuple[str, ...] = ()
    accepted_values: Mapping[str, tuple[Value, ...]] = field(default_factory=dict)
    references: tuple[Reference, ...] = ()


@dataclass(frozen=True)
class BuiltModel:
    """A table that was made: its columns with their types in DuckDB's words, and its rows."""

    name: str
    columns: Mapping[str, str]
    rows: int


@dataclass(frozen=True)
class FailedTest:
    """A test that does not hold.

    Attributes:
        test: what was tested, such as ``unique(zone_id)``.
        rows: that break the rule.
        examples: at most three values that do, those of most rows first.
        sql: a SELECT that names them all, over the loaded tables: the new table itself is gone.
    """

    model: str
    test: str
    rows: int
    examples: tuple[str, ...]
    sql: str

    def __str__(self) -> str:
        rows = "1 row" if self.rows == 1 else f"{self.rows} rows"
        return f"{self.model}: {self.test} fails for {rows}, such as {'; '.join(self.examples)}. See them: {self.sql}"


class ModelTestsFailedError(LookbookError):
    """Models were built but break their tests: the tables as they stood before still stand."""

    failures: tuple[FailedTest, ...] = ()

    @classmethod
    def of(cls, failures: Sequence[FailedTest]) -> ModelTestsFailedError:
        """Return the error of tests that fail."""
        error = cls(
            "\n".join(map(str, failures)),
            "The tables still stand as they were. Mend the rows, the SELECT or the test; then run again.",
        )
        error.failures = tuple(failures)
        return error


def check_columns(model: FeedModel, columns: Mapping[str, str]) -> None:
    """See that a model gives every column that its keys and tests name.

    Raises:
        LookbookError: one is missing, or the surrogate key's name is taken.
    """
    present = {name.lower() for name in columns}
    if model.surrogate_key is not None and model.surrogate_key.lower() in present:
        raise LookbookError(
            f"models.{model.name}: its SELECT gives a column {model.surrogate_key}, which is to be its surrogate key.",
            "Give the surrogate key a name of its own.",
        )
    present |= {model.surrogate_key.lower()} if model.surrogate_key else set()
    for place, name in _named(model):
        if name.lower() not in present:
            raise LookbookError(
                f"models.{model.name}: {place} names {name}, but its SELECT gives {', '.join(columns)}.",
                "Name one of these, or select the column.",
            )


def _named(model: FeedModel) -> list[tuple[str, str]]:
    """Return each column that the spec of a model names, with the place where it does."""
    named = [("key", name) for name in model.key]
    named += [("partition_by", model.partition_by)] if model.partition_by else []
    named += [("tests.unique", name) for names in model.unique for name in names]
    named += [("tests.not_null", name) for name in model.not_null]
    named += [("tests.accepted_values", name) for name in model.accepted_values]
    return named + [("tests.relationships", reference.column) for reference in model.references]
