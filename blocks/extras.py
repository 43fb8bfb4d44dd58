"""Extras: packages that only some installations have."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from blocks.errors import LookbookError


@contextmanager
def needs_extra(name: str, what: str) -> Iterator[None]:
    """Let `what` say which extra it takes, where a package that is imported inside is not installed.

    Raises:
        LookbookError: it is not.
    """
    try:
        yield
    except ModuleNotFoundError as error:
        raise LookbookError(
            f"{what} needs the extra {name}: {error.name} is not installed.", f'pip install "lookbook[{name}]"'
        ) from error
