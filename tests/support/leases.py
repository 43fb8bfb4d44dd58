"""Runs that stand still: another one takes their leases, and commits, before they go on."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from lookbook.blocks.migrations import FIRST
from lookbook.blocks.registry import Address, Held, Registry, held_leases, unfenced
from lookbook.tasks.runs.lease import confirm


@contextmanager
def holding(counter: int, name: str = "warehouse") -> Iterator[None]:
    """Be a run that holds a lease with this counter, without a registry."""
    before = held_leases.set((Held(Address(""), name, f"owner {counter}", FIRST, counter),))
    try:
        yield
    finally:
        held_leases.reset(before)


def overtake(registry: Registry, other: Callable[[], object]) -> None:
    """Let all leases run out, and do in another run what `other` does."""

    async def expire(connection: Any) -> None:
        await connection.execute("UPDATE lookbook.leases SET expires_at = now() - interval '1 second'")

    with unfenced():
        registry.run(expire)
        other()


def overtaken(other: Callable[[], object]) -> Callable[[Registry], None]:
    """`confirm` that is answered, and behind its first answer the run stands still: another one overtakes it."""
    asked: list[Registry] = []

    def answered(registry: Registry) -> None:
        confirm(registry)
        asked.append(registry)
        if len(asked) == 1:
            overtake(registry, other)

    return answered
