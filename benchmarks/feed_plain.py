"""The same load by dlt alone: ``python -m benchmarks.feed_plain HOME ROWS PLACE DISPOSITION STRATEGY``.

Its quickest documented ways: Parquet files imported as they stand into DuckDB; for PostgreSQL, Arrow tables that are
written as CSV and copied.
"""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

os.environ.update(RUNTIME__DLTHUB_TELEMETRY="false", RUNTIME__LOG_LEVEL="ERROR")

import dlt
import dlt.destinations
import pyarrow.parquet as pq
from dlt.common.libs.pyarrow import py_arrow_to_table_schema_columns

from benchmarks.feed_rows import files
from benchmarks.peers import clock
from lookbook.blocks.workspace import local_workspace


def main() -> None:
    """Load the rows, and print the seconds."""
    home, rows, place, disposition, strategy = sys.argv[1:]
    paths = files(Path(rows).parent, Path(rows).name)
    in_duckdb = place == "warehouse"
    target: Any = dlt.destinations.duckdb(f"{home}/by_dlt.duckdb") if in_duckdb else postgres(Path(home))
    hints: Any = {"disposition": disposition, "strategy": strategy} if disposition == "merge" else disposition
    resource = dlt.resource(
        (imported if in_duckdb else tables)(paths),
        name="plain",
        write_disposition=hints,
        primary_key="id" if disposition == "merge" else (),
        columns=py_arrow_to_table_schema_columns(pq.read_schema(paths[0])),
    )
    start, cpu = time.perf_counter(), time.process_time()
    pipeline = dlt.pipeline("bench", destination=target, dataset_name="plain_feeds", pipelines_dir=f"{home}/dlt")
    options: dict[str, Any] = {} if in_duckdb else {"loader_file_format": "csv"}
    pipeline.run(resource, **options)
    measured = {"seconds": time.perf_counter() - start, "cpu_seconds": time.process_time() - cpu}
    clock.write(measured | {"peak_mb": clock.peak_mb()})


def imported(paths: list[Path]) -> Iterator[Any]:
    """Parquet files as they stand."""
    for path in paths:
        yield dlt.mark.with_file_import(str(path), "parquet", pq.read_metadata(path).num_rows)


def tables(paths: list[Path]) -> Iterator[Any]:
    """Arrow tables, one row group at a time."""
    for path in paths:
        file = pq.ParquetFile(path)
        for number in range(file.num_row_groups):
            yield file.read_row_group(number)


def drop_tables(home: Path) -> None:
    """Drop what both sides made in the registry's server."""
    import asyncpg  # noqa: PLC0415

    async def work(connection: asyncpg.Connection[asyncpg.Record]) -> None:
        for schema in ("feeds", "plain_feeds", "plain_feeds_staging"):
            await connection.execute(f"DROP SCHEMA IF EXISTS {schema} CASCADE")

    local_workspace(home).registry.run(work)


def postgres(home: Path) -> Any:  # noqa: ANN401 - dlt's factory
    """The registry's server."""
    dsn = local_workspace(home).registry.address().dsn
    host, port = dsn.partition("host=")[2].split("&port=")
    return dlt.destinations.postgres(f"postgresql://postgres:none@localhost:{port}/postgres?host={host}")


if __name__ == "__main__":
    main()
