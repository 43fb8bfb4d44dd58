"""Staging in BigQuery: files loaded aside, staging tables made and widened, and fences against lost leases."""

from __future__ import annotations

import re
import uuid
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from lookbook.blocks.bigquery import sql
from lookbook.blocks.bigquery.client import REQUEST_SECONDS, JobFailedError, Store, at_once, columns_of
from lookbook.blocks.bigquery.sql import PARTITION_COLUMN, STAGING_TAGS, Relation, literal
from lookbook.blocks.errors import LookbookError, needs_extra
from lookbook.blocks.registry import held_counters, raised
from lookbook.blocks.warehouse import STAGING_KEYS, SnapshotLoad, StarModel

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

if TYPE_CHECKING:
    from google.cloud.bigquery import QueryJob

# Transactions that change one table cannot run at the same time: BigQuery cancels one of them, and it is run again. So
# who commits later also sees what who committed before has raised.
# https://cloud.google.com/bigquery/docs/transactions#transaction_concurrency

#: In staging: the highest counter that was seen of each lease.
FENCES = "fences"


def commit_fenced(store: Store, statements: Sequence[str], name: str | None = None) -> QueryJob:
    """Run statements as one transaction that raises the fences first.

    Args:
        store: whose tables the statements change; its dataset of staging is there.
        statements: without DDL.
        name: of the job; see `Store.execute`.

    Raises:
        LeaseLostError: another run has taken a lease that is held here, and committed; nothing was changed.
    """
    return _fenced(store, lambda raising: ["BEGIN TRANSACTION", *raising, *statements, "COMMIT TRANSACTION"], name)


def define_fenced(store: Store, statements: Sequence[str], name: str | None = None) -> None:
    """Run DDL, which no transaction takes, right behind the statement that raises the fences.

    Raises:
        LeaseLostError: as `commit`.
    """
    _fenced(store, lambda raising: [*raising, *statements], name)


def _fenced(store: Store, script: Callable[[list[str]], list[str]], name: str | None) -> QueryJob:
    held = held_counters()
    if held and store.table(store.staging, FENCES) is None:
        fields = [SchemaField("name", "STRING"), SchemaField("counter", "INT64")]
        store.create(Table(f"{store.client.project}.{store.staging}.{FENCES}", schema=fields))
    raising = [_raising_sql(store.address(store.staging, FENCES), held)] if held else []
    try:
        return store.execute(";\n".join(script(raising)), name)
    except JobFailedError:
        if held:
            raised(_standing_fences(store))  # tells who lost a lease that it did
        raise


def _raising_sql(fences: str, held: Mapping[str, int]) -> str:
    """Return the statement that raises the fences to the counters held, and fails where one of them is higher."""
    given = " UNION ALL ".join(
        f"SELECT {literal(name)} AS name, {counter} AS counter" for name, counter in held.items()
    )
    refused = 'ERROR(CONCAT("another run has taken the lease ", f.name))'
    return (
        f"MERGE INTO {fences} AS f USING ({given}) AS h ON f.name = h.name"  # noqa: S608 - quoted
        f" WHEN MATCHED THEN UPDATE SET counter = IF(f.counter > h.counter, {refused}, h.counter)"
        " WHEN NOT MATCHED THEN INSERT (name, counter) VALUES (h.name, h.counter)"
    )


def _standing_fences(store: Store) -> dict[str, int]:
    """Return the fences as they stand; listing them bills nothing."""
    table = store.table(store.staging, FENCES)
    rows = store.client.list_rows(table, retry=store.retry, timeout=REQUEST_SECONDS) if table is not None else ()
    return {row["name"]: row["counter"] for row in rows}


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
    """Load the files of each table of a snapshot, as they stand, into a table of its own; loading bills nothing.

    Raises:
        VanishedError: one was loaded by an earlier run, and its table is gone.
    """
    names = list(load.tables)
    landed = at_once(lambda name: _land(store, f"landing_{version}_{name}", load.tables[name], version, name), names)
    return dict(zip(names, landed, strict=True))


def _land(store: Store, target: str, files: Sequence[str], version: str, name: str) -> Landed:
    # A bucket's are one job; of files that are sent, each is a job of its own.
    jobs = [files] if files[0].startswith("gs://") else [[file] for file in files]
    rows = 0
    for number, some in enumerate(jobs):
        config = _load_config(store, "WRITE_APPEND" if number else "WRITE_TRUNCATE")
        begin = partial(_begin, store, target, some, config)
        rows += store.once(f"lookbook-{version}-load-{name}{f'-{number}' if number else ''}", begin).output_rows or 0
    table = store.table(store.staging, target)
    if table is None:
        raise VanishedError
    if table.expires is None:
        table.expires = datetime.now(UTC) + LEFTOVERS_STAND
        store.client.update_table(table, ["expires"], retry=store.retry, timeout=REQUEST_SECONDS)
    return Landed(target, columns_of(table.schema), rows)


def _load_config(store: Store, disposition: str) -> LoadJobConfig:
    options = ParquetOptions()  # type: ignore[no-untyped-call]
    options.enable_list_inference = True
    config = LoadJobConfig(
        source_format="PARQUET",
        write_disposition=disposition,
        parquet_options=options,
        labels=dict(store.labels),
    )
    config.column_name_character_map = "V2"
    return config


def _begin(store: Store, target: str, files: Sequence[str], config: LoadJobConfig, job_id: str) -> LoadJob:
    destination = f"{store.client.project}.{store.staging}.{target}"
    path = files[0]
    if path.startswith("gs://"):
        return store.client.load_table_from_uri(
            list(files),
            destination,
            job_id=job_id,
            location=store.location,
            job_config=config,
            retry=store.retry,
            timeout=REQUEST_SECONDS,
        )
    try:
        with Path(path).open("rb") as file:
            return store.client.load_table_from_file(
                file,
                destination,
                size=Path(path).stat().st_size,
                num_retries=_UPLOAD_RETRIES,
                job_id=job_id,
                location=store.location,
                job_config=config,
                timeout=REQUEST_SECONDS,
            )
    except FileNotFoundError as error:
        raise LookbookError(
            f"{path}: no such file.", "Ingest the source again: it publishes a whole snapshot."
        ) from error


def drop_landed(store: Store, landed: Mapping[str, Landed]) -> None:
    """Drop the tables that files were loaded into."""
    at_once(lambda one: store.drop(store.staging, one.name), landed.values())


def lay_out(
    store: Store,
    load: SnapshotLoad,
    models: Sequence[StarModel],
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
        define_fenced(store, [f"ALTER TABLE {target} {columns}"])
    changed = {}
    for column, type_ in wanted.items():
        before = shape.get(present.get(column.lower(), ""))
        if before is not None and (after := sql.wider(before, type_)) != before:
            changed[present[column.lower()]] = (before, after)
    if changed:
        clusters = sql.clustering({**shape, **{c: after for c, (_, after) in changed.items()}}, key)
        # Named, so that who repeats a load that was killed waits for its rewrite before inserting.
        rewriting = sql.rewriting(target, changed, clusters, store.labels)
        define_fenced(store, [rewriting], f"lookbook-{version:016x}-rewrite-{name}")
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


def key_of(table: str, models: Sequence[StarModel]) -> tuple[str, ...]:
    """Return the columns that name one of a table's rows."""
    return STAGING_KEYS.get(table) or next(model.key for model in models if model.name == table)


@dataclass(frozen=True)
class LandedRows:
    """A table of staging with rows of files: its name, its columns as BigQuery calls their types, how many rows."""

    name: str
    columns: dict[str, str]
    rows: int


@contextmanager
def landed_files(store: Store, files: Sequence[Path]) -> Iterator[LandedRows]:
    """Load Parquet files of this machine, one at least, into one table; it is dropped at the end. Bills nothing.

    Raises:
        LookbookError: somebody else dropped the table.
    """
    mark = uuid.uuid4().hex
    name = f"feed_{mark}"
    try:
        rows = sum(_load(store, path, name, f"lookbook-{mark}-{number}") for number, path in enumerate(files))
        table = store.table(store.staging, name)
        if table is None:
            raise LookbookError(f"BigQuery: the table {store.staging}.{name} is gone as soon as it is made.")
        table.expires = datetime.now(UTC) + LEFTOVERS_STAND
        store.client.update_table(table, ["expires"], retry=store.retry, timeout=REQUEST_SECONDS)
        yield LandedRows(name, columns_of(table.schema), rows)
    finally:
        store.drop(store.staging, name)


def _load(store: Store, path: Path, name: str, job_name: str) -> int:
    """Add the rows of one file to the table; their number."""
    config = LoadJobConfig(source_format="PARQUET", write_disposition="WRITE_APPEND", labels=dict(store.labels))
    config.column_name_character_map = "V2"
    config.decimal_target_types = ["NUMERIC", "BIGNUMERIC"]  # by default, what no NUMERIC holds fails the job

    def begin(job_id: str) -> LoadJob:
        with path.open("rb") as file:
            return store.client.load_table_from_file(
                file,
                f"{store.client.project}.{store.staging}.{name}",
                size=path.stat().st_size,
                num_retries=_UPLOAD_RETRIES,
                job_id=job_id,
                location=store.location,
                job_config=config,
                timeout=REQUEST_SECONDS,
            )

    return int(store.once(job_name, begin).output_rows or 0)
