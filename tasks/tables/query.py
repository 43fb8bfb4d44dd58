"""Queries over the tables of the lake and those of the warehouse alike."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING

from lookbook.blocks.duckdb.queries import Views, answer, attach
from lookbook.blocks.duckdb.warehouse import DuckDBWarehouse
from lookbook.blocks.errors import LookbookError, ObjectNotFoundError
from lookbook.blocks.warehouse import QueryCost
from lookbook.blocks.workspace import Workspace
from lookbook.tasks.tables.lake_query import LAKE, LakeView, as_views, lake_views
from lookbook.tasks.tables.reading import check_reads_only, tables_named

if TYPE_CHECKING:
    import pyarrow as pa
    from duckdb import DuckDBPyConnection, DuckDBPyRelation

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
