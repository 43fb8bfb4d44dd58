"""How far the batches of this process are: listeners are told what is to be done, and of every image that is."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass


@dataclass(frozen=True)
class _Listener:
    announce: Callable[[int], object]
    advance: Callable[[int], object]
    download: Callable[[int, int], object]
    wrote: Callable[[int], object]
    going: Callable[[Mapping[str, object]], object]


_listeners: list[_Listener] = []


@contextmanager
def listening(
    announce: Callable[[int], object] = lambda _: None,
    advance: Callable[[int], object] = lambda _: None,
    download: Callable[[int, int], object] = lambda _, __: None,
    wrote: Callable[[int], object] = lambda _: None,
    going: Callable[[Mapping[str, object]], object] = lambda _: None,
) -> Iterator[None]:
    """Listen while the block runs.

    Args:
        announce: called once with the number of images that a run has to do.
        advance: called with the number of images just done, from whichever thread did them.
        download: called with the bytes of a source that are here, and with all that it has.
        wrote: called with the bytes of an export that were just written, or were there.
        going: called with what is about to be removed.
    """
    listener = _Listener(announce, advance, download, wrote, going)
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


def wrote(size: int) -> None:
    """Tell that `size` more bytes of an export are there."""
    for listener in _listeners:
        listener.wrote(size)


def going(what: Mapping[str, object]) -> None:
    """Tell what is about to be removed."""
    for listener in _listeners:
        listener.going(what)
