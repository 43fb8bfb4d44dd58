"""Extras: packages that only some installations have."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from lookbook.blocks.errors import LookbookError

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
