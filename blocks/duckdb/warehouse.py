"""The embedded warehouse: one DuckDB file."""

from __future__ import annotations

import re
import threading
import time
from collections.abc import Collection, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from pydantic import Field, field_validator

from lookbook.blocks.duckdb import models as feeds
from lookbook.blocks.duckdb import staging
from lookbook.blocks.duckdb.queries import Views, answer, attach, readable_tables
from lookbook.blocks.duckdb.staging import find_differences
from lookbook.blocks.errors import LookbookError
from lookbook.blocks.models import BuiltModel, FeedModel
from lookbook.blocks.sql_text import literal, quoted
from lookbook.blocks.warehouse import STAGING_KEYS, QueryCost, SnapshotLoad, StarModel, Warehouse, WarehouseTable

if TYPE_CHECKING:
    import pyarrow as pa
    from duckdb import DuckDBPyConnection, DuckDBPyRelation

#: DuckDB downloads no extensions.
_CLOSED = {
    "autoinstall_known_extensions": "false",
    "autoload_known_extensions": "false",
}

#: For what reads whole tables: the rest of what it compares goes beside the file for a while.
_SMALL = {"memory_limit": "400MB"}

#: For a user's statement: it reaches no other file, and no variable of this program.
_SEALED = _CLOSED | {"enable_external_access": "false", "lock_configuration": "true"}

# DuckDB names a database after its file, and then finds warehouse.images ambiguous in warehouse.duckdb.
_TAKEN_NAMES = frozenset({"warehouse", "staging", "feeds", "main", "temp", "system", "memory"})

# Threads of one process share DuckDB's lock on the file, and two writers among them would run into each other.
_WRITER = threading.Lock()


class DuckDBWarehouse(Warehouse):
    """A warehouse in a DuckDB file.

    DuckDB lets in one writing process and then no reader, or many readers and then no writer: the file is opened
    late and closed early, and one who finds it taken waits a while.
    """

    _block_type_name = "Lookbook DuckDB Warehouse"
    _block_type_slug = "lookbook-duckdb-warehouse"

    path: Path = Field(description="Absolute path of the DuckDB file, such as /data/lookbook.duckdb.")
    lock_timeout_seconds: float = Field(
        default=30.0, ge=0, description="How long to wait while another program has the file open."
    )

    @field_validator("path")
    @classmethod
    def _name_is_no_schema(cls, path: Path) -> Path:
        if path.stem.lower() in _TAKEN_NAMES:
            raise ValueError(
                f"DuckDB would mix up the file {path.name} with the schema {path.stem}: name it lookbook.duckdb"
            )
        return path

    def load_snapshot(self, load: SnapshotLoad, models: list[StarModel]) -> None:
        """See `Warehouse.load_snapshot`. It is one transaction: a crash leaves the former snapshot."""
        absent = sorted(STAGING_KEYS.keys() ^ load.tables.keys())
        if absent:
            raise LookbookError(f"A snapshot has the tables {', '.join(STAGING_KEYS)}; see {', '.join(absent)}.")
        names = [*load.tables, *(model.name for model in models)]
        with self._writing() as connection:
            connection.execute("CREATE SCHEMA IF NOT EXISTS staging")
            connection.execute("CREATE SCHEMA IF NOT EXISTS warehouse")
            connection.execute(
                "CREATE TABLE IF NOT EXISTS staging.current_snapshot"
                " (dataset VARCHAR, snapshot_id VARCHAR, _load_id VARCHAR, _loaded_at TIMESTAMP)"
            )
            found = staging.staging_columns(connection)
            for table, files in load.tables.items():
                wanted = staging.file_columns(connection, table, files)
                staging.ensure_table(connection, table, found.get(table), wanted)
            staging.lay_out(connection, load, models)
            for model in models:
                wanted = staging.laid_out_columns(connection, model.name)
                staging.ensure_table(connection, model.name, found.get(model.name), wanted)
            made = staging.staging_columns(connection)
            for name in names:
                staging.replace_rows(connection, name, load)
                staging.replace_view(connection, name, made[name])
            staging.flip(connection, load)

    def remove_dataset(self, dataset: str, models: list[StarModel]) -> None:  # noqa: ARG002 - all tables are found
        """See `Warehouse.remove_dataset`. It is one transaction."""
        if dataset in self.current_snapshots():
            with self._writing() as connection:
                staging.remove_dataset(connection, dataset)

    def compact(self) -> None:
        """See `Warehouse.compact`: the file is written anew, as DuckDB keeps the blocks of removed rows to reuse them.

        The new one takes the place of the old one while that is still locked: who waits for it opens the new one.
        """
        import duckdb  # noqa: PLC0415 - late: importing the block is to be quick

        if not self.path.exists():
            return
        if not _WRITER.acquire(timeout=self.lock_timeout_seconds):
            raise self._taken("another load of this program")
        fresh = self.path.with_name(f"{self.path.name}.compact")
        try:
            fresh.unlink(missing_ok=True)  # of a run that was killed
            with self._opened(read_only=False, config=_CLOSED) as connection:
                own = connection.execute("SELECT current_database()").fetchall()[0][0]
                connection.execute("CHECKPOINT")  # then no log is left beside it
                connection.execute(f"ATTACH {literal(str(fresh))} AS lookbook_fresh")
                connection.execute(f"COPY FROM DATABASE {quoted(own)} TO lookbook_fresh")
                connection.execute("DETACH lookbook_fresh")
                fresh.replace(self.path)
        except (duckdb.Error, OSError) as error:
            raise LookbookError(
                f"The warehouse {self.path} could not be written anew: {str(error).strip()}",
                "What was loaded still stands. Mend the cause, then run again.",
            ) from error
        finally:
            fresh.unlink(missing_ok=True)
            _WRITER.release()

    def tables_holding(self, values: Collection[str]) -> list[str]:
        """Return the tables and columns in which one of some texts stands, those of pipelines too; all are read."""
        if not self.path.exists():
            return []
        with self._opened(read_only=True, config=_SEALED) as connection:
            columns = connection.execute(
                "SELECT c.schema_name, c.table_name, c.column_name FROM duckdb_columns() AS c JOIN duckdb_tables() AS t"
                " ON c.table_oid = t.table_oid AND c.database_name = t.database_name"
                " WHERE c.data_type = 'VARCHAR' AND NOT c.internal ORDER BY ALL"
            ).fetchall()
            found = []
            for schema, table, column in columns:
                rows = f"FROM {quoted(schema)}.{quoted(table)} WHERE {quoted(column)} IN (FROM unnest($1)) LIMIT 1"
                sql = f"SELECT 1 {rows}"
                if connection.execute(sql, [sorted(values)]).fetchall():
                    found.append(f"{schema}.{table}.{column}")
            return found

    def current_snapshots(self) -> dict[str, str]:
        """See `Warehouse.current_snapshots`."""
        if not self.path.exists():
            return {}
        with self._opened(read_only=True, config=_SEALED) as connection:
            if not _is_loaded(connection):
                return {}
            found = connection.execute("SELECT dataset, snapshot_id FROM staging.current_snapshot ORDER BY 1")
            return dict(found.fetchall())

    def query(self, sql: str) -> pa.Table:
        """See `Warehouse.query`."""
        with self._found(sql) as found:
            return found.to_arrow_table()

    def dry_run(self, sql: str) -> QueryCost:
        """See `Warehouse.dry_run`. A relation is bound, so that names and types are checked, but not run."""
        with self._found(sql):
            return QueryCost(None)

    @contextmanager
    def feeding(self, memory: str) -> Iterator[DuckDBPyConnection]:
        """Yield a connection for the tables of pipelines, with an open transaction: committed at the end, or given up.

        The file is closed to all others meanwhile. Statements may read files of this machine.

        Args:
            memory: what a statement may hold; beyond, it spills to a folder beside the file.

        Raises:
            LookbookError: the file is held by another program, cannot be opened, or DuckDB refuses a statement.
        """
        with self._writing() as connection:
            connection.execute("SET memory_limit = $1", [memory])
            connection.execute("SET TimeZone = 'UTC'")
            yield connection

    @contextmanager
    def reading_feeds(self) -> Iterator[DuckDBPyConnection | None]:
        """Yield a connection that only reads, and no other file; None where nothing was loaded yet."""
        if not self.path.exists():
            yield None
            return
        with self._opened(read_only=True, config=_SEALED) as connection:
            yield connection

    @contextmanager
    def _found(self, sql: str) -> Iterator[DuckDBPyRelation]:
        """Yield what a statement gives, not fetched yet."""
        self._check_there()
        with self._opened(read_only=True, config=_SEALED) as connection, answer(connection, sql) as found:
            yield found

    @contextmanager
    def reading(self, views: Views) -> Iterator[DuckDBPyConnection]:
        """Yield a connection for a user's statement over the warehouse and over views of other files.

        It reaches the warehouse's file and those of the views. One that finds the file taken waits, as in `query`.

        Raises:
            LookbookError: as `query`.
        """
        self._check_there()
        with self._opened(read_only=True, config=_CLOSED | views.config) as connection:
            attach(connection, views)
            yield connection

    def _check_there(self) -> None:
        if not self.path.exists():
            raise LookbookError(
                f"Nothing was loaded yet: there is no warehouse {self.path}.",
                'Run "lookbook ingest SOURCE --dataset NAME" first.',
            )

    def tables(self) -> dict[str, WarehouseTable]:
        """See `Warehouse.tables`. Views are not counted: that would read them."""
        if not self.path.exists():
            return {}
        with self._opened(read_only=True, config=_SEALED) as connection:
            return readable_tables(connection)

    def differences(self, load: SnapshotLoad, models: list[StarModel]) -> list[str]:
        """See `Warehouse.differences`.

        Raises:
            LookbookError: the warehouse, or a file of the snapshot, cannot be read.
        """
        import duckdb  # noqa: PLC0415 - late: importing the block is to be quick

        nothing = [f"warehouse: no snapshot of {load.dataset} is loaded"]
        if not self.path.exists():
            return nothing
        with self._opened(read_only=True, config=_CLOSED | _SMALL) as connection:
            try:
                return find_differences(connection, load, models) if _is_loaded(connection) else nothing
            except duckdb.Error as error:
                raise LookbookError(
                    f"The warehouse {self.path} could not be compared with the lake: {str(error).strip()}",
                    f'Run "lookbook verify {load.dataset} --repair" to load it anew.',
                ) from error

    def build_feed_models(self, models: Sequence[FeedModel]) -> list[BuiltModel]:
        """See `Warehouse.build_feed_models`. It is one transaction."""
        with self._writing() as connection:
            return feeds.build_models(connection, models)

    def read_columns(self, table: str, columns: Sequence[str]) -> pa.Table:
        """See `Warehouse.read_columns`."""
        return self.query(feeds.reading(table, columns))

    @contextmanager
    def _writing(self) -> Iterator[DuckDBPyConnection]:
        """Yield a connection with an open transaction: committed at the end, given up when anything is raised.

        The file lets nobody else write from here on: a run that has lost a lease by now learns it here.
        """
        import duckdb  # noqa: PLC0415 - late: importing the block is to be quick

        if not _WRITER.acquire(timeout=self.lock_timeout_seconds):
            raise self._taken("another load of this program")
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            with self._opened(read_only=False, config=_CLOSED) as connection:
                connection.begin()
                staging.raise_fences(connection)
                yield connection
                connection.commit()
        except (duckdb.Error, OSError) as error:
            raise LookbookError(
                f"The warehouse {self.path} could not be loaded: {str(error).strip()}",
                "What was loaded before still stands. Mend the cause, then run again.",
            ) from error
        finally:
            _WRITER.release()

    @contextmanager
    def _opened(self, *, read_only: bool, config: dict[str, str]) -> Iterator[DuckDBPyConnection]:
        connection = self._open(read_only, config)
        try:
            yield connection
        finally:
            connection.close()

    def _open(self, read_only: bool, config: dict[str, str]) -> DuckDBPyConnection:
        import duckdb  # noqa: PLC0415 - late: importing the block is to be quick

        deadline = time.monotonic() + self.lock_timeout_seconds
        while True:
            try:
                return duckdb.connect(str(self.path), read_only=read_only, config=dict(config))
            except duckdb.Error as error:
                holder = _holder(str(error))
                if holder is None:
                    raise LookbookError(
                        f"The warehouse {self.path} cannot be opened: {str(error).strip()}",
                        'If it is damaged, move it away and run "lookbook verify NAME --repair": it is filled anew.',
                    ) from error
                if time.monotonic() >= deadline:
                    raise self._taken(holder) from error
            time.sleep(min(0.1, max(0.0, deadline - time.monotonic())))

    def _taken(self, holder: str) -> LookbookError:
        return LookbookError(
            f"The warehouse {self.path} is held by {holder}; waited {self.lock_timeout_seconds:g} s.",
            "Close that program, or wait until its run has ended; then run again.",
        )


def _holder(message: str) -> str | None:
    """Return who has the file open, by DuckDB's message; None when the message is about something else."""
    # DuckDB: "Conflicting lock is held in /usr/bin/python3.11 (PID 7581)", with "by user …" for another user's.
    if "Could not set lock" in message:
        named = re.search(r"lock is held in (?P<program>.+?) \(PID (?P<pid>\d+)\)", message)
        return f"{Path(named['program']).name} (process {named['pid']})" if named else "another program"
    # The second one where threads open and close at the same moment.
    if "with a different configuration" in message or "Unique file handle conflict" in message:
        return "another connection of this program"
    return None


def _is_loaded(connection: DuckDBPyConnection) -> bool:
    """Return whether a load was ever committed to this file."""
    return "current_snapshot" in staging.staging_columns(connection)
