"""Who asks, and what they may: keys of which only hashes are kept, scopes, rates."""

from __future__ import annotations

import hashlib
import re
import secrets
import threading
import time
from collections import OrderedDict
from collections.abc import Awaitable, Callable, Collection, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Annotated, Any, Literal, get_args

import anyio.to_thread
import asyncpg
from fastapi import Depends, Request, Security
from fastapi.security import HTTPAuthorizationCredentials, HTTPBearer
from starlette.datastructures import Headers
from starlette.types import Scope as AsgiScope

from lookbook.blocks.errors import LookbookError, UsageError
from lookbook.blocks.registry import Registry
from lookbook.deployments.api.config import ApiConfig
from lookbook.deployments.api.problems import Problem

#: Buckets that are remembered; the one that was not asked for the longest is forgotten first: it is full again.
MOST_BUCKETS = 20_000


class Buckets:
    """Token buckets, by name. Not for several threads: it is asked from the event loop alone.

    Args:
        rate: tokens that come back in a second.
        burst: tokens of a full bucket.
        clock: seconds that only grow.
    """

    def __init__(self, rate: float, burst: int, clock: Callable[[], float] = time.monotonic) -> None:
        self._rate, self._burst, self._clock = rate, burst, clock
        self._buckets: OrderedDict[str, tuple[float, float]] = OrderedDict()

    def take(self, name: str) -> float:
        """Take a token; 0 where there was one, else the seconds until there is."""
        left = self._left(name)
        taken = left >= 1
        self._buckets[name] = (left - 1 if taken else left, self._clock())
        self._buckets.move_to_end(name)
        while len(self._buckets) > MOST_BUCKETS:
            self._buckets.popitem(last=False)
        return 0.0 if taken else (1 - left) / self._rate

    def wait(self, name: str) -> float:
        """Return the seconds until there is a token; none is taken."""
        left = self._left(name)
        return 0.0 if left >= 1 else (1 - left) / self._rate

    def _left(self, name: str) -> float:
        left, since = self._buckets.get(name, (float(self._burst), self._clock()))
        return min(self._burst, left + (self._clock() - since) * self._rate)


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
    rows = registry.fetch(
        "SELECT key_id, name, hash, scopes, created_at, revoked_at FROM api_keys ORDER BY created_at, key_id"
    )
    return [_stored(dict(row)) for row in rows]


def revoke_key(registry: Registry, name: str) -> None:
    """Revoke the key of a name. The API asks for keys still, were it the last one.

    Raises:
        UsageError: there is no key of that name that was not revoked.
    """
    done = registry.execute("UPDATE api_keys SET revoked_at = now() WHERE name = $1 AND revoked_at IS NULL", name)
    if done.endswith(" 0"):
        raise UsageError(f"{name}: there is no such key.", 'See "lookbook api-key list".')


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


#: Seconds that keys hold while the registry cannot be asked: then all are refused.
LONGEST_STALE = 60

_bearer = HTTPBearer(auto_error=False, description="A key of lookbook api-key create; none is needed before the first.")


@dataclass(frozen=True)
class Principal:
    """Who asks: a key, or anybody on this machine.

    Attributes:
        key_id: of the key; empty for anybody.
        scopes: what they may.
    """

    key_id: str
    scopes: frozenset[str]


ANYBODY = Principal("", frozenset(SCOPES))


class KeyRing:
    """The keys of the registry, read again when they are a few seconds old."""

    def __init__(self, registry: Registry, seconds: float) -> None:
        self._registry, self._seconds = registry, seconds
        self._keys: dict[str, StoredKey] = {}
        self._read_at = -float("inf")
        self._reading = threading.Lock()

    async def keys(self) -> dict[str, StoredKey]:
        """Return all keys by their ids, revoked ones with them.

        Raises:
            LookbookError: they are too old, and the registry cannot be asked.
        """
        if time.monotonic() - self._read_at > self._seconds:
            await anyio.to_thread.run_sync(self._read)
        return self._keys

    def _read(self) -> None:
        with self._reading:
            now = time.monotonic()
            if now - self._read_at <= self._seconds:
                return  # another thread has
            try:
                self._keys = {key.key_id: key for key in list_keys(self._registry)}
            except LookbookError:
                if now - self._read_at > LONGEST_STALE:
                    raise
                return
            self._read_at = now


class Gate:
    """Lets in who may come in, as often as they may."""

    def __init__(self, config: ApiConfig, ring: KeyRing) -> None:
        self._config, self._ring = config, ring
        self._reads = Buckets(config.reads_per_second, config.reads_at_once)
        self._submits = Buckets(config.submits_per_minute / 60, config.submits_at_once)
        self._refusals = Buckets(config.refusals_per_minute / 60, config.refusals_at_once)

    async def admit(self, address: str, given: str | None, scope: Scope, *, submits: bool) -> Principal:
        """Return who asks.

        Args:
            address: that the request comes from.
            given: the key in it.
            scope: that is needed.
            submits: whether work is given.

        Raises:
            Problem: no key, a wrong one, one that may not do this, or too many requests.
        """
        principal = await self.identify(address, given)
        name = principal.key_id or address
        wait = max(self._reads.take(name), self._submits.take(name) if submits else 0.0)
        if wait:
            raise _too_many("This asks too often.", wait)
        if scope not in principal.scopes:
            raise Problem(403, "no-scope", f"This key has no scope {scope}.", "Ask for a key that has it.")
        return principal

    async def identify(self, address: str, given: str | None) -> Principal:
        """Return who asks, whatever they may.

        Raises:
            Problem: no key, a wrong one, or too many wrong ones from this address.
        """
        if wait := self._refusals.wait(address):
            raise _too_many("Too many wrong keys came from this address.", wait)
        keys = await self._ring.keys()
        if not keys and self._config.is_local:
            return ANYBODY
        found = find_key(keys, given) if given is not None else None
        if found is not None:
            return Principal(found.key_id, found.scopes)
        if given is not None:
            self._refusals.take(address)
        raise Problem(
            401,
            "no-key",
            "A key is needed." if given is None else "This is no key, or one that was revoked.",
            'Send "Authorization: Bearer KEY"; "lookbook api-key create" makes one.',
            headers={"WWW-Authenticate": 'Bearer realm="lookbook"'},
        )


def needs(scope: Scope, *, submits: bool = False) -> Callable[..., Awaitable[Principal]]:
    """Return a dependency that lets in who has a scope."""

    async def admitted(
        request: Request, _: Annotated[HTTPAuthorizationCredentials | None, Security(_bearer)]
    ) -> Principal:
        address, key = asker(request.scope, request.headers)
        gate: Gate = request.app.state.services.gate
        principal = await gate.admit(address, key, scope, submits=submits)
        request.scope["principal"] = principal.key_id or "anybody"
        return principal

    return admitted


def asker(scope: AsgiScope, headers: Headers) -> tuple[str, str | None]:
    """Return where a request comes from, and the key in it: that of ``Bearer``, else what stands there."""
    client = scope.get("client")
    given = headers.get("authorization")
    scheme, _, key = (given or "").partition(" ")
    return client[0] if client else "unknown", key.strip() if scheme.lower() == "bearer" and key.strip() else given


def _too_many(what: str, wait: float) -> Problem:
    return Problem(429, "too-many", what, f"Wait {wait:.1f} s.", headers={"Retry-After": str(int(wait) + 1)})


Reader = Annotated[Principal, Depends(needs("read"))]
ExportReader = Annotated[Principal, Depends(needs("export"))]
ExportSubmitter = Annotated[Principal, Depends(needs("export", submits=True))]
IngestReader = Annotated[Principal, Depends(needs("ingest"))]
IngestSubmitter = Annotated[Principal, Depends(needs("ingest", submits=True))]
