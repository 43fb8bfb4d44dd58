"""The same load by dlt alone: ``python -m benchmarks.feed_plain HOME ROWS PLACE DISPOSITION STRATEGY``.

Its quickest documented ways: Parquet files imported as they stand into DuckDB; for PostgreSQL, Arrow tables that are
written as CSV and copied.
"""

from __future__ import annotations

import json
import os
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

os.environ |= {"RUNTIME__DLTHUB_TELEMETRY": "false", "RUNTIME__LOG_LEVEL": "ERROR"}

import dlt  # noqa: E402 - after its settings
import dlt.destinations  # noqa: E402
import pyarrow.parquet as pq  # noqa: E402
from dlt.common.libs.pyarrow import py_arrow_to_table_schema_columns  # noqa: E402

from benchmarks.feed_rows import files  # noqa: E402
from blocks.workspace import local_workspace  # noqa: E402


def main() -> None:
    """Load the rows, and print the seconds."""
    home, rows, place, disposition, strategy = sys.argv[1:]
    paths = files(Path(rows).parent, Path(rows).name)
    in_duckdb = place == "warehouse"
    target: Any = dlt.destinations.duckdb(f"{home}/by_dlt.duckdb") if in_duckdb else postgres(Path(home))
    hints = {"disposition": disposition, "strategy": strategy} if disposition == "merge" else disposition
    resource = dlt.resource(
        (imported if in_duckdb else tables)(paths),
        name="plain",
        write_disposition=hints,  # type: ignore[arg-type]
        primary_key="id" if disposition == "merge" else None,
        columns=py_arrow_to_table_schema_columns(pq.read_schema(paths[0])),
    )
    start, cpu = time.perf_counter(), time.process_time()
    pipeline = dlt.pipeline("bench", destination=target, dataset_name="plain_feeds", pipelines_dir=f"{home}/dlt")
    pipeline.run(resource, loader_file_format=None if in_duckdb else "csv")
    measured = {"seconds": time.perf_counter() - start, "cpu_seconds": time.process_time() - cpu}
    sys.stdout.write(json.dumps(measured) + "\n")


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


def postgres(home: Path) -> Any:  # noqa: ANN401 - dlt's factory
    """The registry's server."""
    dsn = local_workspace(home).registry.address().dsn  # type: ignore[attr-defined]
    host, port = dsn.partition("host=")[2].split("&port=")
    return dlt.destinations.postgres(f"postgresql://postgres:none@localhost:{port}/postgres?host={host}")


if __name__ == "__main__":
    main()
