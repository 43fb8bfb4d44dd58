"""The lease: one run at a time works on a dataset."""

from __future__ import annotations

import math
import os
import threading
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, suppress
from dataclasses import dataclass

import asyncpg
import psutil

from lookbook.blocks.errors import LeaseLostError, LookbookError
from lookbook.blocks.registry import Held, Registry, all_schemas, held_leases, unfenced
from lookbook.blocks.settings import this_host

#: Seconds that a lease holds without renewal, and between renewals.
LIFETIME = 90
RENEWAL = 20
#: And between looks at a lease that another run holds, at the most: the first follow each other sooner.
LOOK = 3.0
#: Seconds that the registry may be out of reach meanwhile.
OUT_OF_REACH = 300.0

#: Each owner's counter is higher than that before it, also where the clock was set back; and, being the time, also
#: where the registry was lost and made anew: the places that keep counters would refuse one that began at 1.
TAKE = """
INSERT INTO leases (name, owner, expires_at, counter)
VALUES ($1, $2, now() + make_interval(secs => $3), (extract(epoch FROM now()) * 1000)::bigint)
ON CONFLICT (name) DO UPDATE SET owner = excluded.owner, expires_at = excluded.expires_at,
    counter = greatest(leases.counter + 1, excluded.counter)
WHERE leases.expires_at < now() OR leases.owner = excluded.owner OR leases.owner = $4
RETURNING current_schema() AS schema, counter
"""
#: Who lost a lease is not its owner any more, also where the one who took it gave it back.
RENEW = """
UPDATE leases SET expires_at = now() + make_interval(secs => $3) WHERE name = $1 AND owner = $2
"""
#: The row stays, for its counter; it ended long ago, whatever the clock says.
GIVE_BACK = "UPDATE leases SET owner = '', expires_at = 'epoch' WHERE name = $1 AND owner = $2"
#: Of each one, leases whose names begin so are never held at the same time: who removes waits for those who write or
#: read, and they wait for it.
APART = {"gc/objects": "dataset/", "gc/exports": "reading/"}
#: The first of two numbers of the advisory lock under which it is seen to; the second is the schema's.
APART_LOCK = 0x6C6F6F6B
IN_THE_WAY = """
SELECT name, owner, expires_at >= now() AS lives FROM leases
WHERE owner <> '' AND name <> $1 AND (name = ANY($2::text[]) OR starts_with(name, $3))
"""
#: Seconds that who finds the lake being swept waits, also where nobody waits for another run.
SWEEP_WAIT = 60.0
#: Seconds after which a lease that was confirmed has to be confirmed again before something is removed. Together with
#: the longest that a store tries to remove an object (60) less than `LIFETIME`.
FRESH = 20.0
HOLDER = "SELECT owner FROM leases WHERE name = $1 AND expires_at >= now()"


@dataclass(frozen=True)
class Owner:
    """A process: where it runs, its id, and when it started (an id is used again).

    Attributes:
        host: the machine's name and a mark of the kernel and the container: names are not unique.
    """

    host: str
    pid: int
    started: float

    def __str__(self) -> str:
        return f"{self.host}:{self.pid}:{self.started:.2f}"

    @classmethod
    def parse(cls, text: str) -> Owner:
        """Read what `str` of an owner wrote, whatever a lease put behind it."""
        host, pid, started = text.rsplit(":", 2)  # a host may be called anything
        return cls(host, int(pid), float(started.partition("#")[0]))

    def is_dead(self) -> bool:
        """Return whether this process ran on this machine and does no longer."""
        if self.host != this_host():
            return False
        try:
            return abs(psutil.Process(self.pid).create_time() - self.started) > 1
        except psutil.Error:
            return True


def this_process() -> Owner:
    """Return the owner that this process is."""
    return Owner(this_host(), os.getpid(), psutil.Process().create_time())


class LeaseHeldError(LookbookError):
    """Another run holds the lease."""


class KeptApartError(LeaseHeldError):
    """A run holds a lease that is never held beside this one."""


@contextmanager
def lease(
    registry: Registry, name: str, max_wait: float = 0, waiting: Callable[[str], object] = lambda _: None
) -> Iterator[None]:
    """Hold the lease `name` while the block runs; renewed by a thread, given back at the end.

    A lease whose owner is known to be dead (a killed run on this machine) is taken over at once, any other that is
    not renewed after `LIFETIME` seconds. Who lost it that way (stopped, or on a machine that slept) writes nothing more
    into the registry within the block, where all raise `LeaseLostError`. `confirm` asks before a write elsewhere, which
    is refused, too, where another run has written meanwhile: see `lookbook.blocks.registry`. Who waits also waits for a
    registry that fails, for up to `OUT_OF_REACH` seconds.

    Args:
        registry: where leases are kept.
        name: what it is for.
        max_wait: seconds to wait while another run holds it; infinite: as long as that renews it.
        waiting: told once for each run that is waited for, who holds it.

    Raises:
        LeaseHeldError: another run holds it; the message names its process.
        LookbookError: the registry fails, at the first look or for long.
    """
    owner = f"{this_process()}#{uuid.uuid4().hex}"  # two runs of one process are two owners
    held = _take_in_time(registry, name, owner, max_wait, waiting)
    ended = threading.Event()
    renewal = threading.Thread(target=_renew, args=(registry, name, owner, ended), daemon=True)
    renewal.start()
    before = held_leases.get()
    held_leases.set((*before, held))
    try:
        yield
    finally:
        held_leases.set(before)
        ended.set()
        renewal.join()
        with suppress(LookbookError), unfenced():  # it ends by itself, and must not hide why the block ended
            _give_back(registry, name, owner)


def warehouse_lease(registry: Registry, name: str = "warehouse") -> AbstractContextManager[None]:
    """Hold the lease of a warehouse, or of a table in it: lakes that share the warehouse wait for each other as well.

    Raises:
        LookbookError: as `lease`.
    """
    return lease(registry.of_lake(None), name, math.inf)


def confirm(registry: Registry) -> None:
    """See that the leases of this run, if it has any, are still its own, before it commits outside of the registry.

    Raises:
        LeaseLostError: another run has taken one.
        LookbookError: the registry cannot be asked.
    """

    async def nothing(_: asyncpg.Connection[asyncpg.Record]) -> None: ...

    if held_leases.get():
        registry.run(nothing)


def living_owners(registry: Registry, *, of_all_lakes: bool = False) -> dict[str, Owner]:
    """List the leases that are held now, and by whom; those of dead processes do not count.

    Args:
        registry: where they are kept.
        of_all_lakes: those of other lakes too, which have their books in the same database.
    """

    async def work(connection: asyncpg.Connection[asyncpg.Record]) -> dict[str, Owner]:
        places = [f"{schema}.leases" for schema in await all_schemas(connection)] if of_all_lakes else ["leases"]
        held = " UNION ALL ".join(f"SELECT name, owner FROM {place} WHERE expires_at > now()" for place in places)  # noqa: S608 - schemas of ours
        rows = await connection.fetch(held)
        owners = {row["name"]: Owner.parse(row["owner"]) for row in rows}
        return {name: owner for name, owner in owners.items() if not owner.is_dead()}

    return registry.run(work)


def wait_until_free(registry: Registry, name: str, max_wait: float) -> None:
    """Wait until nobody alive holds the lease `name`, for no longer than `max_wait` seconds."""
    deadline = time.monotonic() + max_wait
    pauses = _pauses()
    while time.monotonic() < deadline and name in living_owners(registry):
        time.sleep(next(pauses))


def _pauses() -> Iterator[float]:
    """Yield seconds between looks: most leases are given back soon."""
    pause = 0.1
    while True:
        yield min(pause, LOOK)
        pause = min(2 * pause, LOOK)


def _take_in_time(registry: Registry, name: str, owner: str, max_wait: float, waiting: Callable[[str], object]) -> Held:
    began, told = time.monotonic(), ""
    deadline = began + max_wait
    pauses = _pauses()
    answered = -math.inf  # a registry that fails at the first look is told at once
    while True:
        try:
            return _take(registry, name, owner)
        except LookbookError as error:
            held, now = isinstance(error, LeaseHeldError), time.monotonic()
            if isinstance(error, KeptApartError) and name not in APART:
                deadline = max(deadline, began + SWEEP_WAIT)
            answered = now if held else answered
            if now >= deadline or now >= answered + OUT_OF_REACH:
                raise
            if error.problem != told:
                waiting(error.problem)
            told = error.problem
        time.sleep(next(pauses))  # in the caller's thread: a signal that ends the run ends this too


def _take(registry: Registry, name: str, owner: str) -> Held:
    async def work(connection: asyncpg.Connection[asyncpg.Record]) -> Held:
        await _keep_apart(connection, name)
        holder = await connection.fetchval(HOLDER, name)
        dead = holder if holder is not None and Owner.parse(holder).is_dead() else None
        taken = await connection.fetchrow(TAKE, name, owner, float(LIFETIME), dead)
        if taken is not None:
            return Held(registry.address(), name, owner, taken["schema"], taken["counter"])
        holder = holder or await connection.fetchval(HOLDER, name)
        if holder is None:
            raise LeaseHeldError(f"{name}: another run has just ended.", "Run the command again.")
        raise LeaseHeldError(
            f"{name}: another run is at work on it (process {Owner.parse(holder).pid} on {Owner.parse(holder).host}).",
            f"Wait for it, or end it; a lease that is not renewed ends after {LIFETIME} seconds.",
        )

    return registry.run(work)


async def _keep_apart(connection: asyncpg.Connection[asyncpg.Record], name: str) -> None:
    """See that no lease is held that is never held beside `name`; those of the dead and the silent end here.

    Who was silent for long finds its lease lost, as if another run had taken it.

    Raises:
        KeptApartError: one is held.
    """
    sweeps = [sweep for sweep, start in APART.items() if name.startswith(start)]
    if not sweeps and name not in APART:
        return
    # Of two that take leases at once, the second sees what the first has taken.
    await connection.execute("SELECT pg_advisory_xact_lock($1, hashtext(current_schema()))", APART_LOCK)
    ended: list[str] = []
    for locked in ("", " FOR UPDATE"):  # a silent one may speak again until its row is locked
        rows = await connection.fetch(IN_THE_WAY + locked, name, sweeps, APART.get(name, "\x01"))
        for row in rows:
            owner = Owner.parse(row["owner"])
            if row["lives"] and not owner.is_dead():
                what = "objects of the lake are being removed" if sweeps else "a run is at work"
                raise KeptApartError(
                    f"{name}: {row['name']} is held: {what} (process {owner.pid} on {owner.host}).",
                    "Wait for it, and run the command again.",
                )
        ended = [row["name"] for row in rows]
        if not ended:
            return
    await connection.execute("UPDATE leases SET expires_at = 'epoch', owner = '' WHERE name = ANY($1::text[])", ended)


class Hold:
    """The lease that a run holds, for what cannot be taken back: before each removal it is to be surely its own.

    Args:
        registry: where it is kept.
        name: of the lease; the caller holds it.
    """

    def __init__(self, registry: Registry, name: str) -> None:
        self._registry, self._name = registry, name
        self._owner = next(held.owner for held in reversed(held_leases.get()) if held.name == name)
        self._confirmed = -math.inf

    def confirm(self) -> None:
        """Renew it.

        Raises:
            LeaseLostError: another run has taken it.
            LookbookError: the registry cannot be asked.
        """
        asked = _clock()
        if self._registry.execute(RENEW, self._name, self._owner, float(LIFETIME)) != "UPDATE 1":
            raise LeaseLostError.of(self._name)
        self._confirmed = asked

    def is_fresh(self) -> bool:
        """Return whether it was confirmed so shortly ago that nobody can have taken it since. May be asked anywhere."""
        return _clock() - self._confirmed < FRESH


def _clock() -> float:
    """Return seconds of a clock that goes on while the machine sleeps, as a lease does."""
    return time.clock_gettime(getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC))


def _renew(registry: Registry, name: str, owner: str, ended: threading.Event) -> None:
    while not ended.wait(RENEWAL):
        with suppress(LookbookError):  # out of reach for a while: whoever commits asks again
            registry.execute(RENEW, name, owner, float(LIFETIME))


def _give_back(registry: Registry, name: str, owner: str) -> None:
    registry.execute(GIVE_BACK, name, owner)
