"""Files as sources: where they lie, paths with wildcards, and which of them are new."""

from __future__ import annotations

import os
import re
import shutil
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from functools import lru_cache
from pathlib import Path
from typing import Any

from lookbook.blocks.errors import LookbookError, ObjectNotFoundError, OutOfReachError
from lookbook.blocks.lake import Lake
from lookbook.blocks.settings import read_settings
from lookbook.tasks.tables.context import Context
from lookbook.tasks.tables.extract.files import Reading, read_file, read_or_reject
from lookbook.tasks.tables.extract.pieces import Notes, Piece, TakenInput, UnreadableError
from lookbook.tasks.tables.extract.stage_rows import known_fingerprints, running_digest
from lookbook.tasks.tables.spec.tasks import FileSource, ObjectsSource
from lookbook.tasks.tables.spec.values import render

_MAGIC = re.compile(r"[*?\[]")


def is_pattern(path: str) -> bool:
    """Return whether it has a sign that stands for others."""
    return _MAGIC.search(path) is not None


def split_pattern(path: str) -> tuple[str, str]:
    """Return the folder before the first part with such a sign, and the rest: of a path without one its last part.

    Returns:
        As in ``("a/b", "*.csv")``; the folder is empty where there is none.
    """
    parts = path.split("/")
    fixed = next((number for number, part in enumerate(parts) if is_pattern(part)), len(parts) - 1)
    folder = "/".join(parts[:fixed])
    return (folder or "/" if path.startswith("/") else folder), "/".join(parts[fixed:])


@lru_cache
def compiled(pattern: str) -> re.Pattern[str]:
    """Return what matches relative paths: ``*`` takes no slash, ``**`` any folders, neither a hidden name.

    Raises:
        LookbookError: its brackets make no sense.
    """
    parts = pattern.split("/")
    expression = ""
    for number, part in enumerate(parts):
        last = number == len(parts) - 1
        if part == "**":
            expression += r"(?:[^/.][^/]*/)*" + (r"[^/.][^/]*" if last else "")
        else:
            expression += _segment(part) + ("" if last else "/")
    try:
        return re.compile(expression, re.DOTALL)
    except re.error as error:
        raise LookbookError(f"path {pattern}: {error}.", "In brackets stand signs or ranges of them: [0-9].") from error


def _segment(part: str) -> str:
    expression = r"(?!\.)" if is_pattern(part[:1]) else ""
    position = 0
    while position < len(part):
        sign = part[position]
        position += 1
        if sign == "*":
            expression += "[^/]*"
        elif sign == "?":
            expression += "[^/]"
        elif sign == "[" and (end := part.find("]", position + 1)) > 0:
            inner = part[position:end].replace("\\", r"\\").replace("[", r"\[").replace("^", r"\^")
            expression += f"(?!/)[{'^' + inner[1:] if inner.startswith('!') else inner}]"
            position = end + 1
        else:
            expression += re.escape(sign)
    return expression


def matching(folder: Path, pattern: str) -> Iterator[tuple[str, Path]]:
    """Yield the files below a folder whose relative path matches, in order; links to folders are not followed.

    Returns:
        The relative path with slashes, and the file.
    """
    wanted = compiled(pattern)
    deepest = None if "**" in pattern.split("/") else pattern.count("/")
    for root, folders, names in os.walk(folder):
        relative = os.path.relpath(root, folder)
        depth = 0 if relative == "." else relative.count(os.sep) + 1
        if deepest is not None and depth >= deepest:
            folders.clear()
        folders.sort()
        for name in sorted(names):
            found = name if relative == "." else f"{relative}/{name}"
            path = Path(root, name)
            if wanted.fullmatch(found) and path.is_file():
                yield found, path


LAKE, INBOX = "lake://", "inbox://"


@dataclass(frozen=True)
class FoundFile:
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


def find_files(lake: Lake, folder: Path, path: str) -> list[FoundFile]:
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


def _on_machine(root: Path, path: str) -> Iterator[FoundFile]:
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


def described(path: Path, address: str) -> FoundFile:
    """Return a file of this machine as it stands now."""
    status = path.stat()
    return FoundFile(
        os.fsencode(address).decode("utf-8", "backslashreplace"),
        path.name,
        f"mtime:{status.st_mtime_ns}:{status.st_size}",
        datetime.fromtimestamp(status.st_mtime, UTC),
        path,
    )


def _in_lake(lake: Lake, path: str) -> Iterator[FoundFile]:
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
            yield FoundFile(LAKE + info.key, name, fingerprint, info.modified, key=info.key)


@contextmanager
def local(found: FoundFile, lake: Lake, scratch: Path) -> Iterator[Path]:
    """Yield the file on this machine; an object of a bucket is there while the block runs."""
    if found.path is not None:
        yield found.path
        return
    folder = Path(tempfile.mkdtemp(dir=scratch, prefix="object-"))
    try:
        yield lake.local_copy(found.key, folder)
    finally:
        shutil.rmtree(folder, ignore_errors=True)


#: A file that was changed within this time may still be written: it is looked at again after it.
SETTLE = timedelta(seconds=1)


def read_files(context: Context, source: FileSource, notes: Notes) -> Iterator[Piece]:
    """Yield the rows of all files that the source names.

    Raises:
        LookbookError: there is none, or one cannot be read.
    """
    path = render(source.path, context.logical_date, context.params)
    found = find_files(context.workspace.lake, context.folder, path)
    if not found:
        raise LookbookError(
            f"path {path}: there is no such file.",
            f"Relative paths begin at {context.folder}. Where files may be missing take a source of type objects.",
        )
    reading = _reading(context, source)
    for file in found:
        notes.inputs.append(file.address)
        try:
            with local(file, context.workspace.lake, context.workspace.scratch) as here:
                yield from read_file(here, file.name, file.address, reading)
        except UnreadableError as error:
            raise error.for_user(file.address) from error
        except (FileNotFoundError, ObjectNotFoundError) as error:
            raise _removed(file) from error


def read_objects(context: Context, name: str, source: ObjectsSource, notes: Notes) -> Iterator[Piece]:
    """Yield the rows of the files that were not taken yet, or changed since; the oldest first.

    What counts is which were taken, and not their times: late or equal ones are neither lost nor doubled.
    """
    path = render(source.path, context.logical_date, context.params)
    found = find_files(context.workspace.lake, context.folder, path)
    registry = context.workspace.registry
    known = known_fingerprints(registry, context.pipeline.name, name, [file.address for file in found])
    fresh = settled([file for file in found if known.get(file.address) != file.fingerprint])
    fresh.sort(key=lambda file: (file.modified or datetime.min.replace(tzinfo=UTC), file.address))
    reading = _reading(context, source)
    taken: list[TakenInput] = []
    for file in fresh:
        notes.inputs.append(file.address)
        taken.append(TakenInput(file.address, file.fingerprint, file.modified))
        try:
            with local(file, context.workspace.lake, context.workspace.scratch) as here:
                yield from read_or_reject(here, file.name, file.address, reading)
        except (FileNotFoundError, ObjectNotFoundError) as error:
            raise _removed(file) from error
    notes.taken = taken
    notes.state = state_after(context.states.get(name, {}), taken)


def state_after(before: Mapping[str, Any], taken: Sequence[TakenInput]) -> dict[str, object]:
    """Return the state of a source that takes each file once.

    Args:
        before: its state at the last commit.
        taken: since then.
    """
    times = [file.modified.isoformat() for file in taken if file.modified]
    return {
        "watermark": max([*times, *filter(None, [before.get("watermark")])], default=None),
        "taken": int(before.get("taken", 0)) + len(taken),
        "files": running_digest(before.get("files", ""), taken) if taken else before.get("files", ""),
    }


def settled(files: Sequence[FoundFile]) -> list[FoundFile]:
    """Return the files that nobody is writing: the others are left to the next run."""
    border = datetime.now(UTC) - SETTLE
    young = [file for file in files if file.path and file.modified and file.modified > border]
    if young:
        time.sleep(SETTLE.total_seconds())
    moving = {file.address for file in young if not _rests(file)}
    return [file for file in files if file.address not in moving]


def _rests(file: FoundFile) -> bool:
    try:
        return file.path is not None and described(file.path, file.address).fingerprint == file.fingerprint
    except FileNotFoundError:
        return False


def _removed(file: FoundFile) -> OutOfReachError:
    return OutOfReachError(f"{file.address} was removed while it was read.", "Run it again.")


def _reading(context: Context, source: FileSource | ObjectsSource) -> Reading:
    return Reading(source.format, source.csv, context.workspace.scratch)
