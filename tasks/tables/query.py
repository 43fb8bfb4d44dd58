"""Queries over the tables of the lake and those of the warehouse alike: what a statement names, and its answer."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from lookbook.blocks.duckdb.queries import Views, answer, attach
from lookbook.blocks.duckdb.warehouse import DuckDBWarehouse
from lookbook.blocks.errors import LookbookError, ObjectNotFoundError
from lookbook.blocks.lake import Lake
from lookbook.blocks.sql_text import parquet_files, quoted
from lookbook.blocks.warehouse import QueryCost
from lookbook.blocks.workspace import Workspace, scratch_folder
from lookbook.tasks.datasets.manifest import Manifest, read_published
from lookbook.tasks.tables.lake.files import THREADS, relation
from lookbook.tasks.tables.lake.manifest import TableManifest, require_table

if TYPE_CHECKING:
    import pyarrow as pa
    from duckdb import DuckDBPyConnection, DuckDBPyRelation

#: Of DuckDB's kinds of statement those that read. MULTI is what a PIVOT without IN is turned into.
_READING = frozenset({"SELECT", "EXPLAIN", "MULTI"})
#: What writes files. DuckDB takes COPY as a part of a SELECT (WITH x AS (COPY …)), and of EXPLAIN ANALYZE.
_WRITING = frozenset({"copy", "export"})
_WORD = re.compile(r"\w+")
_PART = re.compile(r'"(?:[^"]|"")*"|[^.]+')


def check_reads_only(sql: str) -> None:
    """Refuse a statement that could write.

    A connection that reaches files reaches them for writing, too: COPY … TO with USE_TMP_FILE false goes over a file
    that it may only have read, whatever the connection's settings are.

    Raises:
        LookbookError: it is no SELECT, or one with a part that writes.
    """
    import duckdb  # noqa: PLC0415 - late: importing the tasks is to be quick

    with duckdb.connect() as connection:
        try:
            kinds = [statement.type.name for statement in connection.extract_statements(sql)]
        except duckdb.Error:
            return  # whoever runs it hears what is wrong with it
    for kind in kinds:
        if kind not in _READING:
            raise LookbookError(f"A query only reads: this is {kind}.", "One SELECT is asked for.")
    for word in _bare_words(sql):
        if word.lower() in _WRITING:
            raise LookbookError(
                f"A query only reads: {word.upper()} writes.",
                f'If it is the name of a column or table, put it into double quotes: "{word}".',
            )


def _bare_words(sql: str) -> Iterator[str]:
    """Yield the words outside quotes and comments."""
    import duckdb  # noqa: PLC0415 - late: importing the tasks is to be quick

    data = sql.encode()  # offsets are of bytes
    for offset, kind in duckdb.tokenize(sql):
        if kind.name in ("keyword", "identifier") and (found := _WORD.match(data[offset:].decode(errors="replace"))):
            yield found[0]


def tables_named(sql: str, dialect: str = "duckdb") -> set[tuple[str, ...]]:
    """Return the tables that a statement names, each as the parts of its name; common table expressions are none.

    Args:
        sql: the statement.
        dialect: ``duckdb``, or ``bigquery``, where `p.d.t` in backticks is a name of three parts.

    Returns:
        None of a statement that cannot be read: whoever runs it hears what is wrong with it.
    """
    import duckdb  # noqa: PLC0415 - late: importing the tasks is to be quick

    with duckdb.connect() as connection:
        try:
            found = connection.get_table_names(sql, qualified=True)
        except duckdb.Error:  # several statements, a PIVOT, another dialect
            return _tables_by_sqlglot(sql, dialect)
    names = {name_parts(name) for name in found}
    return {tuple(".".join(name).split(".")) for name in names} if dialect == "bigquery" else names


def name_parts(name: str) -> tuple[str, ...]:
    """Return the parts of a name: schema and table, without the quotes."""
    return tuple(_unquoted(part) for part in _PART.findall(name))


def _unquoted(part: str) -> str:
    return part[1:-1].replace('""', '"') if part.startswith('"') else part


def _tables_by_sqlglot(sql: str, dialect: str) -> set[tuple[str, ...]]:
    import sqlglot  # noqa: PLC0415 - late: importing the tasks is to be quick
    from sqlglot import exp  # noqa: PLC0415

    try:
        trees = [tree for tree in sqlglot.parse(sql, read=dialect) if tree is not None]
    except sqlglot.errors.SqlglotError:
        return set()
    own = {cte.alias for tree in trees for cte in tree.find_all(exp.CTE)}
    tables = [table for tree in trees for table in tree.find_all(exp.Table)]
    named = {tuple(part for part in (table.catalog, table.db, table.name) if part) for table in tables}
    return {name for name in named if name and not (len(name) == 1 and name[0] in own)}


#: What statements call the lake: lake.trips is a table, lake.fashion.products one of the dataset fashion.
LAKE = "lake"


@dataclass(frozen=True)
class LakeView:
    """A table of the lake under the name by which a statement asks for it.

    Attributes:
        schema: ``main``, or a dataset.
        source: what it is made from; equal as long as nothing was loaded.
        keys: of the files.
    """

    schema: str
    name: str
    source: TableManifest | Manifest
    keys: tuple[str, ...]

    def select(self, paths: Mapping[str, Path]) -> str:
        """Return the statement of the view."""
        if isinstance(self.source, TableManifest):
            return relation(self.source, paths)
        return f"SELECT * FROM {parquet_files(paths[key] for key in self.keys)}"  # noqa: S608 - quoted


def lake_views(lake: Lake, names: Iterable[Sequence[str]]) -> list[LakeView]:
    """Return what stands now under names such as (lake, trips) and (lake, fashion, products).

    Raises:
        LookbookError: there is nothing of that name.
    """
    found = {}
    for name in sorted(tuple(part.lower() for part in name) for name in names):
        view = _view(lake, name[1:])
        found[view.schema, view.name] = view
    return list(found.values())


def _view(lake: Lake, parts: tuple[str, ...]) -> LakeView:
    if len(parts) == 1:
        return _table(lake, parts[0])
    dataset, table = parts
    published = read_published(lake, dataset) if "/" not in dataset else None
    if published is None and dataset == "main":
        return _table(lake, table)
    tables = list(published.manifest.tables) if published else []
    if published is None or table not in tables:
        raise LookbookError(
            f"lake.{dataset}.{table}: "
            + (f"the dataset {dataset} has no such table." if published else f"there is no dataset {dataset}."),
            f"It has {', '.join(tables)}." if tables else '"lookbook tables" names what there is.',
        )
    return LakeView(dataset, table, published.manifest, tuple(published.manifest.keys(table)))


def _table(lake: Lake, table: str) -> LakeView:
    manifest = require_table(lake, table)
    return LakeView("main", table, manifest, tuple(file.key for file in manifest.files))


@contextmanager
def as_views(lake: Lake, views: Sequence[LakeView], scratch: Path) -> Iterator[Views]:
    """Yield a DuckDB file with the views, for as long as the block runs; what lies in a bucket is copied to scratch.

    Raises:
        ObjectNotFoundError: a file is gone: two loads ended since the views were looked up.
        LookbookError: DuckDB cannot read a file, or the folder for scratch cannot be used.
    """
    with scratch_folder(scratch, "query-") as name:
        folder = Path(name)
        keys = [key for view in views for key in view.keys]
        with ThreadPoolExecutor(THREADS) as pool:
            paths = dict(zip(keys, pool.map(lambda key: lake.local_copy(key, folder), keys), strict=True))
        file = folder / f"{LAKE}.duckdb"
        _make(file, views, paths)
        yield Views(LAKE, file, list(paths.values()))


def _make(file: Path, views: Sequence[LakeView], paths: Mapping[str, Path]) -> None:
    import duckdb  # noqa: PLC0415 - late: importing the tasks is to be quick

    try:
        with duckdb.connect(str(file)) as connection:
            for view in views:
                connection.execute(f"CREATE SCHEMA IF NOT EXISTS {quoted(view.schema)}")
                connection.execute(f"CREATE VIEW {quoted(view.schema)}.{quoted(view.name)} AS {view.select(paths)}")
    except duckdb.Error as error:
        named = ", ".join(f"{LAKE}.{view.name}" for view in views)
        raise LookbookError(f"{named} cannot be read: {str(error).strip()}") from error


#: What catalogue entries call the tables that feeds load into the registry's PostgreSQL.
REGISTRY = "registry"
#: So often a statement is asked anew because loads took away the files that it was about to read.
TRIES = 5

Names = set[tuple[str, ...]]


def query(workspace: Workspace, sql: str) -> pa.Table:
    """Return what a SELECT over warehouse and lake gives, as of ``lake.trips`` and ``lake.fashion.products``.

    With a DuckDB warehouse one statement may name both. With BigQuery, one that names tables of the lake runs in
    DuckDB, in its dialect, and names nothing else.

    Raises:
        LookbookError: it names what is not there, writes, or fails; with the engine's message.
    """
    lake_names, others = _names(workspace, sql)
    if not lake_names:
        return workspace.warehouse.query(sql)
    for _ in range(TRIES):
        views = lake_views(workspace.lake, lake_names)
        try:
            with _relation(workspace, sql, views, others) as found:
                return found.to_arrow_table()
        except LookbookError as error:
            if not _files_went(workspace, error, views, lake_names):
                raise
    raise LookbookError(
        f"The files of {_listed(lake_names)} went {TRIES} times while they were read: loads follow each other closely.",
        "Ask again when they have ended.",
    )


def dry_run(workspace: Workspace, sql: str) -> QueryCost:
    """Check a SELECT without running it.

    Raises:
        LookbookError: as `query`.
    """
    lake_names, others = _names(workspace, sql)
    if not lake_names:
        return workspace.warehouse.dry_run(sql)
    with _relation(workspace, sql, lake_views(workspace.lake, lake_names), others):
        return QueryCost(None)


def _names(workspace: Workspace, sql: str) -> tuple[Names, Names]:
    """Return the lake's tables that a statement names, and all others; it only reads if there are any of the lake's."""
    if LAKE not in sql.lower() and REGISTRY not in sql.lower():
        return set(), set()
    bigquery = not isinstance(workspace.warehouse, DuckDBWarehouse)
    names = tables_named(sql, "bigquery" if bigquery else "duckdb")
    of_lake = {name for name in names if len(name) > 1 and name[0].lower() == LAKE}
    others = names - of_lake
    for name in others:
        if len(name) > 1 and name[0].lower() == REGISTRY:
            raise LookbookError(
                f"{'.'.join(name)} lies in the registry's PostgreSQL, which this command does not ask.",
                f"Ask it with psql, as feeds.{name[-1]} (of a further lake: docs/tables.md), or load the table with "
                "target: warehouse or lake.",
            )
    if of_lake:
        check_reads_only(sql)
    if of_lake and others and bigquery:
        raise LookbookError(
            f"{_listed(of_lake)} and {_listed(others)}: BigQuery does not see the lake's tables, and a statement over "
            "the lake runs in DuckDB, which does not see BigQuery's.",
            "Ask each by itself, or load the lake's table with target: warehouse as well.",
        )
    return of_lake, others


@contextmanager
def _relation(workspace: Workspace, sql: str, views: Sequence[LakeView], others: Names) -> Iterator[DuckDBPyRelation]:
    with (
        as_views(workspace.lake, views, workspace.scratch) as made,
        _connection(workspace, made, others) as connection,
        answer(connection, sql) as found,
    ):
        yield found


@contextmanager
def _connection(workspace: Workspace, views: Views, others: Names) -> Iterator[DuckDBPyConnection]:
    """Over the warehouse's file too, where the statement names more than the lake's tables."""
    import duckdb  # noqa: PLC0415 - late: importing the tasks is to be quick

    if others and isinstance(workspace.warehouse, DuckDBWarehouse):
        with workspace.warehouse.reading(views) as connection:
            yield connection
        return
    closed = {"autoinstall_known_extensions": "false", "autoload_known_extensions": "false"}
    connection = duckdb.connect(config={**closed, **views.config})
    try:
        attach(connection, views)
        yield connection
    finally:
        connection.close()


def _files_went(workspace: Workspace, error: LookbookError, views: Sequence[LakeView], names: Names) -> bool:
    """Return whether a statement failed because loads ended that removed the files which it was about to read."""
    import duckdb  # noqa: PLC0415 - late: importing the tasks is to be quick

    gone = isinstance(error, ObjectNotFoundError) or isinstance(error.__cause__, duckdb.IOException)
    return gone and lake_views(workspace.lake, names) != list(views)


def _listed(names: Names) -> str:
    return ", ".join(sorted(".".join(name) for name in names))
