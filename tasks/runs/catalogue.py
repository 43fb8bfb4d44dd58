"""The catalogue: which tables there are, and what is known of each. Its entries lie in the registry."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Literal

import asyncpg
from pydantic import JsonValue

from lookbook.blocks.registry import Registry
from lookbook.blocks.warehouse import FEEDS_SCHEMA

#: A name that SQL takes without quotes.
_PLAIN = re.compile(r"[a-z_][a-z0-9_]*")

#: How the names of a place's feed tables begin: what `lookbook.tasks.tables.query` takes, but for the registry's.
SCHEMAS = {"warehouse": FEEDS_SCHEMA, "lake": "lake", "registry": "registry"}

Kind = Literal["feed", "model", "dataset"]


@dataclass(frozen=True)
class TableState:
    """A table as it stands.

    Attributes:
        columns: with their types in DuckDB's words, tags included.
        rows: how many.
        size: bytes; None where the place does not say.
        partitions: of a table in the lake: each with its values and rows.
    """

    columns: Mapping[str, str]
    rows: int
    size: int | None = None
    partitions: Sequence[Mapping[str, str | int]] = ()


@dataclass(frozen=True)
class TableEntry:
    """A table of the catalogue.

    Attributes:
        place: ``warehouse``, ``lake`` or ``registry``.
        name: as a query names it: ``feeds.prices``, ``lake.trips``, ``warehouse.images``, ``lake.fashion.images``.
        kind: loaded by a pipeline, made by a model of a pipeline, or of the snapshots of image datasets.
        columns: with their types, in the words of the engine.
        partitions: of a table in the lake: each with its values and rows.
        rows: None where nobody counted them.
        bytes: None where the place does not say.
        fresh_at: when its rows were loaded; of a dataset's, when the last snapshot was published.
        run_id: of the flow run that made it.
        load_id: of its last load.
        inputs: what it was made from: addresses; of a dataset's, an object for each dataset in it.
    """

    place: str
    name: str
    kind: Kind
    columns: Mapping[str, str]
    partitions: Sequence[Mapping[str, str | int]] = field(default_factory=list)
    rows: int | None = None
    bytes: int | None = None
    fresh_at: datetime | None = None
    run_id: str | None = None
    load_id: str | None = None
    inputs: Sequence[JsonValue] = field(default_factory=list)


def sql_name(*parts: str) -> str:
    """Return a name as a statement takes it, with quotes where they are needed."""
    import duckdb  # noqa: PLC0415 - late: importing the tasks is to be quick

    def plain(part: str) -> bool:
        return bool(_PLAIN.fullmatch(part)) and duckdb.tokenize(part)[0][1].name == "identifier"

    first, *rest = parts
    quoted = (part if plain(part) else '"' + part.replace('"', '""') + '"' for part in rest)
    return ".".join([first, *quoted])


def loaded_entry(
    place: str,
    table: str,
    state: TableState,
    *,
    fresh_at: datetime,
    kind: Kind = "feed",
    run_id: str | None = None,
    load_id: str | None = None,
    inputs: Sequence[JsonValue] = (),
) -> TableEntry:
    """Return the entry of a table that a load or a model has just written.

    Args:
        place: of the destination.
        table: its name there.
        state: as the destination says after the load.
        fresh_at: when its rows were loaded.
        kind: as in `TableEntry`, and so are the others.
        run_id: of the flow run.
        load_id: of the load.
        inputs: addresses of what was read.
    """
    return TableEntry(
        place=place,
        name=sql_name(SCHEMAS[place], table),
        kind=kind,
        columns=state.columns,
        partitions=state.partitions,
        rows=state.rows,
        bytes=state.size,
        fresh_at=fresh_at,
        run_id=run_id,
        load_id=load_id,
        inputs=list(inputs),
    )


def register(registry: Registry, entries: Iterable[TableEntry]) -> None:
    """Write entries into the catalogue, in place of those of the same tables."""
    registry.run(lambda connection: write_entries(connection, entries))


async def write_entries(connection: asyncpg.Connection[asyncpg.Record], entries: Iterable[TableEntry]) -> None:
    """`register`, as a part of a transaction."""
    await connection.executemany(
        "INSERT INTO tables"
        " (place, name, kind, columns, partitions, rows, bytes, fresh_at, run_id, load_id, inputs)"
        " VALUES ($1, $2, $3, $4::jsonb, $5::jsonb, $6, $7, coalesce($8, now()), $9, $10, $11::jsonb)"
        " ON CONFLICT (place, name) DO UPDATE SET kind = excluded.kind, columns = excluded.columns,"
        " partitions = excluded.partitions, rows = excluded.rows, bytes = excluded.bytes,"
        " fresh_at = excluded.fresh_at, run_id = excluded.run_id, load_id = excluded.load_id,"
        " inputs = excluded.inputs",
        [
            (
                entry.place,
                _text(entry.name),
                entry.kind,
                _json([[name, type_] for name, type_ in entry.columns.items()]),
                _json([dict(partition) for partition in entry.partitions]),
                entry.rows,
                entry.bytes,
                entry.fresh_at,
                entry.run_id,
                entry.load_id,
                _json(list(entry.inputs)),
            )
            for entry in entries
        ],
    )


async def read_entries(connection: asyncpg.Connection[asyncpg.Record]) -> list[TableEntry]:
    """Return all entries, sorted by name."""
    rows = await connection.fetch("SELECT * FROM tables ORDER BY name, place")
    return [_entry(dict(row)) for row in rows]


def registered(registry: Registry) -> list[TableEntry]:
    """Return the entries of the catalogue, sorted by name: what was registered, not what is there."""
    return registry.run(read_entries)


def _entry(row: dict[str, Any]) -> TableEntry:
    # jsonb sorts the keys of objects: columns are kept as pairs, because their order is theirs.
    columns = dict(json.loads(row["columns"]))
    return TableEntry(
        **row | {"columns": columns, "partitions": json.loads(row["partitions"]), "inputs": json.loads(row["inputs"])}
    )


def _json(value: JsonValue | list[dict[str, str | int]] | list[list[str]]) -> str:
    return _text(json.dumps(value)).replace("\\u0000", "\\ufffd")


def _text(value: str) -> str:
    """PostgreSQL's text holds no NUL."""
    return value.replace("\x00", "\ufffd")
