"""Which schema of a registry's database holds the books of a lake: two lakes never share one.

The schema `FIRST` is that of the first lake that comes; every other lake has one of its own, named by its id. Whose a
schema is stands in its table ``lake``. Tables that pipelines load lie beside it, in a schema of feeds.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import asyncpg

from lookbook.blocks.errors import LookbookError
from lookbook.blocks.lake import IDENTITY, snapshots_folder
from lookbook.blocks.migrations import FIRST, HEAD, entering, lock, upgrade
from lookbook.blocks.warehouse import FEEDS_SCHEMA

if TYPE_CHECKING:
    from lookbook.blocks.lake import Lake

    Connection = asyncpg.Connection[asyncpg.Record]


async def find(connection: Connection, lake: Lake | None) -> bool:
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


async def settle(connection: Connection, lake: Lake | None) -> str:
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
    """Where the books of a lake may stand. Only hexadecimal digits get into a name: `Lake.id` lets in no others."""
    return [FIRST] if lake is None or lake.id is None else [FIRST, f"{FIRST}_{lake.id[:16]}"]


async def _standing(connection: Connection) -> asyncpg.Record | None:
    """Return the step and the lake of the current schema; None before there was such a table."""
    try:
        async with connection.transaction():
            return await connection.fetchrow("SELECT version_num, (SELECT id FROM lake) AS lake FROM alembic_version")
    except asyncpg.UndefinedTableError:
        return None


async def _choose(connection: Connection, lake: Lake) -> str:
    """The schema that is a lake's already; else `FIRST`, if it is nobody's and may be its; else one of its own."""
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
    """Whether books that no lake has claimed can be this lake's: they list no snapshot, or one that the lake holds."""
    try:
        async with connection.transaction():
            rows = await connection.fetch("SELECT dataset, array_agg(snapshot_id) FROM snapshots GROUP BY dataset")
    except asyncpg.UndefinedTableError:
        return True
    return not rows or any(set(ids) & set(lake.folders(snapshots_folder(dataset))) for dataset, ids in rows)
