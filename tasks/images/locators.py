"""Reading an image's bytes from where its locator says they are."""

from __future__ import annotations

import errno
import os
import threading
import zipfile
import zlib
from collections import OrderedDict
from dataclasses import dataclass, field
from lzma import LZMAError

from lookbook.tasks.images.items import Locator

#: Archives that stay open at the same time; the one not used for longest is closed first.
OPEN_ARCHIVES = 8


class UnreadableMemberError(Exception):
    """A member of an archive that no further attempt can read: its image is rejected.

    Args:
        rule: ``damaged_member``, ``encrypted`` or ``unsupported_compression``.
        message: what is wrong with it.
    """

    def __init__(self, rule: str, message: str) -> None:
        super().__init__(rule, message)
        self.rule = rule
        self.message = message

    def __str__(self) -> str:
        return self.message


@dataclass
class _OpenZip:
    """A zip archive that many threads read: its directory is parsed once for all of them."""

    archive: zipfile.ZipFile
    members: dict[tuple[str, int], zipfile.ZipInfo]
    lock: threading.Lock = field(default_factory=threading.Lock)


_open_zips: OrderedDict[tuple[bytes, int, int], _OpenZip] = OrderedDict()
_open_zips_lock = threading.Lock()


def read_bytes(locator: Locator) -> bytes:
    """Read the bytes that `locator` points to. Many threads may call this at once.

    For a zip member `locator.offset` may hold the offset of its header, which tells apart members of one name.

    Raises:
        OSError: the file vanished, shrank since it was listed, or could not be read: worth another attempt.
        UnreadableMemberError: the member of the zip archive is damaged, encrypted or compressed in a way that
            cannot be read.
    """
    if locator.store == "zip":
        data = _read_zip(locator)
    elif locator.store == "tar":
        data = _read_tar(locator)
    else:
        with open(locator.path, "rb") as file:  # noqa: PTH123 - pathlib takes no bytes
            data = file.read()
    if len(data) < locator.size:
        raise OSError(
            errno.EIO, f"{len(data)} bytes where {locator.size} were listed: it changed since", _name(locator)
        )
    return data


def _read_tar(locator: Locator) -> bytes:
    with open(locator.path, "rb") as file:  # noqa: PTH123 - pathlib takes no bytes
        file.seek(locator.offset)
        return file.read(locator.size)


def _read_zip(locator: Locator) -> bytes:
    opened = _open_zip(locator.path)
    info = opened.members.get((locator.member, locator.offset)) or opened.archive.NameToInfo.get(locator.member)
    if info is None:
        raise FileNotFoundError(errno.ENOENT, "no such member in the archive any more", _name(locator))
    try:
        return _read_member(opened, info)
    except (zipfile.BadZipFile, zlib.error, LZMAError, EOFError) as error:
        raise UnreadableMemberError("damaged_member", f"{info.filename}: damaged in its archive: {error}") from error
    except NotImplementedError as error:
        raise UnreadableMemberError("unsupported_compression", f"{info.filename}: {error}") from error
    except OSError as error:
        # The bz2 decompressor calls damaged data an OSError, one without a number.
        if error.errno is None:
            raise UnreadableMemberError("damaged_member", f"{info.filename}: {error}") from error
        raise


def _read_member(opened: _OpenZip, info: zipfile.ZipInfo) -> bytes:
    if info.flag_bits & 0x1:
        raise UnreadableMemberError("encrypted", f"{info.filename}: encrypted with a password")
    # ZipFile guards seeks and reads with a lock of its own, but counts its open members without one.
    with opened.lock:
        member = opened.archive.open(info)
    try:
        return member.read()
    finally:
        with opened.lock:
            member.close()


def _open_zip(path: bytes) -> _OpenZip:
    status = os.stat(path)  # noqa: PTH116 - pathlib takes no bytes
    identity = (path, status.st_mtime_ns, status.st_size)
    with _open_zips_lock:
        opened = _open_zips.get(identity)
        if opened is None:
            opened = _open_zips[identity] = _parse_zip(path)
            while len(_open_zips) > OPEN_ARCHIVES:
                # Not closed here: another thread may be about to read it. It closes when the last one lets go.
                _open_zips.popitem(last=False)
        _open_zips.move_to_end(identity)
        return opened


def _parse_zip(path: bytes) -> _OpenZip:
    try:
        archive = zipfile.ZipFile(os.fsdecode(path))
    except (zipfile.BadZipFile, ValueError) as error:
        raise OSError(errno.EIO, f"no zip archive any more: {error}", os.fsdecode(path)) from error
    return _OpenZip(archive, {(info.filename, info.header_offset): info for info in archive.infolist()})


def _name(locator: Locator) -> str:
    path = os.fsdecode(locator.path)
    return f"{path}:{locator.member}" if locator.member else path
