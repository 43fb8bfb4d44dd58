"""A load into a table of the lake: which files stay, which are written, then manifest and CURRENT, the commit."""

from __future__ import annotations

import hashlib
import tempfile
import uuid
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING

from pydantic import BaseModel, ValidationError

from lookbook.blocks.duckdb.queries import engine
from lookbook.blocks.errors import LookbookError, ObjectNotFoundError, SwapConflictError
from lookbook.blocks.lake import Lake
from lookbook.blocks.registry import raised
from lookbook.blocks.sql_text import literal, quoted
from lookbook.tasks.datasets.manifest import Current
from lookbook.tasks.runs.catalogue import TableState
from lookbook.tasks.tables.engine import memory_for
from lookbook.tasks.tables.lake.files import (
    FILE,
    NewFile,
    adopt_files,
    checked_types,
    future_key,
    relation,
    store_files,
    write_files,
)
from lookbook.tasks.tables.lake.manifest import (
    CurrentTable,
    DataFile,
    TableManifest,
    current_key,
    manifest_key,
    read_current,
    read_manifest,
    read_table,
    table_folder,
)
from lookbook.tasks.tables.load.job import LOAD_ID, TAG_COLUMNS, LoadJob
from lookbook.tasks.tables.staging import FILE_BYTES

if TYPE_CHECKING:
    from duckdb import DuckDBPyConnection


@dataclass(frozen=True)
class JobRows:
    """Statements for a job's rows.

    Attributes:
        table: with the columns that it has once they are loaded.
    """

    job: LoadJob
    table: TableManifest

    def key(self) -> tuple[str, ...]:
        """Return the columns that name a row.

        Raises:
            LookbookError: the job has not all of them.
        """
        keys = tuple(self.job.settings.primary_key)
        lacking = [name for name in keys if name not in self.job.columns]
        if lacking:
            raise LookbookError(
                f"lake.{self.job.table}: the rows to merge have no column {lacking[0]}, which primary_key names.",
                f"They have {', '.join(name for name in self.job.columns if name not in TAG_COLUMNS)}.",
            )
        return keys

    def winners(self) -> str:
        """Return one row a key: the first by dedup_sort, and of those that are equal the one that came last.

        Only its key and its place are kept: what is joined and sorted is narrow, however wide the rows are.
        """
        sort = [f"{quoted(name)} {way.upper()} NULLS LAST" for name, way in self.job.settings.dedup_sort.items()]
        order = ", ".join([*sort, "__file_number DESC", "__row_number DESC"])
        keys = ", ".join(map(quoted, self.key()))
        return (
            f"SELECT {keys}, __file_number, __row_number FROM ({self.select(numbered=True)})"  # noqa: S608 - made by us
            f" QUALIFY row_number() OVER (PARTITION BY {keys} ORDER BY {order}) = 1"
        )

    def deleted(self) -> str:
        """Return a condition: the row only says that the row of its key is to go."""
        column = self.job.settings.hard_delete
        if column is None or column not in self.job.columns:
            return "false"
        is_truth = self.table.columns[column] == "BOOLEAN"
        return f"coalesce({quoted(column)}, false)" if is_truth else f"({quoted(column)} IS NOT NULL)"

    def select(self, *, numbered: bool = False) -> str:
        """Return the job's rows with the columns of the table, numbered as they came if that is asked for."""
        columns = [
            f"CAST({quoted(name) if name in self.job.columns else 'NULL'} AS {type_}) AS {quoted(name)}"
            for name, type_ in self.table.columns.items()
        ]
        files = f"[{', '.join(literal(str(path)) for path in self.job.files)}]"
        if numbered:
            columns += [f"list_position({files}, __file) AS __file_number", "file_row_number AS __row_number"]
        if not self.job.files:
            nulls = ", ".join(f"CAST(NULL AS {t}) AS {quoted(n)}" for n, t in self.table.columns.items())
            return f"SELECT {nulls} WHERE false"
        options = ", filename = '__file', file_row_number = true" if numbered else ""
        return f"SELECT {', '.join(columns)} FROM read_parquet({files}, hive_partitioning = false{options})"  # noqa: S608 - made by us


#: A file of a job that is larger is cut into smaller ones.
LARGEST = 2 * FILE_BYTES
#: Megabytes that a statement may hold, and more for each column: beside it, Arrow holds what is being written.
MEMORY = 256


@dataclass(frozen=True)
class TableChange:
    """The next snapshot of a table.

    Attributes:
        kept: files of the snapshot before.
        added: files that are to be written; their columns are `layout`.
        superseded: rows of the job that gave way to another one with the same key.
    """

    columns: dict[str, str]
    partition_by: tuple[str, ...]
    kept: list[DataFile]
    added: list[NewFile]
    superseded: int = 0

    @property
    def layout(self) -> tuple[str, ...]:
        """The columns that stand in files."""
        return tuple(name for name in self.columns if name not in self.partition_by)

    def leaves(self, before: TableManifest | None) -> bool:
        """Return whether the table stays as it is but for the added files."""
        return before is not None and (self.columns, self.partition_by, self.kept) == (
            before.columns,
            before.partition_by,
            before.files,
        )


def plan_change(
    job: LoadJob, before: TableManifest | None, copy: Callable[[DataFile], Path], folder: Path
) -> TableChange:
    """Make the files of the next snapshot.

    Args:
        job: what is loaded.
        before: the table as it stands.
        copy: gives a file of the table where it can be read.
        folder: of this machine, for the new files.

    Raises:
        LookbookError: the job does not fit the table.
    """
    standing = before or _nothing(job)
    with engine(folder, [*job.files], memory_for(MEMORY, len(job.columns))) as (connection, _):
        columns = _columns(connection, job, standing)
    now = standing.model_copy(update={"columns": columns, "partition_by": _partition_by(job, before, columns)})
    return _Planner(job, now, copy, folder).plan()


def _nothing(job: LoadJob) -> TableManifest:
    return TableManifest(
        table=job.table,
        snapshot_id="",
        created_at=datetime.now(UTC),
        previous=None,
        load_id="",
        columns={},
        partition_by=tuple(job.settings.partition_by),
        layouts=[],
        files=[],
    )


def _columns(connection: DuckDBPyConnection, job: LoadJob, before: TableManifest) -> dict[str, str]:
    """Return the table's columns with those that the job adds; the tags stay the last ones."""
    given, columns = checked_types(connection, job.table, job.columns), dict(before.columns)
    for name, type_ in given.items():
        if columns.setdefault(name, type_) != type_:
            raise LookbookError(
                f"lake.{job.table}: column {name} is {columns[name]}, and the rows to load have {type_}.",
                "Give the column its type in fields, or load into another table.",
            )
    return {name: type_ for name, type_ in columns.items() if name not in TAG_COLUMNS} | {
        name: columns.get(name, type_) for name, type_ in TAG_COLUMNS.items()
    }


def _partition_by(job: LoadJob, before: TableManifest | None, columns: Mapping[str, str]) -> tuple[str, ...]:
    wanted = tuple(job.settings.partition_by)
    lacking = [name for name in wanted if name not in columns or name in TAG_COLUMNS]
    if lacking or len(set(wanted)) != len(wanted):
        raise LookbookError(
            f"lake.{job.table}: it cannot be partitioned by {', '.join(wanted)}: "
            + (f"there is no column {lacking[0]}." if lacking else "a column is named twice."),
            f"It has {', '.join(name for name in columns if name not in TAG_COLUMNS)}.",
        )
    replaced = before is None or job.settings.write_disposition == "replace"
    if not replaced and before is not None and before.partition_by != wanted:
        raise LookbookError(
            f"lake.{job.table} is partitioned by {', '.join(before.partition_by) or 'nothing'}, "
            f"and the load says {', '.join(wanted) or 'nothing'}.",
            "Say what the table has in partition_by, or load it once with write_disposition replace.",
        )
    return wanted


@dataclass(frozen=True)
class _Planner:
    job: LoadJob
    table: TableManifest
    copy: Callable[[DataFile], Path]
    folder: Path

    @property
    def _rows(self) -> JobRows:
        return JobRows(self.job, self.table)

    def plan(self) -> TableChange:
        disposition = self.job.settings.write_disposition
        if disposition == "merge":
            return self._merged() if self.job.rows else self._change(self.table.files, [])
        if disposition == "replace":
            return self._change([], self._written())
        kept = [file for file in self.table.files if not _is_of(file, self.job.load_id)]
        mixed = {file.key: self.copy(file) for file in kept if file.load_id is None}
        return self._without_load(kept, mixed) if mixed else self._change(kept, self._written())

    def _change(self, kept: Iterable[DataFile], added: list[NewFile], superseded: int = 0) -> TableChange:
        return TableChange(self.table.columns, self.table.partition_by, list(kept), added, superseded)

    def _engine(
        self, files: Mapping[str, Path] | None = None
    ) -> AbstractContextManager[tuple[DuckDBPyConnection, Path]]:
        return engine(
            self.folder, [*self.job.files, *(files or {}).values()], memory_for(MEMORY, len(self.job.columns))
        )

    def _layout(self) -> tuple[str, ...]:
        return self._change([], []).layout

    def _written(self) -> list[NewFile]:
        """Return the rows of the job in files of their own."""
        whole = set(self.table.columns) == set(self.job.columns) and not self.table.partition_by
        if whole and all(path.stat().st_size <= LARGEST for path in self.job.files):
            return adopt_files(self.job.files, self.job.load_id)
        with self._engine() as (connection, _):
            return self._write(connection, self._rows.select())

    def _without_load(self, kept: Sequence[DataFile], mixed: Mapping[str, Path]) -> TableChange:
        """Append where a merge put rows of several loads into one file: those of this load are taken out of it."""
        load_id = quoted(LOAD_ID)
        ours = f"({load_id} = {literal(self.job.load_id)} OR starts_with({load_id}, {literal(self.job.load_id + '.')}))"
        with self._engine(mixed) as (connection, _):
            everything = relation(self.table, mixed, with_file=True)
            paths = _paths(connection, f"SELECT DISTINCT {FILE} FROM ({everything}) WHERE {ours}")  # noqa: S608 - ours
            concerned = {key: path for key, path in mixed.items() if str(path) in paths}
            rest = f"SELECT * FROM ({relation(self.table, concerned)}) WHERE NOT {ours}"  # noqa: S608 - ours
            rows = f"{rest} UNION ALL {self._rows.select()}" if concerned else self._rows.select()
            return self._change((f for f in kept if f.key not in concerned), self._write(connection, rows))

    def _merged(self) -> TableChange:
        """Merge: files with a key that the job has are written anew, without those rows; then come the job's."""
        candidates = {file.key: self.copy(file) for file in self._candidates()}
        with self._engine(candidates) as (connection, _):
            connection.execute(f"CREATE TEMP TABLE winners AS {self._rows.winners()}")
            same = " AND ".join(f"t.{quoted(k)} IS NOT DISTINCT FROM w.{quoted(k)}" for k in self._rows.key())
            held = f"({relation(self.table, candidates, with_file=True)}) AS t SEMI JOIN winners AS w ON {same}"
            paths = _paths(connection, f"SELECT DISTINCT t.{FILE} FROM {held}")  # noqa: S608 - made by us
            concerned = {key: path for key, path in candidates.items() if str(path) in paths}
            others = f"SELECT t.* FROM ({relation(self.table, concerned)}) AS t ANTI JOIN winners AS w ON {same}"  # noqa: S608 - made by us
            stay = (
                f"SELECT j.* EXCLUDE (__file_number, __row_number) FROM ({self._rows.select(numbered=True)}) AS j"  # noqa: S608 - made by us
                f" SEMI JOIN winners AS w ON j.__file_number = w.__file_number AND j.__row_number = w.__row_number"
                f" WHERE NOT {self._rows.deleted()}"
            )
            added = self._write(connection, f"{others} UNION ALL {stay}")
            superseded = self.job.rows - _count(connection, "winners")
            return self._change((f for f in self.table.files if f.key not in concerned), added, superseded)

    def _candidates(self) -> list[DataFile]:
        """Return the files that may hold a key of the job: of its partitions only, where the key says the partition."""
        places = self.table.partition_by
        if not places or not set(places) <= set(self.job.settings.primary_key):
            return self.table.files
        wanted = ", ".join(f"CAST({quoted(name)} AS VARCHAR)" for name in places)
        with self._engine() as (connection, _):
            found = set(connection.execute(f"SELECT DISTINCT {wanted} FROM ({self._rows.select()})").fetchall())  # noqa: S608 - made by us
        return [file for file in self.table.files if file.partition in found]

    def _write(self, connection: DuckDBPyConnection, rows: str) -> list[NewFile]:
        layout, places = self._layout(), self.table.partition_by
        columns = [*map(quoted, layout), *(f"CAST({quoted(name)} AS VARCHAR)" for name in places)]
        select = f"SELECT {', '.join(columns)} FROM ({rows})"  # noqa: S608 - made by us
        return write_files(connection, select, layout, places, self.folder)


def _is_of(file: DataFile, load_id: str) -> bool:
    """Return whether a load brought all rows of a file: itself, or by taking up its rejects again."""
    return file.load_id is not None and (file.load_id == load_id or file.load_id.startswith(f"{load_id}."))


def _paths(connection: DuckDBPyConnection, statement: str) -> set[str]:
    return {path for (path,) in connection.execute(statement).fetchall()}


def _count(connection: DuckDBPyConnection, table: str) -> int:
    counted = connection.execute(f"SELECT count(*) FROM {quoted(table)}").fetchone()  # noqa: S608 - quoted
    return int(counted[0]) if counted else 0


# Before a load writes files it notes their names under ``writing/``. Where it is killed, the next try of the same
# load finds them there, and removes those that no manifest lists.

#: What a load noted so long ago it does not write any more.
GRACE = timedelta(days=1)


class Writing(BaseModel):
    """What a load is about to write."""

    load_id: str
    started_at: datetime
    keys: list[str]


def commit_change(lake: Lake, job: LoadJob, current: CurrentTable | None, change: TableChange) -> None:
    """Make a change the table that readers see.

    Raises:
        SwapConflictError: another load was quicker; what this one wrote is removed.
        LeaseLostError: the table was changed by the run that took a lease of this one; nothing was written.
    """
    fences = raised(current.fences if current else {})
    now = datetime.now(UTC)
    snapshot_id = f"{now:%Y%m%dT%H%M%S}{now.microsecond // 1000:03d}Z-{uuid.uuid4().hex[:8]}"
    note = f"{table_folder(job.table)}/writing/{snapshot_id}.json"
    keys = [future_key(job.table, change.partition_by, file) for file in change.added]
    if keys:
        lake.put(note, Writing(load_id=job.load_id, started_at=now, keys=keys).model_dump_json().encode())
    manifest = _manifest(lake, job, current, change, snapshot_id, now)
    text = manifest.model_dump_json().encode()
    lake.put(manifest_key(job.table, snapshot_id), text)
    lake.settle()
    content = Current(snapshot_id=snapshot_id, manifest_sha256=hashlib.sha256(text).hexdigest(), fences=fences)
    pointer = content.model_dump_json(exclude_defaults=True).encode()
    try:
        lake.swap(current_key(job.table), pointer, current.version if current else None)
    except SwapConflictError:
        _withdraw(lake, manifest, keys)
        lake.remove(note)
        raise
    _sweep(lake, manifest, current.manifest if current else None)
    if keys:
        lake.remove(note)


def _manifest(
    lake: Lake, job: LoadJob, current: CurrentTable | None, change: TableChange, snapshot_id: str, now: datetime
) -> TableManifest:
    """Write the new files, and list them with those that stay."""
    layouts = list(current.manifest.layouts) if current and change.kept else []
    if change.layout not in layouts:
        layouts.append(change.layout)
    added = store_files(lake, job.table, change.partition_by, change.added, layouts.index(change.layout))
    return TableManifest(
        table=job.table,
        snapshot_id=snapshot_id,
        created_at=now,
        previous=current.manifest.snapshot_id if current else None,
        load_id=job.load_id,
        columns=change.columns,
        partition_by=change.partition_by,
        layouts=layouts,
        files=[*change.kept, *added],
    )


def _withdraw(lake: Lake, manifest: TableManifest, keys: Iterable[str]) -> None:
    """Remove what a load wrote that lost: unless it is listed, because the answer to its swap was lost on the way."""
    listed = _listed(lake, manifest.table)
    for key in keys:
        if key not in listed:
            lake.remove(key)
    if not listed & set(keys):
        lake.remove(manifest_key(manifest.table, manifest.snapshot_id))


def _listed(lake: Lake, table: str) -> set[str]:
    """Return the files that the current snapshot and the one before it list."""
    current = read_current(lake, table)
    if current is None:
        return set()
    before = read_manifest(lake, table, current.manifest.previous) if current.manifest.previous else None
    return _keys(current.manifest) | _keys(before)


def _keys(manifest: TableManifest | None) -> set[str]:
    return {file.key for file in manifest.files} if manifest else set()


def _sweep(lake: Lake, manifest: TableManifest, before: TableManifest | None) -> None:
    """Remove what no reader can be reading any more: snapshots before the last two, and files of killed loads.

    The manifest of a snapshot goes after its files: who is killed in between is followed by the next load.
    """
    listed = _keys(manifest) | _keys(before)
    former = before.previous if before else None
    while former and (old := read_manifest(lake, manifest.table, former)) is not None:
        _remove(lake, (file for file in old.files if file.key not in listed))
        lake.remove(manifest_key(manifest.table, former))
        former = old.previous
    for info in list(lake.list(f"{table_folder(manifest.table)}/writing")):
        note = _read_note(lake, info.key)
        if note is not None and (note.load_id == manifest.load_id or note.started_at < datetime.now(UTC) - GRACE):
            for key in note.keys:
                if key not in listed:
                    lake.remove(key)
            lake.remove(info.key)


def _remove(lake: Lake, files: Iterable[DataFile]) -> None:
    for file in files:
        lake.remove(file.key)


def _read_note(lake: Lake, key: str) -> Writing | None:
    try:
        return Writing.model_validate_json(lake.get(key))
    except (ObjectNotFoundError, ValidationError):
        return None


#: So often a load begins anew because another one of the same table was quicker.
TRIES = 20


class LakeTables:
    """The place ``lake`` of loads; see `lookbook.tasks.tables.load.job.Destination`.

    Args:
        lake: where the tables lie, under ``tables/``.
        scratch: a folder of this machine, for new files before they are sent and for copies out of a bucket.
    """

    place = "lake"

    def __init__(self, lake: Lake, scratch: Path) -> None:
        self._lake, self._scratch = lake, scratch

    def state(self, table: str) -> TableState | None:
        """See `Destination.state`."""
        found = read_current(self._lake, table)
        if found is None:
            return None
        manifest = found.manifest
        return TableState(manifest.columns, manifest.rows, manifest.size, manifest.partitions())

    def read_table(self, table: str) -> list[str]:
        """Return the keys of the files that are the table now.

        Raises:
            LookbookError: there is no such table.
        """
        return read_table(self._lake, table)

    def load(self, job: LoadJob) -> int:
        """See `Destination.load`.

        Append puts files beside those that are there, in place of those of the same load; replace puts files in place
        of all; merge writes those files anew that hold a key of the job. Readers see all of it once CURRENT is swapped.

        Returns:
            How many rows gave way to another of the job with the same key.

        Raises:
            LookbookError: the job does not fit the table, or other loads of it were quicker many times in a row.
        """
        table_folder(job.table)
        for _ in range(TRIES):
            current = read_current(self._lake, job.table)
            try:
                return self._try(job, current)
            except SwapConflictError:
                continue  # what stands there now may hold other keys: the files are made anew
        raise LookbookError(
            f"lake.{job.table}: other loads changed it {TRIES} times while this one wrote its files.",
            "Run again when they have ended, or load the table from one pipeline only.",
        )

    def _try(self, job: LoadJob, current: CurrentTable | None) -> int:
        before = current.manifest if current else None
        self._scratch.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=self._scratch, prefix="table-") as folder:
            change = plan_change(
                job, before, lambda file: self._lake.local_copy(file.key, Path(folder, "copies")), Path(folder)
            )
            if change.added or not change.leaves(before):
                commit_change(self._lake, job, current, change)
            return change.superseded
