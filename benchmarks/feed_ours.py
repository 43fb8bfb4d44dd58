"""One load of ours, in a process: ``python -m benchmarks.feed_ours HOME ROWS PLACE DISPOSITION STRATEGY``."""

from __future__ import annotations

import sys
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import dlt.destinations  # noqa: F401 - taken up before the clock starts, as by the other side

from benchmarks.feed_rows import BASE, files
from benchmarks.peers import clock
from lookbook.blocks.workspace import local_workspace
from lookbook.tasks.tables.context import Context, Staged, stage_batch
from lookbook.tasks.tables.load import load
from lookbook.tasks.tables.load.duckdb_tables import DuckDBTables
from lookbook.tasks.tables.load.postgres_tables import PostgresTables
from lookbook.tasks.tables.spec.pipeline import Pipeline
from lookbook.tasks.tables.staging import StageWriter, stage_folder

KEYS: dict[str, dict[str, Any]] = {"merge": {"primary_key": "id"}}


def main() -> None:
    """Stage the rows, load them, and print the seconds of the load."""
    home, rows, place, disposition, strategy = sys.argv[1:]
    DuckDBTables.strategy = PostgresTables.strategy = strategy
    folder = Path(rows)
    context = run(Path(home), place, disposition, day=1 if folder.name == BASE else 2)
    stage = stage_folder("raw", "bench", "extract", stage_batch(context, "extract"))
    with StageWriter(context.workspace.lake, stage, context.workspace.scratch) as writer:
        for path in files(folder.parent, folder.name):
            writer.adopt(path)
        staged = Staged({"": writer.close()})
    context.workspace.registry.address()
    start, cpu = time.perf_counter(), time.process_time()
    (result,) = load(context, "load", [staged])
    measured = {"seconds": time.perf_counter() - start, "cpu_seconds": time.process_time() - cpu}
    clock.write(measured | {"rows": result.rows, "peak_mb": clock.peak_mb()})


def run(home: Path, place: str, disposition: str, day: int) -> Context:
    """A run of a pipeline that loads into one table."""
    source = {"type": "file", "path": "rows.parquet"}
    own = {"after": ["extract"], "table": "ours", "target": place, "write_disposition": disposition}
    tasks = {"extract": {"source": source}, "load": own | KEYS.get(disposition, {})}
    pipeline = Pipeline.model_validate({"name": "bench", "tasks": tasks})
    return Context(local_workspace(home), pipeline, home, datetime(2024, 1, day, tzinfo=UTC))


if __name__ == "__main__":
    main()
