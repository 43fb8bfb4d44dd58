"""Snapshots in memory: rows as Arrow tables, found by key, content or link; kept for the requests to come."""

from __future__ import annotations

import threading
import time
from collections import OrderedDict
from collections.abc import Callable
from functools import cached_property, partial
from pathlib import Path
from typing import Any, Generic, TypeVar

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from lookbook.blocks.lake import Lake
from lookbook.deployments.api.problems import Problem
from lookbook.tasks.datasets.candidates import walk_candidates
from lookbook.tasks.datasets.differences import Differences, compare_snapshots
from lookbook.tasks.datasets.manifest import (
    Manifest,
    Removed,
    list_datasets,
    read_manifest,
    read_published,
    read_removed,
    read_table,
)
from lookbook.tasks.datasets.schemas import IMAGES_SCHEMA
from lookbook.tasks.datasets.tags import Tag, is_snapshot_id, named_snapshot, read_tags
from lookbook.tasks.exports.rows import DatasetRows, read_rows


def names_another(name: str | None, snapshot_id: str) -> bool:
    """Return whether a query's snapshot is another one than its cursor's. Where it is a tag, the cursor decides.

    A tag may have moved since the first page, as the current snapshot may be another one.
    """
    return name not in {None, "current", snapshot_id} and is_snapshot_id(str(name))


Places = NDArray[np.int64]
Kept = TypeVar("Kept")
Key = TypeVar("Key")

#: Bytes of orders, masks, codes and pages of a snapshot that are kept: those not asked for the longest go first.
MOST_KEPT_BYTES = 128 * 2**20
#: What is no array and no text counts for so many.
SOME_BYTES = 8192


class LoadedSnapshot:
    """The tables of a snapshot. They never change, so that any number of threads reads them.

    Attributes:
        manifest: of it.
        rows: see `lookbook.tasks.exports.rows.DatasetRows`.
        outputs: a row for each content and output, in their order.
    """

    def __init__(self, lake: Lake, manifest: Manifest) -> None:
        """Read it.

        Raises:
            DamagedSnapshotError: a table is missing or damaged.
        """
        self.manifest, self._lake = manifest, lake
        rows = read_rows(lake, manifest)
        self.rows = DatasetRows(rows.table.combine_chunks(), rows.catalogue, rows.display_name, rows.label)
        self.outputs: pa.Table = read_table(lake, manifest, "outputs").combine_chunks()
        self._kept: OrderedDict[tuple[Any, ...], Any] = OrderedDict()
        self._kept_bytes = 0
        self._keeping = threading.Lock()

    @property
    def table(self) -> pa.Table:
        """The rows."""
        return self.rows.table

    @property
    def nbytes(self) -> int:
        """Bytes that the tables hold."""
        return int(self.table.nbytes + self.outputs.nbytes)

    def kept(self, key: tuple[Any, ...], make: Callable[[], Kept]) -> Kept:
        """Return what was made under this key, or else is made now and kept for a while."""
        with self._keeping:
            if key in self._kept:
                self._kept.move_to_end(key)
                found: Kept = self._kept[key]
                return found
        made = make()
        with self._keeping:
            if key not in self._kept:
                self._kept[key] = made
                self._kept_bytes += _bytes_of(made)
            while self._kept_bytes > MOST_KEPT_BYTES:
                self._kept_bytes -= _bytes_of(self._kept.popitem(last=False)[1])
        return made

    def places_of_product(self, product_key: str) -> Places:
        """Return the rows of a product: its catalogue rows first, then its further images."""
        keys = single(self.table["product_key"])
        valid = len(keys) - keys.null_count
        first, last = (bisect(keys, product_key, valid, right=right) for right in (False, True))
        return np.arange(first, last)

    def places_of_content(self, sha256: str) -> Places:
        """Return the rows that show a content."""
        order, values = self._by_content
        first, last = (bisect(values, sha256, len(values), right=right) for right in (False, True))
        return np.sort(order[first:last])

    def output_of(self, sha256: str, output: str) -> dict[str, Any] | None:
        """Return the row of the outputs table of a content and an output."""
        return next((row for row in self.outputs_of(sha256) if row["output"] == output), None)

    def outputs_of(self, sha256: str) -> list[dict[str, Any]]:
        """Return all outputs of a content."""
        values = single(self.outputs["sha256"])
        first, last = (bisect(values, sha256, len(values), right=right) for right in (False, True))
        found: list[dict[str, Any]] = self.outputs.slice(first, last - first).to_pylist()
        return found

    @cached_property
    def _by_content(self) -> tuple[Places, pa.Array]:
        """The rows that have a content, in its order."""
        column = self.table["sha256"]
        order = np.asarray(pc.sort_indices(column).to_numpy(), np.int64)[: len(column) - column.null_count]
        return order, single(column.take(pa.array(order)))

    @cached_property
    def exif(self) -> dict[str, str]:
        """The EXIF fields of all images that have some, as JSON, by the images' keys: read when first asked for."""
        others = [name for name in IMAGES_SCHEMA.names if name not in {"key", "exif"}]
        images = read_table(self._lake, self.manifest, "images", others)
        some = images.filter(pc.is_valid(images["exif"]))
        return dict(zip(some["key"].to_pylist(), some["exif"].to_pylist(), strict=True))

    @cached_property
    def rejects(self) -> pa.Table:
        """The rejects, read when first asked for."""
        return read_table(self._lake, self.manifest, "rejects").combine_chunks()


def _bytes_of(value: Any) -> int:  # noqa: ANN401 - whatever is kept
    parts = value if isinstance(value, tuple) else (value,)
    return SOME_BYTES + sum(len(part) if isinstance(part, bytes) else getattr(part, "nbytes", 0) for part in parts)


def single(column: pa.ChunkedArray) -> pa.Array:
    """Return a column as one array; not copied where it is one."""
    return column.chunk(0) if column.num_chunks == 1 else column.combine_chunks()


def bisect(values: pa.Array, wanted: str, length: int, *, right: bool) -> int:
    """Return where a text stands, or would, in a sorted array: compared as UTF-8, as Arrow sorts."""
    low, high, given = 0, length, wanted.encode()
    while low < high:
        middle = (low + high) // 2
        value = values[middle].as_py().encode()
        if value < given or (right and value == given):
            low = middle + 1
        else:
            high = middle
    return low


_COLUMNS = ("product_key", "outcome", "missing_reason", "sha256")


class PastOutcomes:
    """The outcomes of a snapshot's catalogue rows, sorted by product."""

    def __init__(self, lake: Lake, manifest: Manifest) -> None:
        """Read them; raises as `read_table`."""
        products = read_table(lake, manifest, "products").select(list(_COLUMNS))
        order = pc.sort_indices(products["product_key"])
        self._table: pa.Table = products.take(order).combine_chunks()

    @property
    def nbytes(self) -> int:
        """Bytes that it holds."""
        return int(self._table.nbytes)

    def of_product(self, product_key: str) -> dict[str, Any]:
        """Return what became of a product: of several rows the first that was matched."""
        keys = single(self._table["product_key"])
        valid = len(keys) - keys.null_count
        first, last = (bisect(keys, product_key, valid, right=right) for right in (False, True))
        rows = self._table.take(pa.array(np.arange(first, last))).to_pylist()
        row = next((row for row in rows if row["outcome"] == "matched"), rows[0] if rows else None)
        if row is None:
            return {"outcome": None, "reason": None, "sha256": None}
        return {"outcome": row["outcome"], "reason": row["missing_reason"], "sha256": row["sha256"]}


Value = TypeVar("Value")

#: Seconds for which CURRENT, tags and candidates are believed to say the same, and datasets to be the same.
CURRENT_SECONDS = 1.0
DATASETS_SECONDS = 2.0
#: Manifests that are remembered, and snapshots of a dataset that are looked at, newest first.
MOST_MANIFESTS = 1000
LONGEST_CHAIN = 500
#: Snapshots whose outcomes are held for histories, and pairs of snapshots whose differences are.
MOST_PASTS = 40
MOST_DIFFERENCES = 8


class _Remembered(Generic[Value]):
    """Values that hold for some seconds, by name; each is read by one thread at a time."""

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds
        self._values: OrderedDict[str, tuple[float, Value]] = OrderedDict()
        self._locks: dict[str, threading.Lock] = {}
        self._guard = threading.Lock()

    def forget(self, name: str) -> None:
        with self._guard:
            self._values.pop(name, None)

    def get(self, name: str, read: Callable[[], Value]) -> Value:
        with self._guard:
            lock = self._locks.setdefault(name, threading.Lock())
        try:
            with lock:
                found = self._values.get(name)
                if found is None or time.monotonic() - found[0] > self._seconds:
                    found = (time.monotonic(), read())
                    self._values[name] = found
                return found[1]
        finally:
            with self._guard:
                while len(self._values) > MOST_MANIFESTS:
                    self._locks.pop(self._values.popitem(last=False)[0], None)
                if name not in self._values:  # nothing has this name, or it cannot be read: nothing is kept of it
                    self._locks.pop(name, None)


class Snapshots:
    """What is published in a lake.

    Args:
        lake: the workspace's.
        most: snapshots held in memory, at the most.
        most_bytes: their bytes, at the most; the one that is asked for is held in any case.
    """

    def __init__(self, lake: Lake, most: int, most_bytes: int) -> None:
        self.lake, self._most, self._most_bytes = lake, most, most_bytes
        self._currents: _Remembered[Manifest] = _Remembered(CURRENT_SECONDS)
        self._datasets: _Remembered[list[str]] = _Remembered(DATASETS_SECONDS)
        self._tags: _Remembered[dict[str, Tag]] = _Remembered(CURRENT_SECONDS)
        self._removed: _Remembered[Removed] = _Remembered(CURRENT_SECONDS)
        self._candidates: _Remembered[list[Manifest]] = _Remembered(CURRENT_SECONDS)
        self._manifests: OrderedDict[tuple[str, str], Manifest] = OrderedDict()
        self._loaded: OrderedDict[tuple[str, str], LoadedSnapshot] = OrderedDict()
        self._pasts: OrderedDict[tuple[str, str], PastOutcomes] = OrderedDict()
        self._differences: OrderedDict[tuple[str, str, str], Differences] = OrderedDict()
        self._loading: dict[tuple[str, str], threading.Lock] = {}
        self._versions: dict[str, str] = {}
        self._guard = threading.Lock()

    def datasets(self) -> list[str]:
        """Return the names of all datasets that have a snapshot, sorted."""
        return self._datasets.get("", lambda: list_datasets(self.lake))

    def current(self, dataset: str) -> Manifest:
        """Return the snapshot that holds.

        Raises:
            Problem: there is no such dataset.
            LookbookError: it is damaged.
        """
        return self._currents.get(dataset, lambda: self._read_current(dataset))

    def chain(self, dataset: str) -> list[Manifest]:
        """Return the snapshots of a dataset, newest first; see `lookbook.tasks.datasets.manifest.list_snapshots`."""
        found = [self.current(dataset)]
        while (before := self.previous(found[-1])) and len(found) < LONGEST_CHAIN:
            manifest = self._manifest(dataset, before)
            if manifest is None:
                break
            found.append(manifest)
        return found

    def previous(self, manifest: Manifest) -> str | None:
        """Return the id of the snapshot before another one, of those that were not removed; None: there is none."""
        dataset = manifest.dataset
        return self._removed.get(dataset, lambda: read_removed(self.lake, dataset)[0]).followed_by(manifest)

    def tags(self, dataset: str) -> dict[str, Tag]:
        """Return the tags of a dataset; see `lookbook.tasks.datasets.tags.read_tags`."""
        return self._tags.get(dataset, lambda: read_tags(self.lake, dataset))

    def candidates(self, dataset: str) -> list[Manifest]:
        """Return the snapshots that were not published because checks failed, newest first."""
        return self._candidates.get(dataset, lambda: list(walk_candidates(self.lake, dataset)))

    def forget_tags(self, dataset: str) -> None:
        """Read the tags of a dataset again when they are asked for next: they were changed here."""
        self._tags.forget(dataset)

    def manifest(self, dataset: str, name: str | None) -> Manifest:
        """Return a snapshot by its id or a tag, a candidate by its id, or the one that holds.

        Raises:
            Problem: there is no such dataset or snapshot.
        """
        found = named_snapshot(
            name,
            self.current(dataset),
            lambda: self.chain(dataset),
            lambda: self.tags(dataset),
            lambda: [each.snapshot_id for each in self.candidates(dataset)],
            lambda snapshot_id: self._manifest(dataset, snapshot_id),
        )
        if found is None:
            raise Problem(
                404, "no-snapshot", f"{dataset} has no such snapshot.", f"See /api/v1/datasets/{dataset}/snapshots."
            )
        return found

    def load(self, dataset: str, name: str | None = None) -> LoadedSnapshot:
        """Return a snapshot in memory; raises as `manifest`, and `DamagedSnapshotError`."""
        return self.loaded(self.manifest(dataset, name))

    def loaded(self, manifest: Manifest) -> LoadedSnapshot:
        """Return the snapshot of a manifest, in memory; many who ask at once wait for one who reads."""
        key = (manifest.dataset, manifest.snapshot_id)
        with self._guard:
            lock = self._loading.setdefault(key, threading.Lock())
        with lock:
            with self._guard:
                found = self._loaded.get(key)
                if found is not None:
                    self._loaded.move_to_end(key)
                    return found
            try:
                made = LoadedSnapshot(self.lake, manifest)
                with self._guard:
                    self._keep(key, made)
            finally:
                with self._guard:
                    if key not in self._loaded:
                        self._loading.pop(key, None)
            return made

    def held(self, dataset: str) -> list[LoadedSnapshot]:
        """Return the snapshots of a dataset that are in memory, the last that was asked for first."""
        with self._guard:
            return [loaded for (name, _), loaded in reversed(self._loaded.items()) if name == dataset]

    def past(self, manifest: Manifest) -> PastOutcomes:
        """Return what became of the products of a snapshot; raises `DamagedSnapshotError`."""
        key = (manifest.dataset, manifest.snapshot_id)
        return self._remembered(self._pasts, key, MOST_PASTS, lambda: PastOutcomes(self.lake, manifest))

    def differences(self, before: Manifest, after: Manifest, scratch: Path) -> Differences:
        """Return what differs between two snapshots; see `lookbook.tasks.datasets.differences.compare_snapshots`."""
        key = (after.dataset, before.snapshot_id, after.snapshot_id)
        made = partial(compare_snapshots, self.lake, scratch, before, after)
        return self._remembered(self._differences, key, MOST_DIFFERENCES, made)

    def _remembered(self, held: OrderedDict[Key, Kept], key: Key, most: int, make: Callable[[], Kept]) -> Kept:
        """Return what is held under a key, or make it; of more than `most`, those asked for last stay."""
        with self._guard:
            found = held.get(key)
        if found is None:
            found = make()
        with self._guard:
            held[key] = found
            held.move_to_end(key)
            while len(held) > most:
                held.popitem(last=False)
        return found

    @property
    def number_held(self) -> int:
        """Return how many are in memory."""
        return len(self._loaded)

    def _keep(self, key: tuple[str, str], made: LoadedSnapshot) -> None:
        self._loaded[key] = made
        while len(self._loaded) > 1 and (
            len(self._loaded) > self._most or sum(each.nbytes for each in self._loaded.values()) > self._most_bytes
        ):
            dropped, _ = self._loaded.popitem(last=False)
            self._loading.pop(dropped, None)

    def _read_current(self, dataset: str) -> Manifest:
        published = read_published(self.lake, dataset)
        if published is None:
            raise Problem(404, "no-dataset", "There is no such dataset.", "See /api/v1/datasets.")
        before = self._versions.get(dataset)
        self._versions[dataset] = published.version
        if before not in {None, published.version}:
            self._drop_changed(dataset)
        return published.manifest

    def _drop_changed(self, dataset: str) -> None:
        """Keep nothing of snapshots that are others now under their ids, because something of them was forgotten.

        CURRENT is swapped when that was done, as by each run that publishes.
        """
        with self._guard:
            known = {key: each.manifest for key, each in self._loaded.items() if key[0] == dataset}
            known |= {key: each for key, each in self._manifests.items() if key[0] == dataset}
        for key, manifest in known.items():
            if read_manifest(self.lake, *key) == manifest:
                continue
            with self._guard:
                self._manifests.pop(key, None)
                self._loaded.pop(key, None)
                self._loading.pop(key, None)
                self._pasts.pop(key, None)
                for pair in [pair for pair in self._differences if pair[0] == dataset and key[1] in pair[1:]]:
                    self._differences.pop(pair)

    def _manifest(self, dataset: str, snapshot_id: str) -> Manifest | None:
        """Return the manifest of a snapshot that another one or a tag names; None where it is gone or damaged."""
        key = (dataset, snapshot_id)
        with self._guard:
            found = self._manifests.get(key)
        if found is None:
            found = read_manifest(self.lake, dataset, snapshot_id)
            if found is None:
                return None
            with self._guard:
                self._manifests[key] = found
                while len(self._manifests) > MOST_MANIFESTS:
                    self._manifests.popitem(last=False)
        return found
