"""Connections to the registry's PostgreSQL: how they are opened and closed, and how many there are."""

from __future__ import annotations

import asyncio
import ssl
import threading
from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import asynccontextmanager, contextmanager, suppress
from dataclasses import dataclass, field
from typing import Any

import asyncpg

from lookbook.blocks.errors import LookbookError, OutOfReachError

#: The oldest version that is tested.
OLDEST_SERVER = 14
#: Seconds to connect, and to say goodbye.
CONNECT_SECONDS = 30
CLOSE_SECONDS = 5
#: Seconds that a server may be late in ending a statement itself; then its connection is dead.
GRACE_SECONDS = 15

#: Everything that could break a connection; none of them names the password.
CONNECTION_FAULTS = (OSError, asyncpg.PostgresError, asyncpg.InterfaceError, asyncio.TimeoutError)
#: Those of them that may pass: the network's, and what a server says that starts, ends or is full.
PASSING_FAULTS = (
    OSError,  # a TimeoutError is one
    asyncpg.PostgresConnectionError,
    asyncpg.OperatorInterventionError,
    asyncpg.TooManyConnectionsError,
)

_slots: dict[tuple[str, int], threading.BoundedSemaphore] = {}
_guard = threading.Lock()


@dataclass(frozen=True)
class Address:
    """What asyncpg connects to: a URL, and options that no URL has. Holds a password: it prints as nothing."""

    dsn: str = field(repr=False)
    options: Mapping[str, Any] = field(default_factory=dict, repr=False)


@contextmanager
def slot(address: Address, connections: int) -> Iterator[None]:
    """Wait until this process holds less than so many connections to `address`, and count as one of them."""
    with _guard:
        key = (address.dsn, connections)
        semaphore = _slots.setdefault(key, threading.BoundedSemaphore(connections))
    with semaphore:
        yield


async def connect(address: Address, label: str, statement_seconds: int) -> asyncpg.Connection[asyncpg.Record]:
    """Open a connection that works through any pooler: it leaves no prepared statement behind.

    Args:
        address: of the server.
        label: which one it is, for errors.
        statement_seconds: a statement that the server does not end in this time is given up.

    Raises:
        OutOfReachError: nothing answers there, or it is starting, ending or full.
        LookbookError: it refuses, or is too old.
    """
    options = dict(address.options)
    settings = {"application_name": "lookbook"} | options.pop("server_settings", {})
    bounds = {"timeout": CONNECT_SECONDS, "command_timeout": statement_seconds + GRACE_SECONDS}
    try:
        connection = await asyncpg.connect(
            address.dsn, **(bounds | options), statement_cache_size=0, server_settings=settings
        )
    except ssl.SSLError as error:  # a ValueError as well, where it is the certificate's fault
        raise _out_of_reach(label, error) from error
    except (ValueError, OverflowError, TypeError):
        # What it says may hold a piece of the password.
        raise LookbookError(
            f"The registry {label} cannot be reached: that is no PostgreSQL URL, or it names a certificate file that "
            "is not there.",
            "Write it as postgresql://user:password@host:5432/database, special characters as %23 for #.",
        ) from None
    except CONNECTION_FAULTS as error:
        raise _out_of_reach(label, error) from error
    version = connection.get_server_version().major
    if version < OLDEST_SERVER:
        connection.terminate()
        raise LookbookError(
            f"The registry {label} is PostgreSQL {version}; Lookbook needs {OLDEST_SERVER} or newer.",
            "Upgrade that server, or name another.",
        )
    return connection


def may_pass(error: BaseException) -> bool:
    """Return whether a server or the way to it failed, and not what was asked of it: then another try may go well."""
    return isinstance(error, PASSING_FAULTS) and not isinstance(error, ssl.SSLError)


def _out_of_reach(label: str, error: BaseException) -> LookbookError:
    return (OutOfReachError if may_pass(error) else LookbookError)(
        f"The registry {label} cannot be reached: {type(error).__name__}: {error}.",
        "See that PostgreSQL runs there and lets you in; the workspace's Registry block names it.",
    )


@asynccontextmanager
async def closing(
    connection: asyncpg.Connection[asyncpg.Record],
) -> AsyncIterator[asyncpg.Connection[asyncpg.Record]]:
    """Close the connection at the end, also one whose server does not answer any more."""
    try:
        yield connection
    finally:
        with suppress(*CONNECTION_FAULTS):  # asyncpg has dropped it then
            await connection.close(timeout=CLOSE_SECONDS)
