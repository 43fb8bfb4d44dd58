"""One disposable process that draws images: what it is started with, and how it is asked."""

from __future__ import annotations

import fcntl
import os
import pickle
import signal
import subprocess
import sys
import tempfile
from collections.abc import Collection, Iterator, Sequence
from contextlib import contextmanager
from multiprocessing.connection import Pipe
from typing import IO

from lookbook.blocks.errors import LookbookError
from lookbook.tasks.images.render import Rendered
from lookbook.tasks.images.render_process import read_shared, write_shared

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
