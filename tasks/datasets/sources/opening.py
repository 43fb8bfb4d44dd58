"""From what the user typed as SOURCE to the source that is meant."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import unquote, urlsplit

from lookbook.blocks.errors import UsageError
from lookbook.blocks.settings import read_settings
from lookbook.tasks.datasets.sources.base import Source
from lookbook.tasks.datasets.sources.kaggle import KaggleSource
from lookbook.tasks.datasets.sources.nested import TAKES, open_path
from lookbook.tasks.datasets.sources.sample import SampleSource

if TYPE_CHECKING:
    from lookbook.blocks.kaggle import KaggleCredentials

INBOX = "inbox://"
KAGGLE = "kaggle://"


def open_source(uri: str, scratch: Path, kaggle: KaggleCredentials | None = None, within: Sequence[str] = ()) -> Source:
    """Return the source that `uri` names. It is not listed yet.

    Args:
        uri: a folder or archive, as a path or ``file://`` address; ``inbox://``; ``kaggle://owner/dataset``; or
            ``sample://N``.
        scratch: a folder of the workspace for what has to be downloaded, unpacked or made. It and the folder that
            holds it are never part of a folder source, so that a workspace may lie inside its own source.
        kaggle: the workspace's credentials for Kaggle.
        within: folders in one of which a path has to lie, links followed; empty: anywhere.

    Raises:
        UsageError: the scheme is unknown, nothing of use stands at the path, or it lies in none of `within`.
    """
    if uri.lower().startswith(KAGGLE):
        return KaggleSource(uri, scratch, kaggle)
    path = local_path(uri)
    if path is None:
        return SampleSource(uri, scratch)
    return open_path(uri, _inside(uri, path, within) if within else path, scratch)


def _inside(uri: str, path: Path, folders: Sequence[str]) -> Path:
    """Return the path without links, which is what is read then.

    Raises:
        UsageError: it lies in none of the folders.
    """
    try:
        real = path.resolve()
        if any(real.is_relative_to(Path(folder).resolve()) for folder in folders):
            return real
    except (OSError, RuntimeError, ValueError) as error:  # links in a circle; NUL
        raise UsageError(f"SOURCE {uri!r}: {getattr(error, 'strerror', None) or error}.", TAKES) from error
    raise UsageError(
        f"SOURCE {uri}: it lies in none of the folders that may be ingested, or leads out of them by a link.",
        "Put the files themselves into one of them.",
    )


def version_of(source: Source) -> str:
    """Return the address of a listed source with its version, "" for sources that have none."""
    return source.uri if isinstance(source, KaggleSource) else ""


def local_path(uri: str) -> Path | None:
    """Return the path of this machine that `uri` names, there or not; None for ``sample://`` and ``kaggle://``.

    ``inbox://`` is the folder ``inbox`` in the home of whoever asks: a deployment names no path of one machine.

    Raises:
        UsageError: the scheme is unknown.
    """
    scheme = re.match(r"([A-Za-z][A-Za-z0-9+.-]*)://", uri)
    if scheme is None:
        return Path(uri).expanduser()
    if scheme[1].lower() in ("sample", "kaggle"):
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
