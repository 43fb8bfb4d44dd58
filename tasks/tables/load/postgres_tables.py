"""Tables of pipelines in the registry's PostgreSQL."""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from lookbook.blocks.duckdb.queries import engine
from lookbook.blocks.registry import Registry, feeds_schema
from lookbook.blocks.sql_text import literal, quoted
from lookbook.blocks.sql_types import BINARY, JSON, TEXT, TYPES
from lookbook.tasks.runs.catalogue import TableState
from lookbook.tasks.tables.engine import memory_for
from lookbook.tasks.tables.load import statements as sql
from lookbook.tasks.tables.load.job import LoadJob, check_written

if TYPE_CHECKING:
    import asyncpg
    from duckdb import DuckDBPyConnection

    Connection = asyncpg.Connection[asyncpg.Record]

#: The landing table is a temporary one: it has the table's name in PostgreSQL's schema of those.
LANDING = "pg_temp"
#: Megabytes that the engine may hold that writes CSV, and more for each column.
MEMORY = 128
#: What a varchar's column says of itself is "character varying".
_TYPES = {type_.postgres: type_.duckdb for type_ in TYPES} | {"text": TEXT, "character varying": TEXT}


class PostgresTables:
    """The schema of pipelines in the registry's database: ``feeds``, or a further lake's; a load is one transaction.

    A replace deletes and writes anew: TRUNCATE, and a table that takes the place of another, would show no rows to
    readers whose transaction began before.

    Args:
        registry: the block.
        scratch: a folder of this machine.
    """

    place = "registry"
    #: Of an upsert: ``delete-insert`` or ``upsert``.
    strategy = "delete-insert"

    def __init__(self, registry: Registry, scratch: Path) -> None:
        self._registry, self._scratch = registry, scratch

    def state(self, table: str) -> TableState | None:
        """See `Destination.state`."""

        async def work(connection: Connection) -> TableState | None:
            schema = await feeds_schema(connection)
            columns = await _columns(connection, schema, table)
            if columns is None:
                return None
            name = sql.qualified(table, schema)
            rows = await connection.fetchval(f"SELECT count(*) FROM {name}")  # noqa: S608 - quoted
            size = await connection.fetchval("SELECT pg_total_relation_size($1::text::regclass)", name)
            return TableState(columns, rows, size)

        return self._registry.run(work)

    def load(self, job: LoadJob) -> int | None:
        """See `Destination.load`."""

        async def widen(connection: Connection) -> LoadJob:
            placed = replace(job, schema=await feeds_schema(connection))
            await _widen(connection, placed)
            return placed

        async def work(connection: Connection) -> int:
            await _make(connection, job)
            if job.settings.write_disposition == "merge":
                rows = await _merge(connection, job, self._scratch, self.strategy)
            else:
                rows = await _insert(connection, job, self._scratch)
            for statement in sql.list_load(job, rows):
                await connection.execute(statement)
            return job.rows - rows

        # A transaction of its own: to add a column shuts readers out, who are not to wait for the rows.
        job = self._registry.run(widen)
        return self._registry.run(work)


async def _widen(connection: Connection, job: LoadJob) -> None:
    """Give a table that is there the columns that it lacks."""
    standing = await _columns(connection, job.schema, job.table)
    for statement in sql.evolve_table("postgres", job, standing) if standing is not None else ():
        await connection.execute(statement)


async def _make(connection: Connection, job: LoadJob) -> None:
    """Make the table if it is not there; no other load writes to it until the transaction ends."""
    wanted = {sql.LOADS: sql.LOADS_COLUMNS, job.table: sql.table_columns(job)}
    if any([await _columns(connection, job.schema, table) is None for table in wanted]):
        # Of two transactions that make one thing if it is not there, one fails.
        await connection.execute("SELECT pg_advisory_xact_lock(hashtext('lookbook feeds'))")
        await connection.execute(f"CREATE SCHEMA IF NOT EXISTS {quoted(job.schema)}")
        for table, columns in wanted.items():
            if await _columns(connection, job.schema, table) is None:
                await connection.execute(sql.create_table("postgres", table, columns, job.schema))
    name = sql.qualified(job.table, job.schema)
    await connection.execute(f"LOCK TABLE {name} IN SHARE ROW EXCLUSIVE MODE")  # readers read on


async def _insert(connection: Connection, job: LoadJob, scratch: Path) -> int:
    """Append, or replace; the number of rows."""
    for statement in sql.delete_before(job, await connection.fetchval(sql.listed_loads(job))):
        await connection.execute(statement)
    selects = [f"SELECT * FROM read_parquet([{literal(str(path))}], hive_partitioning = false)" for path in job.files]  # noqa: S608
    written = await _copy(connection, job, selects, job.columns, scratch, job.schema)
    check_written(job, written, job.rows)
    return written


async def _merge(connection: Connection, job: LoadJob, scratch: Path, strategy: str) -> int:
    """Merge; the number of rows after those of one key became one."""
    if not job.files:
        return 0
    paths = ", ".join(literal(str(path)) for path in job.files)
    source = f"read_parquet([{paths}], hive_partitioning = false, filename = true, file_row_number = true)"
    columns = sql.table_columns(job)
    described = ", ".join(f"{quoted(n)} {sql.destination_type('postgres', t)}" for n, t in columns.items())
    await connection.execute(f"CREATE TEMPORARY TABLE {quoted(job.table)} ({described}) ON COMMIT DROP")
    landed = await _copy(connection, job, [sql.landed_rows(job, source)], columns, scratch, LANDING)
    check_written(job, landed, job.rows, fewer=True)
    await connection.execute(f"ANALYZE {LANDING}.{quoted(job.table)}")
    for statement in sql.merge_statements(job, LANDING, strategy):
        await connection.execute(statement)
    return landed


async def _copy(
    connection: Connection, job: LoadJob, selects: Sequence[str], columns: Mapping[str, str], scratch: Path, schema: str
) -> int:
    """Write the rows of SELECTs in DuckDB into the job's table of a schema by COPY; the number of rows."""
    written = 0
    with engine(scratch, job.files, memory_for(MEMORY, len(job.columns))) as (duckdb, folder):
        async for path in _written_ahead(duckdb, selects, columns, folder):
            status = await connection.copy_to_table(
                job.table, schema_name=schema, columns=list(columns), source=path, format="csv"
            )
            written += int(status.split()[-1])
    return written


async def _written_ahead(
    duckdb: DuckDBPyConnection, selects: Sequence[str], columns: Mapping[str, str], folder: Path
) -> AsyncIterator[Path]:
    """Yield a CSV file for each SELECT; while one is read, the next is written."""
    paths = [folder / f"{number}.csv" for number in range(len(selects))]
    making: asyncio.Future[None] | None = None
    try:
        for number, path in enumerate(paths):
            making = making or _started(duckdb, selects[number], columns, path)
            await making
            following = number + 1
            making = (
                _started(duckdb, selects[following], columns, paths[following]) if following < len(selects) else None
            )
            yield path
            path.unlink()
    finally:
        if making is not None:  # it uses the connection, which is closed next
            await asyncio.wait([making])


def _started(duckdb: DuckDBPyConnection, select: str, columns: Mapping[str, str], path: Path) -> asyncio.Future[None]:
    return asyncio.ensure_future(asyncio.to_thread(_write_csv, duckdb, select, columns, path))


def _write_csv(duckdb: DuckDBPyConnection, select: str, columns: Mapping[str, str], path: Path) -> None:
    """Write rows as PostgreSQL reads them."""
    values = ", ".join(f"{_csv_value(name, type_)} AS {quoted(name)}" for name, type_ in columns.items())
    duckdb.execute(f"COPY (SELECT {values} FROM ({select})) TO {literal(str(path))} (FORMAT csv, HEADER false)")  # noqa: S608 - names are quoted


def values_with_nul(columns: Mapping[str, str], files: Sequence[Path], scratch: Path) -> dict[str, int]:
    """Count the values of each column in which U+FFFD replaces NUL; columns without any are left out."""
    texts = {name: type_ for name, type_ in columns.items() if type_ in (TEXT, JSON)}
    if not texts or not files:
        return {}
    with engine(scratch, files, memory_for(MEMORY, len(texts))) as (duckdb, _):
        source = f"read_parquet([{', '.join(literal(str(path)) for path in files)}], hive_partitioning = false)"
        counted = ", ".join(
            f"count(*) FILTER (WHERE {_nul_in(name, type_)}"
            f" AND {_csv_value(name, type_)} <> CAST({quoted(name)} AS VARCHAR))"
            for name, type_ in texts.items()
        )
        numbers = duckdb.execute(f"SELECT {counted} FROM {source}").fetchone() or ()  # noqa: S608 - names are quoted
    return {name: number for name, number in zip(texts, numbers, strict=True) if number}


def _nul_in(name: str, type_: str) -> str:
    """Return a condition that costs less than to replace: there may be a NUL."""
    return (
        f"contains({quoted(name)}, chr(0))" if type_ == TEXT else f"contains(CAST({quoted(name)} AS VARCHAR), 'u0000')"
    )


def _csv_value(name: str, type_: str) -> str:
    """Return a value as PostgreSQL reads it. Its text holds no NUL: it becomes U+FFFD."""
    column = quoted(name)
    if type_ == BINARY:
        return f"'\\x' || hex({column})"
    if type_ == TEXT:
        return f"replace({column}, chr(0), '\ufffd')"
    if type_ == JSON:
        # Two passes, since the character before one escape may be the last of another.
        value = f"CAST({column} AS VARCHAR)"
        for _ in range(2):
            value = f"regexp_replace({value}, '(^|[^\\\\])((\\\\\\\\)*)\\\\u0000', '\\1\\2\ufffd', 'g')"
        return value
    return column


async def _columns(connection: Connection, schema: str, table: str) -> dict[str, str] | None:
    rows = await connection.fetch(
        "SELECT attname, format_type(atttypid, atttypmod) AS type FROM pg_attribute"
        " JOIN pg_class ON pg_class.oid = attrelid JOIN pg_namespace ON pg_namespace.oid = relnamespace"
        " WHERE nspname = $1 AND relname = $2 AND attnum > 0 AND NOT attisdropped ORDER BY attnum",
        schema,
        table,
    )
    return dict(_typed(rows)) or None


def _typed(rows: Sequence[asyncpg.Record]) -> Iterator[tuple[str, str]]:
    for row in rows:
        if found := re.fullmatch(r"numeric\((\d+),(\d+)\)", row["type"]):
            yield row["attname"], f"DECIMAL({found[1]}, {found[2]})"
        else:
            yield row["attname"], _TYPES.get(row["type"], row["type"].upper())
