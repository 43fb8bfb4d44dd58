"""The lake: immutable objects under keys, and a few mutable ones that are swapped with a precondition."""

from __future__ import annotations

import errno
import hashlib
import os
import threading
import uuid
from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime
from itertools import islice
from pathlib import Path
from typing import ClassVar, TypeVar

import fasteners
from prefect.blocks.core import Block
from pydantic import BaseModel, Field, ValidationError

from lookbook.blocks.errors import (
    LookbookError,
    ObjectConflictError,
    ObjectNotFoundError,
    OutOfReachError,
    SwapConflictError,
    raise_if_full,
)

#: The object that names the lake: what a registry holds is kept apart by it.
IDENTITY = "lake.json"
#: Where a lake in a folder writes objects before they appear; what stays there was left by a killed process.
ASIDE = ".tmp"

Content = TypeVar("Content", bound=BaseModel)
_swapping = threading.Lock()
#: Lakes that this process knows the ids of, by their addresses.
_known: dict[str, tuple[Lake, str | None]] = {}


class Identity(BaseModel):
    """The content of `IDENTITY`. A registry's schema is named by the id: nothing but hexadecimal digits is let in."""

    id: str = Field(pattern=r"^[0-9a-f]{32}$")


@dataclass(frozen=True)
class ObjectInfo:
    """One object of the lake.

    Attributes:
        key: its key.
        size: bytes.
        modified: when it was written.
        version: another one after each write.
    """

    key: str
    size: int
    modified: datetime | None = field(default=None, compare=False)
    version: str = field(default="", compare=False)


class Lake(Block, ABC):
    """Where originals, outputs and snapshots lie. Keys are relative POSIX paths such as ``originals/ab/…``.

    Attributes:
        bills: whether its service bills requests and storage.
    """

    bills: ClassVar[bool] = False

    @abstractmethod
    def put(self, key: str, data: bytes) -> bool:
        """Store `data` under `key` unless an object is there; True when this call created it.

        Raises:
            ObjectConflictError: an object of another size stands under this key.
        """

    @abstractmethod
    def replace(self, key: str, data: bytes) -> None:
        """Store `data` under `key` whatever stands there: for repairs, and for a batch's own two files."""

    @abstractmethod
    def get(self, key: str) -> bytes:
        """Return the bytes under `key`.

        Raises:
            ObjectNotFoundError: no object stands there.
        """

    @abstractmethod
    def list(self, prefix: str, start: str = "") -> Iterator[ObjectInfo]:
        """Return every object of the folder `prefix` whose key is not before `start`, in no particular order."""

    @abstractmethod
    def folders(self, prefix: str) -> Sequence[str]:
        """Return the names of the folders right in the folder `prefix`, sorted: what is in them is not looked at."""

    @abstractmethod
    def remove(self, key: str) -> None:
        """Remove the object under `key`, if there is one."""

    @abstractmethod
    def settle(self) -> None:
        """Return once everything written so far would survive a power cut."""

    @abstractmethod
    def read_version(self, key: str) -> tuple[bytes, str] | None:
        """Return the bytes of a mutable object and the token of their version, or None where there is none."""

    def read_swapped(
        self, key: str, model: type[Content], named: str, way_out: str
    ) -> tuple[Content | None, str | None]:
        """Return the content of an object that is swapped, and its version for the next swap; None twice: none stands.

        Args:
            key: of the object.
            model: of its content, as JSON.
            named: what an error calls it before its address, such as ``shoes: its tags in``.
            way_out: what to do if it is damaged.

        Raises:
            LookbookError: it is damaged.
        """
        found = self.read_version(key)
        if found is None:
            return None, None
        try:
            return model.model_validate_json(found[0]), found[1]
        except ValidationError as error:
            told = f"{named} {self.uri(key)} cannot be read: {error.error_count()} faults."
            raise LookbookError(told, way_out) from error

    @abstractmethod
    def swap(self, key: str, data: bytes, expected: str | None) -> None:
        """Replace a mutable object, if its version is still `expected` (None: it must not exist).

        Raises:
            SwapConflictError: somebody else changed it in between.
        """

    @abstractmethod
    def uri(self, key: str) -> str:
        """Return the address under which other programs (DuckDB, a browser) read this object."""

    @abstractmethod
    def local_copy(self, key: str, folder: Path) -> Path:
        """Return a file with the object's bytes, for programs that read files only: not to be changed.

        Args:
            key: the object's.
            folder: where a copy is made, under the object's key, if the lake itself lies in no folder.

        Raises:
            ObjectNotFoundError: no object stands there.
        """

    @property
    def id(self) -> str | None:
        """The lake's name for registries, 32 hexadecimal digits; made once where there is none.

        A process reads it once: a run whose lake is out of reach can still say so in the registry. None: the lake has
        none and cannot be written from here.

        Raises:
            OutOfReachError: the lake can't be asked.
            LookbookError: its object `IDENTITY` is damaged.
        """
        place = self.uri(IDENTITY)
        if place not in _known or _known[place][0] != self:  # one address may be of two services, in tests
            _known[place] = (self, self._read_or_make_id())
        return _known[place][1]

    def _read_or_make_id(self) -> str | None:
        found = self.read_id()
        if found is not None:
            return found
        try:
            self.swap(IDENTITY, Identity(id=uuid.uuid4().hex).model_dump_json().encode(), None)
        except SwapConflictError:
            pass  # another process was first
        except OutOfReachError:
            raise
        except LookbookError:  # it may be read only, or its disk is full
            return None
        return self.read_id()

    def read_id(self) -> str | None:
        """Return the lake's `id` without making one; None where it has none yet."""
        found = self.read_version(IDENTITY)
        try:
            return None if found is None else Identity.model_validate_json(found[0]).id
        except ValidationError as error:
            raise LookbookError(
                f"{self.uri(IDENTITY)} does not hold the lake's id: 32 hexadecimal digits.",
                "Bring it back from a copy of the lake, or write the id that the registry knows (docs/lake.md).",
            ) from error


def checked_key(key: str) -> str:
    """Return the key itself.

    Raises:
        LookbookError: it leads out of the lake.
    """
    if not key or key.startswith("/") or ".." in key.split("/"):
        raise LookbookError(f"{key!r} is no key of a lake: keys are relative paths without '..'.")
    return key


def snapshots_folder(dataset: str) -> str:
    """Return the folder with the folders of a dataset's snapshots."""
    return f"datasets/{dataset}/snapshots"


class FolderLake(Lake):
    """A lake in a folder of a file system."""

    _block_type_name = "Lookbook Folder Lake"
    _block_type_slug = "lookbook-folder-lake"

    root: Path = Field(description="Absolute path of the lake's folder.")

    def put(self, key: str, data: bytes) -> bool:
        """See `Lake.put`. The object appears whole or not at all: it is written aside and renamed."""
        path = self._path(key)
        try:
            size = os.stat(path).st_size  # noqa: PTH116 - several times for each image: pathlib takes as long again
        except FileNotFoundError:
            self._write(path, data)
            return True
        if size != len(data):
            raise ObjectConflictError(
                f"{key}: the lake holds {size} bytes where {len(data)} are to be written once.",
                'Run "lookbook verify NAME --repair" to mend damaged objects.',
            )
        return False

    def replace(self, key: str, data: bytes) -> None:
        """See `Lake.replace`."""
        self._write(self._path(key), data)

    def get(self, key: str) -> bytes:
        """See `Lake.get`."""
        try:
            return Path(self._path(key)).read_bytes()
        except FileNotFoundError as error:
            raise ObjectNotFoundError(f"{key}: not in the lake {self.root}.") from error

    def list(self, prefix: str, start: str = "") -> Iterator[ObjectInfo]:
        """See `Lake.list`."""
        for folder, _, names in os.walk(self._path(prefix)):
            for name in names:
                path = Path(folder, name)
                key = path.relative_to(self.root).as_posix()
                if key >= start:
                    try:
                        status = path.stat()
                    except FileNotFoundError:  # removed since the folder was read
                        continue
                    modified = datetime.fromtimestamp(status.st_mtime, UTC)
                    yield ObjectInfo(key, status.st_size, modified, str(status.st_mtime_ns))

    def folders(self, prefix: str) -> Sequence[str]:
        """See `Lake.folders`."""
        try:
            with os.scandir(self._path(prefix)) as found:
                return sorted(entry.name for entry in found if entry.is_dir())
        except FileNotFoundError:
            return []

    def remove(self, key: str) -> None:
        """See `Lake.remove`. Folders that are empty then go as well: a listing would look into them for ever."""
        path = Path(self._path(key))
        path.unlink(missing_ok=True)
        with suppress(OSError):  # one that is not empty
            while (path := path.parent) != self.root:
                path.rmdir()

    def settle(self) -> None:
        """See `Lake.settle`. One call for all objects of a batch costs far less than one fsync for each."""
        os.sync()

    def read_version(self, key: str) -> tuple[bytes, str] | None:
        """See `Lake.read_version`. The token is the checksum of the bytes."""
        try:
            data = Path(self._path(key)).read_bytes()
        except FileNotFoundError:
            return None
        return data, hashlib.sha256(data).hexdigest()

    def swap(self, key: str, data: bytes, expected: str | None) -> None:
        """See `Lake.swap`. A lock file keeps two processes on one machine apart."""
        path = Path(self._path(key))
        with _disk_faults(self.root):
            path.parent.mkdir(parents=True, exist_ok=True)
            # The lock file keeps processes apart, and only those: POSIX grants it to each thread of one.
            with _swapping, fasteners.InterProcessLock(path.with_name(path.name + ".lock")):
                found = self.read_version(key)
                if (found[1] if found else None) != expected:
                    raise SwapConflictError(
                        f"{key} was changed by another run.",
                        "Run the command again: it starts from what stands there now.",
                    )
                self._write(str(path), data)
        self.settle()

    def uri(self, key: str) -> str:
        """See `Lake.uri`: an absolute path."""
        return self._path(key)

    def local_copy(self, key: str, folder: Path) -> Path:  # noqa: ARG002
        """See `Lake.local_copy`: the file that is the object."""
        path = Path(self._path(key))
        if not path.is_file():
            raise ObjectNotFoundError(f"{key}: not in the lake {self.root}.")
        return path

    def _path(self, key: str) -> str:
        return f"{self.root}/{checked_key(key)}"

    def _write(self, path: str, data: bytes) -> None:
        aside = f"{self.root}/{ASIDE}/{uuid.uuid4().hex}"
        with _disk_faults(self.root):
            try:
                _write_new(aside, data)
                _rename(aside, path)
            except BaseException:
                Path(aside).unlink(missing_ok=True)
                raise


def _write_new(path: str, data: bytes) -> None:
    try:
        file = open(path, "xb", buffering=0)  # noqa: PTH123, SIM115 - as above; closed below
    except FileNotFoundError:
        Path(path).parent.mkdir(parents=True, exist_ok=True)
        file = open(path, "xb", buffering=0)  # noqa: PTH123, SIM115
    with file:
        rest = memoryview(data)
        while rest:
            rest = rest[file.write(rest) :]


#: So often a file is put into a folder that others remove meanwhile.
MOST_TRIES = 10


def _rename(source: str, target: str) -> None:
    for _ in range(MOST_TRIES):  # the folder may be removed right after it was made: it was empty
        try:
            os.replace(source, target)  # noqa: PTH105
        except FileNotFoundError:
            with suppress(FileNotFoundError):
                Path(target).parent.mkdir(parents=True, exist_ok=True)
        else:
            return
    os.replace(source, target)  # noqa: PTH105


@contextmanager
def _disk_faults(root: Path) -> Iterator[None]:
    """Turn what a full or read-only disk raises into an error that says so."""
    try:
        yield
    except OSError as error:
        raise_if_full(error, f"No space left for the lake in {root}.")
        if error.errno in (errno.EROFS, errno.EACCES, errno.EPERM):
            raise LookbookError(
                f"The lake in {root} cannot be written: {error.strerror}.",
                "Point LOOKBOOK_HOME to a folder that you may write to.",
            ) from error
        raise


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
    return "is missing" if data is None else fault_of_digest(hashlib.sha256(data).hexdigest(), sha256)


def fault_of_digest(found: str, sha256: str) -> str | None:
    """Say what is wrong with an object whose bytes have the SHA-256 `found`; None: nothing."""
    return None if found == sha256 else "is damaged: its checksum differs from the manifest's"
