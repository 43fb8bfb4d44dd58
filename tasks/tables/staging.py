"""Rows between two tasks: Parquet in the lake, one folder for each batch of a task, with a mark when it is whole."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from lookbook.blocks.errors import ObjectNotFoundError
from lookbook.blocks.lake import Lake, ObjectInfo
from lookbook.tasks.runs.lease import Hold
from lookbook.tasks.runs.removal import Amount, Rule, remove_objects


def content_digest(path: Path, leave_out: Sequence[str] = ()) -> int:
    """Return the sum of the MD5 hashes of a Parquet file's rows, each as JSON with its columns sorted.

    Nulls count like missing columns do: a file with a column more that holds nothing has the same digest.

    Args:
        path: of the file.
        leave_out: columns that do not count.

    Returns:
        A number of 128 bits. The digests of several files are added (modulo 2^128).
    """
    import duckdb  # noqa: PLC0415 - late: importing the tasks is to be quick

    schema = pq.read_schema(path)
    places = [f"column_{number}" for number in range(len(schema.names))]  # SQL takes code and Code for one name
    values = {
        # JSON's functions read numbers as doubles.
        field.name: f"CAST({place} AS VARCHAR)" if pa.types.is_decimal(field.type) else place
        for field, place in zip(schema, places, strict=True)
        if field.name not in leave_out
    }
    pairs = ", ".join(f"'{name.replace(chr(39), chr(39) * 2)}', {values[name]}" for name in sorted(values))
    row = f"json_merge_patch('{{}}', json_object({pairs}))"
    with duckdb.connect() as connection:
        halves = connection.execute(
            f"WITH hashed AS (SELECT md5_number(CAST({row} AS VARCHAR)) AS h"  # noqa: S608 - names are quoted
            f" FROM read_parquet($1) AS file({', '.join(places)}))"
            " SELECT coalesce(sum((h >> 64)::HUGEINT), 0), coalesce(sum((h & 18446744073709551615)::HUGEINT), 0)"
            " FROM hashed",
            [str(path)],
        ).fetchone()
    assert halves is not None  # noqa: S101 - an aggregate has a row
    return ((int(halves[0]) << 64) + int(halves[1])) % (1 << 128)


#: Columns that every staged row may have beside its own: where it comes from, and its line (or number) there.
INPUT, LINE = "_input", "_line"
#: A file of a stage holds no more rows than this, and not much more bytes.
FILE_ROWS = 1_000_000
FILE_BYTES = 64 * 1024 * 1024
#: A digest is a sum of 128-bit hashes: the order of rows does not count, how often each is there does.
_DIGEST_RANGE = 1 << 128


@dataclass(frozen=True)
class StagedFile:
    """A Parquet file of a stage: its key in the lake, rows, bytes."""

    key: str
    rows: int
    size: int


@dataclass(frozen=True)
class Stage:
    """What a task made in one batch.

    Attributes:
        folder: of the lake.
        files: each with columns of its own: later ones may have more, or other types. May be none.
        digest: of columns and rows, whatever their order; None where nobody asked for it.
        rejects: key of the Parquet file with the rows that could not be read (`REJECT_SCHEMA`); None: all could.
        state: what an extract is to know at its next run, once the load of these rows is committed.
        inputs: what it read, for lineage: addresses, without credentials.
        groups: of rows that were split: the groups whose stages lie in folders below, this one having no rows itself.
        delimited: columns whose texts stood in delimited files, which know no types, with their decimal sign.
    """

    folder: str
    files: tuple[StagedFile, ...] = ()
    digest: str | None = None
    rejects: str | None = None
    rejected: int = 0
    state: Mapping[str, Any] = field(default_factory=dict)
    inputs: tuple[str, ...] = ()
    groups: tuple[str, ...] = ()
    delimited: Mapping[str, str] = field(default_factory=dict)

    @property
    def rows(self) -> int:
        """Return how many rows it has."""
        return sum(file.rows for file in self.files)


#: A row that was set aside: which rule, why, and the row as it stood.
REJECT_SCHEMA = pa.schema(
    [
        pa.field("rule", pa.string(), nullable=False),
        pa.field("message", pa.string(), nullable=False),
        pa.field("raw", pa.string(), nullable=False),  # JSON of the row; of a line that is none, its text
        pa.field(INPUT, pa.string()),
        pa.field(LINE, pa.int64()),
    ]
)


def stage_folder(kind: str, pipeline: str, task: str, batch: str, group: str = "") -> str:
    """Return where a batch of a task is staged.

    Args:
        kind: ``raw`` for what was extracted, ``transformed`` for what was made of it.
        pipeline: its name.
        task: its name.
        batch: names the batch: the same one has the same name in every run.
        group: the value that the rows were split by, as a table's name; empty: they were not.
    """
    return "/".join(filter(None, (kind, pipeline, task, batch, group)))


def staging_pipelines(lake: Lake) -> list[str]:
    """Return the names of the pipelines of which anything is staged."""
    return sorted({*lake.folders("raw"), *lake.folders("transformed")})


def old_stages(lake: Lake, pipeline: str, rule: Rule) -> Iterator[str]:
    """Yield the folders of a pipeline's batches that may go: a run that was killed later may take up its own."""
    for kind in ("raw", "transformed"):
        for task in lake.folders(f"{kind}/{pipeline}"):
            for batch in lake.folders(f"{kind}/{pipeline}/{task}"):
                folder = stage_folder(kind, pipeline, task, batch)
                if rule.are_old(lake.list(folder)):
                    yield folder


def remove_stages(lake: Lake, pipeline: str, rule: Rule, hold: Hold, amount: Amount) -> None:
    """Remove the batches of a pipeline that may go; the caller holds the pipeline's lease.

    Raises:
        LeaseLostError: another run has taken it.
    """
    for folder in old_stages(lake, pipeline, rule):
        remove_objects(lake, objects_of_stage(lake, folder), hold, amount)


def objects_of_stage(lake: Lake, folder: str) -> Iterator[ObjectInfo]:
    """Yield what lies of a batch, first what says that it is whole."""
    for whole in (True, False):
        yield from (info for info in lake.list(folder) if info.key.endswith("/manifest.json") is whole)


def read_stage(lake: Lake, folder: str) -> Stage | None:
    """Return the stage in a folder; None where there is none, or a run was killed while it wrote one."""
    try:
        saved = json.loads(lake.get(f"{folder}/manifest.json"))
    except ObjectNotFoundError:
        return None
    files = tuple(StagedFile(**file) for file in saved.pop("files"))
    lists = {name: tuple(saved.get(name, ())) for name in ("inputs", "groups")}
    return Stage(**saved | {"files": files} | lists)


def without(delimited: Mapping[str, str], columns: Collection[str]) -> dict[str, str]:
    """Leave some columns out of the delimited ones."""
    return {name: sign for name, sign in delimited.items() if name not in columns}


def delimited_columns(stages: Iterable[tuple[Stage, Sequence[Path]]]) -> tuple[dict[str, str], set[str]]:
    """Find the columns whose texts stood in delimited files, and those with texts of a source that has types.

    Columns of delimited files with another decimal sign each are among the latter: their texts stay as they stand.

    Args:
        stages: each with its files on this machine.
    """
    delimited: dict[str, str] = {}
    typed: set[str] = set()
    for stage, paths in stages:
        typed |= {name for name, sign in stage.delimited.items() if delimited.setdefault(name, sign) != sign}
        texts = {field.name for path in paths for field in pq.read_schema(path) if pa.types.is_string(field.type)}
        typed |= texts - {*stage.delimited, INPUT}
    return without(delimited, typed), typed


def delimited_result(columns: Iterable[str], delimited: Mapping[str, str], typed: Collection[str]) -> dict[str, str]:
    """Choose the columns of a transform's result whose texts count as delimited.

    Over delimited text alone, under whatever names, all of them; else those that have the name of one.

    Args:
        columns: of the result.
        delimited: of what it was made of, as `delimited_columns` says.
        typed: likewise.
    """
    signs = set(delimited.values())
    if len(signs) == 1 and not typed:
        return dict.fromkeys([name for name in columns if name not in (INPUT, LINE)], signs.pop())
    return {name: delimited[name] for name in columns if name in delimited}


class StageWriter:
    """Writes a stage, a file after the other, in bounded memory; the manifest comes last.

    Use it as a context manager, and `close` it when all is written: without that there is no stage.

    Args:
        lake: where it is written.
        folder: of the lake, by `stage_folder`.
        scratch: a folder of this machine.
        digest: whether to compute the digest of the content.
    """

    def __init__(self, lake: Lake, folder: str, scratch: Path, *, digest: bool = False) -> None:
        self._lake, self._folder = lake, folder
        scratch.mkdir(parents=True, exist_ok=True)
        self._scratch = tempfile.TemporaryDirectory(dir=scratch, prefix="stage-")
        self._files: list[StagedFile] = []
        self._rejects: pq.ParquetWriter | None = None
        self._rejected = 0
        self._digest = 0 if digest else None
        self._columns: set[str] = set()
        self._writer: pq.ParquetWriter | None = None
        self._rows = 0

    def __enter__(self) -> StageWriter:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for writer in (self._writer, self._rejects):
            if writer is not None:
                writer.close()
        self._scratch.cleanup()

    @property
    def _path(self) -> Path:
        return Path(self._scratch.name, "file.parquet")

    @property
    def _rejects_path(self) -> Path:
        return Path(self._scratch.name, "rejects.parquet")

    def write(self, rows: pa.Table | pa.RecordBatch) -> None:
        """Add rows. Where their columns differ from those before, a new file begins."""
        table = pa.Table.from_batches([rows]) if isinstance(rows, pa.RecordBatch) else rows
        if not table.num_rows:
            return
        if self._writer is not None and not self._writer.schema.equals(table.schema):
            self._finish_file()
        if self._writer is None:
            self._writer = pq.ParquetWriter(self._path, table.schema, compression="zstd")
        self._writer.write_table(table)
        self._rows += table.num_rows
        if self._rows >= FILE_ROWS or self._path.stat().st_size >= FILE_BYTES:
            self._finish_file()

    def adopt(self, path: Path) -> None:
        """Add a Parquet file of this machine as it stands."""
        self._finish_file()
        rows = pq.ParquetFile(path).metadata.num_rows
        if rows:
            self._add(path, rows)

    def reject(self, rows: pa.Table) -> None:
        """Add rows of `REJECT_SCHEMA`."""
        if not rows.num_rows:
            return
        if self._rejects is None:
            self._rejects = pq.ParquetWriter(self._rejects_path, REJECT_SCHEMA, compression="zstd")
        self._rejects.write_table(rows.cast(REJECT_SCHEMA))
        self._rejected += rows.num_rows

    def digest(self) -> str | None:
        """Return the digest of all rows so far, None where nobody asked for it. What is held back is written first."""
        self._finish_file()
        return None if self._digest is None else f"{self._digest:032x}-{'-'.join(sorted(self._columns))}"

    def close(
        self,
        state: Mapping[str, Any] | None = None,
        inputs: tuple[str, ...] = (),
        groups: tuple[str, ...] = (),
        delimited: Mapping[str, str] | None = None,
    ) -> Stage:
        """Write what is left, and the manifest: now it is a stage."""
        digest = self.digest()
        rejects = self._write_rejects()
        stage = Stage(
            folder=self._folder,
            files=tuple(self._files),
            digest=digest,
            rejects=rejects,
            rejected=self._rejected,
            state=dict(state or {}),
            inputs=inputs,
            groups=groups,
            delimited=dict(delimited or {}),
        )
        self._lake.settle()
        self._lake.replace(f"{self._folder}/manifest.json", json.dumps(asdict(stage)).encode())
        return stage

    def _finish_file(self) -> None:
        if self._writer is None:
            return
        self._writer.close()
        self._add(self._path, self._rows)
        self._writer, self._rows = None, 0

    def _add(self, path: Path, rows: int) -> None:
        if self._digest is not None:
            self._digest = (self._digest + content_digest(path, leave_out=(INPUT, LINE))) % _DIGEST_RANGE
            self._columns |= {name for name in pq.read_schema(path).names if name not in (INPUT, LINE)}
        key = f"{self._folder}/{len(self._files):05}.parquet"
        data = path.read_bytes()
        self._lake.replace(key, data)
        self._files.append(StagedFile(key, rows, len(data)))

    def _write_rejects(self) -> str | None:
        if self._rejects is None:
            return None
        self._rejects.close()
        self._rejects = None
        key = f"{self._folder}/rejects.parquet"
        self._lake.replace(key, self._rejects_path.read_bytes())
        return key
