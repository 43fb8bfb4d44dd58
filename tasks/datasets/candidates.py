"""Candidates: snapshots that are whole, and were not published because checks failed; each stands by a note."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime

from pydantic import BaseModel

from lookbook.blocks.lake import Lake
from lookbook.tasks.datasets.manifest import Manifest, read_manifest, read_published, walk_snapshots


class Candidate(BaseModel):
    """The content of a note.

    Attributes:
        manifest_sha256: checksum of the manifest, as CURRENT has it of a published snapshot.
        failed: names of the checks because of which it was not published.
    """

    format_version: int = 1
    created_at: datetime
    manifest_sha256: str
    failed: list[str]


def candidate_key(dataset: str, snapshot_id: str = "") -> str:
    """Return the note by which a snapshot that no CURRENT ever named stays; without an id the folder of them."""
    return f"datasets/{dataset}/candidates" + (f"/{snapshot_id}" if snapshot_id else "")


def candidate_ids(lake: Lake, dataset: str) -> list[str]:
    """Return the ids of a dataset's candidates, newest first: one, or none.

    There may be more before the first snapshot is published, or for as long as a run is at work.
    """
    return sorted((info.key.rpartition("/")[2] for info in lake.list(candidate_key(dataset))), reverse=True)


def walk_candidates(lake: Lake, dataset: str) -> Iterator[Manifest]:
    """Yield the manifests of a dataset's candidates, newest first; one that is gone or damaged is left out."""
    for snapshot_id in candidate_ids(lake, dataset):
        found = read_manifest(lake, dataset, snapshot_id)
        if found is not None:
            yield found


def is_candidate(lake: Lake, manifest: Manifest) -> bool:
    """Return whether a snapshot is a candidate; one whose run was killed right after it published it is none."""
    if manifest.snapshot_id not in candidate_ids(lake, manifest.dataset):
        return False
    return manifest.snapshot_id not in published_ids(lake, manifest.dataset)


def published_ids(lake: Lake, dataset: str) -> set[str]:
    """Return the ids of all published snapshots of a dataset; none where there is no such dataset."""
    if read_published(lake, dataset) is None:
        return set()
    return {manifest.snapshot_id for manifest in walk_snapshots(lake, dataset)}
