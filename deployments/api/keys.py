"""Keys of the API in the registry: random secrets, of which only hashes are kept."""

from __future__ import annotations

import hashlib
import re
import secrets
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Literal, get_args

import asyncpg

from lookbook.blocks.errors import UsageError
from lookbook.blocks.registry import Registry

Scope = Literal["read", "export", "ingest"]
SCOPES: tuple[Scope, ...] = get_args(Scope)
NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._@-]{0,62}")
#: What a key looks like: tools that look for leaked secrets can know it.
KEY = re.compile(r"lookbook_(?P<id>[0-9a-f]{12})_(?P<secret>[A-Za-z0-9_-]{43})")
#: The most that there may be: all of them are held in memory.
MOST_KEYS = 10_000


@dataclass(frozen=True)
class StoredKey:
    """A key as the registry has it."""

    key_id: str
    name: str
    hash: str
    scopes: frozenset[str]
    created_at: datetime
    revoked_at: datetime | None


def create_key(registry: Registry, name: str, scopes: Collection[str]) -> str:
    """Make a key; it is told this once, and nowhere kept.

    Raises:
        UsageError: the name cannot be one or is taken, or a scope is not known.
    """
    _check(name, scopes)
    key_id, secret = secrets.token_hex(6), secrets.token_urlsafe(32)
    kept = [scope for scope in SCOPES if scope in scopes]

    async def work(connection: asyncpg.Connection[asyncpg.Record]) -> None:
        if await connection.fetchval("SELECT count(*) FROM api_keys WHERE revoked_at IS NULL") >= MOST_KEYS:
            raise UsageError(f"There are {MOST_KEYS} keys already.", "Revoke some first.")
        done = await connection.execute(
            "INSERT INTO api_keys (key_id, name, hash, scopes) VALUES ($1, $2, $3, $4)"
            " ON CONFLICT (name) WHERE revoked_at IS NULL DO NOTHING",
            key_id,
            name,
            hash_of(secret),
            kept,
        )
        if done.endswith(" 0"):
            raise UsageError(f"{name}: there is a key of this name.", "Revoke it first, or take another name.")

    registry.run(work)
    return f"lookbook_{key_id}_{secret}"


def list_keys(registry: Registry) -> list[StoredKey]:
    """Return all keys, revoked ones with them, oldest first."""

    async def work(connection: asyncpg.Connection[asyncpg.Record]) -> list[StoredKey]:
        rows = await connection.fetch(
            "SELECT key_id, name, hash, scopes, created_at, revoked_at FROM api_keys ORDER BY created_at, key_id"
        )
        return [_stored(dict(row)) for row in rows]

    return registry.run(work)


def revoke_key(registry: Registry, name: str) -> None:
    """Revoke the key of a name. The API asks for keys still, were it the last one.

    Raises:
        UsageError: there is no key of that name that was not revoked.
    """

    async def work(connection: asyncpg.Connection[asyncpg.Record]) -> None:
        done = await connection.execute(
            "UPDATE api_keys SET revoked_at = now() WHERE name = $1 AND revoked_at IS NULL", name
        )
        if done.endswith(" 0"):
            raise UsageError(f"{name}: there is no such key.", 'See "lookbook api-key list".')

    registry.run(work)


def hash_of(secret: str) -> str:
    """Return the hash that is kept. The secret has 256 random bits, so that a fast one tells nothing."""
    return hashlib.sha256(secret.encode()).hexdigest()


def find_key(keys: Mapping[str, StoredKey], given: str) -> StoredKey | None:
    """Return the key that was given, unless it is none or was revoked. Hashes are compared in constant time."""
    found = KEY.fullmatch(given)
    if found is None:
        return None
    stored = keys.get(found["id"])
    same = secrets.compare_digest(stored.hash if stored else hash_of(""), hash_of(found["secret"]))
    return stored if stored is not None and same and stored.revoked_at is None else None


def _stored(row: dict[str, Any]) -> StoredKey:
    return StoredKey(**row | {"scopes": frozenset(row["scopes"])})


def _check(name: str, scopes: Collection[str]) -> None:
    if not NAME.fullmatch(name):
        raise UsageError(f"{name!r} is no name for a key.", "Take letters, digits, . _ @ and -; 63 at the most.")
    if unknown := sorted(set(scopes) - set(SCOPES)):
        raise UsageError(f"--scope {','.join(unknown)}: there is no such scope.", f"There are {', '.join(SCOPES)}.")
    if not scopes:
        raise UsageError("A key without a scope opens nothing.", f"Give --scope, of {', '.join(SCOPES)}.")
