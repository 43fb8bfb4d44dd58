"""What holds batches back: the memory that originals take, how many images are ahead, and an interrupt."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager

from lookbook.blocks.errors import LookbookError

#: Bytes of originals in memory at the same time, over all batches of this process; a larger one goes alone.
MOST_BYTES = 256 * 2**20
#: How often it is crowded, with nobody starved in between, before fewer images are let ahead.
IN_A_ROW = 8


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


class Lookahead:
    """How many images are under way at once: as many as keep those who draw busy, and few more.

    Each image more that is being read or written takes memory that is not in the processor's cache, and its
    thread contends with the others; each one less leaves a drawing process idle while a slow store answers.

    Args:
        least: to begin with, and never fewer.
        most: never more.
    """

    def __init__(self, least: int, most: int) -> None:
        self.allowed = least
        self._least = least
        self.most = most
        self._used = 0
        self._in_a_row = 0
        self._changed = threading.Condition()

    @contextmanager
    def place(self) -> Iterator[None]:
        """Have an image under way while the block runs; waits until one more is allowed."""
        with self._changed:
            self._changed.wait_for(lambda: self._used < self.allowed)
            self._used += 1
        try:
            yield
        finally:
            with self._changed:
                self._used -= 1
                self._changed.notify()

    def starved(self) -> None:
        """Allow one more: who draws had nothing to do."""
        with self._changed:
            self._in_a_row = 0
            self.allowed = min(self.most, self.allowed + 1)
            self._changed.notify()

    def crowded(self) -> None:
        """More are waiting to be drawn than need be: allow one less, when it is said `IN_A_ROW` times.

        A late store answers several at once, and then none for a while.
        """
        with self._changed:
            self._in_a_row += 1
            if self._in_a_row == IN_A_ROW:
                self._in_a_row = 0
                self.allowed = max(self._least, self.allowed - 1)


originals_in_memory = Budget(MOST_BYTES)
_stopping = threading.Event()
_nesting = threading.Lock()
_depth = 0


@contextmanager
def stoppable() -> Iterator[None]:
    """While the block runs, batches do; when an exception leaves it, they stop after the images under way.

    Blocks may lie within each other: a fault that leaves an inner one (one batch of several) stops nothing, an
    interrupt (`KeyboardInterrupt`, Prefect's termination signal) everything.
    """
    global _depth  # noqa: PLW0603 - of this process
    with _nesting:
        outermost = _depth == 0
        _depth += 1
        if outermost:
            _stopping.clear()
    try:
        yield
    except BaseException as error:
        if outermost or not isinstance(error, Exception):
            _stopping.set()
        raise
    finally:
        with _nesting:
            _depth -= 1


def pause(seconds: float) -> None:
    """Wait, unless what `stoppable` guards ends meanwhile.

    Raises:
        StoppedError: it did.
    """
    _stopping.wait(seconds)
    check_not_stopped()


def check_not_stopped() -> None:
    """Raise where `stoppable` was left by an exception.

    Raises:
        StoppedError: it was.
    """
    if _stopping.is_set():
        raise StoppedError("The run was interrupted.", "Run the command again: it goes on where this one stopped.")
