"""The lease: one run at a time works on a dataset."""

from __future__ import annotations

import os
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import asyncpg
import psutil

from blocks.errors import LookbookError
from blocks.registry import Registry

#: Seconds that a lease holds without renewal, and between renewals.
LIFETIME = 90
RENEWAL = 20

TAKE = """
INSERT INTO lookbook.leases (name, owner, expires_at) VALUES ($1, $2, now() + make_interval(secs => $3))
ON CONFLICT (name) DO UPDATE SET owner = excluded.owner, expires_at = excluded.expires_at
WHERE leases.expires_at < now() OR leases.owner = excluded.owner OR leases.owner = $4
RETURNING owner
"""


@dataclass(frozen=True)
class Owner:
    """A process: the machine's name, the process id, and when it started (a process id is used again)."""

    host: str
    pid: int
    started: float

    def __str__(self) -> str:
        return f"{self.host}:{self.pid}:{self.started:.2f}"

    @classmethod
    def parse(cls, text: str) -> Owner:
        """Read what `str` of an owner wrote."""
        host, pid, started = text.rsplit(":", 2)
        return cls(host, int(pid), float(started))

    def is_dead(self) -> bool:
        """Whether this process ran on this machine and does no longer."""
        if self.host != socket.gethostname():
            return False
        try:
            return abs(psutil.Process(self.pid).create_time() - self.started) > 1
        except psutil.Error:
            return True


def this_process() -> Owner:
    """The owner that this process is."""
    return Owner(socket.gethostname(), os.getpid(), psutil.Process().create_time())


@contextmanager
def lease(registry: Registry, name: str) -> Iterator[None]:
    """Hold the lease `name` while the block runs; renewed by a thread, given back at the end.

    A lease whose owner is known to be dead (a killed run on this machine) is taken over at once.

    Raises:
        LookbookError: another run holds it; the message names its process.
    """
    owner = str(this_process())
    _take(registry, name, owner)
    ended = threading.Event()
    renewal = threading.Thread(target=_renew, args=(registry, name, owner, ended), daemon=True)
    renewal.start()
    try:
        yield
    finally:
        ended.set()
        renewal.join()
        _give_back(registry, name, owner)


def _take(registry: Registry, name: str, owner: str) -> None:
    async def work(connection: asyncpg.Connection[asyncpg.Record]) -> None:
        held = await connection.fetchval("SELECT owner FROM lookbook.leases WHERE name = $1", name)
        dead = held if held is not None and Owner.parse(held).is_dead() else None
        taken = await connection.fetchval(TAKE, name, owner, float(LIFETIME), dead)
        if taken is None:
            raise LookbookError(
                f"{name}: another run is at work on it (process {Owner.parse(held).pid} on {Owner.parse(held).host}).",
                f"Wait for it, or end it; a lease that is not renewed ends after {LIFETIME} seconds.",
            )

    registry.run(work)


def _renew(registry: Registry, name: str, owner: str, ended: threading.Event) -> None:
    async def work(connection: asyncpg.Connection[asyncpg.Record]) -> None:
        await connection.fetchval(TAKE, name, owner, float(LIFETIME), None)

    while not ended.wait(RENEWAL):
        try:
            registry.run(work)
        except (LookbookError, OSError, asyncpg.PostgresError):
            continue  # CURRENT's precondition still keeps two runs apart


def _give_back(registry: Registry, name: str, owner: str) -> None:
    async def work(connection: asyncpg.Connection[asyncpg.Record]) -> None:
        await connection.execute("DELETE FROM lookbook.leases WHERE name = $1 AND owner = $2", name, owner)

    registry.run(work)
