"""How the registry is reached: any URL, TLS, prefect-sqlalchemy's block; and what is said where it is not."""

from __future__ import annotations

import re
import ssl
from pathlib import Path
from typing import Any
from urllib.parse import quote

import asyncpg
import pytest
from alembic.config import Config
from alembic.script import ScriptDirectory
from prefect_sqlalchemy import AsyncDriver, AsyncSqlAlchemyConnector, ConnectionComponents
from pydantic import SecretStr, ValidationError

import lookbook.blocks.migrations
from lookbook.blocks import registry
from lookbook.blocks.connector_registry import ConnectorRegistry
from lookbook.blocks.errors import LookbookError, OutOfReachError
from lookbook.blocks.lake import FolderLake
from lookbook.blocks.migrations import HEAD
from lookbook.blocks.registry import Address, PostgresRegistry, Registry
from tests.support.debian_postgres import PASSWORD, make_certificates
from tests.support.registries import Place, execute


def by_url(url: str) -> PostgresRegistry:
    return PostgresRegistry(url=SecretStr(url))


def ask(registry: Registry, sql: str = "SELECT 1") -> Any:
    return registry.run(lambda connection: connection.fetchval(sql))


def refusal(registry: Registry, match: str = "cannot be reached") -> LookbookError:
    """The error of a registry that cannot be asked; no piece of the password is in it."""
    with pytest.raises(LookbookError, match=match) as caught:
        ask(registry)
    assert caught.value.way_out
    assert "hunter2" not in f"{caught.value} {caught.value!r} {caught.value.__cause__!r} {registry!r}"
    return caught.value


def test_head_is_the_newest_step_that_alembic_finds() -> None:
    config = Config()
    config.set_main_option("script_location", str(Path(lookbook.blocks.migrations.__file__).parent))
    assert ScriptDirectory.from_config(config).get_heads() == [HEAD]


@pytest.mark.parametrize(
    "url",
    [
        "postgresql://user:hunter2@127.0.0.1:1/lookbook",
        "postgresql://user:hunter2@/lookbook?host=/no/such/folder",
        "mysql://user:hunter2@127.0.0.1/lookbook",
        "postgresql://user:hunter2@127.0.0.1/lookbook?sslmode=verify-full&sslrootcert=/no/such/authority.pem",
        "postgresql://user:hunter2@127.0.0.1/lookbook?sslmode=certainly",
    ],
    ids=["port", "socket", "scheme", "certificate", "mode"],
)
def test_a_registry_out_of_reach_is_said_so_without_its_password(url: str) -> None:
    refusal(by_url(url))


@pytest.mark.parametrize(
    ("fault", "passes"),
    [
        (ConnectionRefusedError("refused"), True),
        (TimeoutError(), True),
        (asyncpg.CannotConnectNowError("starting up"), True),
        (asyncpg.TooManyConnectionsError("too many clients"), True),
        (asyncpg.InvalidPasswordError("no"), False),
        (ssl.SSLCertVerificationError("another authority"), False),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, Exception) else "",
)
def test_a_registry_that_does_not_answer_may_pass_and_one_that_refuses_does_not(
    monkeypatch: pytest.MonkeyPatch, fault: Exception, passes: bool
) -> None:
    """Tasks try again what may pass; a command asks once."""
    asked: list[str] = []

    async def connect(dsn: str, **_: Any) -> None:
        asked.append(dsn)
        raise fault

    monkeypatch.setattr(asyncpg, "connect", connect)
    assert isinstance(refusal(by_url("postgresql://user:hunter2@127.0.0.1:1/lookbook")), OutOfReachError) is passes
    assert len(asked) == 1


@pytest.mark.parametrize("password", ["se#cret", "se/cret", "se?cret", "se[ret"])
def test_no_piece_of_a_password_that_was_not_quoted_is_printed(password: str) -> None:
    error = refusal(by_url(f"postgresql://user:{password}@127.0.0.1:1/lookbook"))
    assert "cret" not in str(error)
    assert "ret@" not in str(error)


def test_a_block_without_url_and_home_says_what_it_lacks() -> None:
    refusal(PostgresRegistry(), "neither a url nor a home")


def test_a_database_that_is_not_there_is_said_so(guarded: Place) -> None:
    refusal(by_url(guarded.url.replace("/empty_", "/no_such_")), "no_such_")


def test_a_wrong_password_is_said_so_and_not_shown(guarded: Place) -> None:
    wrong = guarded.url.replace(quote(PASSWORD, safe=""), "hunter2wrong")
    refusal(by_url(wrong), "InvalidPasswordError: password authentication failed")


@pytest.mark.parametrize("spelling", ["postgres://", "postgresql://"])
def test_any_spelling_that_postgresql_knows_will_do(guarded: Place, spelling: str) -> None:
    assert ask(by_url(guarded.url.replace("postgresql://", spelling, 1))) == 1


TLS = "SELECT ssl FROM pg_stat_ssl WHERE pid = pg_backend_pid()"


def test_a_server_that_its_authority_signed_is_spoken_to_by_tls(guarded: Place) -> None:
    assert "sslmode=verify-full" in guarded.url
    assert ask(guarded.registry(), TLS) is True


def test_a_server_that_another_authority_signed_is_refused(guarded: Place, tmp_path: Path) -> None:
    ours = guarded.url.partition("sslrootcert=")[2]
    other = make_certificates(tmp_path, "other")
    refusal(by_url(guarded.url.replace(ours, quote(str(other), safe=""))), "SSLCertVerificationError")


def test_a_server_that_wants_tls_refuses_a_client_without_it(guarded: Place) -> None:
    refusal(by_url(guarded.url.replace("verify-full", "disable")), "no pg_hba.conf entry|no encryption")


def test_a_server_that_is_too_old_is_refused(guarded: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(registry, "OLDEST_SERVER", 99)
    refusal(guarded.registry(), r"is PostgreSQL 1\d; Lookbook needs 99 or newer")


def test_a_schema_of_a_newer_lookbook_is_left_alone(guarded: Place) -> None:
    ask(guarded.registry())
    execute(guarded.url, "UPDATE lookbook.alembic_version SET version_num = '9999'")
    refusal(guarded.registry(), "of a newer Lookbook")


def test_a_user_without_rights_is_told_which_one_to_ask_for_or_takes_a_schema_made_for_it(
    guarded: Place, tmp_path: Path
) -> None:
    user = f"guest_{guarded.database}"
    execute(guarded.url, f"CREATE ROLE {user} LOGIN PASSWORD 'hunter2'")
    guest = by_url(guarded.url.replace(f"lookbook:{quote(PASSWORD, safe='')}", f"{user}:hunter2"))
    assert "create in the database" in refusal(guest, "schema cannot be made: permission denied").way_out
    execute(guarded.url, f"CREATE SCHEMA lookbook AUTHORIZATION {user}")
    assert ask(guest) == 1
    first, further = (guest.of_lake(FolderLake(root=tmp_path / name)) for name in ("first", "further"))
    assert ask(first) == 1
    assert re.search(r"own the schema lookbook_[0-9a-f]{16} ", refusal(further, "schema cannot be made").way_out)
    execute(guarded.url, f"DROP OWNED BY {user}; DROP ROLE {user}")


def test_an_address_prints_nothing_of_itself() -> None:
    assert repr(Address("postgresql://user:hunter2@host/db", {"password": "hunter2"})) == "Address()"


def test_a_bound_that_cannot_be_is_refused_without_showing_the_url() -> None:
    with pytest.raises(ValidationError, match="connections") as caught:
        PostgresRegistry.model_validate({"url": "postgresql://user:hunter2@host/db", "connections": 0})
    assert "hunter2" not in str(caught.value)


def connector(**parts: Any) -> ConnectorRegistry:
    parts = {"driver": AsyncDriver.POSTGRESQL_ASYNCPG, "password": SecretStr("hunter2")} | parts
    return ConnectorRegistry(connector=AsyncSqlAlchemyConnector(connection_info=ConnectionComponents(**parts)))


def test_a_connector_of_another_driver_is_refused() -> None:
    refusal(connector(driver=AsyncDriver.SQLITE_AIOSQLITE, database="x.db", password=None), "needs postgresql.asyncpg")


def test_a_connector_whose_password_stands_in_a_url_is_refused() -> None:
    url = "postgresql+asyncpg://user:hunter2@127.0.0.1:1/db"
    registry = ConnectorRegistry(connector=AsyncSqlAlchemyConnector(connection_info=url))
    with pytest.raises(LookbookError, match="holds its password in a URL") as caught:
        ask(registry)
    assert "hunter2" not in str(caught.value)


def test_a_connector_out_of_reach_is_said_so_without_its_password() -> None:
    refusal(connector(username="user", host="127.0.0.1", port=1, database="db"))


def test_options_of_sqlalchemy_and_of_asyncpg_reach_asyncpg_or_are_left_out() -> None:
    registry = connector(username="user", host="db", database="x", query={"ssl": "require", "sslnegotiation": "direct"})
    registry.connector.connect_args = {"timeout": 5, "prepared_statement_cache_size": 0, "ssl": "verify-full"}
    address = registry.address()
    assert address.dsn == "postgresql://user:hunter2@db/x?sslnegotiation=direct"
    assert address.options == {"ssl": "verify-full", "timeout": 5}


def test_sslmode_and_a_password_of_any_characters_pass_through_a_connector(guarded: Place) -> None:
    info = guarded.connector()
    assert ask(ConnectorRegistry(connector=info), TLS) is True
    assert isinstance(info.connection_info, ConnectionComponents)
    info.connection_info.password = SecretStr("hunter2wrong")
    refusal(ConnectorRegistry(connector=info), "InvalidPasswordError")


def test_a_closed_connection_is_an_error_with_a_name(guarded: Place) -> None:
    async def die(connection: asyncpg.Connection[asyncpg.Record]) -> None:
        await connection.execute("SELECT pg_terminate_backend(pg_backend_pid())")

    with pytest.raises(OutOfReachError, match=r"failed: AdminShutdownError|failed: ConnectionDoesNotExistError"):
        guarded.registry().run(die)


def test_a_statement_that_the_server_refuses_is_not_tried_again(guarded: Place) -> None:
    with pytest.raises(LookbookError, match="failed: UndefinedTableError") as caught:
        ask(guarded.registry(), "SELECT * FROM no_such_table")
    assert not isinstance(caught.value, OutOfReachError)
