"""Rows written into the Parquet files of a table: each of one partition, in bounded memory."""

from __future__ import annotations

import hashlib
import uuid
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from lookbook.blocks.lake import Lake
from lookbook.tasks.tables.lake_manifest import DataFile, data_key
from lookbook.tasks.tables.load.job import LOAD_ID
from lookbook.tasks.tables.staging import FILE_BYTES, FILE_ROWS

if TYPE_CHECKING:
    from duckdb import DuckDBPyConnection

#: Rows that are fetched at once, and at the most make a row group: as many as DuckDB puts into one.
BATCH_ROWS = 122_880
#: Files that are sent to the lake at once.
THREADS = 4


@dataclass
class NewFile:
    """A file of this machine that is to become one of a table.

    Attributes:
        name: what it will be called in the lake.
        load_ids: of its rows.
    """

    path: Path
    partition: tuple[str | None, ...] = ()
    rows: int = 0
    load_ids: set[str | None] = field(default_factory=set)
    name: str = field(default_factory=lambda: uuid.uuid4().hex)


def write_files(
    connection: DuckDBPyConnection, rows: str, columns: Sequence[str], partition_by: Sequence[str], folder: Path
) -> list[NewFile]:
    """Write the rows of a statement into files, each of one partition, which holds no partition column.

    Args:
        connection: of `lookbook.tasks.tables.engine.engine`.
        rows: a SELECT that gives the columns of the layout, then the partition columns as text.
        columns: of the layout.
        partition_by: names of the partition columns.
        folder: of this machine.
    """
    width = len(columns)
    places = [str(width + 1 + position) for position in range(len(partition_by))]
    ordered = f"SELECT * FROM ({rows}) ORDER BY {', '.join(places)}" if places else rows  # noqa: S608 - made by us
    files: list[NewFile] = []
    writer: pq.ParquetWriter | None = None
    try:
        for batch in connection.sql(ordered).to_arrow_reader(BATCH_ROWS) or ():
            for values, part in _by_partition(batch, width):
                if writer is None or _is_full(files[-1], values):
                    if writer is not None:
                        writer.close()
                    files.append(NewFile(folder / f"{len(files)}.parquet", values))
                    writer = pq.ParquetWriter(files[-1].path, part.schema, compression="zstd")
                writer.write_batch(part)
                files[-1].rows += part.num_rows
                files[-1].load_ids |= set(pc.unique(part.column(LOAD_ID)).to_pylist())
    finally:
        if writer is not None:
            writer.close()
    return files


def _is_full(file: NewFile, values: tuple[str | None, ...]) -> bool:
    return file.partition != values or file.rows >= FILE_ROWS or file.path.stat().st_size >= FILE_BYTES


def _by_partition(batch: pa.RecordBatch, width: int) -> Iterator[tuple[tuple[str | None, ...], pa.RecordBatch]]:
    """Yield a batch whose rows are sorted by partition, cut where the partition changes."""
    if not batch.num_rows:
        return
    own = batch.select(range(width))
    keys = [batch.column(position) for position in range(width, batch.num_columns)]
    borders: set[int] = set()
    for key in keys:
        codes = pc.fill_null(key.dictionary_encode().indices, -1).to_numpy(zero_copy_only=False)
        borders |= set((np.flatnonzero(np.diff(codes)) + 1).tolist())
    starts = [0, *sorted(borders)]
    for start, end in zip(starts, [*starts[1:], batch.num_rows], strict=True):
        yield tuple(key[start].as_py() for key in keys), own.slice(start, end - start)


def adopt_files(paths: Sequence[Path], load_id: str) -> list[NewFile]:
    """Return files of a load job as they stand: of a table without partitions."""
    found = (NewFile(path, (), pq.ParquetFile(path).metadata.num_rows, {load_id}) for path in paths)
    return [file for file in found if file.rows]


def future_key(table: str, partition_by: Sequence[str], file: NewFile) -> str:
    """Return the key under which a file will lie in the lake."""
    return data_key(table, partition_by, file.partition, file.name)


def store_files(
    lake: Lake, table: str, partition_by: Sequence[str], files: Sequence[NewFile], layout: int
) -> list[DataFile]:
    """Put files into the lake; returns them as a manifest lists them."""

    def store(file: NewFile) -> DataFile:
        key, data = future_key(table, partition_by, file), file.path.read_bytes()
        lake.put(key, data)
        return DataFile(
            key=key,
            rows=file.rows,
            size=len(data),
            sha256=hashlib.sha256(data).hexdigest(),
            layout=layout,
            partition=file.partition,
            load_id=next(iter(file.load_ids)) if len(file.load_ids) == 1 else None,
        )

    with ThreadPoolExecutor(THREADS) as pool:
        return list(pool.map(store, files))
