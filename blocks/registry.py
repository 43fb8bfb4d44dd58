"""The registry: the books' index in PostgreSQL. It follows the lake and can be rebuilt from it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, TypeVar

import asyncpg
from prefect.blocks.core import Block
from pydantic import Field, SecretStr

from blocks.embedded import postgres
from blocks.errors import LookbookError
from blocks.migrations import HEAD, upgrade

Result = TypeVar("Result")

#: Everything that could break a connection; none of them names the password.
CONNECTION_FAULTS = (OSError, asyncpg.PostgresError, asyncpg.InterfaceError, asyncio.TimeoutError)


class Registry(Block):
    """PostgreSQL: one that a URL names, or one from a wheel, started on demand under a home."""

    _block_type_name = "Lookbook Registry"
    _block_type_slug = "lookbook-registry"

    url: SecretStr | None = Field(default=None, description="postgresql://user:password@host/database")
    home: Path | None = Field(default=None, description="Home of the embedded server, where no URL is given.")

    def run(self, work: Callable[[asyncpg.Connection[asyncpg.Record]], Awaitable[Result]]) -> Result:
        """Open a connection, do `work` with it, close it.

        Raises:
            LookbookError: the server can't be reached, or fails.
        """
        if not _in_a_loop():
            return asyncio.run(self._run(work))
        with ThreadPoolExecutor(1) as thread:  # a notebook or an async caller has a loop running here
            return thread.submit(asyncio.run, self._run(work)).result()

    async def _run(self, work: Callable[[asyncpg.Connection[asyncpg.Record]], Awaitable[Result]]) -> Result:
        async with self.connection() as connection:
            try:
                return await work(connection)
            except (asyncpg.PostgresError, asyncpg.InterfaceError) as error:
                raise LookbookError(
                    f"The registry {self._label()} failed: {type(error).__name__}: {error}.",
                    "Run the command again; if it stays, see PostgreSQL's log.",
                ) from error

    @asynccontextmanager
    async def connection(self) -> AsyncIterator[asyncpg.Connection[asyncpg.Record]]:
        """A connection to a registry whose schema is up to date."""
        connection = await self._connect()
        try:
            if await _version(connection) != HEAD:
                await upgrade(self._dsn())
            yield connection
        finally:
            await connection.close()

    async def _connect(self) -> asyncpg.Connection[asyncpg.Record]:
        try:
            return await asyncpg.connect(self._dsn(), timeout=30, server_settings={"application_name": "lookbook"})
        except (ValueError, OverflowError, TypeError):
            # What it says may hold a piece of the password.
            raise LookbookError(
                f"The registry {self._label()} cannot be reached: that is no PostgreSQL URL.",
                "Write it as postgresql://user:password@host:5432/database, special characters as %23 for #.",
            ) from None
        except CONNECTION_FAULTS as error:
            raise LookbookError(
                f"The registry {self._label()} cannot be reached: {type(error).__name__}: {error}.",
                "See that PostgreSQL runs there and lets you in; the workspace's Registry block names it.",
            ) from error

    def _dsn(self) -> str:
        if self.url is not None:
            return self.url.get_secret_value()
        if self.home is None:
            raise LookbookError("The Registry block names neither a url nor a home.", "Edit the block: give one.")
        address = postgres.start(self.home)
        return f"postgresql://postgres@/postgres?host={address.socket_folder}&port={address.port}"

    def _label(self) -> str:
        return "that its block's URL names" if self.url is not None else f"under {self.home}"


def _in_a_loop() -> bool:
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return False
    return True


async def _version(connection: asyncpg.Connection[asyncpg.Record]) -> str | None:
    try:
        return await connection.fetchval("SELECT version_num FROM lookbook.alembic_version")  # type: ignore[no-any-return]
    except asyncpg.UndefinedTableError:
        return None


async def copy_rows(
    connection: asyncpg.Connection[asyncpg.Record],
    table: str,
    columns: Sequence[str],
    rows: Iterable[Sequence[Any]],
) -> None:
    """Write `rows` into ``lookbook.<table>`` by COPY. PostgreSQL's text holds no NUL: it becomes U+FFFD."""
    clean = (tuple(v.replace("\x00", "\ufffd") if isinstance(v, str) else v for v in row) for row in rows)
    await connection.copy_records_to_table(table, schema_name="lookbook", columns=list(columns), records=clean)
