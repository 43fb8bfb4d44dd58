"""How a BigQuery warehouse differs from a snapshot's files, row by row."""

from __future__ import annotations

import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from lookbook.blocks import bigquery_sql as sql
from lookbook.blocks import bigquery_staging as staging
from lookbook.blocks.bigquery_loading import current_rows
from lookbook.blocks.bigquery_sql import Relation
from lookbook.blocks.bigquery_store import Store, at_once
from lookbook.blocks.warehouse import MOST_ROWS, STAGING_KEYS, Model, SnapshotLoad, row_fault


@dataclass(frozen=True)
class _Comparison:
    """A staging table against its relation: `label` names it to people, `shape` is None where it is missing."""

    label: str
    name: str
    key: tuple[str, ...]
    shape: Mapping[str, str] | None
    expected: Sequence[str]


def find_differences(store: Store, load: SnapshotLoad, models: Sequence[Model]) -> list[str]:
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
    models: Sequence[Model],
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
