"""A snapshot becomes current in BigQuery: beside the former one first, then by one statement.

Runs load one after the other: a lease on the warehouse keeps them apart, as tables are remade where a column widens.

A transaction over all tables is not what keeps it whole. It would, but two datasets that are loaded at once change the
same tables, and BigQuery then cancels one of the two transactions; and a transaction dies with its session, so that a
killed run starts from nothing. Instead rows are only added, under the version of this attempt, which no view shows;
additions to one table never conflict. The one MERGE that names the version in `current_snapshot` is the commit, in one
transaction with the fences.
https://cloud.google.com/bigquery/docs/transactions#transaction_concurrency
"""

from __future__ import annotations

import uuid
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

from lookbook.blocks import bigquery_fences as fences
from lookbook.blocks import bigquery_sql as sql
from lookbook.blocks import bigquery_staging as staging
from lookbook.blocks.bigquery_sql import Relation
from lookbook.blocks.bigquery_staging import CURRENT, Landed, VanishedError
from lookbook.blocks.bigquery_store import REQUEST_SECONDS, Store, at_once
from lookbook.blocks.errors import LookbookError
from lookbook.blocks.extras import needs_extra
from lookbook.blocks.warehouse import Model, SnapshotLoad

with needs_extra("gcp", "A warehouse in BigQuery"):
    from google.api_core import exceptions as api

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


def load_snapshot(store: Store, load: SnapshotLoad, models: Sequence[Model]) -> None:
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


def _load(store: Store, load: SnapshotLoad, models: Sequence[Model], version: int) -> None:
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
    fences.commit(store, [sql.flipping(current, tags)], f"lookbook-{version:016x}-flip")
    if current_version(store, load.dataset) != version:  # the flip was an earlier run's, and was undone since
        raise VanishedError
    crowded = [name for name, (_, others) in standing.items() if others]
    targets = [store.address(store.staging, name) for name in crowded]
    at_once(lambda target: store.execute(sql.removing(target, load.dataset, version, moment)), targets)
    staging.drop_landed(store, landed)


def _made_ready(
    store: Store, load: SnapshotLoad, models: Sequence[Model], landed: Mapping[str, Landed], version: int
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
        fences.define(store, others)


def view_query(store: Store, name: str, columns: Mapping[str, str]) -> str:
    """Return the query of the view over a staging table."""
    return sql.view_query(store.address(store.staging, name), store.address(store.staging, CURRENT), columns)
