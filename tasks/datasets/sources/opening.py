"""From what the user typed as SOURCE to the source that is meant."""

from __future__ import annotations

import re
from pathlib import Path
from urllib.parse import unquote, urlsplit

from blocks.errors import UsageError
from blocks.settings import read_settings
from tasks.datasets.sources.archive import TarSource, ZipSource
from tasks.datasets.sources.base import Source
from tasks.datasets.sources.folder import FolderSource
from tasks.datasets.sources.sample import SampleSource

TAKES = "SOURCE takes a folder, a .zip, .tar, .tar.gz or .tgz archive, a file:// address, inbox://, or sample://500."

INBOX = "inbox://"

_TAR_NAME = re.compile(r"\.(tar|tar\.(gz|bz2|xz)|tgz|tbz2?|txz)$", re.IGNORECASE)
_TAR_MAGICS = (b"\x1f\x8b", b"BZh", b"\xfd7zXZ\0")


def open_source(uri: str, scratch: Path) -> Source:
    """The source that `uri` names. It is not listed yet.

    Args:
        uri: a folder or archive, as a path or ``file://`` address; ``inbox://``; or ``sample://N``.
        scratch: a folder of the workspace for what has to be unpacked or made. It and the folder that holds it
            are never part of a folder source, so that a workspace may lie inside its own source.

    Raises:
        UsageError: the scheme is unknown, or nothing of use stands at the path.
    """
    path = local_path(uri)
    return SampleSource(uri, scratch) if path is None else _open_path(uri, path, scratch)


def local_path(uri: str) -> Path | None:
    """The path of this machine that `uri` names, whether or not it is there; None for ``sample://N``.

    ``inbox://`` is the folder ``inbox`` in the home of whoever asks: a deployment names no path of one machine.

    Raises:
        UsageError: the scheme is unknown.
    """
    scheme = re.match(r"([A-Za-z][A-Za-z0-9+.-]*)://", uri)
    if scheme is None:
        return Path(uri).expanduser()
    if scheme[1].lower() == "sample":
        return None
    if uri.lower() == INBOX:
        return read_settings().home / "inbox"
    if scheme[1].lower() == "file":
        return _path_of(uri)
    raise UsageError(f"SOURCE {uri}: {scheme[1]}:// is not known.", TAKES)


def _path_of(uri: str) -> Path:
    address = urlsplit(uri)
    if address.netloc not in ("", "localhost"):
        raise UsageError(f"SOURCE {uri}: a file:// address has three slashes, as in file:///home/me/photos.", TAKES)
    return Path(unquote(address.path))


def _open_path(uri: str, path: Path, scratch: Path) -> Source:
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
    """What the file is by its first bytes, else by its name: one that is cut off may have lost its mark."""
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
