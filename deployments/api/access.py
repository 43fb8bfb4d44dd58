"""Who asks, and what they may: keys, scopes, rates. Endpoints declare the scope that they need."""

from __future__ import annotations

import threading
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Annotated

import anyio.to_thread
from fastapi import Depends, Request, Security
from fastapi.security import HTTPAuthorizationCredentials, HTTPBearer
from starlette.datastructures import Headers
from starlette.types import Scope as AsgiScope

from lookbook.blocks.errors import LookbookError
from lookbook.blocks.registry import Registry
from lookbook.deployments.api.config import ApiConfig
from lookbook.deployments.api.keys import SCOPES, Scope, StoredKey, find_key, list_keys
from lookbook.deployments.api.limits import Buckets
from lookbook.deployments.api.problems import Problem

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
