"""Drawing in disposable processes: a file that kills its decoder, or makes it hang, costs one image."""

from __future__ import annotations

import atexit
import fcntl
import os
import pickle
import signal
import subprocess
import sys
import tempfile
import threading
from collections.abc import Collection, Iterator, Sequence
from contextlib import contextmanager, suppress
from multiprocessing.connection import Pipe
from typing import IO, Protocol

from lookbook.blocks.errors import LookbookError
from lookbook.tasks.images.pacing import Lookahead
from lookbook.tasks.images.render import Rejected, Rendered
from lookbook.tasks.images.render_process import OUT_OF_MEMORY, read_shared, write_shared

#: What starts a process that draws the outputs of a recipe; the numbers of its two file descriptors come last.
COMMAND = ("-P", "-m", "lookbook.tasks.images.render_process")

# No secret of this process goes along. What each image allocates is kept for the next one: giving it back to
# the system and getting it anew costs a tenth of a small image's time. Matrices are too small for threads.
_KEPT = ("PATH", "LANG", "LC_ALL", "TMPDIR", "LD_LIBRARY_PATH", "DYLD_LIBRARY_PATH", "SYSTEMROOT")
_TUNING = {
    "MALLOC_MMAP_THRESHOLD_": str(32 * 2**20),
    "MALLOC_TRIM_THRESHOLD_": str(128 * 2**20),
    "PILLOW_BLOCKS_MAX": "8",
    "OPENBLAS_NUM_THREADS": "1",
    "OMP_NUM_THREADS": "1",
}
_SECONDS_TO_END = 5.0
_STANDARD_STREAMS = 3


class RendererDiedError(Exception):
    """The process died of what it was asked to draw.

    Args:
        code: as `subprocess.Popen.returncode` gives it: the negative of the signal's number.
    """

    def __init__(self, code: int) -> None:
        super().__init__(code)
        self.code = code


class Renderer:
    """One process that draws one image at a time.

    Args:
        command: in place of `COMMAND`, for a process that draws something else.
    """

    def __init__(self, command: Sequence[str] | None = None) -> None:
        self._connection, theirs = Pipe()
        self._shared = _file_in_memory()
        with tempfile.TemporaryFile() as said:
            with theirs, _high(theirs.fileno(), self._shared.fileno()) as descriptors:
                self._process = subprocess.Popen(  # noqa: S603 - our own interpreter and module
                    [sys.executable, *(command or COMMAND), *map(str, descriptors)],
                    env=_environment(),
                    stdin=subprocess.DEVNULL,
                    stdout=subprocess.DEVNULL,
                    stderr=said,
                    pass_fds=descriptors,
                    process_group=0,  # Ctrl-C is for who asks
                )
            self._await_start(said)

    def _await_start(self, said: IO[bytes]) -> None:
        try:
            self._connection.recv()
        except (EOFError, OSError) as error:
            code = self.close()
            said.seek(0)
            text = said.read().decode(errors="replace").strip()[-500:]
            raise LookbookError(f"The process that draws images ended as it started: {text or code}.") from error

    def render(self, data: bytes, recipe: str, outputs: Collection[str], seconds: float) -> Rendered | BaseException:
        """Return what `render_process.answer` gives.

        Raises:
            RendererDiedError: the process died; or gave no answer within `seconds`, and was ended.
        """
        shared = self._shared.fileno()
        length = write_shared(shared, data)
        try:
            self._connection.send((recipe, tuple(outputs), length))
            if not self._connection.poll(seconds):
                self._process.kill()
                self.close()
                raise RendererDiedError(-signal.SIGALRM)
            length = self._connection.recv()
        except (EOFError, OSError) as error:
            raise RendererDiedError(self.close()) from error
        answer: Rendered | BaseException = pickle.loads(read_shared(shared, length))  # noqa: S301 - our own process
        return answer

    def is_alive(self) -> bool:
        """Return whether the process still runs."""
        return self._process.poll() is None

    def close(self) -> int:
        """End the process and wait for it; its return code."""
        self._connection.close()
        self._shared.close()
        try:
            return self._process.wait(_SECONDS_TO_END)
        except subprocess.TimeoutExpired:
            self._process.kill()
            return self._process.wait()


@contextmanager
def _high(*descriptors: int) -> Iterator[list[int]]:
    """Yield the same beyond those of the standard streams, which are free where this process was started without."""
    copies = [fcntl.fcntl(descriptor, fcntl.F_DUPFD_CLOEXEC, _STANDARD_STREAMS) for descriptor in descriptors]
    try:
        yield copies
    finally:
        for copy in copies:
            os.close(copy)


def _file_in_memory() -> IO[bytes]:
    create = getattr(os, "memfd_create", None)  # Linux
    if create:
        return os.fdopen(create("lookbook-image"), "w+b", buffering=0)
    return tempfile.TemporaryFile(buffering=0)  # which the system keeps in memory while it is short-lived


def _environment() -> dict[str, str]:
    paths = os.pathsep.join(os.path.abspath(path) for path in sys.path if path)  # noqa: PTH100 - strings all through
    return {name: os.environ[name] for name in _KEPT if name in os.environ} | _TUNING | {"PYTHONPATH": paths}


#: An image is tried again, in a new process, when the first one died: it may have been an innocent victim.
ATTEMPTS = 2
#: Images under way for each process, at most: on a store that takes 50 ms for each of an image's five requests, so
#: many keep it busy.
THREADS_A_RENDERER = 24
#: And in all: containers limit threads.
MOST_THREADS = 256
#: Beyond the recipe's time limit, which the process keeps itself: for one that stands still (SIGSTOP, a frozen disk).
SECONDS_TO_ANSWER = 30.0


class RenderRequest(Protocol):
    """What is to be drawn, as the process is told it: a recipe, or what another module takes."""

    @property
    def max_seconds(self) -> float:
        """For how long one image may be drawn."""
        ...

    def model_dump_json(self) -> str:
        """Return it as text."""
        ...


class Renderers:
    """A few processes that draw at the same time, whoever asks; started when they are first needed."""

    def __init__(self, most: int, command: tuple[str, ...] | None = None) -> None:
        self._command = command
        self.ahead = Lookahead(2 * most + 1, max(2 * most + 1, min(THREADS_A_RENDERER * most, MOST_THREADS)))
        self._most = most
        self._waiting = 0
        self._places = threading.BoundedSemaphore(most)
        self._idle: list[Renderer] = []

    def render(self, data: bytes, recipe: RenderRequest, outputs: Collection[str]) -> Rendered:
        """Render as `render.render` does, in another process. Many threads may call this; they wait for a free one.

        Raises:
            Rejected: the image breaks a rule; ``timeout`` or ``decode_error`` when it brings down `ATTEMPTS`
                processes.
        """
        text, seconds = recipe.model_dump_json(), recipe.max_seconds + SECONDS_TO_ANSWER
        with self._place():
            for attempt in range(ATTEMPTS):
                try:
                    answer = self._ask(data, text, outputs, seconds, fresh=attempt > 0)
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
            if self._waiting > 2 * self._most:
                self.ahead.crowded()
            self._places.acquire()
            self._waiting -= 1
        try:
            yield
        finally:
            self._places.release()

    def _ask(
        self, data: bytes, recipe: str, outputs: Collection[str], seconds: float, *, fresh: bool
    ) -> Rendered | BaseException:
        renderer = Renderer(self._command) if fresh else self._idle_or_new()
        try:
            answer = renderer.render(data, recipe, outputs, seconds)
        except BaseException:
            renderer.close()  # an answer may still be under way
            raise
        self._idle.append(renderer)
        return answer

    def _idle_or_new(self) -> Renderer:
        """Return one that lives: those that died while they were idle, died of no image."""
        with suppress(IndexError):  # other threads take from the same list
            while not (renderer := self._idle.pop()).is_alive():
                renderer.close()
            return renderer
        return Renderer(self._command)

    def close(self) -> None:
        """End the processes that are idle."""
        while self._idle:
            self._idle.pop().close()


def shared(most: int, command: tuple[str, ...] | None = None) -> Renderers:
    """Return the processes that all batches, or all exports, of this process share: those started by `command`."""
    with _making:  # two batches may begin at once
        if (most, command) not in _shared:
            _shared[most, command] = Renderers(most, command)
            atexit.register(_shared[most, command].close)
        return _shared[most, command]


def _forget() -> None:
    """After a fork: the processes draw for the one that started them; two that ask mix up their pictures."""
    global _making  # noqa: PLW0603 - a thread that is not here may hold it
    _making = threading.Lock()
    _shared.clear()


_shared: dict[tuple[int, tuple[str, ...] | None], Renderers] = {}
_making = threading.Lock()
os.register_at_fork(after_in_child=_forget)


def _culprit(code: int, recipe: RenderRequest) -> Rejected:
    if code == -signal.SIGALRM:
        return Rejected("timeout", f"Not drawn within {recipe.max_seconds:g} s, the recipe's max_seconds.")
    if code == OUT_OF_MEMORY:
        return Rejected("decode_error", "Drawing it takes more memory than there is.")
    how = (signal.strsignal(-code) or f"signal {-code}") if code < 0 else f"exit code {code}"
    return Rejected("decode_error", f"The process that drew it died, each of {ATTEMPTS} times: {how}.")
