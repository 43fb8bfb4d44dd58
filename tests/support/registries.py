"""The registry's servers for tests: the embedded one, Debian's by TLS and password, and one behind a pooler."""

from __future__ import annotations

import asyncio
import tempfile
import uuid
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlencode

import asyncpg
import pytest
from prefect_sqlalchemy import AsyncDriver, AsyncSqlAlchemyConnector, ConnectionComponents
from pydantic import SecretStr

from lookbook.blocks.connector_registry import ConnectorRegistry
from lookbook.blocks.embedded import postgres
from lookbook.blocks.registry import PostgresRegistry, Registry
from tests.support import debian_postgres
from tests.support.debian_postgres import PASSWORD, Guarded
from tests.support.homes import remove_home

#: Each behaves alike: the contract's tests run over all of them.
KINDS = ("embedded", "debian", "pgbouncer", "connector")


class Servers:
    """The servers, each started when it is first asked for."""

    def __init__(self, ending: ExitStack) -> None:
        self._ending = ending
        self._home: Path | None = None
        self._guarded: Guarded | None = None
        self._pooler: int | None = None

    def embedded(self) -> postgres.PostgresAddress:
        """The one from the wheel."""
        if self._home is None:
            self._home = Path(tempfile.mkdtemp(prefix="lookbook-tests-"))
            self._ending.callback(remove_home, self._home)
        return postgres.start(self._home)

    def guarded(self) -> Guarded:
        """Debian's, which asks for a password and speaks TLS only."""
        if debian_postgres.programs() is None:
            pytest.skip("Debian's postgresql is not installed")
        if self._guarded is None:
            self._guarded = self._ending.enter_context(debian_postgres.guarded_cluster())
        return self._guarded

    def pooler(self) -> int:
        """The port of a pgbouncer in transaction mode before that one."""
        if debian_postgres.pgbouncer() is None:
            pytest.skip("Debian's pgbouncer is not installed")
        if self._pooler is None:
            self._pooler = self._ending.enter_context(debian_postgres.pooler(self.guarded()))
        return self._pooler

    def url(self, kind: str, database: str) -> str:
        """The URL of a database."""
        if kind == "embedded":
            address = self.embedded()
            return f"postgresql://postgres@/{database}?host={quote(address.socket_folder)}&port={address.port}"
        user = f"lookbook:{quote(PASSWORD, safe='')}"
        if kind == "pgbouncer":
            return f"postgresql://{user}@127.0.0.1:{self.pooler()}/{database}?sslmode=disable"
        options = urlencode({"sslmode": "verify-full", "sslrootcert": str(self.guarded().certificate)})
        return f"postgresql://{user}@127.0.0.1:{self.guarded().port}/{database}?{options}"

    def connector(self, database: str) -> AsyncSqlAlchemyConnector:
        """Prefect's block for a database of Debian's server."""
        return AsyncSqlAlchemyConnector(
            connection_info=ConnectionComponents(
                driver=AsyncDriver.POSTGRESQL_ASYNCPG,
                username="lookbook",
                password=SecretStr(PASSWORD),
                host="127.0.0.1",
                port=self.guarded().port,
                database=database,
                query={"sslmode": "verify-full", "sslrootcert": str(self.guarded().certificate)},
            )
        )


@contextmanager
def servers() -> Iterator[Servers]:
    """Servers, ended with the block."""
    with ExitStack() as ending:
        yield Servers(ending)


class Place:
    """A database of its own, without any schema of ours."""

    def __init__(self, servers: Servers, kind: str, database: str) -> None:
        self.kind, self.database, self._servers = kind, database, servers
        self.url = servers.url(kind, database)

    def registry(self, **fields: Any) -> Registry:
        """A registry in it."""
        if self.kind == "connector":
            return ConnectorRegistry(connector=self.connector(), **fields)
        return PostgresRegistry(url=SecretStr(self.url), **fields)

    def connector(self) -> AsyncSqlAlchemyConnector:
        """Prefect's block for it."""
        return self._servers.connector(self.database)


@contextmanager
def place(servers: Servers, kind: str) -> Iterator[Place]:
    """A new database on a server of this kind."""
    name = f"empty_{uuid.uuid4().hex}"
    direct = "embedded" if kind == "embedded" else "debian"
    execute(servers.url(direct, "postgres"), f"CREATE DATABASE {name}")
    yield Place(servers, kind, name)
    execute(servers.url(direct, "postgres"), f"DROP DATABASE {name} WITH (FORCE)")


def execute(url: str, sql: str) -> None:
    """Run statements on a connection that knows nothing of ours."""

    async def work() -> None:
        connection = await asyncpg.connect(url)
        try:
            await connection.execute(sql)
        finally:
            await connection.close()

    asyncio.run(work())
