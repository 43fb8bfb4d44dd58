"""The Parquet files of a table in the lake: written in bounded memory, and read as one relation of DuckDB."""

from __future__ import annotations

import hashlib
import uuid
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from lookbook.blocks.errors import LookbookError
from lookbook.blocks.lake import Lake
from lookbook.blocks.sql_text import literal, quoted
from lookbook.tasks.tables.lake.manifest import DataFile, TableManifest, data_key
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
        connection: of `lookbook.blocks.duckdb.queries.engine`.
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


#: The column of `relation` that says which file a row stands in, where it is asked for.
FILE = "__lookbook_file"


def relation(manifest: TableManifest, paths: Mapping[str, Path], *, with_file: bool = False) -> str:
    """Return a SELECT over files of a table.

    What stands in the names of folders is not read from there: the manifest knows each file's partition, with the
    value's type, and a folder ``a=b`` above the lake is none of ours.

    Args:
        manifest: of the snapshot that lists the files.
        paths: by the files' keys, where they can be read: all of the table's, or some.
        with_file: whether to add the column `FILE`, with the path.
    """
    groups: dict[int, list[DataFile]] = {}
    for file in manifest.files:
        if file.key in paths:
            groups.setdefault(file.layout, []).append(file)
    if not groups:
        columns = [f"CAST(NULL AS {type_}) AS {quoted(name)}" for name, type_ in manifest.columns.items()]
        columns += [f"'' AS {FILE}"] if with_file else []
        return f"SELECT {', '.join(columns)} WHERE false"
    return " UNION ALL ".join(
        _of_layout(manifest, layout, files, paths, with_file) for layout, files in sorted(groups.items())
    )


def _of_layout(
    manifest: TableManifest, layout: int, files: Sequence[DataFile], paths: Mapping[str, Path], with_file: bool
) -> str:
    own = manifest.layouts[layout]
    columns = []
    for name, type_ in manifest.columns.items():
        value = f"f.{quoted(name)}" if name in own else "NULL"
        if name in manifest.partition_by:
            value = f"p.p{manifest.partition_by.index(name)}"
        columns.append(f"CAST({value} AS {type_}) AS {quoted(name)}")
    columns += [f"f.{FILE}"] if with_file else []
    partitioned = bool(manifest.partition_by)
    named = f", filename = '{FILE}'" if with_file or partitioned else ""
    source = f"read_parquet([{', '.join(literal(str(paths[f.key])) for f in files)}], hive_partitioning = false{named})"
    if partitioned:
        values = ", ".join(f"({', '.join(map(_literal, (str(paths[f.key]), *f.partition)))})" for f in files)
        names = ", ".join(f"p{position}" for position in range(len(manifest.partition_by)))
        source = f"{source} AS f JOIN (VALUES {values}) AS p(file, {names}) ON p.file = f.{FILE}"
    else:
        source += " AS f"
    return f"SELECT {', '.join(columns)} FROM {source}"  # noqa: S608 - identifiers, texts and types are ours


def _literal(value: str | None) -> str:
    return "NULL::VARCHAR" if value is None else literal(value)


def checked_types(connection: DuckDBPyConnection, table: str, columns: Mapping[str, str]) -> dict[str, str]:
    """Return columns with their types as DuckDB writes them: what is no type never comes near a statement.

    Raises:
        LookbookError: a type is none of DuckDB's.
    """
    import duckdb  # noqa: PLC0415 - late: importing the tasks is to be quick

    types = {}
    for name, type_ in columns.items():
        try:
            types[name] = str(connection.dtype(type_))
        except duckdb.Error as error:
            raise LookbookError(f"lake.{table}: column {name} has the type {type_}, which DuckDB has not.") from error
    return types
