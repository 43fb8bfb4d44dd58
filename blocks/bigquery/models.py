"""Models over loaded tables in BigQuery: made aside, tested there, then put in place.

BigQuery has no transaction over tables that are made or replaced. So each model is first made in staging, under a name
that nobody reads. When all tests hold, tables whose columns stay as they are get their rows within one transaction of
several statements: readers see all of them old or all of them new. A table that is new, or has other columns or
partitions, cannot take part: it is replaced before that by a statement of its own, in the order of dependencies, so
that a fact finds its dimensions. https://cloud.google.com/bigquery/docs/transactions#transaction_scope

Who is killed leaves tables in staging that expire after a day, and whoever builds again begins anew.
"""

from __future__ import annotations

import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta

from lookbook.blocks import sql_text
from lookbook.blocks.bigquery.client import REQUEST_SECONDS, Store, at_once, columns_of
from lookbook.blocks.bigquery.sql import DUCKDB_TYPES, literal, quoted
from lookbook.blocks.bigquery.staging import commit_fenced, define_fenced
from lookbook.blocks.errors import LookbookError, needs_extra
from lookbook.blocks.models import (
    BuiltModel,
    FailedTest,
    FeedModel,
    ModelTest,
    ModelTestsFailedError,
    bigquery_expression,
    check_columns,
    tests_of,
    worst,
)

with needs_extra("gcp", "A warehouse in BigQuery"):
    from google.api_core import exceptions as api
    from google.cloud.bigquery import Dataset, Table

_LEFTOVERS_STAND = timedelta(days=1)
#: How a column is partitioned by days, by its type.
_BY_DAY = {"DATE": "{0}", "TIMESTAMP": "TIMESTAMP_TRUNC({0}, DAY)", "DATETIME": "DATETIME_TRUNC({0}, DAY)"}
_DUCKDB_TYPES = DUCKDB_TYPES | {"NUMERIC": "DECIMAL(38,9)", "BIGNUMERIC": "DECIMAL(38,18)"}


@dataclass
class _Build:
    """One build: where tables lie, and the SELECT of each model over the bare names of others.

    Attributes:
        feeds: the dataset of the tables that readers see.
        mark: names this build's tables in staging.
    """

    store: Store
    feeds: str
    mark: str = field(default_factory=lambda: uuid.uuid4().hex[:16])
    selects: dict[str, str] = field(default_factory=dict)
    reads: dict[str, set[str]] = field(default_factory=dict)

    def aside(self, name: str) -> str:
        """Return a model's table in staging."""
        return f"model_{self.mark}_{name}"

    def parts(self, schema: str, name: str) -> tuple[str, ...]:
        """Return a table's name in this project, by what a model calls it."""
        if not schema:
            return self.store.client.project, self.store.staging, self.aside(name)
        datasets = {"feeds": self.feeds, "warehouse": self.store.warehouse}
        return self.store.client.project, datasets.get(schema, schema), name

    def as_written(self, schema: str, name: str) -> tuple[str, ...]:
        """Return the same, but other models by their bare names."""
        return self.parts(schema, name) if schema else (name,)


def build_models(store: Store, feeds: str, models: Sequence[FeedModel]) -> list[BuiltModel]:
    """Make the models aside, each after those that it reads, test them, and put them in place.

    Raises:
        ModelTestsFailedError: a test does not hold; nothing was put in place.
        LeaseLostError: another run has taken a lease that is held here, and committed.
        LookbookError: a SELECT fails, or lacks a column.
    """
    build = _Build(store, feeds)
    for dataset in (store.staging, feeds):
        ensure_dataset(store, dataset)
    try:
        shapes = {model.name: _make(build, model) for model in models}
        failures = [failed for model in models for failed in _failures(build, model, shapes[model.name])]
        if failures:
            raise ModelTestsFailedError.of(failures)
        rows = _counted(build, list(shapes))
        _put_in_place(build, models, shapes)
    finally:
        at_once(lambda model: store.drop(store.staging, build.aside(model.name)), models)
    return [BuiltModel(name, _in_duckdbs_words(shape), rows[name]) for name, shape in shapes.items()]


def reading(store: Store, feeds: str, table: str, columns: Sequence[str]) -> str:
    """Return a SELECT of columns of a table, named with its schema, in an order that is the same each time."""
    parts = _Build(store, feeds).parts(*table.split(".", 1))
    names = ", ".join(map(quoted, columns))
    order = ", ".join(str(n) for n in range(1, len(columns) + 1))
    return f"SELECT {names} FROM {quoted('.'.join(parts))} ORDER BY {order}"  # noqa: S608 - quoted


def ensure_dataset(store: Store, name: str) -> None:
    """Make a dataset, where it is not there."""
    reference = f"{store.client.project}.{name}"
    try:
        store.client.get_dataset(reference, retry=store.retry, timeout=REQUEST_SECONDS)
    except api.NotFound:
        dataset = Dataset(reference)
        dataset.location, dataset.labels = store.location, dict(store.labels)
        store.client.create_dataset(dataset, exists_ok=True, retry=store.retry, timeout=REQUEST_SECONDS)


def _make(build: _Build, model: FeedModel) -> dict[str, str]:
    """Make a model's table in staging; its columns."""
    store = build.store
    select = sql_text.placed(model.sql, build.parts, "bigquery")
    columns = columns_of(store.dry_run(select).schema or [])
    check_columns(model, columns)
    _partition(model, columns)
    build.selects[model.name] = _with_surrogate(
        model, sql_text.placed(model.sql, build.as_written, "bigquery"), columns
    )
    build.reads[model.name] = sql_text.names_read(model.sql)
    expires = (datetime.now(UTC) + _LEFTOVERS_STAND).isoformat(sep=" ", timespec="seconds")
    store.execute(
        f"CREATE OR REPLACE TABLE {store.address(store.staging, build.aside(model.name))}"
        f" OPTIONS (expiration_timestamp = TIMESTAMP {literal(expires)})"
        f" AS {_with_surrogate(model, select, columns)}"
    )
    made = store.table(store.staging, build.aside(model.name))
    if made is None:
        raise LookbookError(
            f"models.{model.name}: BigQuery made its table in {store.staging}, and it is gone.", "Run again."
        )
    return columns_of(made.schema)


def _with_surrogate(model: FeedModel, select: str, columns: Mapping[str, str]) -> str:
    if model.surrogate_key is None:
        return select
    number = bigquery_expression(model.key, columns, lambda name: f"m.{quoted(name)}")
    return f"SELECT {number} AS {quoted(model.surrogate_key)}, m.* FROM ({select}) AS m"  # noqa: S608 - quoted


def _partition(model: FeedModel, columns: Mapping[str, str]) -> str:
    """PARTITION BY of a model's table; empty where it is not partitioned."""
    if model.partition_by is None:
        return ""
    type_ = {name.lower(): kind for name, kind in columns.items()}[model.partition_by.lower()]
    if type_ not in _BY_DAY:
        raise LookbookError(
            f"models.{model.name}: partition_by names {model.partition_by}, which is {type_}.",
            "A column of dates or times is asked for.",
        )
    return f" PARTITION BY {_BY_DAY[type_].format(quoted(model.partition_by))}"


def _failures(build: _Build, model: FeedModel, columns: Mapping[str, str]) -> list[FailedTest]:
    """Return the tests of a model that fail."""
    tests = tests_of(model, columns)

    def run(test: ModelTest) -> list[tuple[str, int, int]]:
        job = build.store.execute(sql_text.placed(worst(test.failing), build.parts, "bigquery"))
        rows = job.result(retry=build.store.retry, timeout=build.store.job_seconds, job_retry=None)
        return [(row["example"], row["row_count"], row["total"]) for row in rows]

    return [
        FailedTest(model.name, test.name, int(found[0][2]), tuple(row[0] for row in found), _to_see(build, test))
        for test, found in zip(tests, at_once(run, tests), strict=True)
        if found
    ]


def _to_see(build: _Build, test: ModelTest) -> str:
    """Return a SELECT of what breaks a test over the loaded tables, as readers may run it."""
    needed = sql_text.needed(sql_text.names_read(test.failing), build.reads)
    parts = [f"{quoted(name)} AS ({select})" for name, select in build.selects.items() if name in needed]
    return f"WITH {', '.join(parts)} {sql_text.placed(test.failing, build.as_written, 'bigquery')}"


def _counted(build: _Build, names: Sequence[str]) -> dict[str, int]:
    store = build.store
    counts = [
        f"SELECT {literal(name)} AS name, COUNT(*) AS standing"  # noqa: S608 - quoted
        f" FROM {store.address(store.staging, build.aside(name))}"
        for name in names
    ]
    job = store.execute(" UNION ALL ".join(counts))
    rows = job.result(retry=store.retry, timeout=store.job_seconds, job_retry=None)
    return {row["name"]: int(row["standing"]) for row in rows}


def _put_in_place(build: _Build, models: Sequence[FeedModel], shapes: Mapping[str, Mapping[str, str]]) -> None:
    """Replace what is of another shape, each by itself; then fill all others within one transaction."""
    store = build.store
    found = store.tables(build.feeds, shapes)
    filled = []
    for model in models:
        name, shape = model.name, shapes[model.name]
        target, aside = store.address(build.feeds, name), store.address(store.staging, build.aside(name))
        standing = found[name]
        if standing is not None and _is_shaped(standing, model, shape):
            names = ", ".join(map(quoted, shape))
            filled += [f"TRUNCATE TABLE {target}", f"INSERT INTO {target} ({names}) SELECT {names} FROM {aside}"]  # noqa: S608
            continue
        # BigQuery replaces no table by one that is partitioned otherwise.
        refused = standing is not None and not _is_partitioned_by(standing, model)
        pairs = ", ".join(f"({literal(label)}, {literal(value)})" for label, value in store.labels.items())
        made = (
            f"CREATE OR REPLACE TABLE {target}{_partition(model, shape)} OPTIONS (labels = [{pairs}])"  # noqa: S608
            f" AS SELECT * FROM {aside}"
        )
        define_fenced(store, [*([f"DROP TABLE IF EXISTS {target}"] if refused else []), made])
    if filled:
        commit_fenced(store, filled)


def _is_shaped(table: Table, model: FeedModel, shape: Mapping[str, str]) -> bool:
    same = list(columns_of(table.schema).items()) == list(shape.items())
    return same and _is_partitioned_by(table, model)


def _is_partitioned_by(table: Table, model: FeedModel) -> bool:
    by = table.time_partitioning.field if table.time_partitioning is not None else None
    return (by or "").lower() == (model.partition_by or "").lower()


def _in_duckdbs_words(shape: Mapping[str, str]) -> dict[str, str]:
    return {name: _DUCKDB_TYPES.get(type_, type_) for name, type_ in shape.items()}
