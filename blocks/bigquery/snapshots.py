"""A snapshot becomes current in BigQuery, beside the former one first; how what is loaded differs from it."""

from __future__ import annotations

import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from lookbook.blocks.bigquery import sql, staging
from lookbook.blocks.bigquery.client import REQUEST_SECONDS, Store, at_once
from lookbook.blocks.bigquery.sql import Relation
from lookbook.blocks.bigquery.staging import CURRENT, Landed, VanishedError, commit_fenced, define_fenced
from lookbook.blocks.errors import LookbookError, needs_extra
from lookbook.blocks.warehouse import MOST_ROWS, STAGING_KEYS, SnapshotLoad, StarModel, row_fault

with needs_extra("gcp", "A warehouse in BigQuery"):
    from google.api_core import exceptions as api

# Runs load one after the other: a lease on the warehouse keeps them apart, as tables are remade where a column
# widens.
#
# A transaction over all tables is not what keeps it whole. It would, but two datasets that are loaded at once change
# the same tables, and BigQuery then cancels one of the two transactions; and a transaction dies with its session, so
# that a killed run starts from nothing. Instead rows are only added, under the version of this attempt, which no view
# shows; additions to one table never conflict. The one MERGE that names the version in `current_snapshot` is the
# commit, in one transaction with the fences.
# https://cloud.google.com/bigquery/docs/transactions#transaction_concurrency

#: How often a load begins anew because what an earlier run had made is gone.
_ATTEMPTS = 5
#: Of these, the first ones that who repeats the load takes up. A job's id is taken for months, what it made may go
#: sooner: a warehouse that is dropped and loaded again must not run out of ids.
_FOUND_AGAIN = 2


def current_rows(store: Store) -> dict[str, dict[str, Any]]:
    """Return for each dataset what `current_snapshot` says of it. Listing a table bills nothing, as a query would."""
    table = f"{store.client.project}.{store.staging}.{CURRENT}"
    try:
        found = store.client.get_table(table, retry=store.retry, timeout=REQUEST_SECONDS)
        rows = store.client.list_rows(found, retry=store.retry, timeout=REQUEST_SECONDS)
        return {row["dataset"]: dict(row.items()) for row in rows}
    except api.NotFound as error:
        if "Not found: Project" in str(error):
            raise
        return {}


def current_version(store: Store, dataset: str) -> int | None:
    """Return the version of a dataset that readers see."""
    version: int | None = current_rows(store).get(dataset, {}).get("_version")
    return version


def load_snapshot(store: Store, load: SnapshotLoad, models: Sequence[StarModel]) -> None:
    """Load a snapshot and make it current.

    Raises:
        LeaseLostError: another run has taken a lease that is held here, and committed.
        LookbookError: what is loaded vanishes each time before it is current.
    """
    staging.ensure_datasets(store)
    replaces = current_version(store, load.dataset)
    for attempt in range(_ATTEMPTS):
        number = attempt if attempt < _FOUND_AGAIN else uuid.uuid4().int
        version = sql.version_of(load, models, store.staging, replaces, number)
        try:
            _load(store, load, models, version)
        except VanishedError:
            continue
        return
    raise LookbookError(
        f"BigQuery: what is loaded of {load.dataset} into {store.staging} is gone before it is whole.",
        f"See who else removes tables or rows from {store.staging}; then run again.",
    )


def remove_dataset(store: Store, dataset: str, models: Sequence[StarModel]) -> None:
    """Remove the rows of a dataset: that of `current_snapshot` first, which no view shows rows without.

    Raises:
        LeaseLostError: another run has taken a lease that is held here, and committed.
    """
    if dataset in current_rows(store):
        commit_fenced(store, [sql.removing_all(store.address(store.staging, CURRENT), dataset)])
    names = [*STAGING_KEYS, *(model.name for model in models)]
    there = [name for name, table in store.tables(store.staging, names).items() if table is not None]
    at_once(lambda name: store.execute(sql.removing_all(store.address(store.staging, name), dataset)), there)


def _load(store: Store, load: SnapshotLoad, models: Sequence[StarModel], version: int) -> None:
    landed = staging.land(store, load, f"{version:016x}")
    moment = datetime.now(UTC)
    tags = sql.tag_values(load, version, moment)
    shapes, relations = _made_ready(store, load, models, landed, version)
    added = _insert(store, relations, shapes, tags, version)
    standing = _counted(store, load, version, list(shapes))
    whole = all(added[name] == standing[name][0] for name in shapes)
    if not whole or any(added[name] != file.rows for name, file in landed.items()):
        raise VanishedError
    _replace_views(store, shapes)
    current = store.address(store.staging, CURRENT)
    commit_fenced(store, [sql.flipping(current, tags)], f"lookbook-{version:016x}-flip")
    if current_version(store, load.dataset) != version:  # the flip was an earlier run's, and was undone since
        raise VanishedError
    crowded = [name for name, (_, others) in standing.items() if others]
    targets = [store.address(store.staging, name) for name in crowded]
    at_once(lambda target: store.execute(sql.removing(target, load.dataset, version, moment)), targets)
    staging.drop_landed(store, landed)


def _made_ready(
    store: Store, load: SnapshotLoad, models: Sequence[StarModel], landed: Mapping[str, Landed], version: int
) -> tuple[dict[str, dict[str, str]], dict[str, Relation]]:
    """Staging tables that can take the snapshot, and what they are to hold of it."""
    found = store.tables(store.staging, [*landed, *(model.name for model in models)])

    def ready(name: str, wanted: Mapping[str, str]) -> dict[str, str]:
        return staging.ensure_table(store, name, wanted, staging.key_of(name, models), found[name], version)

    files = at_once(lambda name: ready(name, sql.wanted_columns(name, landed[name].columns)), landed)
    shapes = dict(zip(landed, files, strict=True))
    relations = staging.lay_out(store, load, models, landed, shapes)
    made = at_once(lambda model: ready(model.name, relations[model.name].columns), models)
    shapes |= dict(zip((model.name for model in models), made, strict=True))
    return shapes, relations


def _insert(
    store: Store,
    relations: Mapping[str, Relation],
    shapes: Mapping[str, Mapping[str, str]],
    tags: Sequence[str],
    version: int,
) -> dict[str, int]:
    """Add the rows of all relations under the version; for each the number of rows."""

    def insert(name: str) -> int:
        statement = sql.insertion(store.address(store.staging, name), name, relations, shapes[name], tags)
        job = store.execute(statement, f"lookbook-{version:016x}-insert-{name}")
        return int(job.num_dml_affected_rows or 0)

    return dict(zip(relations, at_once(insert, relations), strict=True))


def _counted(store: Store, load: SnapshotLoad, version: int, names: Sequence[str]) -> dict[str, tuple[int, int]]:
    """Return for each table the dataset's rows of this version, and those of all others."""
    counts = [
        f"SELECT {sql.literal(name)} AS name, COUNT(CASE WHEN _version = {version} THEN 1 END) AS standing,"  # noqa: S608
        f" COUNT(*) AS total FROM {store.address(store.staging, name)} WHERE dataset = {sql.literal(load.dataset)}"
        for name in names
    ]
    job = store.execute(" UNION ALL ".join(counts))
    rows = job.result(retry=store.retry, timeout=store.job_seconds, job_retry=None)
    return {row["name"]: (row["standing"], row["total"] - row["standing"]) for row in rows}


def _replace_views(store: Store, shapes: Mapping[str, Mapping[str, str]]) -> None:
    """Make the views, and anew those whose columns are others now."""
    others = []
    for name, view in store.tables(store.warehouse, shapes).items():
        query = view_query(store, name, shapes[name])
        if view is None or view.view_query != query or staging.shape_of(view) != dict(shapes[name]):
            others.append(f"CREATE OR REPLACE VIEW {store.address(store.warehouse, name)} AS {query}")
    if others:
        define_fenced(store, others)


def view_query(store: Store, name: str, columns: Mapping[str, str]) -> str:
    """Return the query of the view over a staging table."""
    return sql.view_query(store.address(store.staging, name), store.address(store.staging, CURRENT), columns)


@dataclass(frozen=True)
class _Comparison:
    """A staging table against its relation: `label` names it to people, `shape` is None where it is missing."""

    label: str
    name: str
    key: tuple[str, ...]
    shape: Mapping[str, str] | None
    expected: Sequence[str]


def find_differences(store: Store, load: SnapshotLoad, models: Sequence[StarModel]) -> list[str]:
    """See `Warehouse.differences`. The files are loaded once more, beside what stands there, and dropped again.

    A warehouse at another snapshot gets one line for that alone.
    """
    current = current_rows(store).get(load.dataset)
    if current is None:
        return [f"warehouse: no snapshot of {load.dataset} is loaded"]
    if current["snapshot_id"] != load.snapshot_id:
        return [f"warehouse: {load.dataset} is at snapshot {current['snapshot_id']} instead of {load.snapshot_id}"]
    landed = staging.land(store, load, uuid.uuid4().hex)
    try:
        found = store.tables(store.staging, [*landed, *(model.name for model in models)])
        shapes = {name: staging.shape_of(table) for name, table in found.items() if table is not None}
        relations = staging.lay_out(store, load, models, landed, shapes)
        lines = at_once(
            lambda one: _compared(store, load, current["_version"], one, relations),
            _comparisons(landed, models, shapes, relations),
        )
    finally:
        staging.drop_landed(store, landed)
    return [line for part in lines for line in part] + _views(store, list(relations))


def _comparisons(
    landed: Mapping[str, staging.Landed],
    models: Sequence[StarModel],
    shapes: Mapping[str, Mapping[str, str]],
    relations: Mapping[str, Relation],
) -> list[_Comparison]:
    files = [
        _Comparison(
            f"staging.{name}", name, STAGING_KEYS[name], shapes.get(name), list(sql.wanted_columns(name, file.columns))
        )
        for name, file in landed.items()
    ]
    made = [
        _Comparison(
            f"warehouse.{model.name}",
            model.name,
            model.key,
            shapes.get(model.name),
            list(relations[model.name].columns),
        )
        for model in models
    ]
    return files + made


def _compared(
    store: Store, load: SnapshotLoad, version: int, one: _Comparison, relations: Mapping[str, Relation]
) -> list[str]:
    if one.shape is None:
        return [f"warehouse: {one.label}: the table is missing"]
    present = {name.lower() for name in one.shape}
    absent = [name for name in one.expected if name.lower() not in present]
    if absent:
        return [f"warehouse: {one.label}: column {name} is missing" for name in absent]
    job = store.execute(_comparison_sql(store, load, version, one, relations))
    rows = list(job.result(retry=store.retry, timeout=store.job_seconds, job_retry=None))
    lines = [f"row {row['name']} {row_fault(row['lost'], row['surplus'])}" for row in rows]
    if rows and rows[0]["total"] > len(rows):
        lines.append(f"… and {rows[0]['total'] - len(rows)} more")
    return [f"warehouse: {one.label}: {line}" for line in lines]


def _comparison_sql(
    store: Store, load: SnapshotLoad, version: int, one: _Comparison, relations: Mapping[str, Relation]
) -> str:
    """Return rows that are wanted more, or less, often than they stand there; a row is compared as one JSON text.

    Rows without a version are none of ours: they should not be there. Those of other versions are what a load left
    that never ended; no view shows them, and the next load removes them.
    """
    dataset, snapshot = sql.literal(load.dataset), sql.literal(load.snapshot_id)
    shape = {name.lower(): type_ for name, type_ in (one.shape or {}).items()}
    given = relations[one.name].columns
    types = {name.lower(): type_ for name, type_ in given.items()}
    wanted = [sql.converted(sql.quoted(n), types[n.lower()], shape[n.lower()]) for n in one.expected]
    named = " || ':' || ".join(f"COALESCE(CAST({sql.quoted(name)} AS STRING), 'null')" for name in one.key)
    source = sql.with_relations(f"SELECT * FROM {sql.quoted(one.name)}", [one.name], relations)  # noqa: S608 - quoted
    return f"""
        WITH both_sides AS (
            SELECT {named} AS name, {_content(snapshot, wanted)} AS content, 1 AS n FROM ({source})
            UNION ALL
            SELECT {named}, {_content("snapshot_id", [sql.quoted(name) for name in one.expected])}, -1
            FROM {store.address(store.staging, one.name)}
            WHERE dataset = {dataset} AND COALESCE(_version, {version}) = {version}
        ), counted AS (
            SELECT name, content, SUM(n) AS surplus FROM both_sides GROUP BY name, content HAVING SUM(n) != 0
        ), names AS (
            SELECT name, LOGICAL_OR(surplus > 0) AS lost, LOGICAL_OR(surplus < 0) AS surplus FROM counted GROUP BY name
        )
        SELECT name, lost, surplus, COUNT(*) OVER () AS total FROM names ORDER BY name LIMIT {MOST_ROWS}
        """  # noqa: S608 - identifiers and literals are quoted


def _content(snapshot: str, values: Sequence[str]) -> str:
    parts = [f"{value} AS c{n}" for n, value in enumerate([snapshot, *values])]
    return f"TO_JSON_STRING(STRUCT({', '.join(parts)}))"


def _views(store: Store, tables: Sequence[str]) -> list[str]:
    found = store.tables(store.warehouse, tables)
    return [f"warehouse: warehouse.{name}: the view is missing" for name in tables if found[name] is None]
