"""What every kind of source gives: its files, with where their bytes are."""

from __future__ import annotations

import posixpath
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Protocol

from lookbook.tasks.images.items import Locator

#: Names with these endings are taken for images; what they really are, the decoder says.
IMAGE_EXTENSIONS = frozenset(
    [
        "jpg",
        "jpeg",
        "jpe",
        "jfif",
        "png",
        "gif",
        "webp",
        "avif",
        "bmp",
        "tif",
        "tiff",
        "jp2",
        "j2k",
        "ppm",
        "pgm",
        "heic",
        "heif",
    ]
)

#: Names with these endings are taken for none, whatever is in the file.
OTHER_EXTENSIONS = frozenset(
    [
        *("csv", "tsv", "json", "jsonl", "ndjson", "parquet", "xml", "md", "yaml", "yml"),
        *("xlsx", "xlsm", "xlsb", "xls", "ods", "docx"),
        *("py", "ipynb", "js", "css", "sql", "pkl", "npy", "npz", "h5", "pt", "onnx"),
        *("zip", "tar", "gz", "tgz", "bz2", "xz", "7z", "rar", "mp4", "mov", "avi", "webm", "mp3", "wav"),
    ]
)
#: Those of them that pack other files.
ARCHIVE_EXTENSIONS = frozenset(["zip", "tar", "gz", "tgz", "bz2", "xz", "7z", "rar"])

#: What systems and tools leave beside files; names that begin with a dot are litter as well, and with `~$` Office's
#: locks.
LITTER = frozenset(
    ["__macosx", "@eadir", "$recycle.bin", "system volume information", "lost+found", "thumbs.db", "desktop.ini"]
)


def is_litter(key: str) -> bool:
    """Return whether a file, or a folder that it lies in, is hidden or is what systems and tools leave behind."""
    return any(part.startswith((".", "~$")) or part.lower() in LITTER for part in key.split("/"))


@dataclass(frozen=True)
class SourceFile:
    """One file of a source.

    Attributes:
        key: its name within the source: a relative POSIX path, unique in the source.
        size: bytes.
        fingerprint: changes when the content may have changed (``crc32:…`` of an archive's listing,
            ``mtime:…`` of a file).
        locator: where its bytes are.
        refused: a rule and a message for a file that must not be read (``unsafe_path``, ``outside_source`` …).
    """

    key: str
    size: int
    fingerprint: str
    locator: Locator
    refused: tuple[str, str] | None = None

    @property
    def is_litter(self) -> bool:
        """Return what `is_litter` says of its key."""
        return is_litter(self.key)

    @property
    def is_image(self) -> bool:
        """Return whether the name ends as an image's does, and it is no litter."""
        return self.extension in IMAGE_EXTENSIONS and not self.is_litter

    @property
    def extension(self) -> str:
        """Return what stands behind the last dot of its name, in lower case; "" without one."""
        return posixpath.splitext(self.key)[1][1:].lower()


class Source(Protocol):
    """Where images and their catalogue come from. A further kind of source is a further module."""

    @property
    def uri(self) -> str:
        """Return its name in messages."""
        ...

    def files(self) -> Iterator[SourceFile]:
        """Return every file of the source, images and others, in no particular order.

        Raises:
            LookbookError: the source cannot be listed, or breaks one of the bounds; the message names it.
        """
        ...
