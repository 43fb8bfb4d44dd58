"""Databases by the connector blocks of prefect-sqlalchemy. Imports SQLAlchemy and Prefect: import it late."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from prefect_sqlalchemy import AsyncSqlAlchemyConnector, ConnectionComponents, SqlAlchemyConnector
from sqlalchemy import create_engine, event
from sqlalchemy.engine import URL, Engine, make_url
from sqlalchemy.exc import NoSuchModuleError
from sqlalchemy.pool import NullPool

from lookbook.blocks.errors import LookbookError
from lookbook.tasks.tables.extract.sql_types import keep_exact

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
