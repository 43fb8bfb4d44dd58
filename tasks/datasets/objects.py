"""Objects of a lake are read again, and compared with the checksums that are noted of them."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from itertools import islice
from typing import TypeVar

from lookbook.blocks.errors import ObjectNotFoundError
from lookbook.blocks.lake import Lake

More = TypeVar("More")

#: Objects that are read at the same time: a store that answers late is kept busy.
READING_THREADS = 16
#: Objects that are asked for before the first of them is judged.
OBJECTS_AHEAD = 1000


def compare_objects(lake: Lake, noted: Iterable[tuple[str, str, More]]) -> Iterator[tuple[str, str | None, More]]:
    """Read objects and compare them, several at a time.

    Args:
        lake: holds them.
        noted: each with its key, its SHA-256, and whatever belongs to it.

    Returns:
        In the same order: the key, what is wrong (None: nothing), and what belongs to it.
    """

    def judged(one: tuple[str, str, More]) -> tuple[str, str | None, More]:
        key, sha256, more = one
        return key, fault_of(read_object(lake, key), sha256), more

    waiting = iter(noted)
    with ThreadPoolExecutor(READING_THREADS, thread_name_prefix="compare") as pool:
        while some := list(islice(waiting, OBJECTS_AHEAD)):
            yield from pool.map(judged, some)


def read_object(lake: Lake, key: str) -> bytes | None:
    """Read an object; None where there is none."""
    try:
        return lake.get(key)
    except ObjectNotFoundError:
        return None


def fault_of(data: bytes | None, sha256: str) -> str | None:
    """Say what is wrong with an object's bytes, by their SHA-256; None: nothing."""
    if data is None:
        return "is missing"
    if hashlib.sha256(data).hexdigest() != sha256:
        return "is damaged: its checksum differs from the manifest's"
    return None
