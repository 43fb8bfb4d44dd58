"""A table or query of a database as a source, streamed in chunks. Imports SQLAlchemy: import it late."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import datetime
from typing import Any

import numpy as np
import pyarrow as pa
import sqlalchemy as sa
from pydantic import JsonValue
from sqlalchemy.engine import Connection, CursorResult
from sqlalchemy.exc import DBAPIError, InterfaceError, NoSuchTableError, OperationalError, SQLAlchemyError

from lookbook.blocks.errors import LookbookError, OutOfReachError
from lookbook.tasks.tables.context import Context
from lookbook.tasks.tables.extract.arrays import to_array
from lookbook.tasks.tables.extract.cursor import Cursor
from lookbook.tasks.tables.extract.cursor_keys import Exact
from lookbook.tasks.tables.extract.names import column_named
from lookbook.tasks.tables.extract.pieces import Notes, Piece, located, unique_names
from lookbook.tasks.tables.extract.sql_connect import opened
from lookbook.tasks.tables.extract.sql_types import query_types, table_types
from lookbook.tasks.tables.spec.sources import SqlSource

#: Dialects that know times with a zone; the others get the clock of the logical date's zone.
_ZONED = ("postgresql", "mssql", "oracle")
#: Dialects that take any SELECT as a table in FROM.
_NESTING = ("postgresql", "mysql", "mariadb", "sqlite", "oracle")
LOWEST = "lookbook_lowest"


def read_sql(context: Context, source: SqlSource, cursor: Cursor | None, notes: Notes) -> Iterator[Piece]:
    """Yield the rows of a table or query; the line of a row is its number, from 1.

    Raises:
        OutOfReachError: the database does not answer.
        LookbookError: it refuses.
    """
    address = f"sql://{source.connector}/{source.table or 'query'}"
    notes.inputs.append(address)
    with _named_faults(address), opened(source.connector) as engine, engine.connect() as connection:
        statement, types = _statement(context, source, cursor, connection)
        streaming = connection.execution_options(stream_results=True, yield_per=source.chunk_size)
        with streaming.execute(statement) as result:
            yield from _pieces(result, types, source.chunk_size, address)


def _statement(
    context: Context, source: SqlSource, cursor: Cursor | None, connection: Connection
) -> tuple[sa.Executable, Mapping[str, pa.DataType]]:
    """Return what is asked, and the types of columns that are known before."""
    if source.table is not None:
        schema, _, table = source.table.rpartition(".")
        types = table_types(connection, table, schema or None)
        chosen = sa.select(sa.text("*")).select_from(sa.table(table, schema=schema or None))
        columns = [column["name"] for column in sa.inspect(connection).get_columns(table, schema or None)]
        return _newer(chosen, cursor, connection, columns), types
    query = sa.text((source.query or "").strip().rstrip(";"))
    dialect = connection.dialect.name
    values = _values(query, context.logical_date if dialect in _ZONED else _clock(context), context.params)
    lowest = _lowest(cursor, dialect) if dialect in _NESTING else None
    if lowest is None or cursor is None:
        return query.bindparams(**values), {}
    inner = query.bindparams(**values).columns().subquery("lookbook_source")
    return _newer(sa.select(sa.text("*")).select_from(inner), cursor, connection, [cursor.incremental.cursor]), {}


def _clock(context: Context) -> datetime:
    return context.logical_date.replace(tzinfo=None)


def _values(query: sa.TextClause, date: datetime, params: Mapping[str, JsonValue]) -> dict[str, Any]:
    """Return a value for each name that a query has behind a colon.

    Raises:
        LookbookError: there is none, or it is a list or an object.
    """
    known: dict[str, Any] = dict(params) | {"logical_date": date}
    values = {}
    for name in query.compile().params:
        if name not in known or isinstance(known[name], list | dict):
            raise LookbookError(
                f"The query names :{name}, of which no single value is known.",
                f"There are {', '.join(f':{one}' for one in known)}; a colon that is none is written \\:.",
            )
        values[name] = known[name]
    return values


def _newer(
    chosen: sa.Select[Any], cursor: Cursor | None, connection: Connection, columns: Sequence[str]
) -> sa.Executable:
    """Return the rows that may be new, where the database can tell: it is asked for no others."""
    lowest = _lowest(cursor, connection.dialect.name)
    if cursor is None or lowest is None:
        return chosen
    name = column_named(columns, cursor.incremental.cursor)
    if name is None:
        return chosen
    column: sa.ColumnClause[Any] = sa.column(name)
    newer = column >= sa.bindparam(LOWEST, lowest)
    return chosen.where(newer if cursor.incremental.on_missing == "exclude" else sa.or_(newer, column.is_(None)))


def _lowest(cursor: Cursor | None, dialect: str) -> Exact | None:
    """The lowest value that is new, where the database compares it as we do: no fractions, and no times of SQLite."""
    lowest = None if cursor is None else cursor.lowest
    if isinstance(lowest, float) or (dialect == "sqlite" and not isinstance(lowest, int)):
        return None
    return lowest


def _pieces(
    result: CursorResult[Any], types: Mapping[str, pa.DataType], chunk_size: int, address: str
) -> Iterator[Piece]:
    keys = list(result.keys())
    names = unique_names(keys)
    wanted = [types.get(key) for key in keys]
    done = 0
    for rows in result.partitions(chunk_size):
        if not types and not done:
            wanted = _described(result, len(keys))
        columns = [to_array(column, kind) for column, kind in zip(zip(*rows, strict=True), wanted, strict=True)]
        numbers = pa.array(np.arange(done + 1, done + len(rows) + 1), pa.int64())
        yield Piece(located(pa.Table.from_arrays(columns, names=names), address, numbers))
        done += len(rows)


def _described(result: CursorResult[Any], width: int) -> list[pa.DataType | None]:
    """Return the types of a query's columns, of which the driver may tell some."""
    told = query_types(result.context.dialect.name, result.cursor.description if result.cursor else None)
    return told if len(told) == width else [None] * width


@contextmanager
def _named_faults(address: str) -> Iterator[None]:
    """Errors of the database as ours: its own words, and no statement with its values."""
    try:
        yield
    except NoSuchTableError as error:
        raise LookbookError(f"{address}: there is no such table.", "Correct its name, with its schema.") from error
    except (OperationalError, InterfaceError) as error:
        raise OutOfReachError(
            f"{address}: {_said(error)}.", "See that the database runs, and that the connector's block is right."
        ) from None
    except (SQLAlchemyError, UnicodeEncodeError, ValueError, OverflowError) as error:
        raise LookbookError(
            f"{address}: {_said(error)}.", "Correct the query or table, or cast the column to text."
        ) from None


def _said(error: Exception) -> str:
    """Return what the driver says, in one line."""
    cause = error.orig if isinstance(error, DBAPIError) and error.orig is not None else error
    lines = str(cause).strip().splitlines() or [""]
    return f"{type(cause).__name__}: {lines[0]}".rstrip(".: ")
