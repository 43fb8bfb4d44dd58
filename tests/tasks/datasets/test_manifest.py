"""What a reader finds: the published snapshot, or an error that says what is damaged."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from lookbook.blocks.errors import LookbookError
from lookbook.blocks.lake import FolderLake, Lake
from lookbook.tasks.datasets.manifest import (
    Manifest,
    current_key,
    list_datasets,
    list_snapshots,
    read_published,
    read_table,
    require_published,
)
from lookbook.tasks.datasets.pieces import write_tables
from lookbook.tasks.datasets.publish import commit
from lookbook.tasks.images.recipe import Recipe

TABLE = pa.table({"key": ["a.jpg", "écran.jpg"], "bytes": [1, None]})


@pytest.fixture
def lake(tmp_path: Path) -> Lake:
    return FolderLake(root=tmp_path / "lake")


def publish(lake: Lake, snapshot_id: str = "s-1", dataset: str = "things", **values: Any) -> Manifest:
    before = read_published(lake, dataset)
    fields: dict[str, Any] = {
        "dataset": dataset, "snapshot_id": snapshot_id, "created_at": datetime(2026, 11, 21, tzinfo=UTC),
        "source": "/photos/écran", "digest": "d" * 64, "previous": None, "recipe": Recipe(min_image_size=7),
        "rules_digest": "r", "output_digests": {"thumb": "t"}, "versions": {"pillow": "13"},
        "summary": {"images": {"found": 2}}, "files": [],
    }  # fmt: skip
    manifest = Manifest(**(fields | values))
    manifest.files = write_tables(lake, manifest, {"images": TABLE}, None)
    commit(lake, manifest, before)
    return manifest


def test_what_was_published_is_read_back(lake: Lake) -> None:
    manifest = publish(lake)
    published = require_published(lake, "things")
    assert published.manifest == manifest
    assert read_published(lake, "things") == published
    assert read_table(lake, published.manifest, "images") == TABLE


def test_where_nothing_is_published_there_is_no_snapshot(lake: Lake) -> None:
    publish(lake)
    assert read_published(lake, "others") is None
    with pytest.raises(LookbookError, match="others: no such dataset here") as caught:
        require_published(lake, "others")
    assert "lookbook ingest" in caught.value.way_out


def test_a_manifest_of_a_later_version_may_say_more(lake: Lake) -> None:
    manifest = publish(lake)
    later = manifest.model_dump(mode="json") | {"format_version": 1, "license": "CC0"}
    assert Manifest.model_validate_json(json.dumps(later)) == manifest


@pytest.mark.parametrize(
    "text",
    [b"", b"\x00" * 90, b"{", b"[]", b'{"snapshot_id": "s-1"}', b'"\xff"', b'{"snapshot_id": 1, "manifest_sha256": 2}'],
)
def test_a_damaged_current_is_said_so(lake: Lake, text: bytes) -> None:
    publish(lake)
    lake.replace(current_key("things"), text)
    with pytest.raises(LookbookError, match="things: CURRENT or its manifest cannot be read"):
        read_published(lake, "things")


@pytest.mark.parametrize("snapshot_id", ["../../../etc", "/etc", ""])
def test_a_current_that_points_out_of_its_folder_reads_nothing(lake: Lake, snapshot_id: str) -> None:
    publish(lake)
    text = json.dumps({"snapshot_id": snapshot_id, "manifest_sha256": "0" * 64})
    lake.replace(current_key("things"), text.encode())
    with pytest.raises(LookbookError):
        read_published(lake, "things")


def test_a_manifest_that_is_gone_is_said_so(lake: Lake) -> None:
    manifest = publish(lake)
    lake.remove(f"{manifest.folder}/manifest.json")
    with pytest.raises(LookbookError, match=r"manifest is gone: .*s-1/manifest\.json"):
        read_published(lake, "things")


def test_one_changed_byte_of_a_manifest_is_noticed(lake: Lake) -> None:
    key = f"{publish(lake).folder}/manifest.json"
    lake.replace(key, lake.get(key).replace(b'"found": 2', b'"found": 3'))
    with pytest.raises(LookbookError, match="the manifest of s-1 was changed: its checksum differs"):
        read_published(lake, "things")


def test_a_manifest_that_is_cut_off_is_noticed(lake: Lake) -> None:
    key = f"{publish(lake).folder}/manifest.json"
    lake.replace(key, lake.get(key)[:-20])
    with pytest.raises(LookbookError, match="s-1"):
        read_published(lake, "things")


def test_a_manifest_that_lacks_a_field_is_said_so(lake: Lake, monkeypatch: pytest.MonkeyPatch) -> None:
    dump = Manifest.model_dump
    monkeypatch.setattr(Manifest, "model_dump", lambda self, **how: {**dump(self, **how), "digest": None})
    publish(lake)
    with pytest.raises(LookbookError, match="cannot be read: 1 faults"):
        read_published(lake, "things")


def test_a_table_that_is_gone_is_named(lake: Lake) -> None:
    manifest = publish(lake)
    (key,) = manifest.keys("images")
    lake.remove(key)
    with pytest.raises(LookbookError, match=f"{key} is missing"):
        read_table(lake, manifest, "images")


def test_datasets_with_a_snapshot_are_listed_by_name(lake: Lake) -> None:
    assert list_datasets(lake) == []
    for name in ("shoes", "bags"):
        publish(lake, dataset=name)
    lake.put("datasets/unfinished/snapshots/s-1/images.parquet", b"x")
    assert list_datasets(lake) == ["bags", "shoes"]


def test_snapshots_are_listed_newest_first(lake: Lake) -> None:
    start = datetime(2026, 1, 1, tzinfo=UTC)
    for number in (1, 2, 3):
        previous = f"s-{number - 1}" if number > 1 else None
        publish(lake, f"s-{number}", created_at=start + timedelta(days=number), previous=previous)
    publish(lake, dataset="others")
    killed = require_published(lake, "things").manifest.model_copy(update={"snapshot_id": "s-9", "previous": "s-3"})
    lake.put(f"{killed.folder}/manifest.json", killed.model_dump_json().encode())
    assert [manifest.snapshot_id for manifest in list_snapshots(lake, "things")] == ["s-3", "s-2", "s-1"]
    lake.remove("datasets/things/snapshots/s-1/manifest.json")
    assert [manifest.snapshot_id for manifest in list_snapshots(lake, "things")] == ["s-3", "s-2"]
