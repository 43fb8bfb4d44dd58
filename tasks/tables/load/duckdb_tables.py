"""Tables of pipelines in the embedded warehouse."""

from __future__ import annotations

from typing import TYPE_CHECKING

from lookbook.blocks.duckdb.warehouse import DuckDBWarehouse
from lookbook.blocks.sql_text import literal, quoted
from lookbook.blocks.warehouse import FEEDS_SCHEMA
from lookbook.tasks.runs.catalogue import TableState
from lookbook.tasks.tables.engine import memory_for
from lookbook.tasks.tables.load import statements as sql
from lookbook.tasks.tables.load.job import LoadJob, check_written

if TYPE_CHECKING:
    from duckdb import DuckDBPyConnection

#: The landing table is a temporary one: it has the table's name in DuckDB's catalog of those.
LANDING = "temp"
#: Megabytes that a statement may hold, and more for each column; beyond, it spills.
MEMORY = 256


class DuckDBTables:
    """The schema ``feeds`` of a DuckDB warehouse; a load is one transaction.

    Args:
        warehouse: the block.
    """

    place = "warehouse"
    #: Of an upsert: ``delete-insert`` or ``upsert``.
    strategy = "delete-insert"

    def __init__(self, warehouse: DuckDBWarehouse) -> None:
        self._warehouse = warehouse

    def state(self, table: str) -> TableState | None:
        """See `Destination.state`."""
        with self._warehouse.reading_feeds() as connection:
            columns = _columns(connection, table) if connection is not None else None
            if connection is None or columns is None:
                return None
            return TableState(columns, _number(connection, f"SELECT count(*) FROM {sql.qualified(table)}"))  # noqa: S608

    def load(self, job: LoadJob) -> int | None:
        """See `Destination.load`."""
        with self._warehouse.feeding(memory_for(MEMORY, len(job.columns))) as connection:
            connection.execute(f"CREATE SCHEMA IF NOT EXISTS {quoted(FEEDS_SCHEMA)}")
            if _columns(connection, sql.LOADS) is None:
                connection.execute(sql.create_table("duckdb", sql.LOADS, sql.LOADS_COLUMNS))
            for statement in sql.evolve_table("duckdb", job, _columns(connection, job.table)):
                connection.execute(statement)
            merges = job.settings.write_disposition == "merge"
            rows = _merge(connection, job, self.strategy) if merges else _insert(connection, job)
            for statement in sql.list_load(job, rows):
                connection.execute(statement)
            return job.rows - rows


def _insert(connection: DuckDBPyConnection, job: LoadJob) -> int:
    """Append, or replace; the number of rows."""
    for statement in sql.delete_before(job, _number(connection, sql.listed_loads(job))):
        connection.execute(statement)
    written = 0
    if job.files:
        written = _number(
            connection,
            f"INSERT INTO {sql.qualified(job.table)} BY NAME SELECT * FROM {_files(job)}",  # noqa: S608 - quoted
        )
    check_written(job, written, job.rows)
    return written


def _merge(connection: DuckDBPyConnection, job: LoadJob, strategy: str) -> int:
    """Merge; the number of rows after those of one key became one."""
    if not job.files:
        return 0
    rows = sql.landed_rows(job, _files(job, ", filename = true, file_row_number = true"))
    landed = _number(connection, f"CREATE TEMP TABLE {quoted(job.table)} AS {rows}")
    check_written(job, landed, job.rows, fewer=True)
    for statement in sql.merge_statements(job, LANDING, strategy):
        connection.execute(statement)
    connection.execute(f"DROP TABLE {quoted(LANDING)}.{quoted(job.table)}")
    return landed


def _files(job: LoadJob, options: str = "") -> str:
    paths = ", ".join(literal(str(path)) for path in job.files)
    return f"read_parquet([{paths}], hive_partitioning = false{options})"


def _columns(connection: DuckDBPyConnection, table: str) -> dict[str, str] | None:
    found = connection.execute(
        "SELECT column_name, data_type FROM duckdb_columns() WHERE database_name = current_database()"
        " AND schema_name = $1 AND table_name = $2 ORDER BY column_index",
        [FEEDS_SCHEMA, table],
    ).fetchall()
    return {name: type_.replace(",", ", ") if type_.startswith("DECIMAL") else type_ for name, type_ in found} or None


def _number(connection: DuckDBPyConnection, statement: str) -> int:
    found = connection.execute(statement).fetchone()
    return int(found[0]) if found else 0
