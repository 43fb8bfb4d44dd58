"""The process in which images are decoded and drawn: it holds no secret, and may die of any file.

Started by `renderers.Renderer` with the number of a connection's file descriptor; ends when that is closed.
"""

from __future__ import annotations

import os
import signal
import sys
import traceback
from functools import lru_cache
from multiprocessing.connection import Connection

from tasks.images.recipe import Recipe
from tasks.images.render import Rejected, Rendered, render

READY = "ready"
#: The exit code of a process that ran out of memory.
OUT_OF_MEMORY = 75


def main(descriptor: int) -> None:
    """Answer requests until the other side closes the connection."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # who asks decides when to stop
    silent = os.open(os.devnull, os.O_WRONLY)
    os.dup2(silent, sys.stderr.fileno())  # what decoders print of damaged files belongs to no run's log
    with Connection(descriptor) as connection:
        connection.send(READY)
        while True:
            try:
                recipe, outputs = connection.recv()
                data = connection.recv_bytes()
            except EOFError:
                return
            connection.send(answer(data, _recipe(recipe), outputs))


def answer(data: bytes, recipe: Recipe, outputs: tuple[str, ...]) -> Rendered | BaseException:
    """What `render` gives or raises. Beyond the recipe's time limit this process ends by SIGALRM.

    The signal's default action also ends a decoder that hangs in C code and never returns to Python.
    """
    signal.setitimer(signal.ITIMER_REAL, recipe.max_seconds)
    try:
        return render(data, recipe, outputs)
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
    main(int(sys.argv[1]))
