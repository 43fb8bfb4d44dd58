"""Models over loaded tables in DuckDB: all made and tested within one transaction."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from lookbook.blocks import sql_text
from lookbook.blocks.duckdb.staging import columns_of
from lookbook.blocks.errors import LookbookError
from lookbook.blocks.models import (
    BuiltModel,
    FailedTest,
    FeedModel,
    ModelTest,
    ModelTestsFailedError,
    check_columns,
    duckdb_expression,
    tests_of,
    worst,
)
from lookbook.blocks.sql_text import quoted

if TYPE_CHECKING:
    from duckdb import DuckDBPyConnection

_SCHEMA = "feeds"
_DATES = ("DATE", "TIMESTAMP")


def build_models(connection: DuckDBPyConnection, models: Sequence[FeedModel]) -> list[BuiltModel]:
    """Make the models within the connection's open transaction, each after those that it reads, and test them.

    Raises:
        ModelTestsFailedError: a test does not hold; the transaction is not to be committed.
        LookbookError: a SELECT fails, or lacks a column.
    """
    connection.execute("SET enable_external_access = false")  # a model reads tables, and no file of this machine
    connection.execute("SET TimeZone = 'UTC'")  # a time becomes the same date everywhere
    connection.execute(f"CREATE SCHEMA IF NOT EXISTS {_SCHEMA}")
    selects: dict[str, str] = {}
    built = [_make(connection, model, selects) for model in models]
    failures = []
    for model, made in zip(models, built, strict=True):
        for test in tests_of(model, made.columns):
            failures += _failures(connection, model, test, selects)
    if failures:
        raise ModelTestsFailedError.of(failures)
    return built


def reading(table: str, columns: Sequence[str]) -> str:
    """Return a SELECT of columns of a table, named with its schema, in an order that is the same each time."""
    names = ", ".join(map(quoted, columns))
    source = ".".join(map(quoted, table.split(".")))
    return f"SELECT {names} FROM {source} ORDER BY {', '.join(str(n) for n in range(1, len(columns) + 1))}"  # noqa: S608


def _make(connection: DuckDBPyConnection, model: FeedModel, selects: dict[str, str]) -> BuiltModel:
    """Make a table; `selects` gets its SELECT, over the bare names of models."""
    target = f"{_SCHEMA}.{quoted(model.name)}"
    try:
        columns = columns_of(connection, f"({_in_place(model.sql)})")
        check_columns(model, columns)
        _check_partition(model, columns)
        selects[model.name] = _with_surrogate(model, sql_text.placed(model.sql, _as_written), columns)
        select = _with_surrogate(model, _in_place(model.sql), columns)
        connection.execute(f"CREATE OR REPLACE TABLE {target} AS {select}")
        made = columns_of(connection, target)
        rows = connection.execute(f"SELECT count(*) FROM {target}").fetchall()[0][0]  # noqa: S608 - quoted
    except _duckdb_error() as error:
        raise _failed(model.name, error) from error
    return BuiltModel(model.name, made, rows)


def _failures(
    connection: DuckDBPyConnection, model: FeedModel, test: ModelTest, selects: Mapping[str, str]
) -> list[FailedTest]:
    """Return the test, if it fails."""
    try:
        found = connection.execute(_in_place(worst(test.failing))).fetchall()
    except _duckdb_error() as error:
        raise _failed(f"{model.name}: {test.name}", error) from error
    if not found:
        return []
    examples = tuple(example for example, _, _ in found)
    return [FailedTest(model.name, test.name, int(found[0][2]), examples, _to_see(test, selects))]


def _to_see(test: ModelTest, selects: Mapping[str, str]) -> str:
    """Return a SELECT of what breaks a test over the loaded tables, as readers may run it."""
    reads = {name: sql_text.names_read(select) for name, select in selects.items()}
    needed = sql_text.needed(sql_text.names_read(test.failing), reads)
    parts = [f"{quoted(name)} AS ({select})" for name, select in selects.items() if name in needed]
    return f"WITH {', '.join(parts)} {test.failing}"


def _with_surrogate(model: FeedModel, select: str, columns: Mapping[str, str]) -> str:
    if model.surrogate_key is None:
        return select
    number = duckdb_expression(model.key, columns, lambda name: f"m.{quoted(name)}")
    return f"SELECT {number} AS {quoted(model.surrogate_key)}, m.* FROM ({select}) AS m"  # noqa: S608 - quoted


def _check_partition(model: FeedModel, columns: Mapping[str, str]) -> None:
    """DuckDB partitions nothing; a model that BigQuery would refuse is refused here as well."""
    if model.partition_by is None:
        return
    type_ = {name.lower(): kind for name, kind in columns.items()}[model.partition_by.lower()]
    if not type_.startswith(_DATES):
        raise LookbookError(
            f"models.{model.name}: partition_by names {model.partition_by}, which is {type_}.",
            "A column of dates or times is asked for.",
        )


def _in_place(sql: str) -> str:
    """Return a SELECT in which bare names are tables of pipelines."""
    return sql_text.placed(sql, lambda schema, name: (schema or _SCHEMA, name))


def _as_written(schema: str, name: str) -> tuple[str, ...]:
    return (schema, name) if schema else (name,)


def _failed(what: str, error: Exception) -> LookbookError:
    return LookbookError(
        f"models.{what}: {str(error).strip()}", "The tables still stand as they were. Mend the SELECT; then run again."
    )


def _duckdb_error() -> type[Exception]:
    import duckdb  # noqa: PLC0415 - late: importing the block is to be quick

    return duckdb.Error
