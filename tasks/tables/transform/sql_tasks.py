"""SQL over staged rows, by DuckDB: sealed off, in bounded memory, from Parquet to Parquet."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pyarrow.parquet as pq

from lookbook.blocks.errors import LookbookError
from lookbook.tasks.tables import staging
from lookbook.tasks.tables.batches import stage_batch
from lookbook.tasks.tables.context import Context, Staged
from lookbook.tasks.tables.engine import engine, local_files, make_view, quoted, text
from lookbook.tasks.tables.reading import check_reads_only
from lookbook.tasks.tables.spec.tasks import SqlTask
from lookbook.tasks.tables.staging import (
    Stage,
    StageWriter,
    delimited_columns,
    delimited_result,
    read_stage,
    stage_folder,
)
from lookbook.tasks.tables.transform.groups import groups_of, tables_of
from lookbook.tasks.tables.transform.selects import Select, read_select, storable

if TYPE_CHECKING:
    from duckdb import DuckDBPyConnection

#: Rows of a group in the file of the result.
ROWS = 50_000
_LINE = re.compile(r"LINE (\d+):")


def run_sql(context: Context, name: str, inputs: Mapping[str, Any]) -> Staged:
    """Do the SELECT of a task over the results of those before it; once for each group, where rows were split.

    Args:
        context: of the run.
        name: of the task.
        inputs: results by the names of their tasks; those that are no rows are no tables.

    Raises:
        LookbookError: it is no SELECT, or DuckDB refuses it: with the line of the file, where DuckDB tells.
    """
    task = context.pipeline.tasks[name]
    if not isinstance(task, SqlTask):
        raise LookbookError(f"tasks.{name} has no sql.", "Name a task that has.")
    select = _read(context.folder, task.sql)
    check_reads_only(select.sql)  # DuckDB would write over files that it may read
    batch = stage_batch(context, name)
    result: dict[str, Stage] = {}
    for group in groups_of(context, inputs):
        folder = stage_folder("transformed", context.pipeline.name, name, batch, group)
        before = read_stage(context.workspace.lake, folder)
        result[group] = before or _run(context, select, tables_of(inputs, group), folder)
    return Staged(result)


def _read(folder: Path, file: str) -> Select:
    try:
        return read_select(file, (folder / file).read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError) as error:
        raise LookbookError(
            f"{file} cannot be read: {getattr(error, 'strerror', None) or error}.", f"It is looked for in {folder}."
        ) from error


def _run(context: Context, select: Select, tables: Mapping[str, Stage | None], folder: str) -> Stage:
    lake, scratch = context.workspace.lake, context.workspace.scratch
    with StageWriter(lake, folder, scratch) as writer:
        copies = scratch / "copies"
        files = {name: local_files(lake, stage, copies) if stage else [] for name, stage in tables.items()}
        readable = [path for paths in files.values() for path in paths]
        with engine(scratch, readable) as (connection, own), _named_faults(select):
            stubs = _make_views(connection, select, files)
            values = _values(connection, select, context)
            columns = _copy(connection, select, values, own / "result", empty=stubs == set(files))
            if columns:
                _take(writer, own / "result")
        delimited, typed = delimited_columns((stage, files[name]) for name, stage in tables.items() if stage)
        return writer.close(
            inputs=tuple(dict.fromkeys(one for stage in tables.values() if stage for one in stage.inputs)),
            delimited=delimited_result(columns, delimited, typed),
        )


def _make_views(connection: DuckDBPyConnection, select: Select, files: Mapping[str, list[Path]]) -> set[str]:
    """Make a view for each input; the names of those without rows, which have whatever columns are asked for."""
    stubs = {name for name, paths in files.items() if not paths}
    for name in files.keys() - stubs:
        make_view(connection, name, files[name])
    known = {name.lower(): _columns(connection, name) for name in files.keys() - stubs}
    for name in stubs:
        columns = select.columns(name, known) or ["_nothing"]
        nulls = ", ".join(f"NULL AS {quoted(column)}" for column in columns)
        connection.execute(f"CREATE VIEW {quoted(name)} AS SELECT {nulls} WHERE false")
    return stubs


def _columns(connection: DuckDBPyConnection, view: str) -> list[str]:
    described = connection.execute(f"SELECT * FROM {quoted(view)} LIMIT 0").description  # noqa: S608 - it is quoted
    return [str(column[0]) for column in described or ()]


def _values(connection: DuckDBPyConnection, select: Select, context: Context) -> dict[str, Any]:
    """Return a value for each name that the SELECT has behind a dollar sign."""
    (statement,) = connection.extract_statements(select.sql)
    known = dict(context.params) | {"logical_date": context.logical_date}
    unknown = sorted(statement.named_parameters - known.keys())
    if unknown:
        raise LookbookError(
            f"{select.file} names ${unknown[0]}, which nobody knows.",
            f"There are {', '.join(f'${name}' for name in known)}; add others to params.",
        )
    return {name: known[name] for name in statement.named_parameters}


def _copy(
    connection: DuckDBPyConnection, select: Select, values: dict[str, Any], target: Path, *, empty: bool
) -> list[str]:
    """Write the rows to a file; their columns, none of no result.

    One file: DuckDB writes several at the same time, and their numbers do not tell the order of the rows, by which a
    merge knows the last one of a key.
    """
    import duckdb  # noqa: PLC0415 - late: importing the tasks is to be quick

    try:
        described = connection.execute(f"SELECT * FROM ({select.sql}\n) LIMIT 0", values).description  # noqa: S608
    except duckdb.BinderException:
        if empty:  # columns without a type: of which function they are arguments, nobody can say
            return []
        raise
    types = [(str(column[0]), str(column[1])) for column in described or []]
    connection.execute(
        f"COPY ({storable(select.sql, types)}\n) TO {text(str(target))}"
        f" (FORMAT parquet, COMPRESSION zstd, ROW_GROUP_SIZE {ROWS})",
        values,
    )
    return [name for name, _ in types]


def _take(writer: StageWriter, result: Path) -> None:
    """Hand on the rows: the file as it is, or as several where it is large."""
    if result.stat().st_size <= staging.FILE_BYTES:
        writer.adopt(result)
        return
    with pq.ParquetFile(result) as file:
        for batch in file.iter_batches(ROWS):
            writer.write(batch)


@contextmanager
def _named_faults(select: Select) -> Iterator[None]:
    """DuckDB's errors with the file, and the line in it."""
    import duckdb  # noqa: PLC0415 - late: importing the tasks is to be quick

    try:
        yield
    except duckdb.OutOfMemoryException as error:
        raise LookbookError(
            f"{select.file} takes more memory than it may, in spite of scratch space: {_first(error)}.",
            "Let it group or join less at once, in several sql tasks.",
        ) from error
    except duckdb.Error as error:
        line = _LINE.search(str(error))
        where = f"{select.file} line {line[1]}" if line else select.file
        raise LookbookError(f"{where}: {_first(error)}.", "Correct the SQL.") from error


def _first(error: Exception) -> str:
    """Return what DuckDB says, without the excerpt of the statement."""
    said = str(error).partition("\n\nLINE ")[0]
    return " ".join(said.split()).rstrip(".!")
