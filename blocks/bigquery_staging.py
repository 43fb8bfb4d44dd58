"""Staging in BigQuery: files loaded into tables of their own, and staging tables made and widened to take them."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

from lookbook.blocks import bigquery_fences as fences
from lookbook.blocks import bigquery_sql as sql
from lookbook.blocks.bigquery_sql import PARTITION_COLUMN, STAGING_TAGS, Relation
from lookbook.blocks.bigquery_store import REQUEST_SECONDS, Store, at_once, columns_of
from lookbook.blocks.errors import LookbookError
from lookbook.blocks.extras import needs_extra
from lookbook.blocks.warehouse import STAGING_KEYS, Model, SnapshotLoad

with needs_extra("gcp", "A warehouse in BigQuery"):
    from google.api_core import exceptions as api
    from google.cloud.bigquery import (
        Dataset,
        LoadJob,
        LoadJobConfig,
        ParquetOptions,
        SchemaField,
        Table,
        TimePartitioning,
    )

#: One row for each dataset: its snapshot, and the version of the rows that readers see.
CURRENT = "current_snapshot"
#: How long what a killed load leaves behind stands.
LEFTOVERS_STAND = timedelta(days=1)
#: How often an upload of a file is tried again: some 30 seconds.
_UPLOAD_RETRIES = 5


class VanishedError(Exception):
    """A job was done, but what it made is gone: the load begins anew under another version."""


@dataclass(frozen=True)
class Landed:
    """A file of a snapshot as BigQuery loaded it: its table, its columns, its number of rows."""

    name: str
    columns: dict[str, str]
    rows: int


def ensure_datasets(store: Store) -> None:
    """Make both datasets and the table of current snapshots, where they are not there."""
    for name in (store.staging, store.warehouse):
        reference = f"{store.client.project}.{name}"
        try:
            store.client.get_dataset(reference, retry=store.retry, timeout=REQUEST_SECONDS)
        except api.NotFound:
            dataset = Dataset(reference)
            dataset.location, dataset.labels = store.location, dict(store.labels)
            store.client.create_dataset(dataset, exists_ok=True, retry=store.retry, timeout=REQUEST_SECONDS)
    if store.table(store.staging, CURRENT) is None:
        fields = [SchemaField(name, type_) for name, type_ in STAGING_TAGS.items()]
        store.create(Table(f"{store.client.project}.{store.staging}.{CURRENT}", schema=fields))


def land(store: Store, load: SnapshotLoad, version: str) -> dict[str, Landed]:
    """Load each file of a snapshot, as it stands, into a table of its own; loading bills nothing.

    Raises:
        VanishedError: a file was loaded by an earlier run, and its table is gone.
    """
    names = list(load.tables)
    landed = at_once(lambda name: _land(store, f"landing_{version}_{name}", load.tables[name], version, name), names)
    return dict(zip(names, landed, strict=True))


def _land(store: Store, target: str, uri: str, version: str, name: str) -> Landed:
    options = ParquetOptions()  # type: ignore[no-untyped-call]
    options.enable_list_inference = True
    config = LoadJobConfig(
        source_format="PARQUET",
        write_disposition="WRITE_TRUNCATE",
        parquet_options=options,
        labels=dict(store.labels),
    )
    config.column_name_character_map = "V2"
    job = store.once(f"lookbook-{version}-load-{name}", lambda job_id: _begin(store, target, uri, config, job_id))
    table = store.table(store.staging, target)
    if table is None:
        raise VanishedError
    if table.expires is None:
        table.expires = datetime.now(UTC) + LEFTOVERS_STAND
        store.client.update_table(table, ["expires"], retry=store.retry, timeout=REQUEST_SECONDS)
    return Landed(target, columns_of(table.schema), int(job.output_rows or 0))


def _begin(store: Store, target: str, uri: str, config: LoadJobConfig, job_id: str) -> LoadJob:
    destination = f"{store.client.project}.{store.staging}.{target}"
    if uri.startswith("gs://"):
        return store.client.load_table_from_uri(
            uri,
            destination,
            job_id=job_id,
            location=store.location,
            job_config=config,
            retry=store.retry,
            timeout=REQUEST_SECONDS,
        )
    try:
        with Path(uri).open("rb") as file:
            return store.client.load_table_from_file(
                file,
                destination,
                size=Path(uri).stat().st_size,
                num_retries=_UPLOAD_RETRIES,
                job_id=job_id,
                location=store.location,
                job_config=config,
                timeout=REQUEST_SECONDS,
            )
    except FileNotFoundError as error:
        raise LookbookError(
            f"{uri}: no such file.", "Ingest the source again: it publishes a whole snapshot."
        ) from error


def drop_landed(store: Store, landed: Mapping[str, Landed]) -> None:
    """Drop the tables that files were loaded into."""
    at_once(lambda one: store.drop(store.staging, one.name), landed.values())


def lay_out(
    store: Store,
    load: SnapshotLoad,
    models: Sequence[Model],
    landed: Mapping[str, Landed],
    shapes: Mapping[str, dict[str, str]],
) -> dict[str, Relation]:
    """Return the relations of a snapshot and of all models, each after those that it reads.

    Args:
        store: where the files were loaded into.
        load: the snapshot.
        models: what is made of it.
        landed: its files.
        shapes: columns of the staging tables that take them.
    """
    relations = {}
    for table, file in landed.items():
        source = store.address(store.staging, file.name)
        shape = shapes.get(table, {})
        relations[table] = sql.landed_relation(load.dataset, table, source, file.columns, shape)
    for model in models:
        relations[model.name] = sql.model_relation(model, {})
    described = at_once(lambda model: _columns(store, model.name, relations), models)
    for model, columns in zip(models, described, strict=True):
        relations[model.name] = sql.model_relation(model, columns)
    return relations


def _columns(store: Store, name: str, relations: Mapping[str, Relation]) -> dict[str, str]:
    statement = sql.with_relations(f"SELECT * FROM {sql.quoted(name)}", [name], relations)  # noqa: S608 - quoted
    return columns_of(store.dry_run(statement).schema or [])


def shape_of(table: Table | None) -> dict[str, str]:
    """Return names and types of a staging table's columns, without tags."""
    columns = columns_of(table.schema) if table is not None else {}
    return {name: type_ for name, type_ in columns.items() if name.lower() not in STAGING_TAGS}


def ensure_table(
    store: Store, name: str, wanted: Mapping[str, str], key: Sequence[str], found: Table | None, version: int
) -> dict[str, str]:
    """Make a staging table, or add and widen columns of the one there, so that it takes the `wanted` columns.

    Returns:
        Its columns, without tags.

    Raises:
        VanishedError: an earlier run of this version widened other columns, or what it widened is gone.
    """
    if found is None:
        store.create(_laid_out(store, name, wanted, key))
        return dict(wanted)
    shape = shape_of(found)
    present = {column.lower(): column for column in shape}
    added = {column: type_ for column, type_ in wanted.items() if column.lower() not in present}
    target = store.address(store.staging, name)
    if added:
        columns = ", ".join(f"ADD COLUMN IF NOT EXISTS {sql.quoted(c)} {type_}" for c, type_ in added.items())
        fences.define(store, [f"ALTER TABLE {target} {columns}"])
    changed = {}
    for column, type_ in wanted.items():
        before = shape.get(present.get(column.lower(), ""))
        if before is not None and (after := sql.wider(before, type_)) != before:
            changed[present[column.lower()]] = (before, after)
    if changed:
        clusters = sql.clustering({**shape, **{c: after for c, (_, after) in changed.items()}}, key)
        # Named, so that who repeats a load that was killed waits for its rewrite before inserting.
        rewriting = sql.rewriting(target, changed, clusters, store.labels)
        fences.define(store, [rewriting], f"lookbook-{version:016x}-rewrite-{name}")
        now = shape_of(store.table(store.staging, name))
        if any(now.get(column) != after for column, (_, after) in changed.items()):
            raise VanishedError
    return {**shape, **{column: after for column, (_, after) in changed.items()}, **added}


def _laid_out(store: Store, name: str, columns: Mapping[str, str], key: Sequence[str]) -> Table:
    fields = [_field(column, type_) for column, type_ in {**STAGING_TAGS, **columns}.items()]
    table = Table(f"{store.client.project}.{store.staging}.{name}", schema=fields)
    table.time_partitioning = TimePartitioning(field=PARTITION_COLUMN)
    table.clustering_fields = sql.clustering(columns, key)
    return table


def _field(name: str, type_: str) -> SchemaField:
    repeated = re.fullmatch(r"ARRAY<(\w+)>", type_)
    return SchemaField(name, repeated[1], mode="REPEATED") if repeated else SchemaField(name, type_)


def key_of(table: str, models: Sequence[Model]) -> tuple[str, ...]:
    """Return the columns that name one of a table's rows."""
    return STAGING_KEYS.get(table) or next(model.key for model in models if model.name == table)
