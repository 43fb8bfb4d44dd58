"""Restoring: an older snapshot is published once more, under a new id; its tables are shared, nothing is made anew."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import UTC, datetime
from html import escape
from pathlib import Path
from typing import Any

from lookbook.blocks.errors import UsageError
from lookbook.blocks.lake import OBJECTS_AHEAD, READING_THREADS, Lake, fault_of
from lookbook.blocks.workspace import Workspace, scratch_folder
from lookbook.tasks.datasets.candidates import is_candidate
from lookbook.tasks.datasets.manifest import (
    DamagedSnapshotError,
    Manifest,
    file_faults,
    is_piece,
    new_snapshot_id,
    require_published,
)
from lookbook.tasks.datasets.publish import commit, write_file, writing
from lookbook.tasks.datasets.tags import find_snapshot
from lookbook.tasks.runs.lease import confirm

#: Objects that are all looked for; of more, only those that the current snapshot does not list.
MOST_LOOKED_FOR = 100_000
#: The tables that list objects, each with the column of their keys; and what may be held of them in memory.
KEYS = {"images": "original_key", "outputs": "object_key"}
MEMORY = "400MB"
#: Of what is missing, so many are named.
NAMED = 3
REPORT = "report.html"
#: Behind this a report says what it is the report of.
_BODY = b"<body>"


@dataclass(frozen=True)
class Restored:
    """How a restore ended.

    Attributes:
        summary: of the snapshot that is current now.
        published: whether it is a new one.
        note: why nothing was published, else "".
    """

    summary: dict[str, Any]
    published: bool
    note: str


def restore_snapshot(workspace: Workspace, dataset: str, name: str, started: datetime) -> Restored:
    """Publish a snapshot that equals an older one, unless the current one does. The caller holds the dataset's lease.

    Args:
        workspace: where the dataset lives.
        dataset: its name.
        name: the id of the older snapshot, or a tag of it.
        started: when the run began.

    Raises:
        UsageError: there is no such snapshot, or it is a candidate.
        DamagedSnapshotError: a file or an object of it is missing or changed: it is not to be trusted.
        LookbookError: there is no such dataset, or another run published meanwhile.
    """
    lake, before = workspace.lake, require_published(workspace.lake, dataset)
    old, current = find_snapshot(lake, dataset, name), before.manifest
    if is_candidate(lake, old):
        raise UsageError(
            f"{dataset}: {old.snapshot_id} is a candidate: it was never published, because checks failed.",
            f'"lookbook publish {dataset} {old.snapshot_id}" publishes it all the same.',
        )
    if old.digest == current.digest and not file_faults(lake, current):
        equals = "is current" if old.snapshot_id == current.snapshot_id else f"is what {current.snapshot_id} holds"
        note = f"nothing to do: {old.snapshot_id} {equals} already"
        kept = {"snapshot": current.snapshot_id, "restored_from": current.restored_from, "published": False}
        return Restored(current.summary | kept, False, note)
    _refuse(old, file_faults(lake, old))
    _refuse(old, _lost_objects(workspace, old, current))
    now = datetime.now(UTC)
    manifest = old.model_copy(
        update={
            "snapshot_id": new_snapshot_id(now, old.digest),
            "created_at": now,
            "previous": current.snapshot_id,
            "restored_from": old.snapshot_id,
            "files": [],
        }
    )
    with writing(lake, manifest):
        for file in old.files:
            if is_piece(file):  # both have it
                manifest.files.append(file)
                continue
            key = old.key(file)
            data = lake.get(key)
            if fault := fault_of(data, file.sha256):  # since it was looked at
                _refuse(old, [f"{key} {fault}"])
            if file.name == REPORT:
                data = titled(data, _restored(manifest))
            manifest.files.append(write_file(lake, manifest.folder, file.name, data, file.rows))
        manifest.summary = _summary(lake, manifest, (datetime.now(UTC) - started).total_seconds())
        confirm(workspace.registry)
        commit(lake, manifest, before)
    return Restored(manifest.summary, True, "")


def _summary(lake: Lake, manifest: Manifest, seconds: float) -> dict[str, Any]:
    """Return the summary of the older snapshot, its counts with it, and what this run did: it drew nothing."""
    return manifest.summary | {
        "snapshot": manifest.snapshot_id,
        "restored_from": manifest.restored_from,
        "published": True,
        "checks": [],  # they were about a step that this one is not
        "outputs": dict.fromkeys(manifest.summary.get("outputs", {}), 0),
        "seconds": round(seconds, 2),
        "images_per_second": round(manifest.summary["images"]["found"] / max(seconds, 1e-3), 1),
        "report": lake.uri(f"{manifest.folder}/{REPORT}"),
    }


def _restored(manifest: Manifest) -> str:
    return (
        f"Snapshot {manifest.snapshot_id}, restored at {manifest.created_at:%Y-%m-%d %H:%M} UTC. It equals "
        f"{manifest.restored_from}, and this is the report of that one."
    )


def titled(report: bytes, told: str) -> bytes:
    """Return a report that says something first: where it holds for another snapshot than the one it was made of."""
    return report.replace(_BODY, _BODY + f'\n<p role="note"><strong>{escape(told)}</strong></p>'.encode(), 1)


def _lost_objects(workspace: Workspace, old: Manifest, current: Manifest) -> list[str]:
    """Return the originals and outputs of a snapshot that are not there, or not with their sizes.

    Beyond `MOST_LOOKED_FOR`, those that the current snapshot lists too are taken to be there: restoring makes nothing
    of them worse, and `lookbook.tasks.datasets.verify` reads them.
    """
    folders: dict[str, dict[str, int | None]] = {}
    for key, size in _listed(workspace, old, current):
        folders.setdefault(key.rpartition("/")[0], {})[key] = size

    def lost(folder: str) -> list[str]:
        there = {info.key: info.size for info in workspace.lake.list(folder)}
        return [
            f"{key} {'is cut off or changed' if key in there else 'is missing'}"
            for key, size in folders[folder].items()
            if key not in there or size not in {None, there[key]}
        ]

    with ThreadPoolExecutor(READING_THREADS, thread_name_prefix="looking") as pool:
        return [fault for found in pool.map(lost, sorted(folders)) for fault in found]


def _listed(workspace: Workspace, old: Manifest, current: Manifest) -> Iterator[tuple[str, int | None]]:
    """Yield the objects that are to be looked for, with their sizes; DuckDB reads the tables, in little memory."""
    import duckdb  # noqa: PLC0415 - late: importing the tasks is to be quick

    rows = sum(old.rows.get(table, 0) for table in KEYS)
    # A damaged current one says nothing of what is there.
    others = [current] if rows > MOST_LOOKED_FOR and not file_faults(workspace.lake, current, KEYS) else []
    with (
        scratch_folder(workspace.scratch, "restore-") as folder,
        duckdb.connect(config={"memory_limit": MEMORY, "temp_directory": folder}) as connection,
    ):
        for table, key in KEYS.items():
            paths = [
                [str(workspace.lake.local_copy(key, Path(folder))) for key in manifest.keys(table)]
                for manifest in (old, *others)
            ]
            sql = f"SELECT DISTINCT {key}, bytes FROM read_parquet($1) WHERE {key} IS NOT NULL"  # noqa: S608 - our names
            if others:
                sql += f" AND {key} NOT IN (SELECT {key} FROM read_parquet($2) WHERE {key} IS NOT NULL)"  # noqa: S608
            found = connection.execute(sql, paths)
            while some := found.fetchmany(OBJECTS_AHEAD):
                yield from some


def _refuse(old: Manifest, faults: list[str]) -> None:
    if faults:
        more = f" and {len(faults) - NAMED} more" if len(faults) > NAMED else ""
        raise DamagedSnapshotError(
            f"{old.dataset}: {old.snapshot_id} cannot be restored: {'; '.join(faults[:NAMED])}{more}.",
            f'"lookbook verify {old.dataset} --all" says all that is wrong with it, and --repair mends what can be; '
            "or restore another one.",
        )
