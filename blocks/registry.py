"""The registry: the books' index in PostgreSQL. It follows the lake and can be rebuilt from it."""

from __future__ import annotations

import asyncio
from abc import ABC, abstractmethod
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager, contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import asyncpg
from prefect.blocks.core import Block
from pydantic import ConfigDict, Field, PrivateAttr, SecretStr

from lookbook.blocks.embedded import postgres
from lookbook.blocks.errors import LeaseLostError, LookbookError, OutOfReachError, StatementTimeoutError
from lookbook.blocks.migrations import FIRST, entering
from lookbook.blocks.registry_connection import CONNECTION_FAULTS, Address, closing, connect, may_pass, slot
from lookbook.blocks.registry_schema import find, settle

if TYPE_CHECKING:
    from typing import Self

    from lookbook.blocks.lake import Lake

Result = TypeVar("Result")


@dataclass(frozen=True)
class Held:
    """A lease that this run holds.

    Attributes:
        registry: where it is kept.
        name: what it is for.
        owner: this run and this hold, and no other.
        schema: in which schema of the registry it is kept.
        counter: higher than that of each owner before; see `lookbook.blocks.fences`.
    """

    registry: Address
    name: str
    owner: str
    schema: str
    counter: int


#: The leases that are held here: no transaction of a registry is committed after one of them was lost.
held_leases: ContextVar[tuple[Held, ...]] = ContextVar("held_leases", default=())


@contextmanager
def unfenced() -> Iterator[None]:
    """Let what is done in the block be committed after a lease was lost: that a run has ended, and how."""
    before = held_leases.set(())
    try:
        yield
    finally:
        held_leases.reset(before)


class Registry(Block, ABC):
    """PostgreSQL 14 or newer, with a schema for each lake; works through a pooler in transaction mode as well."""

    # Errors would print what was given, the password included.
    model_config = ConfigDict(hide_input_in_errors=True)

    connections: int = Field(
        default=4, ge=1, le=100, description="Connections that one process holds at the same time, at the most."
    )
    statement_seconds: int = Field(
        default=600, ge=1, le=86_400, description="Seconds that one statement may take, waits for locks included."
    )

    #: Whose books are meant; None: those of the first schema, whoever's they are.
    _lake: Lake | None = PrivateAttr(default=None)

    def of_lake(self, lake: Lake | None) -> Self:
        """Give this registry for the books of a lake; None: for what several lakes share, in the first schema."""
        bound = self.model_copy()
        bound._lake = lake
        return bound

    @abstractmethod
    def address(self) -> Address:
        """Return what to connect to; starts an embedded server.

        Raises:
            LookbookError: the block does not say it.
        """

    @abstractmethod
    def label(self) -> str:
        """Return which one it is, for errors: without a password."""

    def run(self, work: Callable[[asyncpg.Connection[asyncpg.Record]], Awaitable[Result]]) -> Result:
        """Do `work` in one transaction of a connection of its own; where it raises, nothing was written.

        Bare names of tables are those of the lake's schema.

        One transaction, because a pooler in transaction mode gives each transaction another connection. Threads wait
        while their process holds as many connections as it may.

        Raises:
            StatementTimeoutError: one statement took too long.
            OutOfReachError: the server can't be reached, or its connection broke.
            LeaseLostError: this run holds a lease no more that it held: another one is at work.
            LookbookError: the server refuses, or fails.
        """
        address = self.address()
        if self._lake is not None:
            self._lake.id  # noqa: B018 - read before a connection waits for it
        held = [lease for lease in held_leases.get() if lease.registry == address]

        async def fenced(connection: asyncpg.Connection[asyncpg.Record]) -> Result:
            if held:
                await _keep(connection, held)
            return await work(connection)

        with slot(address, self.connections):
            if not _in_a_loop():
                return asyncio.run(self._run(address, fenced))
            with ThreadPoolExecutor(1) as thread:  # a notebook or an async caller has a loop running here
                return thread.submit(asyncio.run, self._run(address, fenced)).result()

    async def _run(
        self, address: Address, work: Callable[[asyncpg.Connection[asyncpg.Record]], Awaitable[Result]]
    ) -> Result:
        async with closing(await connect(address, self.label(), self.statement_seconds)) as connection:
            try:
                async with self._transaction(connection, FIRST):
                    if await find(connection, self._lake):
                        return await work(connection)
                    schema = await settle(connection, self._lake)
                async with self._transaction(connection, schema):
                    return await work(connection)
            except (asyncpg.QueryCanceledError, TimeoutError) as error:
                raise StatementTimeoutError(
                    f"The registry {self.label()} took more than {self.statement_seconds} seconds for one statement.",
                    "See what it waits for in pg_stat_activity, or raise statement_seconds of its block.",
                ) from error
            except (asyncpg.PostgresError, asyncpg.InterfaceError, ConnectionError) as error:
                cause = _cause(error)
                raise (OutOfReachError if may_pass(cause) else LookbookError)(
                    f"The registry {self.label()} failed: {type(cause).__name__}: {cause}.",
                    "Run the command again; if it stays, see PostgreSQL's log.",
                ) from error

    @asynccontextmanager
    async def _transaction(self, connection: asyncpg.Connection[asyncpg.Record], schema: str) -> AsyncIterator[None]:
        """A transaction with time-out and schema: a pooler takes no such settings when it is connected to."""
        async with connection.transaction():
            await connection.execute(f"SET LOCAL statement_timeout = '{self.statement_seconds}s'; {entering(schema)}")
            yield


class PostgresRegistry(Registry):
    """PostgreSQL: one that a URL names, or one from a wheel, started on demand under a home."""

    _block_type_name = "Lookbook Registry"
    _block_type_slug = "lookbook-registry"

    url: SecretStr | None = Field(
        default=None,
        description="postgresql://user:password@host:5432/database; "
        "?sslmode=verify-full&sslrootcert=/path/ca.pem for a server that is known by its certificate.",
    )
    home: Path | None = Field(default=None, description="Home of the embedded server, where no URL is given.")

    def address(self) -> Address:
        """See `Registry.address`."""
        if self.url is not None:
            return Address(self.url.get_secret_value())
        if self.home is None:
            raise LookbookError("The Registry block names neither a url nor a home.", "Edit the block: give one.")
        server = postgres.start(self.home)
        return Address(f"postgresql://postgres@/postgres?host={server.socket_folder}&port={server.port}")

    def label(self) -> str:
        """See `Registry.label`."""
        return "that its block's URL names" if self.url is not None else f"under {self.home}"


async def _keep(connection: asyncpg.Connection[asyncpg.Record], held: Sequence[Held]) -> None:
    """See that leases are still this run's, and let nobody take them before the end of the transaction."""
    lost = set()
    for schema in sorted({lease.schema for lease in held}):
        there = [lease for lease in held if lease.schema == schema]
        found = await connection.fetch(
            f"SELECT name FROM {schema}.leases"  # noqa: S608 - a schema of ours
            " JOIN unnest($1::text[], $2::text[]) AS held (name, owner) USING (name, owner)"
            " FOR SHARE OF leases",
            *([lease.name for lease in there], [lease.owner for lease in there]),
        )
        lost |= {lease.name for lease in there} - {row["name"] for row in found}
    if lost:
        raise LeaseLostError.of(min(lost))


def _cause(error: BaseException) -> BaseException:
    """Why a transaction could not be ended: its connection broke before."""
    before = error.__context__
    return before if isinstance(error, asyncpg.InterfaceError) and isinstance(before, CONNECTION_FAULTS) else error


def _in_a_loop() -> bool:
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return False
    return True


async def copy_rows(
    connection: asyncpg.Connection[asyncpg.Record],
    table: str,
    columns: Sequence[str],
    rows: Iterable[Sequence[Any]],
) -> None:
    """Write `rows` into a table of the registry by COPY. PostgreSQL's text holds no NUL: it becomes U+FFFD."""
    clean = (tuple(v.replace("\x00", "\ufffd") if isinstance(v, str) else v for v in row) for row in rows)
    await connection.copy_records_to_table(table, columns=list(columns), records=clean)
