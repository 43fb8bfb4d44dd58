"""The registry's schema, by Alembic: one file a step in ``versions/``."""

from __future__ import annotations

from pathlib import Path

import asyncpg

#: The newest step; a test holds that it is the one that Alembic finds.
HEAD = "0003"

#: Any number of our own: one migration at a time, whichever process starts it.
LOCK = 0x6C6F6F6B


async def upgrade(dsn: str) -> None:
    """Bring the schema of the database at `dsn` up to `HEAD`."""
    # Alembic and SQLAlchemy are slow to import, and most commands find the schema up to date.
    from alembic import command  # noqa: PLC0415
    from alembic.config import Config  # noqa: PLC0415
    from sqlalchemy import Connection, text  # noqa: PLC0415
    from sqlalchemy.ext.asyncio import create_async_engine  # noqa: PLC0415

    config = Config()
    config.set_main_option("script_location", str(Path(__file__).parent).replace("%", "%%"))

    def run(connection: Connection) -> None:
        connection.execute(text(f"SELECT pg_advisory_xact_lock({LOCK})"))
        config.attributes["connection"] = connection
        command.upgrade(config, "head")

    # asyncpg reads the address itself: SQLAlchemy knows fewer of its spellings and options.
    async def connect() -> asyncpg.Connection[asyncpg.Record]:
        return await asyncpg.connect(dsn)

    engine = create_async_engine("postgresql+asyncpg://", async_creator=connect)
    async with engine.begin() as connection:
        await connection.run_sync(run)
    await engine.dispose()
