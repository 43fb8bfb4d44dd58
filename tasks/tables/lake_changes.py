"""What a load makes of a table in the lake: which files stay, and which are written."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

from lookbook.blocks.errors import LookbookError
from lookbook.tasks.tables.engine import engine, memory_for, quoted, text
from lookbook.tasks.tables.lake_files import NewFile, adopt_files, write_files
from lookbook.tasks.tables.lake_manifest import DataFile, TableManifest
from lookbook.tasks.tables.lake_rows import JobRows
from lookbook.tasks.tables.lake_views import FILE, checked_types, relation
from lookbook.tasks.tables.load.job import LOAD_ID, TAG_COLUMNS, LoadJob
from lookbook.tasks.tables.staging import FILE_BYTES

if TYPE_CHECKING:
    from duckdb import DuckDBPyConnection

#: A file of a job that is larger is cut into smaller ones.
LARGEST = 2 * FILE_BYTES
#: Megabytes that a statement may hold, and more for each column: beside it, Arrow holds what is being written.
MEMORY = 256


@dataclass(frozen=True)
class Change:
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


def plan_change(job: LoadJob, before: TableManifest | None, copy: Callable[[DataFile], Path], folder: Path) -> Change:
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

    def plan(self) -> Change:
        disposition = self.job.settings.write_disposition
        if disposition == "merge":
            return self._merged() if self.job.rows else self._change(self.table.files, [])
        if disposition == "replace":
            return self._change([], self._written())
        kept = [file for file in self.table.files if not _is_of(file, self.job.load_id)]
        mixed = {file.key: self.copy(file) for file in kept if file.load_id is None}
        return self._without_load(kept, mixed) if mixed else self._change(kept, self._written())

    def _change(self, kept: Iterable[DataFile], added: list[NewFile], superseded: int = 0) -> Change:
        return Change(self.table.columns, self.table.partition_by, list(kept), added, superseded)

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

    def _without_load(self, kept: Sequence[DataFile], mixed: Mapping[str, Path]) -> Change:
        """Append where a merge put rows of several loads into one file: those of this load are taken out of it."""
        load_id = quoted(LOAD_ID)
        ours = f"({load_id} = {text(self.job.load_id)} OR starts_with({load_id}, {text(self.job.load_id + '.')}))"
        with self._engine(mixed) as (connection, _):
            everything = relation(self.table, mixed, with_file=True)
            paths = _paths(connection, f"SELECT DISTINCT {FILE} FROM ({everything}) WHERE {ours}")  # noqa: S608 - ours
            concerned = {key: path for key, path in mixed.items() if str(path) in paths}
            rest = f"SELECT * FROM ({relation(self.table, concerned)}) WHERE NOT {ours}"  # noqa: S608 - ours
            rows = f"{rest} UNION ALL {self._rows.select()}" if concerned else self._rows.select()
            return self._change((f for f in kept if f.key not in concerned), self._write(connection, rows))

    def _merged(self) -> Change:
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
