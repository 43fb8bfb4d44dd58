"""The snapshots of a workspace's lake, as the API reads them: the few that are asked for stay in memory."""

from __future__ import annotations

import threading
import time
from collections import OrderedDict
from collections.abc import Callable
from typing import Generic, TypeVar

from pydantic import ValidationError

from lookbook.blocks.errors import ObjectNotFoundError
from lookbook.blocks.lake import Lake
from lookbook.deployments.api.loaded import LoadedSnapshot
from lookbook.deployments.api.past import Past
from lookbook.deployments.api.problems import Problem
from lookbook.tasks.datasets.manifest import Manifest, list_datasets, read_published, snapshot_folder

Value = TypeVar("Value")

#: Seconds for which CURRENT is believed to say the same, and datasets to be the same.
CURRENT_SECONDS = 1.0
DATASETS_SECONDS = 2.0
#: Manifests that are remembered, and snapshots of a dataset that are looked at, newest first.
MOST_MANIFESTS = 1000
LONGEST_CHAIN = 500
#: Snapshots whose outcomes are held for histories.
MOST_PASTS = 40


class _Remembered(Generic[Value]):
    """Values that hold for some seconds, by name; each is read by one thread at a time."""

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds
        self._values: OrderedDict[str, tuple[float, Value]] = OrderedDict()
        self._locks: dict[str, threading.Lock] = {}
        self._guard = threading.Lock()

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
        self._manifests: OrderedDict[tuple[str, str], Manifest] = OrderedDict()
        self._loaded: OrderedDict[tuple[str, str], LoadedSnapshot] = OrderedDict()
        self._pasts: OrderedDict[tuple[str, str], Past] = OrderedDict()
        self._loading: dict[tuple[str, str], threading.Lock] = {}
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
        while found[-1].previous and len(found) < LONGEST_CHAIN:
            manifest = self._manifest(dataset, found[-1].previous)
            if manifest is None:
                break
            found.append(manifest)
        return found

    def manifest(self, dataset: str, snapshot_id: str | None) -> Manifest:
        """Return a snapshot by its id, or the one that holds.

        Raises:
            Problem: there is no such dataset or snapshot.
        """
        current = self.current(dataset)
        if snapshot_id in {None, current.snapshot_id}:
            return current
        found = next((each for each in self.chain(dataset) if each.snapshot_id == snapshot_id), None)
        if found is None:
            raise Problem(
                404, "no-snapshot", f"{dataset} has no such snapshot.", f"See /api/v1/datasets/{dataset}/snapshots."
            )
        return found

    def load(self, dataset: str, snapshot_id: str | None = None) -> LoadedSnapshot:
        """Return a snapshot in memory; raises as `manifest`, and `DamagedSnapshotError`."""
        return self.loaded(self.manifest(dataset, snapshot_id))

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

    def past(self, manifest: Manifest) -> Past:
        """Return what became of the products of a snapshot; raises `DamagedSnapshotError`."""
        key = (manifest.dataset, manifest.snapshot_id)
        with self._guard:
            found = self._pasts.get(key)
        if found is None:
            found = Past(self.lake, manifest)
        with self._guard:
            self._pasts[key] = found
            self._pasts.move_to_end(key)
            while len(self._pasts) > MOST_PASTS:
                self._pasts.popitem(last=False)
        return found

    @property
    def number_held(self) -> int:
        """How many are in memory."""
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
        return published.manifest

    def _manifest(self, dataset: str, snapshot_id: str) -> Manifest | None:
        """Return the manifest of a snapshot that another one names; None where it is gone or damaged."""
        key = (dataset, snapshot_id)
        with self._guard:
            found = self._manifests.get(key)
        if found is None:
            try:
                text = self.lake.get(f"{snapshot_folder(dataset, snapshot_id)}/manifest.json")
                found = Manifest.model_validate_json(text)
            except (ObjectNotFoundError, ValidationError):
                return None
            with self._guard:
                self._manifests[key] = found
                while len(self._manifests) > MOST_MANIFESTS:
                    self._manifests.popitem(last=False)
        return found
