"""Downloading one remote file into one local one: resumed where it broke off, retried, whichever client brings it."""

from __future__ import annotations

import os
import re
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from pathlib import Path
from typing import TypeVar

from pydantic import BaseModel, ValidationError

from lookbook.blocks.errors import LookbookError, OutOfReachError, TransientError, raise_if_full

Answer = TypeVar("Answer")

LATER = "Run it again later: what is downloaded already is kept, and it goes on from there."


@dataclass(frozen=True)
class Retries:
    """How often a fault is borne, and how long is waited after it.

    Attributes:
        tries: in a row without a byte gained; then it is given up.
        first: seconds after the first fault; twice as many after each further one.
        longest: seconds, at the most; a server that asks for more is not waited for.
        sleep: waits.
    """

    tries: int = 6
    first: float = 1.0
    longest: float = 120.0
    sleep: Callable[[float], object] = time.sleep

    def run(self, attempt: Callable[[], Answer], gained: Callable[[], int] = lambda: 0) -> Answer:
        """Return what `attempt` returns, after as many tries as it takes.

        Args:
            attempt: raises `TransientError` where another try is worth it.
            gained: bytes that are here: a try that brought more of them starts the count of faults anew.

        Raises:
            OutOfReachError: one fault too many, or the server asks for too long a wait.
        """
        faults = 0
        while True:
            before = gained()
            try:
                return attempt()
            except TransientError as fault:
                faults = 1 if gained() > before else faults + 1
                self._wait(fault, faults)

    def _wait(self, fault: TransientError, faults: int) -> None:
        if fault.wait is not None and fault.wait > self.longest:
            raise OutOfReachError(f"{fault} and asks to wait {fault.wait:.0f} seconds.", LATER)
        if faults >= self.tries:
            raise OutOfReachError(f"{fault}; {faults} tries failed.", LATER)
        self.sleep(min(self.longest, self.first * 2 ** (faults - 1)) if fault.wait is None else fault.wait)


PARTIAL, NOT_MODIFIED, BAD_RANGE = 206, 304, 416
#: Too many requests, a request that took too long, and server errors: worth another try.
PASSING = frozenset([408, 425, 429, 500, 502, 503, 504])
_RANGE = re.compile(r"bytes (\d+)-\d+/(\d+|\*)")


class WrongRangeError(TransientError):
    """A server sends other bytes than the rest that it was asked for: the next try takes the file from its start."""


@dataclass(frozen=True)
class RemoteFile:
    """A file as its server describes it, and its bytes from `start` on.

    Attributes:
        validator: by which a download can go on: other bytes have another one. "" where there is none.
        size: bytes of the whole file; None where the server does not say.
        start: where `chunks` begin: what was asked for, or 0 where the server has other bytes by now.
        chunks: the bytes; they, or the block that opened the file, raise `TransientError` where the connection breaks.
        md5: base64, or "" where the server names none.
    """

    validator: str
    size: int | None
    start: int
    chunks: Iterator[bytes]
    md5: str = ""


def describe(what: str, status: int, headers: Mapping[str, str], chunks: Iterator[bytes], start: int = 0) -> RemoteFile:
    """Return the file `what` that an answer of success brings, where the byte `start` was asked for.

    Raises:
        WrongRangeError: the answer begins with another byte.
    """
    length, etag = headers.get("Content-Length", ""), headers.get("ETag")
    size = int(length) if length.isdigit() else None
    # No download can go on by a weak one (RFC 9110, 13.1.5).
    validator = headers.get("Last-Modified", "") if etag is None else "" if etag.startswith("W/") else etag
    if status != PARTIAL:
        return RemoteFile(validator, size, 0, chunks)
    found = _RANGE.fullmatch(headers.get("Content-Range", "").strip())
    if found is None or int(found[1]) != start:
        raise WrongRangeError(f"{what} does not go on where it broke off")
    if found[2] != "*":
        size = int(found[2])
    elif size is not None:
        size += start
    return RemoteFile(validator, size, start, chunks)


def retry_after(headers: Mapping[str, str]) -> float | None:
    """Return seconds of a Retry-After header, which holds them or a date (RFC 9110, 10.2.3)."""
    said = headers.get("Retry-After", "")
    if said.isdigit():
        return float(said)
    try:
        return max(0.0, (parsedate_to_datetime(said) - datetime.now(UTC)).total_seconds())
    except (ValueError, TypeError):
        return None


#: Opens the remote file at a byte, if it is still the one with this validator; from its start with "".
Opened = Callable[[int, str], AbstractContextManager[RemoteFile]]


class Note(BaseModel):
    """What is known of a file that is being downloaded, or was: written beside it before its first byte."""

    validator: str
    size: int | None
    md5: str


class PartialFile:
    """What is here of a remote file, at `path`; ``note.json`` beside it says of which file, also to a later process.

    Args:
        path: in a folder of its own.
        what: the file's name for people.
        opened: opens the remote file; what it raises before a byte is read leaves the part as it is.
        retries: for servers and connections that fail.
        progress: told of bytes that are here, and of all; of files whose size is known.
    """

    def __init__(
        self, path: Path, what: str, opened: Opened, retries: Retries, progress: Callable[[int, int], object]
    ) -> None:
        self.path = path
        self._what = what
        self._note = path.with_name("note.json")
        self._opened = opened
        self._retries = retries
        self._progress = progress

    def note(self) -> Note | None:
        """Return what is known of the file, None before its first byte."""
        try:
            return Note.model_validate_json(self._note.read_bytes())
        except (OSError, ValidationError):
            return None

    def complete(self) -> Note:
        """Bring the part to its full size, however often the connection breaks.

        Raises:
            OutOfReachError: the server, or the way to it, failed too often in a row.
        """
        note = self.note()
        if note is not None and note.size == self._here():
            return note
        return self._retries.run(self._go_on, self._here)

    def remove(self) -> None:
        """Forget what is here."""
        self.path.unlink(missing_ok=True)
        self._note.unlink(missing_ok=True)

    def _here(self) -> int:
        return self.path.stat().st_size if self.path.exists() else 0

    def _go_on(self) -> Note:
        """Append what the server sends from where the part ends; start anew where it has other bytes by now."""
        note, here = self.note(), self._here()
        asked = (here, note.validator) if note and note.validator and here else (0, "")
        try:
            with self._opened(*asked) as remote:
                return self._append(remote)
        except WrongRangeError:
            self.remove()
            raise

    def _append(self, remote: RemoteFile) -> Note:
        note = Note(validator=remote.validator, size=remote.size, md5=remote.md5)
        if remote.start == 0:
            self.path.unlink(missing_ok=True)
            self._note.write_text(note.model_dump_json(), encoding="utf-8")
        with self.path.open("ab") as part:
            done = remote.start
            self._tell(done, remote.size)
            for chunk in remote.chunks:
                part.write(chunk)
                done += len(chunk)
                self._tell(done, remote.size)
            part.flush()
            os.fsync(part.fileno())
        if remote.size is not None and done < remote.size:
            raise TransientError(f"{self._what} ended after {done} of {remote.size} bytes")
        return note

    def _tell(self, done: int, size: int | None) -> None:
        if size is not None:
            self._progress(done, size)


@contextmanager
def disk_faults(folder: Path, what: str, kept: str = "") -> Iterator[None]:
    """Turn what the disk of a folder refuses while `what` is downloaded into words; `kept` ends the way out."""
    try:
        yield
    except OSError as error:
        way_out = f"Free some, or point LOOKBOOK_HOME to another disk{kept}."
        raise_if_full(error, f"No space left in {folder} for {what}.", way_out)
        raise LookbookError(
            f"{folder} cannot be written: {error.strerror or error}.",
            "Point LOOKBOOK_HOME to a folder that you may write to.",
        ) from error
