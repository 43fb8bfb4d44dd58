"""A table or query of a database as a source, streamed in chunks. Imports SQLAlchemy: import it late."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import datetime
from typing import Any

import numpy as np
import pyarrow as pa
import sqlalchemy as sa
from prefect_sqlalchemy import AsyncSqlAlchemyConnector, ConnectionComponents, SqlAlchemyConnector
from pydantic import JsonValue
from sqlalchemy import create_engine, event, inspect
from sqlalchemy.engine import URL, Connection, CursorResult, Engine, make_url
from sqlalchemy.exc import (
    DBAPIError,
    InterfaceError,
    NoSuchModuleError,
    NoSuchTableError,
    OperationalError,
    SAWarning,
    SQLAlchemyError,
)
from sqlalchemy.pool import NullPool
from sqlalchemy.sql import sqltypes
from sqlalchemy.types import TypeEngine

from lookbook.blocks.errors import LookbookError, OutOfReachError
from lookbook.tasks.tables.context import Context
from lookbook.tasks.tables.extract.cursor import Cursor, Exact
from lookbook.tasks.tables.extract.pieces import Notes, Piece, column_named, located, to_array, unique_names
from lookbook.tasks.tables.spec.tasks import SqlSource

#: PyMySQL's and psycopg2's numbers of the decimal types.
_DECIMALS = {"mysql": (0, 246), "mariadb": (0, 246), "postgresql": (1700,)}
_DIGITS = 38
_TYPES: tuple[tuple[type[TypeEngine[Any]], pa.DataType], ...] = (
    (sqltypes.Uuid, pa.string()),
    (sqltypes.Integer, pa.int64()),
    (sqltypes.String, pa.string()),
    (sqltypes._Binary, pa.binary()),
    (sqltypes.Date, pa.date32()),
    (sqltypes.Time, pa.time64("us")),
    (sqltypes.JSON, pa.string()),
    (sqltypes.ARRAY, pa.string()),
    (sqltypes.Boolean, pa.bool_()),
)
#: PostgreSQL's numbers of types with those of their arrays (pg_type.dat), and what psycopg2 makes of their values.
_LOSSY = {
    "DATE": (1082, 1182, "PYDATE"),
    "TIMESTAMP": (1114, 1115, "PYDATETIME"),
    "TIMESTAMPTZ": (1184, 1185, "PYDATETIMETZ"),
    "TIME": (1083, 1183, "PYTIME"),
    "TIMETZ": (1266, 1270, None),  # Arrow's times have no zone
    "INTERVAL": (1186, 1187, None),  # Python's know no months
    "TSRANGE": (3908, 3909, None),
    "TSTZRANGE": (3910, 3911, None),
    "DATERANGE": (3912, 3913, None),
}
#: psycopg2 takes these for the last and the first day that Python knows, and for midnight at the day's beginning.
_TAKEN_FOR_OTHERS = ("infinity", "-infinity", "24:00")

Cast = Callable[[str | None, Any], Any]


def table_types(connection: Connection, table: str, schema: str | None) -> dict[str, pa.DataType]:
    """Return the types of a table's columns as far as they are known.

    SQLite knows none: a column takes whatever it is given.

    Raises:
        NoSuchTableError: there is no such table.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", SAWarning)  # of types that SQLAlchemy does not know
        columns = inspect(connection).get_columns(table, schema)
    if connection.dialect.name == "sqlite":
        return {}
    known = {column["name"]: arrow_type(column["type"]) for column in columns}
    return {name: kind for name, kind in known.items() if kind is not None}


def arrow_type(kind: TypeEngine[Any]) -> pa.DataType | None:
    """Return a type of SQLAlchemy as Arrow's, as dlt's source of databases reads it; None: the values tell."""
    if isinstance(kind, sqltypes.Numeric):  # before integers: those of Oracle are both
        if not kind.asdecimal:
            return pa.float64()
        return _decimal(kind.precision, kind.decimal_return_scale if kind.scale is None else kind.scale)
    if isinstance(kind, sqltypes.DateTime):
        return pa.timestamp("us", "UTC" if kind.timezone else None)
    return next((found for known, found in _TYPES if isinstance(kind, known)), None)


def query_types(dialect: str, description: Sequence[Sequence[Any]] | None) -> list[pa.DataType | None]:
    """Return the types of a result's columns: those of decimals, which values do not tell.

    Args:
        dialect: name of the database's.
        description: of the columns, by PEP 249.
    """
    known = _DECIMALS.get(dialect, ())
    return [_decimal(entry[4], entry[5]) if entry[1] in known else None for entry in description or ()]


def _decimal(precision: int | None, scale: int | None) -> pa.DataType | None:
    if not precision or precision > _DIGITS or not 0 <= (scale or 0) <= precision:
        return None
    return pa.decimal128(precision, scale or 0)


def keep_exact(connection: Any, _record: object = None) -> None:  # noqa: ANN401 - psycopg2 has no types
    """Let a connection of psycopg2 give dates, times and intervals that Python cannot hold as their text."""
    from psycopg2 import DataError, extensions  # noqa: PLC0415 - only PostgreSQL needs it

    faults = (DataError, ValueError, OverflowError)  # before the year 1, after 9999
    for name, (number, array, known) in _LOSSY.items():
        cast = _exact(getattr(extensions, known), faults) if known else _as_written
        one = extensions.new_type((number,), name, cast)
        for kind in (one, extensions.new_array_type((array,), f"{name}[]", one)):
            extensions.register_type(kind, connection)


def _as_written(value: str | None, _cursor: object) -> str | None:
    return value


def _exact(known: Cast, faults: tuple[type[Exception], ...]) -> Cast:
    def cast(value: str | None, cursor: object) -> Any:  # noqa: ANN401 - a date, a time, or text
        if value is None or value.startswith(_TAKEN_FOR_OTHERS):
            return value
        try:
            return known(value, cursor)
        except faults:
            return value

    return cast


#: Drivers that wait in an event loop, each with one of the same database that does not.
SYNC_DRIVERS = {
    "postgresql+asyncpg": "postgresql+psycopg2",
    "mysql+aiomysql": "mysql+pymysql",
    "mysql+asyncmy": "mysql+pymysql",
    "mariadb+aiomysql": "mariadb+pymysql",
    "sqlite+aiosqlite": "sqlite",
    "oracle+oracledb_async": "oracle+oracledb",
    "mssql+aioodbc": "mssql+pyodbc",
}
#: Dialects that give JSON as its text, if they are told so.
_JSON_AS_TEXT = ("postgresql", "mysql", "mariadb", "sqlite", "mssql")


@contextmanager
def opened(connector: str) -> Iterator[Engine]:
    """Yield an engine for the database that a saved block names, while the block runs.

    Raises:
        LookbookError: no such block is saved, or its driver is not installed.
    """
    url, arguments = _told(connector, load_connector(connector))
    engine = engine_of(connector, url, arguments)
    try:
        yield engine
    finally:
        engine.dispose()


def load_connector(name: str) -> SqlAlchemyConnector | AsyncSqlAlchemyConnector:
    """Return the saved block of that name, of either kind.

    Raises:
        LookbookError: none is saved.
    """
    for kind in (SqlAlchemyConnector, AsyncSqlAlchemyConnector):
        try:
            return kind.load(name, _sync=True)
        except ValueError as error:
            if "Unable to find block document" not in str(error):
                raise LookbookError(f"The connector {name} cannot be used: {type(error).__name__}.", _MEND) from None
        except RuntimeError:  # what Prefect makes of a ValidationError, which holds what was given
            raise LookbookError(f"The connector {name} cannot be used.", _MEND) from None
    raise LookbookError(
        f"No SQLAlchemy Connector of the name {name} is saved.",
        "Save one in Prefect's UI under Blocks (SQLAlchemy Connector), with the parts of its address.",
    )


def engine_of(connector: str, url: URL, arguments: dict[str, Any]) -> Engine:
    """Return an engine that keeps no connection."""
    options: dict[str, Any] = {"poolclass": NullPool, "connect_args": arguments}
    if url.get_backend_name() in _JSON_AS_TEXT:
        options["json_deserializer"] = _as_it_is
    try:
        engine = create_engine(url, **options)
    except (ModuleNotFoundError, NoSuchModuleError) as error:
        raise LookbookError(
            f"The connector {connector} is of the driver {url.drivername}, which is not installed here.",
            "Install it beside Lookbook, in the worker's image as well.",
        ) from error
    if engine.driver == "psycopg2":
        event.listen(engine, "connect", keep_exact)
    return engine


def _as_it_is(text: str) -> str:
    return text


def _told(connector: str, block: SqlAlchemyConnector | AsyncSqlAlchemyConnector) -> tuple[URL, dict[str, Any]]:
    """Return the address of a block for a driver that does not wait in an event loop, and what its driver is told."""
    info = block.connection_info
    url: URL = info.create_url() if isinstance(info, ConnectionComponents) else make_url(str(info))
    arguments = dict(block.connect_args or {})
    driver = SYNC_DRIVERS.get(url.drivername)
    if driver is None:
        return url, arguments
    if arguments:
        raise LookbookError(
            f"The connector {connector} tells {url.drivername} {', '.join(sorted(arguments))} (connect_args), and "
            f"feeds read with {driver}.",
            "Save a SQLAlchemy Connector for them, of a driver that is not async.",
        )
    return _for_driver(url, driver), arguments


def _for_driver(url: URL, driver: str) -> URL:
    """Return the address with another driver; asyncpg's ``ssl`` is libpq's ``sslmode``."""
    query = dict(url.query)
    if driver == "postgresql+psycopg2" and "ssl" in query:
        query["sslmode"] = query.pop("ssl")
    return url.set(drivername=driver, query=query)


_MEND = "Mend its block in Prefect's UI."


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
    """Return the lowest new value, where the database compares it as we do: no fractions, and no times of SQLite."""
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
