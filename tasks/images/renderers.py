"""Drawing in disposable processes: a file that kills its decoder, or makes it hang, costs that file alone."""

from __future__ import annotations

import atexit
import os
import pickle
import signal
import subprocess
import sys
import tempfile
import threading
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from functools import cache
from multiprocessing.connection import Pipe
from typing import IO

from blocks.errors import LookbookError
from tasks.images.pacing import Lookahead
from tasks.images.recipe import Recipe
from tasks.images.render import Rejected, Rendered
from tasks.images.render_process import OUT_OF_MEMORY, write_shared

#: What starts a process; the numbers of its two file descriptors come last.
COMMAND = ("-P", "-m", "tasks.images.render_process")
#: An image is tried again, in a new process, when the first one died: it may have been an innocent victim.
ATTEMPTS = 2
#: Images under way for each process, at most: on a store that takes 50 ms for each of an image's five requests, so
#: many keep it busy.
THREADS_A_RENDERER = 24

# No secret of this process goes along. What each image allocates is kept for the next one: giving it back to
# the system and getting it anew costs a tenth of a small image's time. Matrices are too small for threads.
_KEPT = ("PATH", "LANG", "LC_ALL", "TMPDIR", "LD_LIBRARY_PATH", "DYLD_LIBRARY_PATH", "SYSTEMROOT")
_TUNING = {
    "MALLOC_MMAP_THRESHOLD_": str(64 * 2**20),
    "MALLOC_TRIM_THRESHOLD_": str(128 * 2**20),
    "PILLOW_BLOCKS_MAX": "8",
    "OPENBLAS_NUM_THREADS": "1",
    "OMP_NUM_THREADS": "1",
}
_SECONDS_TO_END = 5.0


class RendererDiedError(Exception):
    """The process died of what it was asked to draw.

    Args:
        code: as `subprocess.Popen.returncode` gives it: the negative of the signal's number.
    """

    def __init__(self, code: int) -> None:
        super().__init__(code)
        self.code = code


class Renderer:
    """One process that draws one image at a time."""

    def __init__(self) -> None:
        self._connection, theirs = Pipe()
        self._shared = _file_in_memory()
        with tempfile.TemporaryFile() as said, theirs:
            descriptors = (theirs.fileno(), self._shared.fileno())
            self._process = subprocess.Popen(  # noqa: S603 - our own interpreter and module
                [sys.executable, *COMMAND, *map(str, descriptors)],
                env=_environment(),
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=said,
                pass_fds=descriptors,
                process_group=0,  # Ctrl-C is for who asks
            )
            theirs.close()
            self._await_start(said)

    def _await_start(self, said: IO[bytes]) -> None:
        try:
            self._connection.recv()
        except (EOFError, OSError) as error:
            code = self.close()
            said.seek(0)
            text = said.read().decode(errors="replace").strip()[-500:]
            raise LookbookError(f"The process that draws images ended as it started: {text or code}.") from error

    def render(self, data: bytes, recipe: str, outputs: Collection[str]) -> Rendered | BaseException:
        """What `render_process.answer` gives.

        Raises:
            RendererDiedError: the process died.
        """
        shared = self._shared.fileno()
        length = write_shared(shared, data)
        try:
            self._connection.send((recipe, tuple(outputs), length))
            length = self._connection.recv()
        except (EOFError, OSError) as error:
            raise RendererDiedError(self.close()) from error
        answer: Rendered | BaseException = pickle.loads(os.pread(shared, length, 0))  # noqa: S301 - our own process
        return answer

    def close(self) -> int:
        """End the process and wait for it; its return code."""
        self._connection.close()
        self._shared.close()
        try:
            return self._process.wait(_SECONDS_TO_END)
        except subprocess.TimeoutExpired:
            self._process.kill()
            return self._process.wait()


class Renderers:
    """A few processes that draw at the same time, whoever asks; started when they are first needed."""

    def __init__(self, most: int) -> None:
        self.ahead = Lookahead(2 * most + 1, THREADS_A_RENDERER * most)
        self._most = most
        self._waiting = 0
        self._places = threading.BoundedSemaphore(most)
        self._idle: list[Renderer] = []

    def render(self, data: bytes, recipe: Recipe, outputs: Collection[str]) -> Rendered:
        """As `render.render`, in another process. Many threads may call this; they wait for a free one.

        Raises:
            Rejected: the image breaks a rule; ``timeout`` or ``decode_error`` when it brings down `ATTEMPTS`
                processes.
        """
        text = recipe.model_dump_json()
        with self._place():
            for _ in range(ATTEMPTS):
                try:
                    answer = self._ask(data, text, outputs)
                except RendererDiedError as death:
                    code = death.code
                    continue
                if isinstance(answer, BaseException):
                    raise answer
                return answer
        raise _culprit(code, recipe)

    @contextmanager
    def _place(self) -> Iterator[None]:
        """One of the places to draw at; who waits here, or does not, tells how far ahead reading should be."""
        if self._places.acquire(blocking=False):
            self.ahead.starved()
        else:
            self._waiting += 1
            if self._waiting > self._most:
                self.ahead.crowded()
            self._places.acquire()
            self._waiting -= 1
        try:
            yield
        finally:
            self._places.release()

    def _ask(self, data: bytes, recipe: str, outputs: Collection[str]) -> Rendered | BaseException:
        try:
            renderer = self._idle.pop()
        except IndexError:
            renderer = Renderer()
        try:
            answer = renderer.render(data, recipe, outputs)
        except BaseException:
            renderer.close()  # an answer may still be under way
            raise
        self._idle.append(renderer)
        return answer

    def close(self) -> None:
        """End the processes that are idle."""
        while self._idle:
            self._idle.pop().close()


@cache
def shared(most: int) -> Renderers:
    """The processes that all batches of this process share."""
    renderers = Renderers(most)
    atexit.register(renderers.close)
    return renderers


def _culprit(code: int, recipe: Recipe) -> Rejected:
    if code == -signal.SIGALRM:
        return Rejected("timeout", f"Not drawn within {recipe.max_seconds:g} s, the recipe's max_seconds.")
    if code == OUT_OF_MEMORY:
        return Rejected("decode_error", "Drawing it takes more memory than there is.")
    how = (signal.strsignal(-code) or f"signal {-code}") if code < 0 else f"exit code {code}"
    return Rejected("decode_error", f"The process that drew it died, each of {ATTEMPTS} times: {how}.")


def _file_in_memory() -> IO[bytes]:
    create = getattr(os, "memfd_create", None)  # Linux
    if create:
        return os.fdopen(create("lookbook-image"), "w+b", buffering=0)
    return tempfile.TemporaryFile(buffering=0)  # which the system keeps in memory while it is short-lived


def _environment() -> dict[str, str]:
    paths = os.pathsep.join(os.path.abspath(path) for path in sys.path if path)  # noqa: PTH100 - strings all through
    return {name: os.environ[name] for name in _KEPT if name in os.environ} | _TUNING | {"PYTHONPATH": paths}
