"""Verifying a dataset: manifest, objects, registry and warehouse are read again and compared; and repairs."""

from __future__ import annotations

import hashlib
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property, partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

import pyarrow as pa
import pyarrow.compute as pc

from lookbook.blocks.errors import LookbookError
from lookbook.blocks.lake import Lake, compare_objects, fault_of, read_object
from lookbook.blocks.workspace import Workspace
from lookbook.tasks.datasets import follow
from lookbook.tasks.datasets.follow import registry_differences
from lookbook.tasks.datasets.manifest import (
    TABLES,
    Manifest,
    list_snapshots,
    read_removed,
    require_published,
    snapshot_folder,
)
from lookbook.tasks.datasets.schemas import load_models
from lookbook.tasks.datasets.sources.base import SourceFile
from lookbook.tasks.datasets.sources.opening import open_source
from lookbook.tasks.images.locators import read_bytes
from lookbook.tasks.images.parquet import from_parquet
from lookbook.tasks.images.render import render
from lookbook.tasks.runs.lease import lease, living_owners, wait_until_free

if TYPE_CHECKING:
    from lookbook.blocks.kaggle import KaggleCredentials


class SourceFiles:
    """The files of a source, listed once, when the first of them is asked for."""

    def __init__(self, uri: str, scratch: Path, kaggle: KaggleCredentials | None = None) -> None:
        self.uri = uri
        self._scratch = scratch
        self._kaggle = kaggle

    @cached_property
    def by_key(self) -> dict[str, SourceFile]:
        """The files that may be read, by their names within the source."""
        files = open_source(self.uri, self._scratch, self._kaggle).files()
        return {file.key: file for file in files if file.refused is None}


def restore_original(lake: Lake, source: SourceFiles, original: str, sha256: str, keys: tuple[str, ...]) -> None:
    """Fetch an original once more from the source that the snapshot was made from.

    Args:
        lake: where to.
        source: the snapshot's source.
        original: the lake key to write.
        sha256: the content that it has to have.
        keys: names within the source that had this content.

    Raises:
        LookbookError: the source is gone, or holds other bytes now.
    """
    for key in keys:
        file = source.by_key.get(key)
        data = read_bytes(file.locator) if file else b""
        if hashlib.sha256(data).hexdigest() == sha256:
            lake.replace(original, data)
            return
    raise LookbookError(f"{source.uri} does not hold {' or '.join(keys)} as it was.")


def redraw(lake: Lake, manifest: Manifest, row: Mapping[str, Any], original_key: str) -> None:
    """Draw an output again from its original. The same recipe and codecs give the same bytes.

    Raises:
        LookbookError: the original is gone or damaged, or this installation's codecs are others.
    """
    original = lake.get(original_key)
    if hashlib.sha256(original).hexdigest() != row["sha256"]:
        raise LookbookError(f"its original {original_key} is damaged")
    name = str(row["output"])
    data = render(original, manifest.recipe, [name]).files[name].data
    if hashlib.sha256(data).hexdigest() != row["output_sha256"]:
        raise LookbookError("drawn again it has other bytes: the codecs here are not those that drew it")
    lake.replace(str(row["object_key"]), data)


#: An object that is needed: its key, its SHA-256, and what mends it.
Noted: TypeAlias = tuple[str, str, Callable[[], None]]
#: Compares the finished exports of a dataset: each file's key, and what is wrong with it (None: nothing). Exports are
#: built over datasets, so that they are handed in from above.
CompareExports: TypeAlias = Callable[[Lake, str], Iterable[tuple[str, str | None]]]


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


def verify(workspace: Workspace, dataset: str, *, everything: CompareExports | None = None) -> Verified:
    """Read everything that a dataset's current snapshot consists of, and compare.

    Args:
        workspace: where it lives.
        dataset: its name.
        everything: read older snapshots too, and the finished exports by this.

    Raises:
        LookbookError: there is no such dataset, or CURRENT or its manifest can't be read.
    """
    manifest = require_published(workspace.lake, dataset).manifest
    found = _verify_current(workspace, manifest)
    if everything is None:
        return found
    exports = everything(workspace.lake, dataset)
    damaged = (Difference(f"lake: {key} {fault}", _ask_again) if fault else None for key, fault in exports)
    more = [*_older(workspace, manifest), *damaged]
    differences = [*found.differences, *(one for one in more if one is not None)]
    return Verified(found.snapshot_id, found.objects + len(more), differences)


def _verify_current(workspace: Workspace, manifest: Manifest) -> Verified:
    damaged, tables = _read_files(workspace.lake, manifest)
    if len(tables) < len(TABLES):  # without its tables nothing else of a snapshot can be judged
        return Verified(manifest.snapshot_id, len(manifest.files), damaged)
    objects = list(_objects(workspace, _needed(workspace, manifest, tables)))
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
    max_wait: float = 0,
    waiting: Callable[[str], object] = lambda _: None,
    *,
    everything: CompareExports | None = None,
) -> tuple[Verified, list[str]]:
    """Verify a dataset; with `mend`, mend what can be mended under the dataset's lease, and verify once more.

    Args:
        workspace: where it lives.
        dataset: its name.
        mend: whether to mend.
        max_wait: seconds to wait for a run that is at work on the dataset, where that is in the way.
        waiting: told what is waited for.
        everything: read older snapshots too, and the finished exports by this.

    Returns:
        What was found at last, and one line for each thing that was to be mended.

    Raises:
        LookbookError: as `verify`; or another run is at work on the dataset that is to be mended.
    """
    if not mend:
        return _verify_beside_runs(workspace, dataset, max_wait, waiting, everything), []
    with lease(
        workspace.registry, f"dataset/{dataset}", max_wait, waiting
    ):  # a run that publishes meanwhile would be set back
        repairs = repair(verify(workspace, dataset, everything=everything))
        return verify(workspace, dataset, everything=everything), repairs


def _verify_beside_runs(
    workspace: Workspace,
    dataset: str,
    max_wait: float,
    waiting: Callable[[str], object],
    everything: CompareExports | None,
) -> Verified:
    """Verify; where registry or warehouse differ while a run may be publishing, wait for it and verify again.

    Objects of the lake never change, so what differs there counts at once. What differs after `max_wait` seconds
    counts, whoever is at work.
    """
    name, deadline = f"dataset/{dataset}", time.monotonic() + max_wait
    while True:
        busy = name in living_owners(workspace.registry)
        found = verify(workspace, dataset, everything=everything)
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


def _older(workspace: Workspace, current: Manifest) -> Iterator[Difference | None]:
    """Yield one entry for each object of the snapshots before the current one; what several need is read once."""
    found = list_snapshots(workspace.lake, current.dataset)
    if before := read_removed(workspace.lake, current.dataset)[0].followed_by(found[-1]):
        folder = snapshot_folder(current.dataset, before)
        yield Difference(f"lake: {folder}/manifest.json is missing or damaged: no older snapshot is found")
    read: set[tuple[str, str]] = set()
    for manifest in found:
        damaged, tables = _read_files(workspace.lake, manifest)
        if manifest.snapshot_id != current.snapshot_id:
            yield from damaged
            yield from [None] * (len(manifest.files) - len(damaged))
        if len(tables) < len(TABLES):
            continue
        needed = [one for one in _needed(workspace, manifest, tables) if one[:2] not in read]
        read.update(one[:2] for one in needed)
        if manifest.snapshot_id != current.snapshot_id:
            yield from _objects(workspace, needed)


def _ask_again() -> None:
    """Raise LookbookError: only who asked for an export can say what it is to hold."""
    raise LookbookError("ask for the export again; it is made anew")


def _read_files(lake: Lake, manifest: Manifest) -> tuple[list[Difference], dict[str, pa.Table]]:
    damaged, tables = [], {}
    for file in manifest.files:
        key = f"{manifest.folder}/{file.name}"
        data = read_object(lake, key)
        fault = fault_of(data, file.sha256)
        if fault:
            damaged.append(Difference(f"lake: {key} {fault}"))
        elif data is not None and file.rows is not None:
            tables[file.name.removesuffix(".parquet")] = from_parquet(data)[0]
    return damaged, tables


def _objects(workspace: Workspace, noted: Iterable[Noted]) -> Iterator[Difference | None]:
    """Yield one entry for each object: a difference, or None where all is well."""
    for key, fault, mend in compare_objects(workspace.lake, noted):
        yield Difference(f"lake: {key} {fault}", mend) if fault else None


def _needed(workspace: Workspace, manifest: Manifest, tables: dict[str, pa.Table]) -> Iterator[Noted]:
    """Yield each object that the snapshot needs: its key, its SHA-256, and what mends it."""
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
