"""How this process gives memory back: not between one image and the next."""

from __future__ import annotations

import ctypes
import os
from contextlib import suppress
from functools import cache
from pathlib import Path

#: Parameters of glibc's mallopt (malloc.h), and up to how many bytes they keep.
_TRIM_THRESHOLD, _MMAP_THRESHOLD = -1, -3
_KEPT, _LARGEST = 128 * 2**20, 32 * 2**20  # glibc takes no larger threshold


@cache
def keep_freed_memory() -> None:
    """Let the C library keep what is freed, up to 128 MiB, for the next allocation; does nothing but under glibc.

    By default it maps each buffer of an image anew, page by page, and hands it back right after. For photos of a
    megabyte that was measured to cost a sixth of all that this process does for them. The processes that draw
    are told the same by their environment (`renderers`).
    """
    with suppress(OSError, AttributeError):
        mallopt = ctypes.CDLL(None).mallopt
        mallopt(_MMAP_THRESHOLD, _LARGEST)
        mallopt(_TRIM_THRESHOLD, _KEPT)


def give_back_beyond(most: int) -> None:
    """Give what is freed back to the system where this process holds more than `most` bytes; only under glibc.

    What one huge image took would else stay for good, wherever something small came to lie behind it.
    """
    with suppress(OSError, AttributeError):  # pages in memory are the second number (proc_pid_statm(5))
        pages = int(Path("/proc/self/statm").read_bytes().split()[1])
        if pages * os.sysconf("SC_PAGE_SIZE") > most:
            ctypes.CDLL(None).malloc_trim(0)
