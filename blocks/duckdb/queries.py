"""Users' statements in DuckDB: over the warehouse's file, over views of other files, or over both."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from lookbook.blocks.errors import LookbookError
from lookbook.blocks.sql_text import literal, quoted
from lookbook.blocks.warehouse import FEEDS_SCHEMA, WarehouseTable

if TYPE_CHECKING:
    from duckdb import DuckDBPyConnection, DuckDBPyRelation

#: What one statement may hold in memory; beyond, it spills to scratch.
MEMORY = "512MB"
QUERY_HELP = 'lookbook query "SHOW ALL TABLES" names the tables; those of schema warehouse are for reading.'


@dataclass(frozen=True)
class Views:
    """A DuckDB file that holds nothing but views over Parquet files.

    Attributes:
        name: under which statements see it.
        file: absolute path, in a folder that the statement may spill to.
        reads: the Parquet files.
    """

    name: str
    file: Path
    reads: Sequence[Path]

    @property
    def config(self) -> dict[str, str]:
        """Return the settings that a connection is opened with; no two are alike, so that nobody shares it."""
        return {"temp_directory": str(self.file.with_suffix(".spill"))}


def attach(connection: DuckDBPyConnection, views: Views) -> None:
    """Attach the views, and seal the connection: it reaches no other file, and no variable of this program."""
    connection.execute("SET allowed_paths = $1", [[str(path) for path in views.reads]])
    connection.execute(f"ATTACH {literal(str(views.file))} AS {quoted(views.name)} (READ_ONLY)")
    connection.execute("SET enable_external_access = false")
    connection.execute("SET lock_configuration = true")


@contextmanager
def engine(
    scratch: Path, readable: Sequence[Path | str] = (), memory: str = MEMORY
) -> Iterator[tuple[DuckDBPyConnection, Path]]:
    """Yield a DuckDB in memory, and a folder of its own that it may write to; both are gone at the end.

    Statements reach that folder, the files or folders in `readable`, and nothing else.

    Args:
        scratch: a folder of this machine.
        readable: files, or folders that end with a slash.
        memory: what one statement may hold.
    """
    import duckdb  # noqa: PLC0415 - late: importing the tasks is to be quick

    scratch.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=scratch, prefix="sql-") as folder:
        connection = duckdb.connect(
            config={
                "memory_limit": memory,
                "temp_directory": f"{folder}/spill",
                "autoinstall_known_extensions": "false",
                "autoload_known_extensions": "false",
            }
        )
        try:
            connection.execute("SET TimeZone = 'UTC'")
            connection.execute("SET allowed_directories = $1", [[f"{folder}/"]])
            connection.execute("SET allowed_paths = $1", [[str(path) for path in readable]])
            connection.execute("SET enable_external_access = false")
            connection.execute("SET lock_configuration = true")
            yield connection, Path(folder)
        finally:
            connection.close()


@contextmanager
def answer(connection: DuckDBPyConnection, sql: str) -> Iterator[DuckDBPyRelation]:
    """Yield what a statement gives, not fetched yet.

    Raises:
        LookbookError: it failed, now or when it was fetched; with the engine's message.
    """
    import duckdb  # noqa: PLC0415 - late: importing the block is to be quick

    try:
        found = connection.sql(sql)
        if found is not None:
            yield found
            return
    except duckdb.Error as error:
        raise LookbookError(str(error).strip(), QUERY_HELP) from error
    raise LookbookError("The statement gives no rows.", QUERY_HELP)


def readable_tables(connection: DuckDBPyConnection) -> dict[str, WarehouseTable]:
    """Return the tables and views for readers; tables are counted, which reads no row."""
    found = connection.execute(
        "SELECT schema_name, table_name, table_name IN (SELECT view_name FROM duckdb_views() AS v"
        " WHERE v.schema_name = c.schema_name), list(column_name ORDER BY column_index),"
        " list(data_type ORDER BY column_index) FROM duckdb_columns() AS c"
        " WHERE schema_name IN ('warehouse', ?) AND database_name = current_database() GROUP BY ALL ORDER BY ALL",
        [FEEDS_SCHEMA],
    ).fetchall()
    tables = {}
    for schema, name, is_view, columns, types in found:
        rows = None if is_view else _count(connection, f"{quoted(schema)}.{quoted(name)}")
        tables[f"{schema}.{name}"] = WarehouseTable(dict(zip(columns, types, strict=True)), rows)
    return tables


def _count(connection: DuckDBPyConnection, table: str) -> int:
    counted = connection.execute(f"SELECT count(*) FROM {table}").fetchone()  # noqa: S608 - quoted by the caller
    return int(counted[0]) if counted else 0
