"""Fences: a place outside of the registry takes nothing more from a run whose lease another run took.

A run that is stopped (SIGSTOP, a laptop's lid) between its last look at its lease and its commit cannot know that its
lease was lost meanwhile; the place that it commits to can. Each owner of a lease has a higher counter than those before
it, and a commit brings the counters of all leases that its run holds. The place keeps the highest that it has seen of
each lease, and refuses lower ones by the transaction, or the precondition, of the commit itself.
https://martin.kleppmann.com/2016/02/08/how-to-do-distributed-locking.html
"""

from __future__ import annotations

from collections.abc import Mapping

from lookbook.blocks.errors import LeaseLostError
from lookbook.blocks.migrations import FIRST
from lookbook.blocks.registry import held_leases


def held_counters() -> dict[str, int]:
    """Give the counter of each lease that is held here, by its name, and its schema where that is a further lake's.

    Lakes that share a place do not share the leases of their datasets and pipelines.
    """
    return {
        lease.name if lease.schema == FIRST else f"{lease.schema}: {lease.name}": lease.counter
        for lease in held_leases.get()
    }


def raised(fences: Mapping[str, int]) -> dict[str, int]:
    """Return what a place keeps once it has taken a commit from here: the counters of others as they were.

    Args:
        fences: what it keeps so far: the highest counter that it has seen of each lease, by name.

    Raises:
        LeaseLostError: it has seen a higher counter of a lease that is held here: it must not take the commit.
    """
    held = held_counters()
    lost = [name for name, counter in held.items() if counter < fences.get(name, counter)]
    if lost:
        raise LeaseLostError.of(min(lost))
    return {**fences, **held}
