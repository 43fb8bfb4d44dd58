"""How far the batches of this process are: listeners are told what is to be done, and of every image that is."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass


@dataclass(frozen=True)
class _Listener:
    announce: Callable[[int], object]
    advance: Callable[[int], object]
    download: Callable[[int, int], object]


_listeners: list[_Listener] = []


@contextmanager
def listening(
    announce: Callable[[int], object] = lambda _: None,
    advance: Callable[[int], object] = lambda _: None,
    download: Callable[[int, int], object] = lambda _, __: None,
) -> Iterator[None]:
    """Listen while the block runs.

    Args:
        announce: called once with the number of images that a run has to do.
        advance: called with the number of images just done, from whichever thread did them.
        download: called with the bytes of a source that are here, and with all that it has.
    """
    listener = _Listener(announce, advance, download)
    _listeners.append(listener)
    try:
        yield
    finally:
        _listeners.remove(listener)


def announce(images: int) -> None:
    """Tell that `images` are to be done."""
    for listener in _listeners:
        listener.announce(images)


def advance(images: int) -> None:
    """Tell that `images` more are done."""
    for listener in _listeners:
        listener.advance(images)


def download(done: int, total: int) -> None:
    """Tell that `done` of `total` bytes of a source are downloaded."""
    for listener in _listeners:
        listener.download(done, total)
