"""Where exports go: the lake, or a folder, in which one appears whole or not at all."""

from __future__ import annotations

import errno
import json
import shutil
import threading
from collections import deque
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import fasteners

from lookbook.blocks.errors import LookbookError, UsageError, raise_if_full
from lookbook.blocks.lake import ASIDE, OBJECTS_AHEAD, READING_THREADS, FolderLake, Lake
from lookbook.tasks.exports.build import ExportFolder
from lookbook.tasks.exports.export import EXPORT_JSON, PreparedExport, build
from lookbook.tasks.exports.finished import Finished, find_finished, place_of, require_finished, wrong_files
from lookbook.tasks.images.jobs import DoBatches
from lookbook.tasks.runs.parameters import BATCH_SIZE

_entering = threading.Lock()
_at_work: set[Path] = set()


@dataclass(frozen=True)
class Exported:
    """What an export gave.

    Attributes:
        id: equal for equal requests of equal snapshots.
        uri: where it lies.
        answered: it was there, and nothing was made.
        books: what was chosen, exported and left out; see `export.build`.
    """

    id: str
    uri: str
    answered: bool
    books: dict[str, Any]


def export_to_lake(
    lake: Lake,
    prepared: PreparedExport,
    scratch: Path | None = None,
    do: DoBatches | None = None,
    batch_size: int = BATCH_SIZE,
) -> Exported:
    """Export into the lake, under ``exports/<id>``; the manifest comes last.

    Args:
        lake: of the dataset, and where to.
        prepared: the request.
        scratch: a folder for files that grow.
        do: see `export.build`.
        batch_size: likewise.

    Raises:
        LookbookError: see `export.build`.
    """
    place = place_of(lake, prepared.id)
    found = find_finished(lake, prepared.id)
    if found is not None and found.is_whole():
        return Exported(prepared.id, lake.uri(place.folder.rstrip("/")), True, found.books)
    lake.remove(f"{place.folder}manifest.json")
    books = build(lake, prepared, place, scratch, do, batch_size)
    return Exported(prepared.id, lake.uri(place.folder.rstrip("/")), False, books)


def export_to_archive(lake: Lake, prepared: PreparedExport, scratch: Path | None = None) -> tuple[Exported, Finished]:
    """Export into the lake, to be streamed from there as one archive."""
    exported = export_to_lake(lake, prepared, scratch)
    return exported, require_finished(lake, prepared.id)


def export_to_folder(
    lake: Lake,
    prepared: PreparedExport,
    out: Path,
    do: DoBatches | None = None,
    batch_size: int = BATCH_SIZE,
    *,
    by_way_of: Path | None = None,
) -> Exported:
    """Export into a folder. It is built beside it, and appears there when it is complete.

    Args:
        lake: of the dataset.
        prepared: the request.
        out: the folder, which is not there yet, is empty, or holds this very export.
        do: see `export.build`.
        batch_size: likewise.
        by_way_of: where the batches are done by processes that may not see the folder: a folder for files that grow.
            The export is made in the lake, stays there, and its files are brought here.

    Raises:
        UsageError: something else stands there, or it lies inside the lake.
        LookbookError: another run is exporting there; or see `export.build`.
    """
    out = _checked(lake, out)
    with _disk_faults(out):
        if _holds(prepared, out):
            return Exported(prepared.id, str(out), True, _books_in(out))
    made = export_to_lake(lake, prepared, by_way_of, do, batch_size) if by_way_of is not None else None
    with _disk_faults(out):
        aside = out.with_name(f".{out.name}.{prepared.id}.partial")
        aside.mkdir(parents=True, exist_ok=True)
        with _alone(aside, out):
            if made is None:
                place = ExportFolder(FolderLake(root=aside), "")
                books = build(lake, prepared, place, aside / "scratch", do, batch_size)
            else:
                books = made.books
                _bring(require_finished(lake, prepared.id), aside / "files")
            _move(prepared, aside / "files", out)
            shutil.rmtree(aside, ignore_errors=True)
    return Exported(prepared.id, str(out), False, books)


@contextmanager
def _alone(aside: Path, out: Path) -> Iterator[None]:
    """Keep two that export into one folder apart: a lock file those of two processes, a set those of one."""
    lock = fasteners.InterProcessLock(aside / "lock")
    with _entering:
        free = aside not in _at_work and lock.acquire(blocking=False)
        if not free:
            raise LookbookError(f"--out {out}: another run is exporting there.", "Wait for it.")
        _at_work.add(aside)
    try:
        yield
    finally:
        _at_work.discard(aside)
        lock.release()


def _checked(lake: Lake, out: Path) -> Path:
    try:
        root = out.expanduser().resolve()
    except (RuntimeError, ValueError) as error:  # ~nobody, links in a circle; NUL
        raise UsageError(f"--out {str(out)!r}: no folder: {error}.", "Name a folder.") from error
    if isinstance(lake, FolderLake) and (root == lake.root.resolve() or lake.root.resolve() in root.parents):
        raise UsageError(f"--out {out}: this folder belongs to the lake.", "Name one outside of it.")
    return root


def _holds(prepared: PreparedExport, out: Path) -> bool:
    """Return whether a folder holds this export.

    Raises:
        UsageError: it holds something else.
        LookbookError: it holds this export, but not as it was made.
    """
    if not out.exists():
        return False
    if not out.is_dir():
        raise UsageError(f"--out {out}: a file stands there.", "Name a folder that is not there yet.")
    if next(out.iterdir(), None) is None:
        return False
    try:
        found = json.loads((out / EXPORT_JSON).read_text(encoding="utf-8"))["id"]
    except (OSError, ValueError, KeyError, TypeError):
        found = None
    if found != prepared.id:
        what = f"another export, {found}," if found else "something"
        raise UsageError(f"--out {out}: {what} stands there.", "Name a folder that is not there yet, or remove it.")
    wrong = wrong_files(out)
    if wrong:
        raise LookbookError(
            f"--out {out}: this export stands there, but {wrong[0]} is not as it was made ({len(wrong)} files).",
            "Remove the folder, and export again.",
        )
    return True


def _books_in(out: Path) -> dict[str, Any]:
    document = json.loads((out / EXPORT_JSON).read_text(encoding="utf-8"))
    return {name: value for name, value in document.items() if name not in {"id", "request", "snapshot", "versions"}}


def _bring(finished: Finished, files: Path) -> None:
    """Write the files of an export in the lake into a folder; each is compared with its checksum."""
    here = FolderLake(root=files)
    with ThreadPoolExecutor(READING_THREADS, thread_name_prefix="bring") as pool:
        for some in finished.files.select(["name"]).to_batches(OBJECTS_AHEAD):
            names = some["name"].to_pylist()
            deque(pool.map(lambda name: here.replace(name, finished.read(name)), names), maxlen=0)
    here.settle()
    shutil.rmtree(files / ASIDE, ignore_errors=True)


def _move(prepared: PreparedExport, files: Path, out: Path) -> None:
    try:
        files.rename(out)
    except OSError as error:
        if error.errno not in (errno.ENOTEMPTY, errno.EEXIST, errno.ENOTDIR) or not _holds(prepared, out):
            raise


@contextmanager
def _disk_faults(out: Path) -> Iterator[None]:
    """Tell of the folder that was asked for: to whoever exports there it is no lake."""
    try:
        yield
    except (OSError, LookbookError) as error:
        cause = error if isinstance(error, OSError) else error.__cause__
        if not isinstance(cause, OSError) or isinstance(cause, FileNotFoundError):
            raise
        raise_if_full(
            cause, f"--out {out}: no space left.", "Free some, then export again: what is done already stays."
        )
        raise LookbookError(
            f"--out {out} cannot be written: {cause.strerror or cause}.", "Name a folder that you may write to."
        ) from cause
