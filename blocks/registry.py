"""The registry: the books' index in PostgreSQL. It follows the lake and can be rebuilt from it."""

from __future__ import annotations

import asyncio
import ssl
import threading
from abc import ABC, abstractmethod
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager, contextmanager, suppress
from contextvars import ContextVar
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import asyncpg
from prefect.blocks.core import Block
from pydantic import ConfigDict, Field, PrivateAttr, SecretStr

from lookbook.blocks.embedded import postgres
from lookbook.blocks.errors import LeaseLostError, LookbookError, OutOfReachError, StatementTimeoutError
from lookbook.blocks.lake import IDENTITY, snapshots_folder
from lookbook.blocks.migrations import FIRST, HEAD, entering, lock, upgrade
from lookbook.blocks.warehouse import FEEDS_SCHEMA

if TYPE_CHECKING:
    from typing import Self

    from lookbook.blocks.lake import Lake

    Connection = asyncpg.Connection[asyncpg.Record]

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


# The schema `FIRST` is that of the first lake that comes; every other lake has one of its own, named by its id. Whose
# a schema is stands in its table ``lake``. Tables that pipelines load lie beside it, in a schema of pipelines.


async def find_schema(connection: Connection, lake: Lake | None) -> bool:
    """Enter the schema of a lake, until the transaction ends; whether it was found, up to date.

    The transaction has entered `FIRST` before: who is the first lake, or asks for none, asks one thing only.

    Args:
        connection: in a transaction.
        lake: whose books are asked for; None: those in `FIRST`, whoever's they are.
    """
    for schema in _schemas(lake):
        if schema != FIRST:
            await connection.execute(entering(schema))
        standing = await _standing(connection)
        if standing is not None and (lake is None or standing["lake"] == lake.id):
            return bool(standing["version_num"] == HEAD)
    return False


async def settle_schema(connection: Connection, lake: Lake | None) -> str:
    """Bring the schema of a lake up to date, making or claiming it; returns its name.

    Raises:
        LookbookError: as `lookbook.blocks.migrations.upgrade`; or the books are another lake's, and this
            one can't be named.
    """
    await lock(connection)  # of two lakes that come at once, one is the first
    schema = FIRST if lake is None else await _choose(connection, lake)
    await upgrade(connection, schema)
    if lake is not None and lake.id is not None:
        await connection.execute("INSERT INTO lake (id) VALUES ($1) ON CONFLICT DO NOTHING", lake.id)
    return schema


async def all_schemas(connection: Connection) -> list[str]:
    """Return the schemas of all lakes that have books in this database."""
    rows = await connection.fetch(
        "SELECT nspname FROM pg_namespace JOIN pg_class ON relnamespace = pg_namespace.oid AND relname = 'leases'"
        " WHERE nspname ~ $1 ORDER BY nspname",
        f"^{FIRST}(_[0-9a-f]{{16}})?$",
    )
    return [row["nspname"] for row in rows]


async def feeds_schema(connection: Connection) -> str:
    """Return the schema of the tables that pipelines of this lake load."""
    schema: str = await connection.fetchval("SELECT current_schema()")
    return FEEDS_SCHEMA + schema.removeprefix(FIRST)


def _schemas(lake: Lake | None) -> list[str]:
    """Return where the books of a lake may stand. A name takes hexadecimal digits alone: `Lake.id` has no others."""
    return [FIRST] if lake is None or lake.id is None else [FIRST, f"{FIRST}_{lake.id[:16]}"]


async def _standing(connection: Connection) -> asyncpg.Record | None:
    """Return the step and the lake of the current schema; None before there was such a table."""
    try:
        async with connection.transaction():
            return await connection.fetchrow("SELECT version_num, (SELECT id FROM lake) AS lake FROM alembic_version")
    except asyncpg.UndefinedTableError:
        return None


async def _choose(connection: Connection, lake: Lake) -> str:
    """Return the schema that is a lake's already; else `FIRST`, if it may be its; else one of its own."""
    owners = {}
    for schema in _schemas(lake):
        await connection.execute(entering(schema))
        standing = await _standing(connection)
        owners[schema] = standing and standing["lake"]
        if owners[schema] == lake.id:
            return schema
    for schema, owner in owners.items():
        await connection.execute(entering(schema))
        if owner is None and (schema != FIRST or await _may_be_of(connection, lake)):
            return schema
    raise LookbookError(
        f"The registry holds the books of another lake, and {lake.uri(IDENTITY)} cannot be written.",
        "Run one command as somebody who may write to the lake: it gives the lake an id.",
    )


async def _may_be_of(connection: Connection, lake: Lake) -> bool:
    """Tell whether unclaimed books can be this lake's: they list no snapshot, or one that the lake holds."""
    try:
        async with connection.transaction():
            rows = await connection.fetch("SELECT dataset, array_agg(snapshot_id) FROM snapshots GROUP BY dataset")
    except asyncpg.UndefinedTableError:
        return True
    return not rows or any(set(ids) & set(lake.folders(snapshots_folder(dataset))) for dataset, ids in rows)


Result = TypeVar("Result")


@dataclass(frozen=True)
class Held:
    """A lease that this run holds.

    Attributes:
        registry: where it is kept.
        name: what it is for.
        owner: this run and this hold, and no other.
        schema: in which schema of the registry it is kept.
        counter: higher than that of each owner before; see `lookbook.blocks.registry`.
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

    @property
    @abstractmethod
    def is_embedded(self) -> bool:
        """Return whether it is a home's own, which nobody else uses or tidies up."""

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

    def execute(self, statement: str, *arguments: object) -> str:
        """Execute one statement as `run` does; returns PostgreSQL's word for it, as ``UPDATE 1``."""

        async def work(connection: asyncpg.Connection[asyncpg.Record]) -> str:
            return await connection.execute(statement, *arguments)

        return self.run(work)

    def fetch(self, query: str, *arguments: object) -> list[asyncpg.Record]:
        """Return the rows of one query, as `run` does."""

        async def work(connection: asyncpg.Connection[asyncpg.Record]) -> list[asyncpg.Record]:
            return await connection.fetch(query, *arguments)

        return self.run(work)

    def fetchrow(self, query: str, *arguments: object) -> asyncpg.Record | None:
        """Return the first row of one query, as `run` does; None where it has none."""
        return next(iter(self.fetch(query, *arguments)), None)

    def fetchval(self, query: str, *arguments: object) -> Any:  # noqa: ANN401 - any value of PostgreSQL
        """Return the first value of the first row of one query, as `run` does; None where it has no row."""
        row = self.fetchrow(query, *arguments)
        return row[0] if row is not None else None

    def vacuum(self, tables: Sequence[str]) -> None:
        """Write some tables anew, so that no file holds rows of them that were removed; each is locked meanwhile.

        What an older transaction of somebody else may still read stays until the next time; so do the server's logs.

        Raises:
            LookbookError: as `run`.
        """
        schema = self.fetchval("SELECT current_schema()")
        address = self.address()

        async def work() -> None:
            async with closing(await connect(address, self.label(), self.statement_seconds)) as connection:
                for table in tables:  # in no transaction
                    await connection.execute(f'VACUUM (FULL, ANALYZE) "{schema}"."{table}"')
                # Statistics hold some of the values; who may not write them anew is passed over by the server.
                await connection.execute("VACUUM (FULL) pg_catalog.pg_statistic")

        try:
            with slot(address, self.connections), ThreadPoolExecutor(1) as thread:
                thread.submit(asyncio.run, work()).result()
        except (asyncpg.PostgresError, asyncpg.InterfaceError, ConnectionError, TimeoutError) as error:
            raise LookbookError(
                f"The registry {self.label()} could not be written anew: {type(error).__name__}: {error}.",
                "Run the command again; if it stays, see PostgreSQL's log.",
            ) from error

    async def _run(
        self, address: Address, work: Callable[[asyncpg.Connection[asyncpg.Record]], Awaitable[Result]]
    ) -> Result:
        async with closing(await connect(address, self.label(), self.statement_seconds)) as connection:
            try:
                async with self._transaction(connection, FIRST):
                    if await find_schema(connection, self._lake):
                        return await work(connection)
                    schema = await settle_schema(connection, self._lake)
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
        """Open a transaction with time-out and schema: a pooler takes no such settings when it is connected to."""
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

    @property
    def is_embedded(self) -> bool:
        """See `Registry.is_embedded`."""
        return self.url is None

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


# A run that is stopped (SIGSTOP, a laptop's lid) between its last look at its lease and its commit cannot know that
# its lease was lost meanwhile; the place that it commits to can. Each owner of a lease has a higher counter than
# those before it, and a commit brings the counters of all leases that its run holds. The place keeps the highest that
# it has seen of each lease, and refuses lower ones by the transaction, or the precondition, of the commit itself.
# https://martin.kleppmann.com/2016/02/08/how-to-do-distributed-locking.html


def held_counters() -> dict[str, int]:
    """Give the counter of each lease that is held here, by its name, and its schema where that is a further lake's.

    Lakes that share a place do not share the leases of their datasets and pipelines.
    """
    return {
        lease.name if lease.schema == FIRST else f"{lease.schema}: {lease.name}": lease.counter
        for lease in held_leases.get()
    }


def raised(fences: Mapping[str, int]) -> dict[str, int]:
    """Return what a place keeps once it has taken a commit from here: the counters of others as they were.

    Args:
        fences: what it keeps so far: the highest counter that it has seen of each lease, by name.

    Raises:
        LeaseLostError: it has seen a higher counter of a lease that is held here: it must not take the commit.
    """
    held = held_counters()
    lost = [name for name, counter in held.items() if counter < fences.get(name, counter)]
    if lost:
        raise LeaseLostError.of(min(lost))
    return {**fences, **held}
