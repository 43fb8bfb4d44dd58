"""Downloading a file to a folder of its own: resumed where it broke off, checked, and there whole or not at all."""

from __future__ import annotations

import base64
import errno
import hashlib
import lzma
import os
import shutil
import threading
import time
import zipfile
import zlib
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import fasteners
from pydantic import BaseModel, ValidationError

from lookbook.blocks.errors import LookbookError, OutOfReachError, TransientError
from lookbook.tasks.datasets.sources.local import RESERVE_BYTES
from lookbook.tasks.runs import progress

if TYPE_CHECKING:
    from lookbook.blocks.kaggle_api import RemoteFile

_downloading = threading.Lock()
#: Opens the remote file at a byte, if it is still the one with this validator.
Opened = Callable[[int, str], AbstractContextManager["RemoteFile"]]

#: Bytes of a member that are read at a time.
MEMBER_BYTES = 2**20
#: In the folder of a download: held by who downloads, and never removed, for others may wait at it.
LOCK = "lock"

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

    def wait(self, fault: TransientError, faults: int) -> None:
        """Wait after the fault number `faults` in a row.

        Raises:
            OutOfReachError: that was one too many, or the server asks for too long a wait.
        """
        if fault.wait is not None and fault.wait > self.longest:
            raise OutOfReachError(f"{fault} and asks to wait {fault.wait:.0f} seconds.", LATER)
        if faults >= self.tries:
            raise OutOfReachError(f"{fault}; {faults} tries failed.", LATER)
        self.sleep(min(self.longest, self.first * 2 ** (faults - 1)) if fault.wait is None else fault.wait)


class Note(BaseModel):
    """What is known of a file that is being downloaded, or was: written beside it before its first byte."""

    validator: str
    size: int
    md5: str


class Download:
    """One file of a server, in the folder `folder`: ``note.json``, ``download.part``, at last ``content/<name>``."""

    def __init__(self, folder: Path, name: str, what: str, opened: Opened, retries: Retries) -> None:
        self.folder = folder
        self.path = folder / "content" / name
        self._what = what
        self._part = folder / "download.part"
        self._note = folder / "note.json"
        self._opened = opened
        self._patience = retries

    def fetch(self) -> Path:
        """Return where the file lies, downloaded unless it was. Processes that want the same one take turns.

        Raises:
            LookbookError: no space, wrong bytes, or what the server refuses.
            OutOfReachError: the server, or the way to it, failed too often in a row.
        """
        with _disk_faults(self.folder):
            self.path.parent.mkdir(parents=True, exist_ok=True)
            # The lock file keeps processes apart, and only those: POSIX grants it to each thread of one.
            with _downloading, fasteners.InterProcessLock(self.folder / LOCK):
                note = self._read_note()
                if note and self.path.exists() and self.path.stat().st_size == note.size:
                    return self.path
                note = self._complete(note)
                self._check(note)
                self._part.replace(self.path)
        return self.path

    def _read_note(self) -> Note | None:
        try:
            return Note.model_validate_json(self._note.read_bytes())
        except (OSError, ValidationError):
            return None

    def _complete(self, note: Note | None) -> Note:
        """Bring the part to its full size, however often the connection breaks."""
        faults = 0
        while note is None or self._here() != note.size:
            before = self._here()
            try:
                note = self._go_on(note)
            except TransientError as fault:
                note = self._read_note()
                faults = 1 if self._here() > before else faults + 1
                self._patience.wait(fault, faults)
        return note

    def _go_on(self, note: Note | None) -> Note:
        """Append what the server sends from where the part ends; start anew where it has other bytes by now."""
        here = self._here() if note else 0
        with self._opened(here, note.validator if note else "") as remote:
            note = Note(validator=remote.validator, size=remote.size, md5=remote.md5)
            if remote.start == 0:
                self._part.unlink(missing_ok=True)
                self._note.write_text(note.model_dump_json(), encoding="utf-8")
            self._check_space(remote.size - remote.start)
            with self._part.open("ab") as part:
                done = remote.start
                progress.download(done, remote.size)
                for chunk in remote.chunks:
                    part.write(chunk)
                    done += len(chunk)
                    progress.download(done, remote.size)
                part.flush()
                os.fsync(part.fileno())
        return note

    def _here(self) -> int:
        return self._part.stat().st_size if self._part.exists() else 0

    def _check_space(self, needed: int) -> None:
        free = shutil.disk_usage(self.folder).free
        if free < needed + RESERVE_BYTES:
            raise LookbookError(
                f"{self._what}: {needed} bytes are to be downloaded, and {self.folder} has space for "
                f"{max(0, free - RESERVE_BYTES)}.",
                "Free some, or point LOOKBOOK_HOME to another disk.",
            )

    def _check(self, note: Note) -> None:
        """Compare with what the server said; without a checksum, read every member of an archive once."""
        fault = _fault(self._part, note)
        if fault:
            self._part.unlink()
            self._note.unlink()
            raise LookbookError(
                f"{self._what}: what was downloaded is damaged: {fault}.", "It was removed: run again to fetch it anew."
            )


def remove(folder: Path) -> None:
    """Remove what a `Download` left in its folder, and what was unpacked beside it; the lock file stays.

    While another run downloads to it all of it stays: that run wants it.
    """
    lock = fasteners.InterProcessLock(folder / LOCK)
    if not folder.is_dir() or not _downloading.acquire(blocking=False):
        return
    try:
        with suppress(OSError):
            if lock.acquire(blocking=False):
                _clear(folder)
    finally:
        if lock.acquired:
            lock.release()
        _downloading.release()


def _clear(folder: Path) -> None:
    for path in folder.iterdir():
        if path.is_dir():
            shutil.rmtree(path, ignore_errors=True)
        elif path.name != LOCK:
            path.unlink(missing_ok=True)


def _fault(path: Path, note: Note) -> str:
    if path.stat().st_size != note.size:
        return f"{path.stat().st_size} bytes where {note.size} were announced"
    if note.md5:
        with path.open("rb") as file:
            md5 = base64.b64encode(hashlib.file_digest(file, "md5").digest()).decode()
        return "" if md5 == note.md5 else f"its MD5 is {md5}, and the server says {note.md5}"
    return _damage_of_zip(path)


def _damage_of_zip(path: Path) -> str:
    """Name the first member that cannot be read to its end; "" for what is no zip: a tar says where it is cut off.

    Members that are encrypted or packed in a way unknown here are passed over: they are rejected by name when read.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            for member in archive.infolist():
                if fault := _damage_of_member(archive, member):
                    return fault
    except (zipfile.BadZipFile, ValueError, EOFError, NotImplementedError):
        pass  # its list cannot be read: who lists it says so
    return ""


def _damage_of_member(archive: zipfile.ZipFile, member: zipfile.ZipInfo) -> str:
    try:
        with archive.open(member) as file:
            while file.read(MEMBER_BYTES):
                pass
    except RuntimeError:  # NotImplementedError is one
        return ""
    except zipfile.BadZipFile:
        return f"its member {member.filename} has another checksum or name than its directory says"
    except (zlib.error, lzma.LZMAError, EOFError, ValueError) as error:
        return f"its member {member.filename} cannot be unpacked: {error or type(error).__name__}"
    except OSError as error:
        if error.errno is not None:
            raise  # the disk's; bz2 calls damaged data an OSError, one without a number
        return f"its member {member.filename} cannot be unpacked: {error}"
    return ""


@contextmanager
def _disk_faults(folder: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise LookbookError(
                f"No space left in {folder}.",
                "Free some, or point LOOKBOOK_HOME to another disk; what is downloaded already is kept.",
            ) from error
        raise LookbookError(
            f"{folder} cannot be written: {error.strerror or error}.",
            "Point LOOKBOOK_HOME to a folder that you may write to.",
        ) from error
