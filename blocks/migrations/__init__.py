"""A schema of the registry, by Alembic: one file a step in ``versions/``; names of tables are bare, for any schema."""

from __future__ import annotations

import io
from pathlib import Path

import asyncpg

from lookbook.blocks.errors import LookbookError

#: The newest step; a test holds that it is the one that Alembic finds.
HEAD = "0009"

#: The schema of the first lake that comes to a database, and of registries that no lake is named to.
FIRST = "lookbook"

#: Any number of our own: one migration at a time, whichever process starts it.
LOCK = 0x6C6F6F6B


async def read_version(connection: asyncpg.Connection[asyncpg.Record]) -> str | None:
    """Return the step of the current schema; None before the first. To be asked in a transaction, which goes on."""
    try:
        async with connection.transaction():
            return await connection.fetchval("SELECT version_num FROM alembic_version")  # type: ignore[no-any-return]
    except asyncpg.UndefinedTableError:
        return None


async def lock(connection: asyncpg.Connection[asyncpg.Record]) -> None:
    """Wait until no other transaction makes or brings up schemas.

    The lock ends with the transaction: one of the session would stay behind in a pooler in transaction mode.
    """
    await connection.execute(f"SELECT pg_advisory_xact_lock({LOCK})")


def entering(schema: str) -> str:
    """Return the statement after which bare names are tables of `schema`, until the transaction ends.

    Temporary tables come last: one of a load may have the name of a table of ours.
    """
    return f"SET LOCAL search_path TO {schema}, pg_temp"


async def upgrade(connection: asyncpg.Connection[asyncpg.Record], schema: str = FIRST) -> None:
    """Bring a schema up to `HEAD`, within the transaction that is under way, and enter it.

    Raises:
        LookbookError: a newer Lookbook has been here, or this user may not make a schema.
    """
    await lock(connection)
    await connection.execute(entering(schema))
    version = await read_version(connection)  # whoever had the lock before may have done it
    if version == HEAD:
        return
    if version is not None and version > HEAD:
        raise LookbookError(
            f"The registry's schema {schema} is {version}, of a newer Lookbook; this one knows {HEAD}.",
            "Upgrade Lookbook.",
        )
    try:
        # IF NOT EXISTS asks for rights.
        if await connection.fetchval("SELECT to_regnamespace($1)::oid", schema) is None:
            await connection.execute(f"CREATE SCHEMA {schema}")
        await connection.execute(script(version))
    except asyncpg.InsufficientPrivilegeError as error:
        raise LookbookError(
            f"The registry's schema cannot be made: {error}.",
            f"Let its user create in the database, or own the schema {schema} and its tables.",
        ) from error


def script(version: str | None, last: str = "head") -> str:
    """Return the SQL of all steps after `version`, up to `last`. It is run as it stands, on a connection of our own."""
    # Alembic and SQLAlchemy are slow to import, and most commands find the schema up to date.
    from alembic import command  # noqa: PLC0415
    from alembic.config import Config  # noqa: PLC0415

    sql = io.StringIO()
    config = Config(output_buffer=sql)
    config.set_main_option("script_location", str(Path(__file__).parent).replace("%", "%%"))
    command.upgrade(config, f"{version}:{last}" if version else last, sql=True)
    return sql.getvalue()
