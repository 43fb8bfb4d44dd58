"""Folders and archives of this machine as sources."""

from __future__ import annotations

import re
from pathlib import Path

from lookbook.blocks.errors import UsageError
from lookbook.tasks.datasets.sources.archive import TarSource, ZipSource
from lookbook.tasks.datasets.sources.base import Source
from lookbook.tasks.datasets.sources.folder import FolderSource

_TAR_NAME = re.compile(r"\.(tar|tar\.(gz|bz2|xz)|tgz|tbz2?|txz)$", re.IGNORECASE)
_TAR_MAGICS = (b"\x1f\x8b", b"BZh", b"\xfd7zXZ\0")

TAKES = (
    "SOURCE takes a folder, a .zip, .tar, .tar.gz or .tgz archive, a file:// address, inbox://, "
    "kaggle://owner/dataset, or sample://500."
)


def open_path(uri: str, path: Path, scratch: Path) -> Source:
    """Return the source at a path: a folder, or an archive.

    Args:
        uri: what the user called it.
        path: where it is.
        scratch: see `opening.open_source`.

    Raises:
        UsageError: nothing of use stands there.
    """
    try:
        if uri and path.is_dir():
            return FolderSource(path, leave_out=(scratch, scratch.parent))
        if not uri or not path.exists():
            raise UsageError(f"SOURCE {uri!r}: no such file or folder.", TAKES)
        kind = _archive_kind(path)
    except (OSError, ValueError) as error:
        raise UsageError(f"SOURCE {uri!r}: {getattr(error, 'strerror', None) or error}.", TAKES) from error
    if kind == "zip":
        return ZipSource(path)
    if kind == "tar":
        return TarSource(path, scratch)
    raise UsageError(f"SOURCE {uri}: neither a folder nor an archive.", TAKES)


def _archive_kind(path: Path) -> str:
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
    return "tar" if _TAR_NAME.search(path.name) else ""
