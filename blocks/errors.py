"""Errors that a user can act on: what is wrong, and the way out; and packages that only some installations have."""

from __future__ import annotations

import errno
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any


class LookbookError(Exception):
    """A fault with a named cause and a way out.

    The command prints it as one or two lines, without a traceback; a task that raises it is not retried,
    because trying again would not help.

    Args:
        problem: what is wrong, naming the thing and the rule.
        way_out: what the user can do about it.

    Attributes:
        summary: of the run that failed, where it had one: for programs.
    """

    summary: Mapping[str, Any] | None = None

    def __init__(self, problem: str, way_out: str = "") -> None:
        super().__init__(problem, way_out)
        self.problem = problem
        self.way_out = way_out

    def __str__(self) -> str:
        return f"{self.problem}\n{self.way_out}" if self.way_out else self.problem


class UsageError(LookbookError):
    """An option or argument that cannot be meant as it was given."""


class ObjectNotFoundError(LookbookError):
    """The lake holds no object under this key."""


class ObjectConflictError(LookbookError):
    """The lake holds another object under a key that may be written only once."""


class SwapConflictError(LookbookError):
    """A mutable object changed between being read and being swapped."""


class LeaseLostError(LookbookError):
    """Another run has taken the lease of this one meanwhile: it may write nothing more."""

    @classmethod
    def of(cls, name: str) -> LeaseLostError:
        """Return the error of a run that holds the lease `name` no more."""
        return cls(
            f"{name}: this run stood still, and another one has taken its lease meanwhile.",
            "What it had not committed is dropped. Look at the other run, then run this one again.",
        )


class OutOfReachError(LookbookError):
    """A service does not answer: unlike other errors of ours it may pass, and is tried again."""


class MissingError(LookbookError):
    """A service knows nothing of this name."""


class TransientError(Exception):
    """A fault of a service that may pass: whoever asked decides how often to ask again.

    Args:
        problem: what is wrong.
        wait: seconds that the server asks to wait, or None.
    """

    def __init__(self, problem: str, wait: float | None = None) -> None:
        super().__init__(problem)
        self.wait = wait


class StatementTimeoutError(LookbookError):
    """The registry took too long for one statement."""


def raise_if_full(
    error: OSError,
    problem: str,
    way_out: str = "Free some, or point LOOKBOOK_HOME to another disk; then run again.",
) -> None:
    """Say in words that a disk is full, or somebody's share of it.

    Args:
        error: what the disk raised; another fault is left to the caller.
        problem: what there is no space for.
        way_out: what to do about it.

    Raises:
        LookbookError: it is full.
    """
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        raise LookbookError(problem, way_out) from error


#: How all extras are installed, at tested versions. Never by Lookbook's name: on PyPI it is another project's.
INSTALL = "From the checkout: pip install -r requirements-image.txt"


@contextmanager
def needs_extra(name: str, what: str) -> Iterator[None]:
    """Let `what` say which extra it takes, where a package that is imported inside is not installed.

    Raises:
        LookbookError: it is not.
    """
    try:
        yield
    except ModuleNotFoundError as error:
        raise LookbookError(f"{what} needs the extra {name}: {error.name} is not installed.", INSTALL) from error
