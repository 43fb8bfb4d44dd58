"""A snapshot as readers find it: its manifest, and CURRENT, which names the one that holds."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import pyarrow as pa
from pydantic import BaseModel, ConfigDict, ValidationError

from blocks.errors import LookbookError, ObjectNotFoundError
from blocks.lake import Lake
from tasks.datasets.names import current_key, snapshot_folder
from tasks.images.parquet import from_parquet
from tasks.images.recipe import Recipe

#: The tables of a snapshot, each in a Parquet file of this name.
TABLES = ("images", "outputs", "products", "image_links", "rejects")


class SnapshotFile(BaseModel):
    """One file of a snapshot: its name in the snapshot's folder, bytes, checksum; rows where it is a table."""

    name: str
    size: int
    sha256: str
    rows: int | None = None


class Manifest(BaseModel):
    """What a snapshot consists of and how it was made. Written after its files, before CURRENT."""

    model_config = ConfigDict(extra="ignore")

    format_version: int = 1
    dataset: str
    snapshot_id: str
    created_at: datetime
    source: str
    digest: str
    previous: str | None
    recipe: Recipe
    rules_digest: str
    output_digests: dict[str, str]
    versions: dict[str, str]
    summary: dict[str, Any]
    files: list[SnapshotFile]

    @property
    def folder(self) -> str:
        """The lake's folder that holds the snapshot."""
        return snapshot_folder(self.dataset, self.snapshot_id)


class Current(BaseModel):
    """The content of CURRENT: a snapshot, and the checksum of its manifest."""

    snapshot_id: str
    manifest_sha256: str


@dataclass(frozen=True)
class Published:
    """The snapshot that readers see, and the version of CURRENT that named it."""

    manifest: Manifest
    version: str


def read_published(lake: Lake, dataset: str) -> Published | None:
    """The snapshot that CURRENT names, or None where nothing was published yet.

    Raises:
        LookbookError: CURRENT or the manifest is damaged or missing.
    """
    found = lake.read_version(current_key(dataset))
    if found is None:
        return None
    try:
        current = Current.model_validate_json(found[0])
        text = lake.get(f"{snapshot_folder(dataset, current.snapshot_id)}/manifest.json")
        if hashlib.sha256(text).hexdigest() != current.manifest_sha256:
            raise LookbookError(f"{dataset}: the manifest of {current.snapshot_id} was changed: its checksum differs.")
        return Published(Manifest.model_validate_json(text), found[1])
    except ValidationError as error:
        raise LookbookError(
            f"{dataset}: CURRENT or its manifest cannot be read: {error.error_count()} faults."
        ) from error
    except ObjectNotFoundError as error:
        raise LookbookError(f"{dataset}: CURRENT names a snapshot whose manifest is gone: {error.problem}") from error


def require_published(lake: Lake, dataset: str) -> Published:
    """Like `read_published`, for readers who need a snapshot.

    Raises:
        LookbookError: nothing is published under this name.
    """
    published = read_published(lake, dataset)
    if published is None:
        raise LookbookError(
            f"{dataset}: no such dataset here.",
            'See "lookbook datasets"; "lookbook ingest SOURCE --dataset NAME" makes one.',
        )
    return published


def read_table(lake: Lake, manifest: Manifest, name: str) -> pa.Table:
    """One of `TABLES` of a snapshot."""
    return from_parquet(lake.get(f"{manifest.folder}/{name}.parquet"))[0]


def list_datasets(lake: Lake) -> list[str]:
    """The names of all datasets that have a snapshot, sorted."""
    keys = (info.key for info in lake.list("datasets"))
    return sorted(key.split("/")[1] for key in keys if key.endswith("/CURRENT"))


def list_snapshots(lake: Lake, dataset: str) -> list[Manifest]:
    """The manifests of all snapshots of a dataset, newest first."""
    keys = (info.key for info in lake.list(f"datasets/{dataset}/snapshots"))
    found = [Manifest.model_validate_json(lake.get(key)) for key in keys if key.endswith("/manifest.json")]
    return sorted(found, key=lambda manifest: manifest.created_at, reverse=True)
