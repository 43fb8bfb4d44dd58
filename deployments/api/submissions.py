"""What was asked of the API, in the registry: each request with its key, and the run that it became."""

from __future__ import annotations

import hashlib
import json
import uuid
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Literal

import asyncpg

from lookbook.blocks.registry import Registry

Kind = Literal["export", "ingest"]

_COLUMNS = "id, kind, key_id, request_digest, request, snapshot_id, export_id, run_id, created_at"


@dataclass(frozen=True)
class Submission:
    """A request.

    Attributes:
        id: by which the API names it.
        key_id: of the key that it belongs to.
        request_digest: tells it from another one.
        snapshot_id: of the snapshot that it is of.
        export_id: of the export that it asks for.
        run_id: of Prefect's run; None where none was needed, or none could be started.
    """

    id: str
    kind: str
    key_id: str
    request_digest: str
    request: dict[str, Any]
    snapshot_id: str | None
    export_id: str | None
    run_id: str | None
    created_at: datetime


def submit(
    registry: Registry,
    kind: Kind,
    key_id: str,
    idempotency_key: str | None,
    request: dict[str, Any],
    snapshot_id: str | None = None,
    export_id: str | None = None,
) -> tuple[Submission, bool]:
    """Note a request, unless one with the same idempotency key is there; returns it, and whether it is new."""
    text = _text(request)

    async def work(connection: asyncpg.Connection[asyncpg.Record]) -> tuple[Submission, bool]:
        row = await connection.fetchrow(
            "INSERT INTO api_runs"  # noqa: S608 - our own names
            " (id, kind, key_id, idempotency_key, request_digest, request, snapshot_id, export_id)"
            " VALUES ($1, $2, $3, $4, $5, $6::json, $7, $8)"
            f" ON CONFLICT (key_id, kind, idempotency_key) DO NOTHING RETURNING {_COLUMNS}",
            uuid.uuid4().hex,
            kind,
            key_id,
            idempotency_key,
            digest_of(request),
            text,
            snapshot_id,
            export_id,
        )
        if row is not None:
            return _read(row), True
        row = await connection.fetchrow(
            f"SELECT {_COLUMNS} FROM api_runs"  # noqa: S608 - our own names
            " WHERE key_id = $1 AND kind = $2 AND idempotency_key = $3",
            key_id,
            kind,
            idempotency_key,
        )
        assert row is not None  # noqa: S101 - it was in the way just now, and nothing is removed that has a key
        return _read(row), False

    return registry.run(work)


def digest_of(request: dict[str, Any]) -> str:
    """Return what tells a request from another one."""
    return hashlib.sha256(_text(request).encode()).hexdigest()


def _text(request: dict[str, Any]) -> str:
    """Return a request as JSON in its own order: that of the sides of a split decides which images each side gets."""
    return json.dumps(request)


def note_run(registry: Registry, submission_id: str, run_id: str) -> None:
    """Note the run that a request became."""

    async def work(connection: asyncpg.Connection[asyncpg.Record]) -> None:
        await connection.execute("UPDATE api_runs SET run_id = $2 WHERE id = $1", submission_id, run_id)

    registry.run(work)


def forget(registry: Registry, submission_id: str) -> None:
    """Remove a request that became nothing, and that nobody can ask for again."""

    async def work(connection: asyncpg.Connection[asyncpg.Record]) -> None:
        await connection.execute("DELETE FROM api_runs WHERE id = $1 AND idempotency_key IS NULL", submission_id)

    registry.run(work)


def find(registry: Registry, kind: Kind, key_id: str, submission_id: str) -> Submission | None:
    """Return a request of a key; None where there is none, or it is another key's."""

    async def work(connection: asyncpg.Connection[asyncpg.Record]) -> Submission | None:
        row = await connection.fetchrow(
            f"SELECT {_COLUMNS} FROM api_runs WHERE id = $1 AND kind = $2 AND key_id = $3",  # noqa: S608
            submission_id,
            kind,
            key_id,
        )
        return _read(row) if row is not None else None

    return registry.run(work)


def newest(registry: Registry, kind: Kind, key_id: str, limit: int, before: str | None = None) -> list[Submission]:
    """Return the requests of a key, newest first, those before one of them."""

    async def work(connection: asyncpg.Connection[asyncpg.Record]) -> list[Submission]:
        rows = await connection.fetch(
            f"SELECT {_COLUMNS} FROM api_runs WHERE kind = $1 AND key_id = $2"  # noqa: S608
            " AND ($3::text IS NULL OR (created_at, id) <"
            " (SELECT created_at, id FROM api_runs WHERE id = $3 AND key_id = $2))"
            " ORDER BY created_at DESC, id DESC LIMIT $4",
            kind,
            key_id,
            before,
            limit,
        )
        return [_read(row) for row in rows]

    return registry.run(work)


def ingest_summary(registry: Registry, run_id: str) -> dict[str, Any] | None:
    """Return what the books say of an ingest's run, once it has ended."""

    async def work(connection: asyncpg.Connection[asyncpg.Record]) -> dict[str, Any] | None:
        text = await connection.fetchval("SELECT summary FROM runs WHERE run_id = $1", run_id)
        found: dict[str, Any] | None = json.loads(text) if text else None
        return found

    return registry.run(work)


def _read(row: asyncpg.Record) -> Submission:
    values = dict(row)
    return Submission(**values | {"request": json.loads(values["request"])})
