"""Publishing: whole or not at all, CURRENT last of all."""

from __future__ import annotations

import hashlib
import json
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from pydantic import Field

from lookbook.blocks.errors import LeaseLostError, LookbookError, SwapConflictError
from lookbook.blocks.lake import FolderLake
from lookbook.tasks.datasets.manifest import (
    TABLES,
    Manifest,
    Published,
    current_key,
    read_published,
    read_table,
    tables_folder,
)
from lookbook.tasks.datasets.pieces import PIECES, write_tables
from lookbook.tasks.datasets.publish import commit, write_file
from lookbook.tasks.images.recipe import Recipe
from tests.support.leases import holding


class WatchedLake(FolderLake):
    """A real lake that notes what is done to it, and fails before the step that a test names."""

    _block_type_slug = "lookbook-watched-lake"

    done: list[tuple[str, str]] = Field(default_factory=list)
    fails_at: tuple[str, str] | None = None

    def _note(self, what: str, key: str) -> None:
        if self.fails_at == (what, key):
            raise OSError(28, "No space left on device")
        self.done.append((what, key))

    def put(self, key: str, data: bytes) -> bool:
        self._note("put", key.rsplit("/", 1)[-1])
        return super().put(key, data)

    def settle(self) -> None:
        self._note("settle", "")

    def swap(self, key: str, data: bytes, expected: str | None) -> None:
        self._note("swap", key.rsplit("/", 1)[-1])
        super().swap(key, data, expected)


@pytest.fixture
def lake(tmp_path: Path) -> WatchedLake:
    return WatchedLake(root=tmp_path / "lake")


def tables(rows: int) -> dict[str, pa.Table]:
    return {name: pa.table({PIECES[name][0]: [f"{name}-{n}" for n in range(rows)]}) for name in TABLES}


def made(lake: FolderLake, snapshot_id: str, rows: int = 3) -> Manifest:
    """A manifest whose files are written and which is not committed yet."""
    manifest = Manifest(
        dataset="things", snapshot_id=snapshot_id, created_at=datetime(2026, 11, 21, tzinfo=UTC), source="/photos",
        digest="d" * 64, previous=None, recipe=Recipe(), rules_digest="r", output_digests={}, versions={},
        summary={}, files=[],
    )  # fmt: skip
    manifest.files = write_tables(lake, manifest, tables(rows), None)
    manifest.files.append(write_file(lake, manifest.folder, "report.html", b"<html>"))
    return manifest


def current(lake: FolderLake) -> Published:
    published = read_published(lake, "things")
    assert published is not None
    return published


def test_current_comes_last_after_everything_is_durable(lake: WatchedLake) -> None:
    manifest = made(lake, "s-1")
    assert read_published(lake, "things") is None, "files alone publish nothing"
    commit(lake, manifest, None)
    files = [file.name.rpartition("/")[2] for file in manifest.files]
    assert len(files) == len(TABLES) + 1
    steps = [*(("put", name) for name in (*files, "manifest.json")), ("settle", ""), ("swap", "CURRENT")]
    assert lake.done[: len(steps)] == steps
    assert current(lake).manifest.snapshot_id == "s-1"


def test_the_manifest_lists_every_file_with_size_checksum_and_rows(lake: WatchedLake) -> None:
    manifest = made(lake, "s-1", rows=5)
    commit(lake, manifest, None)
    published = read_published(lake, "things")
    assert published is not None
    listed = {published.manifest.key(file): file for file in published.manifest.files}
    folders = (manifest.folder, tables_folder("things"))
    stored = {info.key: lake.get(info.key) for folder in folders for info in lake.list(folder)}
    text = stored.pop(f"{manifest.folder}/manifest.json")
    assert set(listed) == set(stored)
    for name, data in stored.items():
        assert (listed[name].size, listed[name].sha256) == (len(data), hashlib.sha256(data).hexdigest())
        assert listed[name].rows == (5 if name.endswith(".parquet") else None)
    pointer = json.loads(lake.get(current_key("things")))
    assert pointer == {"snapshot_id": "s-1", "manifest_sha256": hashlib.sha256(text).hexdigest()}
    for name, table in tables(5).items():
        assert read_table(lake, published.manifest, name) == table


@pytest.mark.parametrize("step", [("put", "manifest.json"), ("settle", ""), ("swap", "CURRENT")])
def test_a_commit_that_fails_leaves_the_former_snapshot(lake: WatchedLake, step: tuple[str, str]) -> None:
    commit(lake, made(lake, "s-1"), None)
    before = current(lake)
    manifest = made(lake, "s-2")
    lake.fails_at = step
    with pytest.raises(OSError, match="No space left"):
        commit(lake, manifest, before)
    assert current(lake) == before


def test_of_two_runs_from_one_snapshot_the_second_publishes_nothing(lake: WatchedLake) -> None:
    commit(lake, made(lake, "s-1"), None)
    started_from = current(lake)
    commit(lake, made(lake, "s-2"), started_from)
    after = current(lake)
    with pytest.raises(SwapConflictError) as caught:
        commit(lake, made(lake, "s-3"), started_from)
    assert caught.value.way_out
    assert current(lake) == after
    assert after.manifest.snapshot_id == "s-2"


@pytest.mark.parametrize("first", [False, True])
def test_a_run_that_was_overtaken_is_told_that_it_lost_its_lease(lake: WatchedLake, first: bool) -> None:
    before = None
    if not first:
        commit(lake, made(lake, "s-1"), None)
        before = current(lake)
    with holding(2):
        commit(lake, made(lake, "s-2"), before)
    with holding(1), pytest.raises(LeaseLostError, match="warehouse: this run stood still"):
        commit(lake, made(lake, "s-3"), before)
    with holding(1), pytest.raises(LeaseLostError):
        commit(lake, made(lake, "s-4"), current(lake))
    assert current(lake).manifest.snapshot_id == "s-2"
    commit(lake, made(lake, "s-5"), current(lake))
    assert current(lake).fences == {"warehouse": 2}, "carried along by who holds none"


def test_of_two_first_runs_the_second_publishes_nothing(lake: WatchedLake) -> None:
    commit(lake, made(lake, "s-1"), None)
    with pytest.raises(SwapConflictError):
        commit(lake, made(lake, "s-2"), None)
    assert current(lake).manifest.snapshot_id == "s-1"


def test_a_file_of_a_snapshot_is_never_written_over(lake: WatchedLake) -> None:
    whole = made(lake, "s-1")
    with pytest.raises(LookbookError, match=r"s-1/report\.html stands already"):
        write_file(lake, whole.folder, "report.html", b"<HTML>")
    assert lake.get(f"{whole.folder}/report.html") == b"<html>"


def test_equal_tables_have_equal_files(lake: WatchedLake) -> None:
    def checksums(snapshot_id: str) -> list[Any]:
        return [file.sha256 for file in made(lake, snapshot_id).files]

    assert checksums("s-1") == checksums("s-2")
