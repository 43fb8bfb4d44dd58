"""Where the files of a source lie: beside the spec, anywhere on this machine, in the inbox, in the lake."""

from __future__ import annotations

import os
import re
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path

from lookbook.blocks.errors import LookbookError
from lookbook.blocks.lake import Lake
from lookbook.blocks.settings import read_settings
from lookbook.tasks.tables.extract.globs import compiled, is_pattern, matching, split_pattern

LAKE, INBOX = "lake://", "inbox://"


@dataclass(frozen=True)
class Found:
    """A file of a source.

    Attributes:
        address: what it is called: as the spec's path is written, whatever the machine.
        name: its file name.
        fingerprint: another one when it changed.
        modified: when it was changed.
        path: of a file of this machine.
        key: of an object of the lake.
    """

    address: str
    name: str
    fingerprint: str
    modified: datetime | None
    path: Path | None = None
    key: str = ""


def find_files(lake: Lake, folder: Path, path: str) -> list[Found]:
    """Return the files that a path of a spec names, in the order of their addresses.

    Args:
        lake: for ``lake://``.
        folder: of the spec, to which a relative path belongs.
        path: without placeholders.

    Raises:
        LookbookError: it is no path of a kind that is known, or leads out of the inbox.
    """
    if path.startswith(LAKE):
        return sorted(_in_lake(lake, path), key=lambda found: found.address)
    scheme = re.match(r"([A-Za-z][A-Za-z0-9+.-]*)://", path)
    if scheme and not path.startswith(INBOX):
        raise LookbookError(
            f"path {path}: {scheme[1]}:// is not known to a source of files.",
            "Name a path, lake://key or inbox://name; for http and https take a source of type http.",
        )
    return sorted(_on_machine(folder, path), key=lambda found: found.address)


def _on_machine(root: Path, path: str) -> Iterator[Found]:
    below, prefix = path, ""
    if path.startswith(INBOX):
        root, below, prefix = read_settings().home / "inbox", path.removeprefix(INBOX), INBOX
        if below.startswith("/") or ".." in below.split("/"):
            raise LookbookError(f"path {path} leads out of the inbox.", "Name files in it: inbox://name.")
    elif path.startswith("~"):
        below = os.path.expanduser(path)  # noqa: PTH111 - it may hold a pattern
    folder, pattern = split_pattern(below)
    start = f"{folder.rstrip('/')}/" if folder else ""
    if prefix:
        _inside(root, root / folder, prefix + folder)  # before it is looked through
    if is_pattern(pattern):
        files = matching(root / folder, pattern)
    else:
        files = iter([(pattern, root / below)] if (root / below).is_file() else [])
    for relative, path_ in files:
        found = described(path_, prefix + start + relative)
        yield replace(found, path=_inside(root, path_, found.address)) if prefix else found


def _inside(inbox: Path, path: Path, address: str) -> Path:
    """Return the path without links, which is what is read then.

    Raises:
        LookbookError: it leads out of the inbox.
    """
    real = path.resolve()
    if not real.is_relative_to(inbox.resolve()):
        raise LookbookError(f"{address} leads out of the inbox by a link.", "Put the file itself into the inbox.")
    return real


def described(path: Path, address: str) -> Found:
    """Return a file of this machine as it stands now."""
    status = path.stat()
    return Found(
        os.fsencode(address).decode("utf-8", "backslashreplace"),
        path.name,
        f"mtime:{status.st_mtime_ns}:{status.st_size}",
        datetime.fromtimestamp(status.st_mtime, UTC),
        path,
    )


def _in_lake(lake: Lake, path: str) -> Iterator[Found]:
    key = path.removeprefix(LAKE)
    folder, pattern = split_pattern(key)
    if not folder or key.startswith("/"):
        raise LookbookError(
            f"path {path} names no folder of the lake.", "Name one before the first *: lake://feeds/*.csv."
        )
    wanted = compiled(pattern)
    for info in lake.list(folder):
        relative = info.key.removeprefix(folder + "/")
        if wanted.fullmatch(relative) if is_pattern(pattern) else relative == pattern:
            name = info.key.rpartition("/")[2]
            fingerprint = f"object:{info.version}:{info.size}"
            yield Found(LAKE + info.key, name, fingerprint, info.modified, key=info.key)


@contextmanager
def local(found: Found, lake: Lake, scratch: Path) -> Iterator[Path]:
    """Yield the file on this machine; an object of a bucket is there while the block runs."""
    if found.path is not None:
        yield found.path
        return
    folder = Path(tempfile.mkdtemp(dir=scratch, prefix="object-"))
    try:
        yield lake.local_copy(found.key, folder)
    finally:
        shutil.rmtree(folder, ignore_errors=True)
