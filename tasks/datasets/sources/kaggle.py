"""Datasets of Kaggle as sources, ``kaggle://owner/dataset[@version][/file]``: downloaded, checked, there or not."""

from __future__ import annotations

import base64
import hashlib
import lzma
import re
import shutil
import threading
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from functools import cached_property
from importlib.util import find_spec
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import quote, unquote

import fasteners

from lookbook.blocks.downloading import Note, Opened, PartialFile, RemoteFile, Retries, disk_faults
from lookbook.blocks.errors import INSTALL, LookbookError, MissingError, UsageError
from lookbook.tasks.datasets.sources.base import Source, SourceFile
from lookbook.tasks.datasets.sources.local import RESERVE_BYTES
from lookbook.tasks.datasets.sources.nested import open_path
from lookbook.tasks.runs import progress

if TYPE_CHECKING:
    from lookbook.blocks.kaggle import KaggleCredentials
    from lookbook.blocks.kaggle_api import KaggleDatasets

TAKES = "It takes kaggle://owner/dataset, with @version and /file where they are wanted: kaggle://ann/shoes@3/a.zip"
#: Names of files that an error tells.
NAMED = 10
#: Bytes of a member that are read at a time.
MEMBER_BYTES = 2**20
#: In the folder of a download: held by who downloads, and never removed, for others may wait at it.
LOCK = "lock"

_downloading = threading.Lock()
_ADDRESS = re.compile(
    r"kaggle://(?P<owner>[\w-]+)/(?P<name>[\w-]+)(@(?P<version>[1-9]\d{0,8}))?(/(?P<file>.+))?/?",
    re.ASCII | re.IGNORECASE,
)


@dataclass(frozen=True)
class KaggleAddress:
    """What ``kaggle://`` names. Version 0: whichever is the newest; file "": the whole dataset."""

    owner: str
    name: str
    version: int = 0
    file: str = ""

    def __str__(self) -> str:
        version = f"@{self.version}" if self.version else ""
        return f"kaggle://{self.owner}/{self.name}{version}" + (f"/{quote(self.file)}" if self.file else "")


def parse_address(uri: str) -> KaggleAddress:
    """Return what a ``kaggle://`` address names.

    Raises:
        UsageError: it is none.
    """
    found = _ADDRESS.fullmatch(uri)
    file = unquote(found["file"] or "").rstrip("/") if found else ""
    if found is None or {"", ".", ".."} & set(file.split("/") if file else ()):
        raise UsageError(f"SOURCE {uri}: no dataset of Kaggle.", TAKES)
    return KaggleAddress(found["owner"], found["name"], int(found["version"] or 0), file)


def _folder(scratch: Path, address: KaggleAddress) -> Path:
    """Each file of each version has a folder of its own: another version is another download."""
    kind = f"file-{hashlib.sha256(address.file.encode()).hexdigest()[:16]}" if address.file else "whole"
    return scratch / "kaggle" / address.owner.lower() / address.name.lower() / str(address.version) / kind


def drop(source: str, scratch: Path) -> None:
    """Remove what was downloaded for a source whose version is known, unless another run is downloading it.

    Other sources have nothing to remove.
    """
    if source.startswith("kaggle://"):
        _remove(_folder(scratch, parse_address(source)))


class KaggleSource:
    """A dataset of Kaggle, or one file of it. It is downloaded when it is first listed, once for each version.

    The archive is read where it lies. `uri` names the version once that is known.

    Args:
        uri: its address.
        scratch: the workspace's folder for downloads.
        credentials: None: what the machine is logged in with.
        retries: for servers and connections that fail.
    """

    def __init__(
        self, uri: str, scratch: Path, credentials: KaggleCredentials | None = None, retries: Retries | None = None
    ) -> None:
        self.address = parse_address(uri)
        self._scratch = scratch.absolute()
        self._credentials = credentials
        self._retries = retries or Retries()
        if find_spec("kagglesdk") is None:
            raise LookbookError(f"SOURCE {uri} needs the extra kaggle, which is not installed.", INSTALL)

    @property
    def uri(self) -> str:
        """The address, with the version once it is known."""
        return str(self.address)

    def files(self) -> Iterator[SourceFile]:
        """See `Source.files`.

        Raises:
            LookbookError: Kaggle refuses it, there is no space, or what came is damaged; the message says which.
            OutOfReachError: Kaggle, or the way to it, failed too often in a row.
        """
        yield from self._downloaded().files()

    def pin(self) -> KaggleAddress:
        """Return the address with its version; asks Kaggle for the newest, where none is named.

        Raises:
            LookbookError: as `files`.
        """
        if not self.address.version:
            version = self._retries.run(lambda: self._kaggle.current_version(self.address.owner, self.address.name))
            self.address = replace(self.address, version=version)
        return self.address

    def is_downloaded(self) -> bool:
        """Return whether its files are here already; asks Kaggle for the newest version, where none is named.

        Raises:
            LookbookError: as `files`.
        """
        folder, path = self._place()
        note = _part(folder, self.uri, self._opened, self._retries).note()
        return note is not None and path.exists() and path.stat().st_size == note.size

    def _place(self) -> tuple[Path, Path]:
        """Return the folder of the download, and where the file lies in it once it is here."""
        address = self.pin()
        folder = _folder(self._scratch, address)
        return folder, folder / "content" / (address.file.rpartition("/")[2] or f"{address.name}.zip")

    def _downloaded(self) -> Source:
        (folder, path), address = self._place(), self.address
        try:
            _download(folder, path, self.uri, self._opened, self._retries)
        except MissingError as error:
            raise self._with_names(error) from error
        try:
            return open_path(self.uri, path, folder)
        except UsageError:
            if not address.file:
                raise
            return open_path(self.uri, path.parent, folder)  # one file, and no archive

    @contextmanager
    def _opened(self, start: int, validator: str) -> Iterator[RemoteFile]:
        address = self.address
        where = (address.owner, address.name, address.version, address.file)
        with self._kaggle.opened(*where, start, validator) as remote:
            needed, folder = (remote.size or 0) - remote.start, _folder(self._scratch, address)
            free = shutil.disk_usage(folder).free
            if free < needed + RESERVE_BYTES:
                raise LookbookError(
                    f"{self.uri}: {needed} bytes are to be downloaded, and {folder} has space for "
                    f"{max(0, free - RESERVE_BYTES)}.",
                    "Free some, or point LOOKBOOK_HOME to another disk.",
                )
            yield remote

    def _with_names(self, error: MissingError) -> LookbookError:
        """Return the error about a file that is not there, which names those that are."""
        if not self.address.file:
            return error
        where = (self.address.owner, self.address.name, self.address.version)
        names = self._retries.run(lambda: list(islice(self._kaggle.file_names(*where), NAMED + 1)))
        more = ", …" if len(names) > NAMED else ""
        return LookbookError(error.problem, f"It has these files: {', '.join(names[:NAMED])}{more}")

    @cached_property
    def _kaggle(self) -> KaggleDatasets:
        from lookbook.blocks.kaggle import KaggleCredentials  # noqa: PLC0415 - imports Prefect, whose settings come first

        return (self._credentials or KaggleCredentials()).datasets()


def _part(folder: Path, what: str, opened: Opened, retries: Retries) -> PartialFile:
    return PartialFile(folder / "download.part", what, opened, retries, progress.download)


def _download(folder: Path, path: Path, what: str, opened: Opened, retries: Retries) -> None:
    """Download a file to a path in its folder unless it is there. Processes that want the same one take turns.

    Raises:
        LookbookError: no space, wrong bytes, or what the server refuses.
        OutOfReachError: the server, or the way to it, failed too often in a row.
    """
    part = _part(folder, what, opened, retries)
    with disk_faults(folder, what, "; what is downloaded already is kept"):
        path.parent.mkdir(parents=True, exist_ok=True)
        # The lock file keeps processes apart, and only those: POSIX grants it to each thread of one.
        with _downloading, fasteners.InterProcessLock(folder / LOCK):
            note = part.note()
            if note and path.exists() and path.stat().st_size == note.size:
                return
            fault = _fault(part.path, part.complete())
            if fault:
                part.remove()
                raise LookbookError(
                    f"{what}: what was downloaded is damaged: {fault}.",
                    "It was removed: run again to fetch it anew.",
                )
            part.path.replace(path)


def _remove(folder: Path) -> None:
    """Remove what a download left in its folder, and what was unpacked beside it; the lock file stays.

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
    """Compare with what the server said; without a checksum, read every member of an archive once."""
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
