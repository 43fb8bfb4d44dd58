"""Folders and archives of this machine as sources; members of zip and tar are read where they stand."""

from __future__ import annotations

import bz2
import gzip
import hashlib
import lzma
import os
import re
import shutil
import stat
import tarfile
import uuid
import zipfile
import zlib
from collections.abc import Iterable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import IO

from lookbook.blocks.errors import LookbookError, raise_if_full
from lookbook.tasks.datasets.sources.base import SourceFile
from lookbook.tasks.images.items import Locator

Refusal = tuple[str, str]


class FolderSource:
    """Every file below a folder, hidden ones too.

    Links to files are read when their target lies inside the folder; links to folders are not followed.

    Args:
        root: the folder.
        leave_out: folders below it that are no part of the source, such as the workspace's own.
    """

    def __init__(self, root: Path, leave_out: Sequence[Path] = ()) -> None:
        self.root = os.path.realpath(os.fsencode(root))
        self.uri = readable_name(self.root)
        self._leave_out = {os.path.realpath(os.fsencode(folder)) for folder in leave_out}

    def files(self) -> Iterator[SourceFile]:
        """See `Source.files`. Folders are walked in order of their names.

        Raises:
            LookbookError: a folder cannot be read; the message names it.
        """
        escaped: set[str] = set()
        folders = [self.root]
        while folders:
            folder = folders.pop()
            found = []
            for entry in _entries(folder):
                if not entry.is_dir(follow_symlinks=False):
                    found.append(entry)
                elif entry.path not in self._leave_out:
                    folders.append(entry.path)
            for entry in found:
                file = self._source_file(entry, escaped)
                if file is not None:
                    yield file

    def _source_file(self, entry: os.DirEntry[bytes], escaped: set[str]) -> SourceFile | None:
        key = _unique_key(entry.path[len(self.root.rstrip(b"/")) + 1 :], escaped)
        refused = self._refused(entry)
        try:
            status = entry.stat(follow_symlinks=refused is None)
        except FileNotFoundError:
            return None  # It was removed while the folder was listed.
        except OSError as error:
            raise _unreadable(entry.path, error) from error
        if refused is None and stat.S_ISDIR(status.st_mode):
            return None  # A link to a folder.
        size = 0 if refused else status.st_size
        fingerprint = f"mtime:{status.st_mtime_ns}:{size}"
        return SourceFile(key, size, fingerprint, Locator("file", entry.path, size=size), refused)

    def _refused(self, entry: os.DirEntry[bytes]) -> Refusal | None:
        if entry.is_symlink():
            target = os.path.realpath(entry.path)
            if os.path.isdir(target):  # noqa: PTH112 - pathlib takes no bytes
                return None
            if not os.path.exists(target):  # noqa: PTH110 - pathlib takes no bytes
                return "dangling_link", f"a link to {readable_name(target)}, which is not there"
            if not target.startswith(self.root.rstrip(b"/") + b"/"):
                return "outside_source", f"a link to {readable_name(target)}, which lies outside of the source"
        if not entry.is_file():
            return "not_a_file", "neither a file nor a folder, but a pipe, socket or device"
        return None


def readable_name(path: bytes) -> str:
    r"""Return a path as text: UTF-8, and ``\xff`` for each byte that is not."""
    return path.decode("utf-8", "backslashreplace")


def _entries(folder: bytes) -> list[os.DirEntry[bytes]]:
    try:
        with os.scandir(folder) as entries:
            return sorted(entries, key=lambda entry: entry.name)
    except FileNotFoundError as error:
        raise LookbookError(
            f"Folder {readable_name(folder)} is not there.", "Check the path, or run again if it was just moved."
        ) from error
    except OSError as error:
        raise _unreadable(folder, error) from error


def _unreadable(path: bytes, error: OSError) -> LookbookError:
    return LookbookError(
        f"{readable_name(path)} cannot be read: {error.strerror}.",
        "Give yourself the right to read it, or move it out of the source; then run again.",
    )


def _unique_key(path: bytes, escaped: set[str]) -> str:
    """Return the key of a relative path. Only a name with a backslash can meet the key of another, escaped one."""
    key = plain = readable_name(path)
    if "\\" in key:
        number = 1
        while key in escaped:
            number += 1
            key = numbered(plain, number)
        escaped.add(key)
    return key


def numbered(key: str, number: int) -> str:
    """Mark a further file of the same name before its extension: ``a/b.jpg``, 2 → ``a/b#2.jpg``."""
    folder, slash, name = key.rpartition("/")
    stem, dot, extension = name.rpartition(".")
    return f"{folder}{slash}{stem}#{number}.{extension}" if dot and stem else f"{key}#{number}"


Packed = gzip.GzipFile | bz2.BZ2File | lzma.LZMAFile

CHUNK_BYTES = 4 * 1024**2
#: Space that is left to the rest of the machine; unpacking stops before it is used up.
RESERVE_BYTES = 256 * 1024**2


class BadArchiveError(LookbookError):
    """An archive that is not read.

    Args:
        problem: as of `LookbookError`.
        way_out: likewise.
        rule: the rule's name, for one that lies within a source.
        why: what is wrong with it, behind its name.
    """

    def __init__(self, problem: str, way_out: str = "", rule: str = "", why: str = "") -> None:
        super().__init__(problem, way_out)
        self.rule = rule
        self.why = why


def damaged(path: Path, cause: object) -> BadArchiveError:
    """Return the error for an archive that cannot be read to its end."""
    why = f"is cut off, damaged or no archive of its kind: {cause}"
    return BadArchiveError(f"Archive {path} {why}.", "Fetch it again, then run again.", "damaged_archive", why)


def unpacked_tar(path: Path, scratch: Path, byte_limit: int) -> Path:
    """Return the plain tar of a tar archive: itself, or its unpacked copy in `scratch`, made by the first call.

    The copy is named after the archive's path, size and time of change, and appears whole or not at all.

    Raises:
        LookbookError: the archive is cut off or damaged, unpacks to more than `byte_limit` bytes, or `scratch`
            has no space for it or cannot be written.
        OSError: the archive cannot be read.
    """
    packed = _open_packed(path)
    if packed is None:
        return path
    with packed:
        status = path.stat()
        named_after = f"{path}\0{status.st_size}\0{status.st_mtime_ns}".encode("utf-8", "surrogateescape")
        plain = scratch / f"unpacked-{hashlib.sha256(named_after).hexdigest()[:16]}.tar"
        if not plain.exists():
            chunks = iter(lambda: _read_chunk(packed, path), b"")
            write_whole(chunks, path, plain, byte_limit)
        return plain


def _open_packed(path: Path) -> Packed | None:
    with path.open("rb") as file:
        magic = file.read(6)
    if magic.startswith(b"\x1f\x8b"):
        return gzip.open(path)
    if magic.startswith(b"BZh"):
        return bz2.open(path)
    if magic == b"\xfd7zXZ\0":
        return lzma.open(path)
    return None


def write_whole(chunks: Iterable[bytes], path: Path, plain: Path, byte_limit: int) -> None:
    """Write what is unpacked to the file `plain`, which appears whole or not at all.

    Args:
        chunks: of what is unpacked.
        path: of the archive.
        plain: in the scratch folder.
        byte_limit: bytes, at the most.

    Raises:
        LookbookError: there is no space, the folder cannot be written, or there are more bytes.
    """
    aside = plain.with_name(f"{plain.name}.{uuid.uuid4().hex}.part")
    try:
        plain.parent.mkdir(parents=True, exist_ok=True)
        with aside.open("wb") as target:
            _copy(chunks, target, path, byte_limit)
            target.flush()
            os.fsync(target.fileno())
        aside.replace(plain)
    except OSError as error:
        raise_if_full(error, *_no_space(path, plain.parent))
        raise LookbookError(
            f"{plain.parent} cannot be written to unpack {path.name}: {error.strerror}.",
            "Point LOOKBOOK_HOME to a folder that you may write to.",
        ) from error
    finally:
        with suppress(OSError):
            aside.unlink(missing_ok=True)


def _copy(chunks: Iterable[bytes], target: IO[bytes], path: Path, byte_limit: int) -> None:
    written = 0
    for chunk in chunks:
        written += len(chunk)
        if written > byte_limit:
            raise _too_much(path, f"more than {byte_limit} bytes (max_ratio or max_total_bytes)")
        if shutil.disk_usage(plain_folder := Path(target.name).parent).free < RESERVE_BYTES + len(chunk):
            raise LookbookError(*_no_space(path, plain_folder))
        target.write(chunk)


def _read_chunk(packed: Packed, path: Path) -> bytes:
    try:
        return packed.read(CHUNK_BYTES)
    except (EOFError, zlib.error, lzma.LZMAError) as error:
        raise damaged(path, error) from error
    except OSError as error:
        # gzip and bz2 call damaged data an OSError, one without a number.
        raise damaged(path, error.strerror or error) from error


def _no_space(path: Path, scratch: Path) -> tuple[str, str]:
    return (
        f"No space left in {scratch} to unpack {path.name}.",
        "Free some, or point LOOKBOOK_HOME to another disk; or unpack it yourself and give the folder as SOURCE.",
    )


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
            raise unreadable_archive(self.path, error) from error
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
    """The files of a tar archive. A compressed one is unpacked to a plain tar in `scratch` first, once.

    A hard link has the content of the member that it is a link to.

    Args:
        path: of the archive.
        scratch: where it is unpacked.
        bounds: of what it may hold.
        mark: changes with the archive; "": its time of change.
    """

    def __init__(self, path: Path, scratch: Path, bounds: ArchiveBounds | None = None, mark: str = "") -> None:
        self.path = path.absolute()
        self.uri = str(self.path)
        self._scratch = scratch.absolute()
        self._bounds = bounds or ArchiveBounds()
        self._mark = mark

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
            listing, mark = _Listing(self.path, self._bounds), self._mark or str(status.st_mtime_ns)
            contents: dict[str, Locator] = {}
            for member in _members(plain, listing):
                if not member.isdir():
                    yield self._source_file(member, plain, listing, mark, contents)
        except (tarfile.TarError, ValueError, EOFError, OverflowError) as error:
            raise damaged(self.path, error) from error
        except OSError as error:
            raise unreadable_archive(self.path, error) from error

    def _source_file(
        self, member: tarfile.TarInfo, plain: Path, listing: _Listing, mark: str, contents: dict[str, Locator]
    ) -> SourceFile:
        """Return one member; `contents` are those before it, by their names."""
        key, refused = listing.key(member.name)
        content = Locator("tar", os.fsencode(plain), offset=member.offset_data, size=member.size)
        if refused is None and member.islnk():
            target = safe_key(member.linkname)[0]
            if target in contents:
                content = contents[target]
                listing.count(content.size)
            else:
                refused = ("dangling_link", f"a link to {target}, which is not in the archive before it")
        elif refused is None and member.issym():
            refused = ("not_a_file", f"a symbolic link inside the archive, to {member.linkname}: it is not followed")
        elif refused is None and (not member.isreg() or member.issparse()):
            refused = ("not_a_file", "a device or sparse file inside the archive")
        if refused is None:
            contents[safe_key(member.name)[0]] = content
        else:
            content = replace(content, size=0)
        fingerprint = f"tar:{mark}:{content.offset}:{content.size}:{int(member.mtime)}"
        return SourceFile(key, content.size, fingerprint, content, refused)


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
    """Return the key of an archive's entry: its path without ``.`` parts, and a refusal if it leaves the folder.

    A backslash separates as a slash does: .NET before 4.6.1, and so PowerShell 5, writes archives with it.
    """
    parts = re.split(r"[/\\]", name)
    parts = [part.encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace") for part in parts]
    key = "/".join(part for part in parts if part not in ("", "."))
    if key and parts[0] and ".." not in parts and not re.match("[A-Za-z]:", key):
        return key, None
    shown = ["__" if part == ".." else part.replace(":", "_") for part in parts]
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


def unreadable_archive(path: Path, error: OSError) -> LookbookError:
    """Return the error for an archive that the disk does not give."""
    return LookbookError(
        f"Archive {path} cannot be read: {error.strerror or error}.", "Check the disk and your rights, then run again."
    )


def _too_much(path: Path, what: str) -> BadArchiveError:
    why = f"would unpack to {what}, which looks like an archive bomb"
    way_out = "If you trust it, unpack it yourself and give the folder as SOURCE."
    return BadArchiveError(f"Archive {path} {why}.", way_out, "archive_bomb", why)


TAR_NAME = re.compile(r"\.(tar|tar\.(gz|bz2|xz)|tgz|tbz2?|txz)$", re.IGNORECASE)
_TAR_MAGICS = (b"\x1f\x8b", b"BZh", b"\xfd7zXZ\0")


def archive_kind(path: Path) -> str:
    """Return what the file is by its first bytes, else by its name: one that is cut off may have lost its mark."""
    if not path.is_file():
        return ""
    with path.open("rb") as file:
        head = file.read(512)
    if head.startswith((b"PK\x03\x04", b"PK\x05\x06")):
        return "zip"
    if head.startswith(_TAR_MAGICS) or head[257:262] == b"ustar":
        return "tar"
    if path.suffix.lower() == ".zip":
        return "zip"
    return "tar" if TAR_NAME.search(path.name) else ""
