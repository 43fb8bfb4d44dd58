"""Verifying a dataset: manifest, objects, registry and warehouse are read again and compared."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial

import pyarrow as pa
import pyarrow.compute as pc

from blocks.errors import LookbookError, ObjectNotFoundError
from blocks.lake import Lake
from blocks.workspace import Workspace
from tasks.datasets import follow
from tasks.datasets.manifest import Manifest, require_published
from tasks.datasets.registry_index import registry_differences
from tasks.datasets.repair import redraw, restore_original
from tasks.images.parquet import from_parquet
from tasks.tables.models import load_models


@dataclass(frozen=True)
class Difference:
    """One thing that is not as the manifest says: a line for the user, and how to mend it, where that can be done."""

    line: str
    mend: Callable[[], None] | None = None


@dataclass(frozen=True)
class Verified:
    """What a verification found: the snapshot, how many objects were read, and all differences."""

    snapshot_id: str
    objects: int
    differences: list[Difference]


def verify(workspace: Workspace, dataset: str) -> Verified:
    """Read everything that a dataset's current snapshot consists of, and compare.

    Raises:
        LookbookError: there is no such dataset, or CURRENT or its manifest can't be read.
    """
    manifest = require_published(workspace.lake, dataset).manifest
    damaged, tables = _read_files(workspace.lake, manifest)
    if damaged:  # without its tables nothing else of a snapshot can be judged
        return Verified(manifest.snapshot_id, len(manifest.files), damaged)
    objects = list(_objects(workspace.lake, manifest, tables))
    differences = [found for found in objects if found is not None]
    differences += [
        Difference(line, partial(follow.index, workspace, manifest))
        for line in registry_differences(workspace.registry, manifest, tables)
    ]
    job = follow.snapshot_load(workspace, manifest)
    differences += [
        Difference(line, partial(follow.load, workspace, manifest))
        for line in workspace.warehouse.differences(job, load_models())
    ]
    return Verified(manifest.snapshot_id, len(manifest.files) + len(objects), differences)


def repair(found: Verified) -> list[str]:
    """Mend what can be mended; says for each difference what came of it."""
    said = []
    for difference in found.differences:
        if difference.mend is None:
            said.append(f"{difference.line}: cannot be mended from what is here; ingest the source again")
            continue
        try:
            difference.mend()
            said.append(f"{difference.line}: mended")
        except (LookbookError, OSError) as error:
            said.append(f"{difference.line}: not mended: {error}")
    return said


def _read_files(lake: Lake, manifest: Manifest) -> tuple[list[Difference], dict[str, pa.Table]]:
    damaged, tables = [], {}
    for file in manifest.files:
        key = f"{manifest.folder}/{file.name}"
        data = _get(lake, key)
        fault = _fault(data, file.sha256)
        if fault:
            damaged.append(Difference(f"lake: {key} {fault}"))
        elif data is not None and file.rows is not None:
            tables[file.name.removesuffix(".parquet")] = from_parquet(data)[0]
    return damaged, tables


def _objects(lake: Lake, manifest: Manifest, tables: dict[str, pa.Table]) -> Iterator[Difference | None]:
    """One entry for each object that the snapshot needs: a difference, or None where all is well."""
    images = tables["images"]
    kept = images.filter(pc.is_valid(images.column("original_key")))
    originals = {row["original_key"]: row for row in kept.select(["key", "original_key", "sha256"]).to_pylist()}
    for key, row in sorted(originals.items()):
        fault = _fault(_get(lake, key), row["sha256"])
        yield _difference(key, fault, partial(restore_original, lake, manifest, row))
    original_of = {row["sha256"]: key for key, row in originals.items()}
    for row in tables["outputs"].to_pylist():
        fault = _fault(_get(lake, row["object_key"]), row["output_sha256"])
        yield _difference(row["object_key"], fault, partial(redraw, lake, manifest, row, original_of[row["sha256"]]))


def _difference(key: str, fault: str | None, mend: Callable[[], None]) -> Difference | None:
    return Difference(f"lake: {key} {fault}", mend) if fault else None


def _get(lake: Lake, key: str) -> bytes | None:
    try:
        return lake.get(key)
    except ObjectNotFoundError:
        return None


def _fault(data: bytes | None, sha256: str) -> str | None:
    if data is None:
        return "is missing"
    if hashlib.sha256(data).hexdigest() != sha256:
        return "is damaged: its checksum differs from the manifest's"
    return None
