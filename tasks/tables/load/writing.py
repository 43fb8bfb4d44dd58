"""One write: the rows of a load, from files of this machine into a place."""

from __future__ import annotations

import math
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path

import pyarrow.parquet as pq

from lookbook.blocks.workspace import Workspace
from lookbook.tasks.runs.catalogue import TableState
from lookbook.tasks.runs.lease import confirm, lease, warehouse_lease
from lookbook.tasks.tables.engine import local_files
from lookbook.tasks.tables.load.books import LoadEntry
from lookbook.tasks.tables.load.job import Destination, LoadJob
from lookbook.tasks.tables.load.prepare import Batch, PreparedRows, balance, prepare
from lookbook.tasks.tables.spec.tasks import LoadSettings
from lookbook.tasks.tables.spec.values import Target
from lookbook.tasks.tables.staging import Stage, delimited_columns


@dataclass(frozen=True)
class LoadResult:
    """What became of the rows for one table. The books: rows_in = rows_loaded + superseded + rejected.

    Attributes:
        place: ``warehouse``, ``registry`` or ``lake``.
        table: its name.
        load_id: names the batch.
        rows_in: rows that were staged, those that no extract could read included.
        rows_loaded: of them, that are written.
        rejected: that were set aside.
        superseded: that gave way to another of the batch with the same key.
        discarded: values (not rows) that the contract dropped, by column.
        replaced: values in which U+FFFD was written for NUL, which PostgreSQL's texts cannot hold, by column.
        columns: that this load wrote, with types in DuckDB's words.
        rows: of the table now.
        inputs: what was read, for lineage.
        state: the table now; None: there is no table, since nothing was loaded yet.
        unreadable: of a replay: the rejects that are no rows, as ``input line 5``.
    """

    place: str
    table: str
    load_id: str
    rows_in: int
    rows_loaded: int
    rejected: int
    superseded: int
    columns: Mapping[str, str]
    rows: int
    inputs: Sequence[str]
    state: TableState | None
    discarded: Mapping[str, int] = field(default_factory=dict)
    replaced: Mapping[str, int] = field(default_factory=dict)
    unreadable: Sequence[str] = ()


@dataclass(frozen=True)
class LoadRows:
    """The rows of one load on this machine.

    Attributes:
        files: Parquet files.
        staged: rows that they must have.
        rejects: files of `REJECT_SCHEMA`: what could not be read.
        inputs: what was read.
        folder: for what is made of them; it goes with them.
        delimited: columns whose texts no source gave a type; see `lookbook.tasks.tables.staging.delimited_columns`.
    """

    files: Sequence[Path]
    staged: int
    rejects: Sequence[Path]
    inputs: Sequence[str]
    folder: Path
    delimited: Mapping[str, str] = field(default_factory=dict)


@contextmanager
def local_batch(workspace: Workspace, stages: Sequence[Stage], others: Sequence[Stage] = ()) -> Iterator[LoadRows]:
    """Yield the rows of stages on this machine, and the rejects of theirs and of others."""
    with working_folder(workspace) as folder:
        found = [(stage, local_files(workspace.lake, stage, folder / "staged")) for stage in stages]
        files = [path for _, paths in found for path in paths]
        keys = [stage.rejects for stage in (*stages, *others) if stage.rejects]
        rejects = [workspace.lake.local_copy(key, folder / "staged") for key in dict.fromkeys(keys)]
        inputs = tuple(dict.fromkeys(name for stage in (*stages, *others) for name in stage.inputs))
        delimited, _ = delimited_columns(found)
        yield LoadRows(files, sum(stage.rows for stage in stages), rejects, inputs, folder, delimited)


@contextmanager
def working_folder(workspace: Workspace) -> Iterator[Path]:
    """Yield a folder in the workspace's scratch that is gone at the end."""
    workspace.scratch.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=workspace.scratch, prefix="load-") as folder:
        yield Path(folder)


def prepare_rows(
    place: Destination, entry: LoadEntry, settings: LoadSettings, rows: LoadRows
) -> tuple[PreparedRows, datetime]:
    """Make rows fit their table as it stands; every one of them must be accepted or rejected."""
    loaded_at = datetime.now(UTC)
    standing = place.state(settings.table)
    batch = Batch(rows.files, settings, entry.load_id, loaded_at, rows.delimited)
    prepared = prepare(batch, standing.columns if standing else None, rows.folder)
    if settings.target == "registry":
        from lookbook.tasks.tables.load.postgres_tables import values_with_nul  # noqa: PLC0415 - as in `destination`

        found = values_with_nul(prepared.columns, prepared.files, rows.folder)
        prepared = replace(prepared, replaced=found)
    balance(rows.staged, prepared, settings.table)
    balance(sum(pq.ParquetFile(path).metadata.num_rows for path in rows.files), prepared, settings.table)
    return prepared, loaded_at


def write(
    workspace: Workspace,
    place: Destination,
    prepared: PreparedRows,
    entry: LoadEntry,
    settings: LoadSettings,
    loaded_at: datetime,
) -> int:
    """Write rows that fit; how many gave way to others of the batch.

    No rows make no table, and change one only where they are to replace it.
    """
    if not prepared.rows and (settings.write_disposition != "replace" or place.state(settings.table) is None):
        return 0
    job = LoadJob(settings.table, prepared.columns, prepared.files, prepared.rows, entry.load_id, loaded_at, settings)
    with ExitStack() as stack:
        if settings.target == "warehouse":  # snapshots and models are written there too
            stack.enter_context(warehouse_lease(workspace.registry))
        confirm(workspace.registry)
        return place.load(job) or 0


@contextmanager
def writing(workspace: Workspace, entry: LoadEntry) -> Iterator[None]:
    """Let loads into one table wait for each other, from the look at its columns to the commit."""
    name = f"feeds:{entry.place}:{entry.table}"
    shared = entry.place == "warehouse"
    with warehouse_lease(workspace.registry, name) if shared else lease(workspace.registry, name, math.inf):
        yield


def destination(workspace: Workspace, target: Target) -> Destination:
    """Return the place with the tables of a target."""
    if target == "lake":
        from lookbook.tasks.tables.lake.commit import LakeTables  # noqa: PLC0415 - each place brings libraries of its own

        found: Destination = LakeTables(workspace.lake, workspace.scratch)
        return found
    if target == "registry":
        from lookbook.tasks.tables.load.postgres_tables import PostgresTables  # noqa: PLC0415

        return PostgresTables(workspace.registry, workspace.scratch)
    from lookbook.blocks.duckdb.warehouse import DuckDBWarehouse  # noqa: PLC0415
    from lookbook.tasks.tables.load.duckdb_tables import DuckDBTables  # noqa: PLC0415

    if isinstance(workspace.warehouse, DuckDBWarehouse):
        return DuckDBTables(workspace.warehouse)
    from lookbook.blocks.bigquery.warehouse import BigQueryWarehouse  # noqa: PLC0415 - needs an extra, as its block did
    from lookbook.tasks.tables.load.bigquery_tables import BigQueryTables  # noqa: PLC0415

    assert isinstance(workspace.warehouse, BigQueryWarehouse)  # noqa: S101 - there is no third
    return BigQueryTables(workspace.warehouse, workspace.scratch)


def of_rejects(entry: LoadEntry, rejected: int, inputs: Sequence[str], unreadable: Sequence[str] = ()) -> LoadResult:
    """Return what became of rows that are all rejects, and of no table."""
    return LoadResult(
        place=entry.place,
        table=entry.table,
        load_id=entry.load_id,
        rows_in=rejected,
        rows_loaded=0,
        rejected=rejected,
        superseded=0,
        columns={},
        rows=0,
        inputs=tuple(inputs),
        state=None,
        unreadable=tuple(unreadable),
    )


def result_of(
    place: Destination, entry: LoadEntry, prepared: PreparedRows, superseded: int, rows: LoadRows
) -> LoadResult:
    """Return what became of the rows."""
    state = place.state(entry.table)
    return LoadResult(
        place=place.place,
        table=entry.table,
        load_id=entry.load_id,
        rows_in=rows.staged,
        rows_loaded=prepared.rows - superseded,
        rejected=prepared.rejected,
        superseded=superseded,
        columns=prepared.columns,
        rows=state.rows if state else 0,
        inputs=tuple(rows.inputs),
        state=state,
        discarded=prepared.discarded,
        replaced=prepared.replaced,
    )
