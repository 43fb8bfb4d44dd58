"""The desk of a run: tables that may be larger than memory, in a DuckDB that spills to the folder for scratch."""

from __future__ import annotations

import os
import weakref
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import psutil
import pyarrow as pa
import pyarrow.parquet as pq

from lookbook.blocks.errors import LookbookError
from lookbook.blocks.sql_text import parquet_files
from lookbook.blocks.workspace import scratch_folder

if TYPE_CHECKING:
    from tempfile import TemporaryDirectory

    from duckdb import DuckDBPyConnection

#: Bytes that DuckDB may hold, if that suffices; the rest goes to disk. Each of its threads takes a share.
MEMORY, MOST_THREADS = 400_000_000, 2
#: And while other work needs memory.
AT_REST = "50MB"
T = TypeVar("T")

#: Rows that are handed over at once.
ROWS = 20_000
#: Rows of a group of a Parquet file that is written: as many are held meanwhile.
GROUP_ROWS = 50_000


class Desk:
    """Tables of one run, by names of ours.

    Attributes:
        folder: for files of the run; it is removed with this object.
    """

    def __init__(self, scratch: Path) -> None:
        """Make an empty one.

        Args:
            scratch: a folder of this machine.

        Raises:
            LookbookError: it can't be used.
        """
        import duckdb  # noqa: PLC0415 - late: importing the tasks is to be quick

        folder = scratch_folder(scratch, "run-")
        self.folder = Path(folder.name)
        self._memory = MEMORY
        config: dict[str, Any] = {"memory_limit": f"{MEMORY}B", "temp_directory": f"{folder.name}/spill"}
        config |= {"threads": min(MOST_THREADS, os.cpu_count() or 1), "preserve_insertion_order": "false"}
        self._connection = duckdb.connect(config=config | {"autoload_known_extensions": "false"})
        self._connection.execute("SET TimeZone = 'UTC'")
        # As `lookbook.tasks.datasets.links.key_order` has it.
        self._connection.execute("CREATE MACRO depth(key) AS length(key) - length(replace(key, '/', ''))")
        weakref.finalize(self, _close, self._connection, folder)

    @property
    def connection(self) -> DuckDBPyConnection:
        """Return what the tables lie in, for those who name a table of their own in it."""
        return self._connection

    def run(self, sql: str, *values: object) -> None:
        """Do a statement with values for its ``?``."""
        self._tried(lambda: self._connection.execute(sql, values))

    def rows(self, sql: str, *values: object) -> list[tuple[Any, ...]]:
        """Return all rows of a small answer."""
        return self._tried(lambda: self._connection.execute(sql, values).fetchall())

    def value(self, sql: str, *values: object) -> Any:  # noqa: ANN401
        """Return the one value of an answer."""
        return self.rows(sql, *values)[0][0]

    def table(self, sql: str, *values: object) -> pa.Table:
        """Return a small answer as a table."""
        return self._tried(lambda: self._connection.sql(sql, params=list(values)).to_arrow_table())

    def stream(self, sql: str, *values: object, rows: int = ROWS) -> Iterator[pa.Table]:
        """Yield an answer of any size, so many rows at once; other statements may be done meanwhile."""
        with self.space(), self._connection.cursor() as cursor:

            def begun() -> tuple[pa.RecordBatchReader, pa.RecordBatch | None]:
                reader = cursor.sql(sql, params=list(values)).to_arrow_reader(rows)
                return reader, next(reader, None)

            reader, batch = self._tried(begun)  # what sorts or joins has done so by then
            while batch is not None:
                if len(batch):
                    yield as_table(batch)
                batch = next(reader, None)

    def _tried(self, work: Callable[[], T]) -> T:
        """Do something with more memory where it lacks it: twice as much each time, up to half of the machine's."""
        import duckdb  # noqa: PLC0415 - as above

        with self.space():
            while True:
                try:
                    return work()
                except (duckdb.OutOfMemoryException, OSError) as error:
                    if "Out of Memory" not in str(error) or 2 * self._memory > psutil.virtual_memory().total // 2:
                        raise
                    self._memory *= 2
                    self._connection.execute(f"SET memory_limit = '{self._memory}B'")

    def make(self, name: str, schema: pa.Schema) -> None:
        """Make an empty table, in place of one of that name."""
        self._with("made", schema.empty_table(), f"CREATE OR REPLACE TABLE {name} AS FROM made")

    def add(self, name: str, rows: pa.Table) -> None:
        """Add rows to a table of the same columns."""
        self._with("added", rows, f"INSERT INTO {name} BY NAME FROM added")

    def put(self, name: str, rows: Sequence[Sequence[Any]], /, **columns: pa.DataType) -> None:
        """Make a table of some rows, in place of a table or a view of that name."""
        for kind in ("VIEW", "TABLE"):
            if self.rows(f"SELECT 1 FROM duckdb_{kind.lower()}s() WHERE {kind.lower()}_name = ?", name):  # noqa: S608
                self.run(f"DROP {kind} {name}")
        self.make(name, pa.schema(columns))
        if rows:
            self.add(name, pa.table(list(map(list, zip(*rows, strict=True))), pa.schema(columns)))

    def _with(self, name: str, table: pa.Table, sql: str) -> None:
        self._connection.register(name, table)
        try:
            self.run(sql)
        finally:
            self._connection.unregister(name)

    @contextmanager
    def space(self) -> Iterator[None]:
        """Say in words that neither memory nor the folder's disk holds a table."""
        import duckdb  # noqa: PLC0415 - as above

        try:
            yield
        except (duckdb.OutOfMemoryException, duckdb.IOException, OSError) as error:
            raise LookbookError(
                f"The tables of this run do not fit into {self._memory // 10**6} MB of memory and the folder for"
                f" scratch, {self.folder.parent}: {str(error).strip().partition(chr(10))[0]}",
                "Free some space there, or name another folder in the workspace's block; then run again.",
            ) from error

    def view(self, name: str, files: Sequence[Path] | None, schema: pa.Schema) -> None:
        """Give the Parquet files of a table a name; None stands for an empty table of a schema."""
        self.run(f"DROP VIEW IF EXISTS {name}")
        if files is None:
            self.make(f"no_{name}", schema)
        read = f"no_{name}" if files is None else parquet_files(files)
        self.run(f"CREATE VIEW {name} AS FROM {read}")

    def rest(self) -> None:
        """Give back memory: what comes next needs it for something else."""
        self.run(f"SET memory_limit = '{AT_REST}'")
        self.run(f"SET memory_limit = '{self._memory}B'")

    def save(self, name: str, schema: pa.Schema, tables: Iterable[pa.Table]) -> Path:
        """Write tables as one Parquet file of the folder, with the columns of a schema."""
        path = self.folder / f"{name}.parquet"
        with self.space(), pq.ParquetWriter(path, schema, compression="zstd") as writer:
            held: list[pa.Table] = []
            for table in tables:
                held.append(table.select(schema.names).cast(schema))
                if sum(map(len, held)) >= GROUP_ROWS:
                    writer.write_table(pa.concat_tables(held), row_group_size=GROUP_ROWS)
                    held = []
                    pa.default_memory_pool().release_unused()
            writer.write_table(pa.concat_tables(held) if held else schema.empty_table())
        return path


def _close(connection: DuckDBPyConnection, folder: TemporaryDirectory[str]) -> None:
    connection.close()
    folder.cleanup()


def side_by_side(first: Iterable[pa.Table], second: Iterable[pa.Table]) -> Iterator[tuple[pa.Table, pa.Table]]:
    """Yield two answers of as many rows side by side: the tables of the first, with the same rows of the second."""
    others, held = iter(second), list[pa.Table]()
    for table in first:
        while sum(map(len, held)) < len(table):
            held.append(next(others))
        ahead = pa.concat_tables(held)
        yield table, ahead.slice(0, len(table))
        held = [ahead.slice(len(table))]


def as_table(batch: pa.RecordBatch) -> pa.Table:
    """Return a batch of rows as a table."""
    return pa.Table.from_batches([batch])
