"""SQL over staged rows, by DuckDB: one SELECT, sealed off, in bounded memory, from Parquet to Parquet."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pyarrow.parquet as pq

from lookbook.blocks.duckdb.queries import engine
from lookbook.blocks.errors import LookbookError
from lookbook.blocks.sql_text import literal, quoted
from lookbook.tasks.tables import staging
from lookbook.tasks.tables.context import Context, Staged, groups_of, stage_batch, tables_of
from lookbook.tasks.tables.engine import local_files, make_view
from lookbook.tasks.tables.query import check_reads_only
from lookbook.tasks.tables.spec.tasks import SqlTask
from lookbook.tasks.tables.staging import (
    Stage,
    StageWriter,
    delimited_columns,
    delimited_result,
    read_stage,
    stage_folder,
)

if TYPE_CHECKING:
    import sqlglot.expressions as exp
    from duckdb import DuckDBPyConnection

#: Types that Parquet has not, or not as they are, each with the one that it gets.
_CASTS = {"HUGEINT": "BIGINT", "UHUGEINT": "BIGINT", "BIGNUM": "VARCHAR", "TIMESTAMP_S": "TIMESTAMP"}
_CASTS |= dict.fromkeys(("INTERVAL", "UUID", "BIT", "TIME WITH TIME ZONE"), "VARCHAR") | {"TIMESTAMP_MS": "TIMESTAMP"}
_NESTED = ("STRUCT(", "MAP(", "UNION(", "ENUM(", "JSON", "VARIANT")


@dataclass(frozen=True)
class Select:
    """One SELECT.

    Attributes:
        file: that it stands in.
        sql: its text, without a semicolon, on the lines of the file.
        tree: as sqlglot parses it; None: it cannot, though DuckDB may.
    """

    file: str
    sql: str
    tree: exp.Query | None

    def columns(self, table: str, known: Mapping[str, Collection[str]]) -> list[str]:
        """Return the columns that it takes from a table, or may.

        Args:
            table: its name.
            known: the columns of other tables: where one of these has a name, it is taken from there.
        """
        import sqlglot.expressions as exp  # noqa: PLC0415 - slow

        columns: dict[str, str] = {}
        for select in self.tree.find_all(exp.Select) if self.tree is not None else ():
            for name in _taken(select, table, known):
                columns.setdefault(name.lower(), name)
        return list(columns.values())


def _taken(select: exp.Select, table: str, known: Mapping[str, Collection[str]]) -> Iterator[str]:
    """Yield the columns that one SELECT takes from a table, if it stands in its FROM."""
    import sqlglot.expressions as exp  # noqa: PLC0415 - slow

    joins = select.args.get("joins") or []
    parts = [select.args.get("from_") or select.args.get("from"), *joins]
    sources = [part.this for part in parts if part is not None and isinstance(part.this, exp.Table)]
    aliases = {source.alias_or_name.lower() for source in sources if source.name.lower() == table.lower()}
    if not aliases:
        return
    others = {column.lower() for source in sources for column in known.get(source.name.lower(), ())}
    for column in select.find_all(exp.Column):
        if column.table:
            own = column.table.lower() in aliases
        else:
            own = column.find_ancestor(exp.Select) is select and column.name.lower() not in others
        if own and column.name:
            yield column.name
    for join in joins:
        yield from (one.name for one in join.args.get("using") or ())


def read_select(file: str, sql: str) -> Select:
    """Return the one SELECT of a file.

    Raises:
        LookbookError: it has another statement, several, or none.
    """
    import sqlglot  # noqa: PLC0415 - slow
    import sqlglot.expressions as exp  # noqa: PLC0415
    from sqlglot.errors import ParseError, SqlglotError  # noqa: PLC0415
    from sqlglot.tokenizer_core import TokenType  # noqa: PLC0415

    try:
        tokens = sqlglot.tokenize(sql, read="duckdb")
        end = next((token.start for token in tokens if token.token_type == TokenType.SEMICOLON), len(sql))
        more = [token for token in tokens if token.start > end and token.token_type != TokenType.SEMICOLON]
        parsed = sqlglot.parse(sql[:end], read="duckdb") if tokens else []
    except ParseError:
        return Select(file, sql[:end], None)  # DuckDB may know better, or says where
    except SqlglotError as error:
        raise LookbookError(f"{file}: {str(error).splitlines()[0]}.", "Correct the SQL.") from error
    if more or len(parsed) != 1 or not isinstance(parsed[0], exp.Query):
        raise LookbookError(f"{file} is not one SELECT.", "Write one, with a WITH before it if need be.")
    return Select(file, sql[:end], parsed[0])


def storable(sql: str, types: Sequence[tuple[str, str]]) -> str:
    """Return a SELECT whose columns have types that a table can have: nested ones as JSON.

    Args:
        sql: of one SELECT.
        types: of its columns by their names, as DuckDB calls them. Names may be equal, or differ in case only.
    """
    places = [f"column_{number}" for number in range(len(types))]
    parts = [_storable(place, kind) for place, (_, kind) in zip(places, types, strict=True)]
    if parts == places:
        return sql
    chosen = ", ".join(f"{part} AS {quoted(name)}" for part, (name, _) in zip(parts, types, strict=True))
    return f"SELECT {chosen} FROM ({sql}\n) AS result({', '.join(places)})"  # noqa: S608 - names are quoted


def _storable(column: str, kind: str) -> str:
    if kind.endswith("]") or kind.startswith(_NESTED):
        return f"CAST({column} AS VARCHAR)" if kind.startswith(("ENUM(", "JSON")) else f"to_json({column})::VARCHAR"
    return f"CAST({column} AS {_CASTS[kind]})" if kind in _CASTS else column


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
        f"COPY ({storable(select.sql, types)}\n) TO {literal(str(target))}"
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
