"""Turning a compressed tar into a plain one, so that its members can be read where they stand."""

from __future__ import annotations

import bz2
import errno
import gzip
import hashlib
import lzma
import os
import shutil
import uuid
import zlib
from contextlib import suppress
from pathlib import Path
from typing import IO

from lookbook.blocks.errors import LookbookError

Packed = gzip.GzipFile | bz2.BZ2File | lzma.LZMAFile

CHUNK_BYTES = 4 * 1024**2
#: Space that is left to the rest of the machine; unpacking stops before it is used up.
RESERVE_BYTES = 256 * 1024**2


def damaged(path: Path, cause: object) -> LookbookError:
    """Return the error for an archive that cannot be read to its end."""
    return LookbookError(
        f"Archive {path} is cut off, damaged or no archive of its kind: {cause}.", "Fetch it again, then run again."
    )


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
            _unpack(packed, path, plain, byte_limit)
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


def _unpack(packed: Packed, path: Path, plain: Path, byte_limit: int) -> None:
    aside = plain.with_name(f"{plain.name}.{uuid.uuid4().hex}.part")
    try:
        plain.parent.mkdir(parents=True, exist_ok=True)
        with aside.open("wb") as target:
            _copy(packed, target, path, byte_limit)
            target.flush()
            os.fsync(target.fileno())
        aside.replace(plain)
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise _no_space(path, plain.parent) from error
        raise LookbookError(
            f"{plain.parent} cannot be written to unpack {path.name}: {error.strerror}.",
            "Point LOOKBOOK_HOME to a folder that you may write to.",
        ) from error
    finally:
        with suppress(OSError):
            aside.unlink(missing_ok=True)


def _copy(packed: Packed, target: IO[bytes], path: Path, byte_limit: int) -> None:
    written = 0
    while chunk := _read_chunk(packed, path):
        written += len(chunk)
        if written > byte_limit:
            raise LookbookError(
                f"Archive {path} unpacks to more than {byte_limit} bytes (max_ratio or max_total_bytes), which "
                "looks like an archive bomb.",
                "If you trust it, unpack it yourself and give the folder as SOURCE.",
            )
        if shutil.disk_usage(plain_folder := Path(target.name).parent).free < RESERVE_BYTES + len(chunk):
            raise _no_space(path, plain_folder)
        target.write(chunk)


def _read_chunk(packed: Packed, path: Path) -> bytes:
    try:
        return packed.read(CHUNK_BYTES)
    except (EOFError, zlib.error, lzma.LZMAError) as error:
        raise damaged(path, error) from error
    except OSError as error:
        # gzip and bz2 call damaged data an OSError, one without a number.
        raise damaged(path, error.strerror or error) from error


def _no_space(path: Path, scratch: Path) -> LookbookError:
    return LookbookError(
        f"No space left in {scratch} to unpack {path.name}.",
        "Free some, or point LOOKBOOK_HOME to another disk; or unpack it yourself and give the folder as SOURCE.",
    )
