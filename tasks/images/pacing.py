"""What holds batches back: the memory that originals take, and an interrupt."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager

from blocks.errors import LookbookError

#: Bytes of originals in memory at the same time, over all batches of this process; a larger one goes alone.
MOST_BYTES = 256 * 2**20


class StoppedError(LookbookError):
    """The run was interrupted: its batches end without a part."""


class Budget:
    """So many bytes at once, and no more.

    Args:
        most: bytes; what is larger than that waits until nothing else is taken.
    """

    def __init__(self, most: int) -> None:
        self._most = most
        self._used = 0
        self._changed = threading.Condition()

    @contextmanager
    def taken(self, size: int) -> Iterator[None]:
        """Take `size` bytes while the block runs; waits until they are to be had."""
        with self._changed:
            self._changed.wait_for(lambda: not self._used or self._used + size <= self._most)
            self._used += size
        try:
            yield
        finally:
            with self._changed:
                self._used -= size
                self._changed.notify_all()


originals_in_memory = Budget(MOST_BYTES)
_stopping = threading.Event()


@contextmanager
def stoppable() -> Iterator[None]:
    """While the block runs, batches do; when an exception leaves it, they stop after the images under way."""
    _stopping.clear()
    try:
        yield
    except BaseException:
        _stopping.set()
        raise


def check_not_stopped() -> None:
    """Raise where `stoppable` was left by an exception.

    Raises:
        StoppedError: it was.
    """
    if _stopping.is_set():
        raise StoppedError("The run was interrupted.", "Run the command again: it goes on where this one stopped.")
