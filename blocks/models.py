"""Tables that SQL models make of loaded ones: what is asked for and made, their surrogate keys, their tests."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from lookbook.blocks.errors import LookbookError
from lookbook.blocks.sql_text import literal, quoted

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


# Each gives the values that break a rule, with two columns: ``example``, a text, and ``row_count``.

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


def _text(column: str) -> str:
    return f"CAST(m.{quoted(column)} AS VARCHAR)"


def _shown(names: Iterator[str] | tuple[str, ...] | list[str]) -> str:
    return " || ', ' || ".join(f"COALESCE({_text(name)}, 'NULL')" for name in names)


def _duplicates(model: str, names: tuple[str, ...]) -> str:
    there = " AND ".join(f"m.{quoted(name)} IS NOT NULL" for name in names)
    return (
        f"SELECT {_shown(names)} AS example, COUNT(*) AS row_count FROM {quoted(model)} AS m"  # noqa: S608 - quoted
        f" WHERE {there} GROUP BY {', '.join(f'm.{quoted(name)}' for name in names)} HAVING COUNT(*) > 1"
    )


def _nulls(model: FeedModel, column: str, columns: Mapping[str, str]) -> str:
    """Return rows without a value, told by the rest of their key, else by their first columns."""
    others = [name for name in model.key if name.lower() != column.lower()]
    others = others or [
        name for name in columns if name.lower() not in {column.lower(), (model.surrogate_key or "").lower()}
    ]
    told = [f"{literal(name + '=')} || COALESCE({_text(name)}, 'NULL')" for name in others[:_TOLD_COLUMNS]]
    example = " || ', ' || ".join(told) or "'NULL'"
    return (
        f"SELECT {example} AS example, COUNT(*) AS row_count FROM {quoted(model.name)} AS m"  # noqa: S608 - quoted
        f" WHERE m.{quoted(column)} IS NULL GROUP BY 1"
    )


def _collisions(model: FeedModel, surrogate: str) -> str:
    key = _shown(model.key)
    return (
        f"SELECT MIN({key}) || ' and ' || MAX({key}) AS example, COUNT(*) AS row_count"  # noqa: S608 - quoted
        f" FROM {quoted(model.name)} AS m WHERE m.{quoted(surrogate)} IS NOT NULL"
        f" GROUP BY m.{quoted(surrogate)} HAVING COUNT(DISTINCT {key}) > 1"
    )


def _unknown_values(model: str, column: str, values: tuple[Value, ...]) -> str:
    """Texts are compared with the value as text, numbers as numbers: 1 is 1.0, whatever the column's type."""
    texts = [str(value).lower() if isinstance(value, bool) else value for value in values if not _is_number(value)]
    numbers = [repr(float(value)) for value in values if _is_number(value)]
    accepted = []
    if texts:
        accepted.append(f"{_text(column)} IN ({', '.join(literal(str(text)) for text in texts)})")
    if numbers:
        accepted.append(f"COALESCE(TRY_CAST({_text(column)} AS DOUBLE) IN ({', '.join(numbers)}), FALSE)")
    known = " OR ".join(accepted) or "FALSE"
    return (
        f"SELECT {_text(column)} AS example, COUNT(*) AS row_count FROM {quoted(model)} AS m"  # noqa: S608 - quoted
        f" WHERE m.{quoted(column)} IS NOT NULL AND NOT ({known}) GROUP BY 1"
    )


def _is_number(value: Value) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _dangling(model: str, reference: Reference) -> str:
    to = ".".join(quoted(part) for part in reference.to.split("."))
    field = quoted(reference.field)
    return (
        f"SELECT {_text(reference.column)} AS example, COUNT(*) AS row_count FROM {quoted(model)} AS m"  # noqa: S608
        f" LEFT JOIN (SELECT DISTINCT {field} AS field FROM {to}) AS t ON m.{quoted(reference.column)} = t.field"
        f" WHERE m.{quoted(reference.column)} IS NOT NULL AND t.field IS NULL GROUP BY 1"
    )


# It is the first 60 bits of the MD5 of the values as texts, each with its length before it: ``2:QX5:Bronx``. The texts
# are made so that DuckDB and BigQuery write them alike, and that a whole number is the same whatever its type. Of ten
# million keys two have one number with a chance of 1 to 20,000; a build in which that happens fails.

#: Hexadecimal digits of the hash that count: with 16, BigQuery's INT64 would overflow.
DIGITS = 15
#: Whole numbers below this are written without a point.
_WHOLE = "1e15"

_DUCKDB: dict[str, str] = {
    "VARCHAR|UUID|BOOLEAN|DATE|U?(TINY|SMALL|BIG|HUGE)INT|U?INTEGER|ENUM.*": "CAST({0} AS VARCHAR)",
    r"DECIMAL\(\d+,\s*0\)": "CAST({0} AS VARCHAR)",
    r"DECIMAL\(.*\)": "rtrim(rtrim(CAST({0} AS VARCHAR), '0'), '.')",
    "DOUBLE|FLOAT": "CASE WHEN {0} = trunc({0}) AND abs({0}) < " + _WHOLE + " THEN CAST(CAST({0} AS BIGINT) AS VARCHAR)"
    " ELSE CAST({0} AS VARCHAR) END",
    "TIMESTAMP.*|TIME": "CAST(epoch_us({0}) AS VARCHAR)",
    "BLOB": "lower(hex({0}))",
}
_BIGQUERY: dict[str, str] = {
    "STRING|INT64|BOOL|DATE": "CAST({0} AS STRING)",
    "NUMERIC|BIGNUMERIC": "CASE WHEN STRPOS(CAST({0} AS STRING), '.') > 0"
    " THEN RTRIM(RTRIM(CAST({0} AS STRING), '0'), '.') ELSE CAST({0} AS STRING) END",
    "FLOAT64": "CASE WHEN {0} = TRUNC({0}) AND ABS({0}) < " + _WHOLE + " THEN CAST(CAST({0} AS INT64) AS STRING)"
    " ELSE CAST({0} AS STRING) END",
    "TIMESTAMP": "CAST(UNIX_MICROS({0}) AS STRING)",
    "DATETIME": "CAST(UNIX_MICROS(TIMESTAMP({0})) AS STRING)",
    "TIME": "CAST(TIME_DIFF({0}, TIME '00:00:00', MICROSECOND) AS STRING)",
    "BYTES": "TO_HEX({0})",
}


def duckdb_expression(key: Sequence[str], columns: Mapping[str, str], quoted: Callable[[str], str]) -> str:
    """Return the surrogate key in DuckDB's SQL; null where a part of the key is.

    Raises:
        LookbookError: a column of the key has a type that no key is made of.
    """
    parts = [f"CAST(length({text}) AS VARCHAR) || ':' || {text}" for text in _texts(key, columns, quoted, _DUCKDB)]
    return f"CAST('0x' || substr(md5({' || '.join(parts)}), 1, {DIGITS}) AS BIGINT)"


def bigquery_expression(key: Sequence[str], columns: Mapping[str, str], quoted: Callable[[str], str]) -> str:
    """Return the same in BigQuery's SQL, for columns with its types."""
    parts = [f"CAST(LENGTH({text}) AS STRING) || ':' || {text}" for text in _texts(key, columns, quoted, _BIGQUERY)]
    return f"CAST('0x' || SUBSTR(TO_HEX(MD5({' || '.join(parts)})), 1, {DIGITS}) AS INT64)"


def _texts(
    key: Sequence[str], columns: Mapping[str, str], quoted: Callable[[str], str], words: Mapping[str, str]
) -> list[str]:
    kinds = {name.lower(): type_ for name, type_ in columns.items()}
    texts = []
    for name in key:
        type_ = kinds[name.lower()]
        text = next((text for kind, text in words.items() if re.fullmatch(kind, type_)), None)
        if text is None:
            raise LookbookError(
                f"A surrogate key cannot be made of {name}, which is {type_}.",
                "Cast it to text in the model's SELECT, or name other columns as its key.",
            )
        texts.append(text.format(quoted(name)))
    return texts
