"""A folder of files as a source."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator, Sequence
from pathlib import Path

from lookbook.blocks.errors import LookbookError
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
    r"""A path as text: UTF-8, and ``\xff`` for each byte that is not."""
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
