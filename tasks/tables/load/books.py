"""The books of loads: what was loaded, and the rows that were set aside, in the registry and in the lake."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pyarrow as pa
import pyarrow.parquet as pq

from lookbook.blocks.duckdb.queries import engine
from lookbook.blocks.registry import Registry, copy_rows
from lookbook.blocks.sql_text import literal
from lookbook.blocks.workspace import Workspace
from lookbook.tasks.tables.staging import INPUT, LINE

if TYPE_CHECKING:
    import asyncpg

    Connection = asyncpg.Connection[asyncpg.Record]

COLUMNS = ("reject_id", "pipeline", "task", "place", "table_name", "load_id", "rule", "message", "raw", "input", "line")
NOTE_LOAD = """
INSERT INTO feed_loads (load_id, place, table_name, pipeline, task, run_id, rows, rejected, inputs)
VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9::text::jsonb)
ON CONFLICT (load_id, place, table_name) DO UPDATE SET run_id = excluded.run_id, rows = excluded.rows,
    rejected = excluded.rejected, inputs = excluded.inputs, loaded_at = now()
"""
#: Rows that are read of a file at a time.
CHUNK = 5_000


@dataclass(frozen=True)
class LoadEntry:
    """One load of one table, as the books name it."""

    pipeline: str
    task: str
    place: str
    table: str
    load_id: str
    run_id: str = ""

    @property
    def key(self) -> str:
        """Return the key of its rejects in the lake."""
        table = self.table.replace("{event}", "-")  # of rows that are of no event; no table has such a name
        return f"rejects/{self.pipeline}/{self.task}/{self.load_id}-{table}.parquet"


def collect_rejects(entry: LoadEntry, files: Sequence[Path], path: Path, scratch: Path) -> int:
    """Put rejects of several files into one that names them; the number of rows.

    A reject's id is the same for the same row of the same batch; of rows that are alike, each has its own.
    """
    if not files:
        return 0
    listed = ", ".join(literal(str(file)) for file in files)
    place = f"{INPUT}, {LINE}, raw"
    own = f"{literal(entry.load_id)}, {literal(entry.table)}, row_number() OVER (PARTITION BY {place})"
    with engine(scratch, readable=files) as (connection, folder):
        written = connection.execute(
            f"COPY (SELECT 'r-' || left(md5(concat_ws('|', {own}, coalesce({INPUT}, ''),"  # noqa: S608 - of ours, or quoted
            f" coalesce({LINE}, -1), raw)), 20) AS reject_id, rule, message, {place}"
            f" FROM read_parquet([{listed}], hive_partitioning = false))"
            f" TO {literal(f'{folder}/rejects.parquet')} (FORMAT parquet, COMPRESSION zstd, ROW_GROUP_SIZE {CHUNK})"
        ).fetchone()
        (folder / "rejects.parquet").rename(path)
    return int(written[0]) if written else 0


def write_books(
    workspace: Workspace,
    entry: LoadEntry,
    rows: int,
    rejects: Path | None,
    rejected: int,
    inputs: Sequence[str],
    *,
    whole: bool,
) -> None:
    """Note a load that is committed, and its rejects in place of those that it had before.

    The file in the lake is written while the transaction holds the lease: nobody else can have taken it.

    Args:
        workspace: with lake and registry.
        entry: the load.
        rows: that it loaded.
        rejects: a file by `collect_rejects`; None: there are none.
        rejected: rows in it.
        inputs: what was read.
        whole: the table is what this load brought: rejects of former loads into it are past.
    """

    async def work(connection: Connection) -> None:
        await connection.execute(
            "DELETE FROM feed_rejects WHERE pipeline = $1 AND task = $2 AND place = $3 AND table_name = $4"
            " AND ($5 OR load_id = $6)",
            *(entry.pipeline, entry.task, entry.place, entry.table, whole, entry.load_id),
        )
        for chunk in _chunks(rejects):
            await copy_rows(connection, "feed_rejects", COLUMNS, _records(entry, chunk))
        await note_load(connection, entry, rows, rejected, inputs)
        await asyncio.to_thread(put_in_lake, workspace, entry, rejects.read_bytes() if rejects is not None else None)

    workspace.registry.run(work)


def put_in_lake(workspace: Workspace, entry: LoadEntry, rejects: bytes | None) -> None:
    """Write the rejects of a load to the lake, in place of those that it had; None: it has none."""
    if rejects is None:
        workspace.lake.remove(entry.key)
    else:
        workspace.lake.replace(entry.key, rejects)


async def note_load(connection: Connection, entry: LoadEntry, rows: int, rejected: int, inputs: Sequence[str]) -> None:
    """Note a load that is committed."""
    named = (entry.load_id, entry.place, entry.table, entry.pipeline, entry.task, entry.run_id)
    await connection.execute(NOTE_LOAD, *named, rows, rejected, json.dumps(list(inputs)))


def open_rejects(registry: Registry, pipeline: str, task: str | None = None) -> list[dict[str, Any]]:
    """Return the rows of a pipeline that were set aside and are not loaded yet, in the order of their inputs and lines.

    Args:
        registry: where they stand.
        pipeline: its name.
        task: the load task; None: all.

    Returns:
        Each with ``reject_id``, ``task``, ``place``, ``table_name``, ``load_id``, ``rule``, ``message``, ``raw`` (JSON,
        or the text of a line that is none), ``input``, ``line`` and ``rejected_at``.
    """
    return registry.run(lambda connection: read_open_rejects(connection, pipeline, task))


async def read_open_rejects(connection: Connection, pipeline: str, task: str | None = None) -> list[dict[str, Any]]:
    """See `open_rejects`; within a transaction."""
    rows = await connection.fetch(
        f"SELECT {', '.join(COLUMNS)}, rejected_at FROM feed_rejects"  # noqa: S608 - columns of ours
        " WHERE pipeline = $1 AND ($2::text IS NULL OR task = $2) ORDER BY task, load_id, input, line, reject_id",
        pipeline,
        task,
    )
    return [dict(row) for row in rows]


def _chunks(path: Path | None) -> Iterator[pa.RecordBatch]:
    if path is None:
        return
    with ExitStack() as stack:
        yield from stack.enter_context(pq.ParquetFile(path)).iter_batches(CHUNK)


def _records(entry: LoadEntry, chunk: pa.RecordBatch) -> Iterator[tuple[Any, ...]]:
    own = (entry.pipeline, entry.task, entry.place, entry.table, entry.load_id)
    for row in chunk.to_pylist():
        yield (row["reject_id"], *own, row["rule"], row["message"], row["raw"], row[INPUT], row[LINE])
