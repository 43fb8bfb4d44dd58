"""Sources of files: read whole at each run, or each file once."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

from lookbook.blocks.errors import LookbookError, ObjectNotFoundError, OutOfReachError
from lookbook.tasks.tables.context import Context
from lookbook.tasks.tables.extract.files import Reading, read_file, read_or_reject
from lookbook.tasks.tables.extract.inputs import known_fingerprints, running_digest
from lookbook.tasks.tables.extract.pieces import Notes, Piece, TakenInput, UnreadableError
from lookbook.tasks.tables.extract.places import Found, described, find_files, local
from lookbook.tasks.tables.spec.sources import FileSource, ObjectsSource
from lookbook.tasks.tables.spec.templates import render

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


def settled(files: Sequence[Found]) -> list[Found]:
    """Return the files that nobody is writing: the others are left to the next run."""
    border = datetime.now(UTC) - SETTLE
    young = [file for file in files if file.path and file.modified and file.modified > border]
    if young:
        time.sleep(SETTLE.total_seconds())
    moving = {file.address for file in young if not _rests(file)}
    return [file for file in files if file.address not in moving]


def _rests(file: Found) -> bool:
    try:
        return file.path is not None and described(file.path, file.address).fingerprint == file.fingerprint
    except FileNotFoundError:
        return False


def _removed(file: Found) -> OutOfReachError:
    return OutOfReachError(f"{file.address} was removed while it was read.", "Run it again.")


def _reading(context: Context, source: FileSource | ObjectsSource) -> Reading:
    return Reading(source.format, source.csv, context.workspace.scratch)
