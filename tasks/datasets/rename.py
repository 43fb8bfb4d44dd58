"""Renaming: a dataset is made under another name, with all of its snapshots. What these list lies where it lay."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable

import asyncpg
from pydantic import BaseModel, ValidationError

from lookbook.blocks.errors import LookbookError, ObjectNotFoundError, UsageError
from lookbook.blocks.lake import Lake, ObjectInfo, snapshots_folder
from lookbook.blocks.registry import raised
from lookbook.blocks.workspace import Workspace
from lookbook.tasks.datasets.candidates import Candidate, candidate_key, published_ids
from lookbook.tasks.datasets.gc import datasets_of, read_now
from lookbook.tasks.datasets.manifest import (
    Current,
    Manifest,
    SnapshotFile,
    current_key,
    read_manifest,
    read_published,
    require_published,
)
from lookbook.tasks.datasets.restore import REPORT, titled
from lookbook.tasks.runs.lease import confirm

#: Folders of a dataset, beside its snapshots, that go along.
COPIED = ("predictions", "receipts")


class Renaming(BaseModel):
    """The content of the note that stands in a dataset while it is made of another one."""

    of: str


def renaming_key(dataset: str) -> str:
    """Return the note that a dataset is being made of another one: who renames again goes on."""
    return f"datasets/{dataset}/renaming"


def check_names(workspace: Workspace, old: str, new: str) -> None:
    """See that a dataset can have another name; the caller holds the leases of both.

    Raises:
        UsageError: the new name is taken.
        LookbookError: there is no such dataset, or an export reads it.
    """
    lake = workspace.lake
    if _is_begun(lake, old, new):
        return
    require_published(lake, old)
    if new in datasets_of(lake):
        raise UsageError(
            f"{new}: there is a dataset of this name, or something is left of one.",
            f'Choose another name, or "lookbook remove {new}" first.',
        )
    read = read_now(workspace.registry, old)
    if read:
        raise LookbookError(f"{old}: an export reads its snapshot {min(read)}.", "Wait for it, or end it.")


def _is_begun(lake: Lake, old: str, new: str) -> bool:
    try:
        return old != new and Renaming.model_validate_json(lake.get(renaming_key(new))).of == old
    except (ObjectNotFoundError, ValidationError):
        return False


def make_renamed(workspace: Workspace, old: str, new: str, step: Callable[[str], object]) -> None:
    """Make the dataset `new` of `old`: its snapshots, candidates, tags, checks and predictions; its current last.

    The caller holds the leases of both. Killed anywhere and done again, it goes on. What runs left of the old one
    (batches, rejects of a run that published nothing) is not taken along, nor are its exports.

    Args:
        workspace: where the dataset lives.
        old: its name.
        new: the name that it gets.
        step: told of each step before it is done.

    Raises:
        LookbookError: a file of a snapshot is missing, or both have gone on since it was begun.
    """
    lake, made = workspace.lake, read_published(workspace.lake, new)
    if made is None:
        _copy(workspace, old, new, step)
        return
    left = read_published(lake, old)  # where the run that made it was killed before it was removed
    if left is not None and left.manifest.snapshot_id not in published_ids(lake, new):
        raise LookbookError(
            f"{new} was made of {old}, which has gone on since: {left.manifest.snapshot_id} is not in {new}.",
            f'"lookbook remove {old}" or "lookbook remove {new}" removes the one that you do not want.',
        )


def _copy(workspace: Workspace, old: str, new: str, step: Callable[[str], object]) -> None:
    lake, published = workspace.lake, require_published(workspace.lake, old).manifest
    step("note")
    lake.replace(renaming_key(new), Renaming(of=old).model_dump_json().encode())
    checksums, copied = {}, set[str]()
    for snapshot_id in lake.folders(snapshots_folder(old)):
        manifest = read_manifest(lake, old, snapshot_id)
        if manifest is not None:  # else it was never published, or is removed
            step("snapshot")
            checksums[snapshot_id] = _copy_snapshot(lake, manifest, new, copied)
    step("others")
    for info in lake.list(f"datasets/{old}"):
        _copy_other(lake, info, old, new, checksums)
    step("current")
    lake.settle()
    confirm(workspace.registry)
    checksum = checksums[published.snapshot_id]
    current = Current(snapshot_id=published.snapshot_id, manifest_sha256=checksum, fences=raised({}))
    lake.swap(current_key(new), current.model_dump_json(exclude_defaults=True).encode(), None)


def _copy_snapshot(lake: Lake, manifest: Manifest, new: str, copied: set[str]) -> str:
    """Copy the files of a snapshot that are not `copied` yet, its manifest last; returns the checksum of that."""
    made = manifest.model_copy(update={"dataset": new, "files": []})
    for file in manifest.files:
        if manifest.key(file) not in copied:
            data = lake.get(manifest.key(file))
            if file.name == REPORT:
                data = titled(data, f"The dataset was called {manifest.dataset} when this report was made.")
                file = SnapshotFile(name=REPORT, size=len(data), sha256=hashlib.sha256(data).hexdigest())  # noqa: PLW2901
            lake.put(made.key(file), data)
            copied.add(manifest.key(file))
        made.files.append(file)
    made.summary = manifest.summary | {"dataset": new, "report": lake.uri(f"{made.folder}/{REPORT}")}
    text = json.dumps(made.model_dump(mode="json"), indent=1, sort_keys=True).encode()
    lake.put(f"{made.folder}/manifest.json", text)
    return hashlib.sha256(text).hexdigest()


def _copy_other(lake: Lake, info: ObjectInfo, old: str, new: str, checksums: dict[str, str]) -> None:
    """Copy an object of a dataset that is of no snapshot, if it goes along."""
    name = info.key.removeprefix(f"datasets/{old}/")
    kind, _, rest = name.partition("/")
    if name in {"tags.json", "checks.json", "removed.json", "forgotten.json", "forgetting"} or kind in COPIED:
        lake.replace(f"datasets/{new}/{name}", lake.get(info.key))
    elif kind == "candidates" and rest in checksums:
        note = Candidate.model_validate_json(lake.get(info.key))
        changed = note.model_copy(update={"manifest_sha256": checksums[rest]})
        lake.replace(candidate_key(new, rest), changed.model_dump_json().encode())


def rename_runs(workspace: Workspace, old: str, new: str) -> None:
    """Let the runs of a dataset be listed under its new name."""

    async def work(connection: asyncpg.Connection[asyncpg.Record]) -> None:
        await connection.execute("UPDATE runs SET dataset = $2 WHERE dataset = $1", old, new)

    workspace.registry.run(work)


def end_renaming(workspace: Workspace, new: str) -> None:
    """Remove the note: the old name is gone."""
    workspace.lake.remove(renaming_key(new))
