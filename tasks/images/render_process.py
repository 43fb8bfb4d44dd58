"""The process in which images are decoded and drawn: it holds no secret, and may die of any file.

Started by `renderer.Renderer` with the numbers of two file descriptors: of a connection, and of a file in memory
that both sides share; ends when the connection is closed. With `PARTLY` before them, what is cut off or damaged is
drawn as far as it goes: to show what was rejected, never for an output that is kept.
"""

from __future__ import annotations

import os
import pickle
import signal
import sys
import traceback
from collections.abc import Callable
from functools import lru_cache
from multiprocessing.connection import Connection

from PIL import ImageFile

from lookbook.tasks.images.allocation import give_back_beyond
from lookbook.tasks.images.recipe import Recipe
from lookbook.tasks.images.render import Rejected, render

READY = "ready"
PARTLY = "--partly"
#: Bytes that the shared file keeps between images.
MOST_KEPT = 32 * 2**20
#: Bytes that this process holds between images.
MOST_RESIDENT = 512 * 2**20
#: The exit code of a process that ran out of memory.
OUT_OF_MEMORY = 75


def main(
    connection_descriptor: int,
    shared_descriptor: int,
    answering: Callable[[bytes, str, tuple[str, ...]], object] | None = None,
) -> None:
    """Answer requests until the other side closes the connection.

    A request is a text (the recipe), the names of outputs and the number of bytes that stand in the shared file; an
    answer is the number of bytes there, a pickle of what `answer`, or
    `answering` in its place, gives for the bytes, the text and the names.
    """
    for name in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(name, signal.SIG_IGN)  # who asks decides when to stop: a service's stop is sent to all
    signal.signal(signal.SIGALRM, signal.SIG_DFL)  # one that is ignored or blocked is so in children, too
    signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGALRM})
    silent = os.open(os.devnull, os.O_WRONLY)
    os.dup2(silent, sys.stderr.fileno())  # what decoders print of damaged files belongs to no run's log
    with Connection(connection_descriptor) as connection:
        connection.send(READY)
        while True:
            try:
                recipe, outputs, length = connection.recv()
            except EOFError:
                return
            reply = (answering or answer)(read_shared(shared_descriptor, length), recipe, outputs)
            connection.send(write_shared(shared_descriptor, pickle.dumps(reply, pickle.HIGHEST_PROTOCOL)))
            del reply
            give_back_beyond(MOST_RESIDENT)


def write_shared(descriptor: int, data: bytes) -> int:
    """Write `data` to the start of a file in memory, which costs far less than a pipe; their number."""
    if os.fstat(descriptor).st_size > MOST_KEPT:
        os.ftruncate(descriptor, 0)  # one huge image must not hold its memory for all that follow
    written = 0
    while written < len(data):
        written += os.pwrite(descriptor, memoryview(data)[written:], written)
    return written


def read_shared(descriptor: int, length: int) -> bytes:
    """Return the first `length` bytes of a file in memory: a single call gives no more than two gigabytes."""
    data = os.pread(descriptor, length, 0)
    while len(data) < length:
        data += os.pread(descriptor, length - len(data), len(data))
    return data


def answer(data: bytes, recipe: str, outputs: tuple[str, ...]) -> object:
    """Return what `render` gives or raises."""
    taken = _recipe(recipe)
    return guarded(lambda: render(data, taken, outputs), taken.max_seconds)


def guarded(draw: Callable[[], object], seconds: float) -> object:
    """Return what `draw` gives or raises. Beyond the time limit this process ends by SIGALRM.

    The signal's default action also ends a decoder that hangs in C code and never returns to Python.
    """
    signal.setitimer(signal.ITIMER_REAL, seconds)
    try:
        return draw()
    except Rejected as reject:
        return Rejected(reject.rule, reject.message)  # without its cause, which need not travel
    except MemoryError:
        os._exit(OUT_OF_MEMORY)  # a new process has all that there is
    except Exception:  # noqa: BLE001 - a fault of ours: raised where it was asked for
        return RuntimeError(f"Drawing failed:\n{traceback.format_exc()}")
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)


@lru_cache(maxsize=4)
def _recipe(text: str) -> Recipe:
    return Recipe.model_validate_json(text)


if __name__ == "__main__":
    ImageFile.LOAD_TRUNCATED_IMAGES = PARTLY in sys.argv
    main(int(sys.argv[-2]), int(sys.argv[-1]))
