"""How far the batches of this process are: one listener, told of every image that is done."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

_listeners: list[Callable[[int], None]] = []


@contextmanager
def listening(listener: Callable[[int], None]) -> Iterator[None]:
    """Have `listener` called with the number of images just done, from whichever thread did them."""
    _listeners.append(listener)
    try:
        yield
    finally:
        _listeners.remove(listener)


def advance(images: int) -> None:
    """Tell that `images` more are done."""
    for listener in _listeners:
        listener(images)
