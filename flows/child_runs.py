"""What to do about a run of process-batch on a work pool, by what is seen of it. Knows no Prefect."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from enum import Enum

from lookbook.blocks.errors import LookbookError, OutOfReachError

#: Seconds that a run may wait with no worker online. A worker counts as online for 90 s after its last word.
UNTAKEN = 60.0
#: Seconds that a run may wait while workers are online, and no batch at all is under way.
CROWDED = 600.0
#: Seconds that a worker may take to start a run's process, pulling images included.
PENDING = 600.0
#: Seconds without a heartbeat, of which there is one each 30 s, after which a run counts as dead.
SILENT = 100.0
#: And for one that has not been heard at all: events may be late or switched off.
NEVER_HEARD = 200.0
#: Seconds that a worker may take to end a run that was cancelled.
CANCELLING = 120.0


@dataclass(frozen=True)
class Child:
    """What is seen of a run.

    Attributes:
        state: the type of its state, as ``RUNNING``.
        message: of its state.
        unchanged: seconds since its state changed.
        silent: seconds since its last heartbeat, or None where none was heard.
        workers: whether a worker of its pool is online.
        crowded: seconds that it waits while no batch at all, of whichever run, is under way.
        pool: the name of that pool.
    """

    state: str
    message: str = ""
    unchanged: float = 0.0
    silent: float | None = None
    workers: bool = True
    crowded: float = 0.0
    pool: str = ""


class Verdict(Enum):
    """What to do: wait on; it is done; start it again (it is dead: note that first); or give up."""

    WAIT = "wait"
    DONE = "done"
    AGAIN = "again"
    DEAD = "dead"
    GIVE_UP = "give up"


def judge(child: Child) -> tuple[Verdict, str]:
    """Return what to do about a run, and why."""
    match child.state:
        case "COMPLETED":
            return Verdict.DONE, ""
        case "FAILED":
            error = own_error(child.message)
            passes = error is None or isinstance(error, OutOfReachError)
            return (Verdict.AGAIN if passes else Verdict.GIVE_UP), child.message
        case "CRASHED":
            return Verdict.AGAIN, child.message or "its process died"
        case "CANCELLED":
            return Verdict.GIVE_UP, "it was cancelled"
        case _:
            return _judge_unfinished(child)


def _judge_unfinished(child: Child) -> tuple[Verdict, str]:
    if child.state == "SCHEDULED":
        return _judge_waiting(child)
    if child.state == "PENDING" and child.unchanged > PENDING:
        return Verdict.DEAD, f"its worker did not start it within {PENDING:.0f} s"
    if child.state == "CANCELLING" and child.unchanged > CANCELLING:
        return Verdict.GIVE_UP, "it was cancelled"
    if child.state == "RUNNING":
        if child.silent is None and child.unchanged > NEVER_HEARD:
            return Verdict.DEAD, f"no heartbeat within {NEVER_HEARD:.0f} s of its start"
        if child.silent is not None and child.silent > SILENT:
            return Verdict.DEAD, f"no heartbeat for {child.silent:.0f} s"
    return Verdict.WAIT, ""


def _judge_waiting(child: Child) -> tuple[Verdict, str]:
    if not child.workers and child.unchanged > UNTAKEN:
        return Verdict.GIVE_UP, "no worker takes it"
    if child.workers and child.crowded > CROWDED:  # runs that wait for batches may have taken all places
        return Verdict.GIVE_UP, "the workers are busy with other runs"
    return Verdict.WAIT, ""


def fault_of(child: Child, why: str, batch: str) -> LookbookError:
    """Return the error to raise for a run that was given up."""
    if child.state == "SCHEDULED" and child.workers:
        return LookbookError(
            f"The workers of the work pool {child.pool} are busy with other runs, and with no batch since "
            f"{child.crowded / 60:.0f} minutes; or the pool is paused.",
            f"Raise a worker's --limit, or start another one: prefect worker start --pool {child.pool}",
        )
    if child.state == "SCHEDULED":
        return LookbookError(
            f"No worker takes runs of the work pool {child.pool}.",
            f"Start one: prefect worker start --pool {child.pool}",
        )
    return own_error(child.message) or LookbookError(f"{batch}: {why}.", "Run again: it goes on from here.")


def own_error(message: str) -> LookbookError | None:
    """Return the error of ours that the message of a failed state tells of; None where it was another fault."""
    names = "|".join(sorted({error.__name__ for error in _errors(LookbookError)}, key=len, reverse=True))
    found = re.search(rf"\b({names}): (.*)", message, re.DOTALL)
    if found is None:
        return None
    problem, _, way_out = found[2].partition("\n")
    kind = OutOfReachError if found[1] == OutOfReachError.__name__ else LookbookError
    return kind(problem, way_out)


def _errors(kind: type[LookbookError]) -> Iterator[type[LookbookError]]:
    yield kind
    for below in kind.__subclasses__():
        yield from _errors(below)
