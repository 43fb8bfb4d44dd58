"""Verifying a dataset: manifest, objects, registry and warehouse are read again and compared."""

from __future__ import annotations

import hashlib
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from itertools import islice

import pyarrow as pa
import pyarrow.compute as pc

from blocks.errors import ObjectNotFoundError
from blocks.lake import Lake
from blocks.workspace import Workspace
from tasks.datasets import follow
from tasks.datasets.lease import lease, living_owners, wait_until_free
from tasks.datasets.manifest import TABLES, Manifest, require_published
from tasks.datasets.registry_index import registry_differences
from tasks.datasets.repair import SourceFiles, redraw, restore_original
from tasks.images.parquet import from_parquet
from tasks.tables.models import load_models

#: Objects that are read at the same time: a store that answers late is kept busy.
READING_THREADS = 16
#: Objects that are asked for before the first of them is judged.
OBJECTS_AHEAD = 1000


@dataclass(frozen=True)
class Difference:
    """One thing that is not as the manifest says.

    Attributes:
        line: for the user.
        mend: mends it, where that can be done.
        follows: of registry or warehouse: a run that publishes brings them up to its snapshot in a moment.
    """

    line: str
    mend: Callable[[], None] | None = None
    follows: bool = False


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
    if len(tables) < len(TABLES):  # without its tables nothing else of a snapshot can be judged
        return Verified(manifest.snapshot_id, len(manifest.files), damaged)
    objects = list(_objects(workspace, manifest, tables))
    differences = damaged + [found for found in objects if found is not None]
    index = partial(follow.index, workspace, manifest)
    lines = registry_differences(workspace.registry, manifest, tables)
    differences += [Difference(line, index, follows=True) for line in lines]
    load = partial(follow.load, workspace, manifest)
    with follow.snapshot_load(workspace, manifest) as job:
        lines = workspace.warehouse.differences(job, load_models())
    differences += [Difference(line, load, follows=True) for line in lines]
    return Verified(manifest.snapshot_id, len(manifest.files) + len(objects), differences)


def verify_or_repair(
    workspace: Workspace,
    dataset: str,
    mend: bool,
    patience: float = 0,
    waiting: Callable[[str], object] = lambda _: None,
) -> tuple[Verified, list[str]]:
    """Verify a dataset; with `mend`, mend what can be mended under the dataset's lease, and verify once more.

    Args:
        workspace: where it lives.
        dataset: its name.
        mend: whether to mend.
        patience: seconds to wait for a run that is at work on the dataset, where that is in the way.
        waiting: told what is waited for.

    Returns:
        What was found at last, and one line for each thing that was to be mended.

    Raises:
        LookbookError: as `verify`; or another run is at work on the dataset that is to be mended.
    """
    if not mend:
        return _verify_beside_runs(workspace, dataset, patience, waiting), []
    with lease(
        workspace.registry, f"dataset/{dataset}", patience, waiting
    ):  # a run that publishes meanwhile would be set back
        repairs = repair(verify(workspace, dataset))
        return verify(workspace, dataset), repairs


def _verify_beside_runs(
    workspace: Workspace, dataset: str, patience: float, waiting: Callable[[str], object]
) -> Verified:
    """Verify; where registry or warehouse differ while a run may be publishing, wait for it and verify again.

    Objects of the lake never change, so what differs there counts at once. What differs after `patience` seconds
    counts, whoever is at work.
    """
    name, deadline = f"dataset/{dataset}", time.monotonic() + patience
    while True:
        busy = name in living_owners(workspace.registry)
        found = verify(workspace, dataset)
        if not any(difference.follows for difference in found.differences) or time.monotonic() >= deadline:
            return found
        busy = busy or name in living_owners(workspace.registry)
        if not busy and require_published(workspace.lake, dataset).manifest.snapshot_id == found.snapshot_id:
            return found
        waiting(f"{name}: a run is at work on it, and registry or warehouse differ; it is verified again.")
        wait_until_free(workspace.registry, name, deadline - time.monotonic())


def repair(found: Verified) -> list[str]:
    """Mend what can be mended; says for each difference what came of it.

    What mends many lines (a registry or a warehouse that is filled anew) is done once. The caller holds the
    dataset's lease: a run that publishes meanwhile would be set back.
    """
    outcomes: dict[Callable[[], None] | None, str] = {
        None: "cannot be mended from what is here; ingest the source again"
    }
    for difference in found.differences:
        if difference.mend is not None and difference.mend not in outcomes:
            outcomes[difference.mend] = _mended(difference.mend)
    return [f"{difference.line}: {outcomes[difference.mend]}" for difference in found.differences]


def _mended(mend: Callable[[], None]) -> str:
    try:
        mend()
    except Exception as error:  # noqa: BLE001 - whatever fails is told, and the others are mended all the same
        return f"not mended: {error}"
    return "mended"


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


def _objects(workspace: Workspace, manifest: Manifest, tables: dict[str, pa.Table]) -> Iterator[Difference | None]:
    """One entry for each object that the snapshot needs: a difference, or None where all is well."""

    def judged(needed: tuple[str, str, Callable[[], None]]) -> Difference | None:
        key, sha256, mend = needed
        fault = _fault(_get(workspace.lake, key), sha256)
        return Difference(f"lake: {key} {fault}", mend) if fault else None

    needed = _needed(workspace, manifest, tables)
    with ThreadPoolExecutor(READING_THREADS, thread_name_prefix="verify") as pool:
        while some := list(islice(needed, OBJECTS_AHEAD)):
            yield from pool.map(judged, some)


def _needed(
    workspace: Workspace, manifest: Manifest, tables: dict[str, pa.Table]
) -> Iterator[tuple[str, str, Callable[[], None]]]:
    """Each object that the snapshot needs: its key, its SHA-256, and what mends it."""
    lake, images = workspace.lake, tables["images"]
    kept = images.filter(pc.is_valid(images.column("original_key")))
    columns = (kept.column(name).to_pylist() for name in ("original_key", "sha256", "key"))
    originals: dict[tuple[str, str], list[str]] = {}
    for original, sha256, key in zip(*columns, strict=True):
        originals.setdefault((original, sha256), []).append(key)
    source = SourceFiles(manifest.source, workspace.scratch, workspace.kaggle)
    for (original, sha256), keys in sorted(originals.items()):
        yield original, sha256, partial(restore_original, lake, source, original, sha256, tuple(keys))
    original_of = {sha256: original for original, sha256 in originals}
    for row in tables["outputs"].to_pylist():
        yield row["object_key"], row["output_sha256"], partial(redraw, lake, manifest, row, original_of[row["sha256"]])


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
