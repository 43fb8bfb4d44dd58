"""Zip and tar archives as sources. Members are read where they stand; nothing is extracted."""

from __future__ import annotations

import os
import re
import stat
import tarfile
import zipfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from lookbook.blocks.errors import LookbookError
from lookbook.tasks.datasets.sources.base import SourceFile
from lookbook.tasks.datasets.sources.folder import Refusal, numbered
from lookbook.tasks.datasets.sources.unpacking import damaged, unpacked_tar
from lookbook.tasks.images.items import Locator


@dataclass(frozen=True)
class ArchiveBounds:
    """What an archive may hold before it is taken for a bomb.

    Attributes:
        max_entries: files and folders.
        max_total_bytes: bytes of all files, unpacked.
        max_ratio: unpacked bytes for each byte of the archive. Photos hardly shrink; text may shrink by 100.
        ratio_free_bytes: unpacked bytes up to which the ratio does not matter.
    """

    max_entries: int = 5_000_000
    max_total_bytes: int = 2 * 1024**4
    max_ratio: int = 200
    ratio_free_bytes: int = 1024**3

    def byte_limit(self, archive_bytes: int) -> int:
        """Return the most bytes that an archive of this size may unpack to."""
        return min(self.max_total_bytes, max(self.ratio_free_bytes, self.max_ratio * archive_bytes))


class _Listing:
    """The entries of one archive so far: keeps keys unique and the archive within its bounds."""

    def __init__(self, path: Path, bounds: ArchiveBounds) -> None:
        self.path = path
        self.bounds = bounds
        self.archive_bytes = path.stat().st_size
        self.entries = 0
        self.bytes = 0
        self.keys: dict[str, int] = {}

    def count(self, size: int) -> None:
        """Count one entry of `size` unpacked bytes.

        Raises:
            LookbookError: one of the bounds is exceeded.
        """
        self.entries += 1
        self.bytes += size
        if self.entries > self.bounds.max_entries:
            raise _too_much(self.path, f"more than {self.bounds.max_entries} entries (max_entries)")
        if self.bytes > self.bounds.max_total_bytes:
            raise _too_much(self.path, f"more than {self.bounds.max_total_bytes} bytes (max_total_bytes)")
        if self.bytes > self.bounds.byte_limit(self.archive_bytes):
            raise _too_much(self.path, f"more than {self.bounds.max_ratio} times the archive's own size (max_ratio)")

    def key(self, name: str) -> tuple[str, Refusal | None]:
        """Return the unique key of the entry `name`, and why it must not be read, if so."""
        key, refused = safe_key(name)
        unique = key
        while unique in self.keys:
            self.keys[key] += 1
            unique = numbered(key, self.keys[key])
        self.keys[unique] = 1
        return unique, refused


class ZipSource:
    """The files of a zip archive."""

    def __init__(self, path: Path, bounds: ArchiveBounds | None = None) -> None:
        self.path = path.absolute()
        self.uri = str(self.path)
        self._bounds = bounds or ArchiveBounds()

    def files(self) -> Iterator[SourceFile]:
        """See `Source.files`.

        Raises:
            LookbookError: the archive is cut off, damaged or no zip archive, or exceeds a bound.
        """
        try:
            with zipfile.ZipFile(self.path) as archive:
                members = archive.infolist()
        except (zipfile.BadZipFile, ValueError, EOFError, NotImplementedError) as error:
            raise damaged(self.path, error) from error
        except OSError as error:
            raise _unreadable(self.path, error) from error
        listing = _Listing(self.path, self._bounds)
        for member in members:
            listing.count(member.file_size)
        for member in members:
            if not member.is_dir():
                yield self._source_file(member, listing)

    def _source_file(self, member: zipfile.ZipInfo, listing: _Listing) -> SourceFile:
        key, refused = listing.key(_zip_name(member))
        kind = stat.S_IFMT(member.external_attr >> 16)
        if refused is None and kind not in (0, stat.S_IFREG):
            refused = ("not_a_file", "a link or device inside the archive")
        elif refused is None and member.flag_bits & 0x1:
            refused = ("encrypted", "encrypted with a password")
        size = member.file_size
        locator = Locator("zip", os.fsencode(self.path), member.filename, member.header_offset, size)
        return SourceFile(key, size, f"crc32:{member.CRC:08x}:{size}", locator, refused)


class TarSource:
    """The files of a tar archive. A compressed one is unpacked to a plain tar in `scratch` first, once."""

    def __init__(self, path: Path, scratch: Path, bounds: ArchiveBounds | None = None) -> None:
        self.path = path.absolute()
        self.uri = str(self.path)
        self._scratch = scratch.absolute()
        self._bounds = bounds or ArchiveBounds()

    def files(self) -> Iterator[SourceFile]:
        """See `Source.files`.

        Raises:
            LookbookError: the archive is cut off, damaged or no tar archive, or exceeds a bound, or there is no
                space to unpack it.
        """
        try:
            status = self.path.stat()
            limit = self._bounds.byte_limit(status.st_size)
            plain = unpacked_tar(self.path, self._scratch, limit)
            listing = _Listing(self.path, self._bounds)
            for member in _members(plain, listing):
                if not member.isdir():
                    yield self._source_file(member, plain, listing, status.st_mtime_ns)
        except (tarfile.TarError, ValueError, EOFError, OverflowError) as error:
            raise damaged(self.path, error) from error
        except OSError as error:
            raise _unreadable(self.path, error) from error

    def _source_file(self, member: tarfile.TarInfo, plain: Path, listing: _Listing, mtime: int) -> SourceFile:
        key, refused = listing.key(member.name)
        if refused is None and (not member.isreg() or member.issparse()):
            refused = ("not_a_file", "a link, device or sparse file inside the archive")
        size = 0 if refused else member.size
        fingerprint = f"tar:{mtime}:{member.offset_data}:{size}:{int(member.mtime)}"
        locator = Locator("tar", os.fsencode(plain), offset=member.offset_data, size=size)
        return SourceFile(key, size, fingerprint, locator, refused)


def _members(plain: Path, listing: _Listing) -> Iterator[tarfile.TarInfo]:
    """Yield the members of an uncompressed tar.

    tarfile ends quietly at a header that is cut off or damaged, so the mark of the end is looked for here.
    """
    with tarfile.open(plain, "r:") as archive:
        while (member := archive.next()) is not None:
            if member.size < 0:
                raise tarfile.ReadError("a member of negative size")
            archive.members.clear()  # type: ignore[attr-defined]  # Millions of them would fill the memory.
            listing.count(member.size)
            yield member
        with plain.open("rb") as file:
            file.seek(archive.offset)
            if file.read(tarfile.BLOCKSIZE) != tarfile.NUL * tarfile.BLOCKSIZE:
                raise tarfile.ReadError("the mark of its end is missing")


def safe_key(name: str) -> tuple[str, Refusal | None]:
    """Return the key of an archive's entry: its path without ``.`` parts, and a refusal if it leaves the folder."""
    name = name.encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")
    parts = name.split("/")
    key = "/".join(part for part in parts if part not in ("", "."))
    if key and not name.startswith("/") and ".." not in parts and not re.match("[A-Za-z]:", key) and "\\" not in key:
        return key, None
    shown = ["__" if part == ".." else part.replace(":", "_") for part in re.split(r"[/\\]", name)]
    key = "/".join(part for part in shown if part not in ("", ".")) or "__"
    return key, ("unsafe_path", f"its name {name!r} leaves the folder of the archive")


def _zip_name(member: zipfile.ZipInfo) -> str:
    """Return the name as its maker meant it: many tools write UTF-8 without setting the flag that says so."""
    if member.flag_bits & 0x800 or member.filename.isascii():
        return member.filename
    try:
        return member.filename.encode("cp437").decode("utf-8")
    except UnicodeError:
        return member.filename


def _unreadable(path: Path, error: OSError) -> LookbookError:
    return LookbookError(
        f"Archive {path} cannot be read: {error.strerror or error}.", "Check the disk and your rights, then run again."
    )


def _too_much(path: Path, what: str) -> LookbookError:
    return LookbookError(
        f"Archive {path} would unpack to {what}, which looks like an archive bomb.",
        "If you trust it, unpack it yourself and give the folder as SOURCE.",
    )
