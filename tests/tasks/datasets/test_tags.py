"""Tags: names for snapshots, in a folder and in a bucket; nobody undoes what another one does at the same time."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from pathlib import Path

import pytest

from lookbook.blocks.errors import LookbookError, SwapConflictError, UsageError
from lookbook.blocks.gcs import GcsLake
from lookbook.blocks.lake import FolderLake, Lake
from lookbook.tasks.datasets import tags as module
from lookbook.tasks.datasets.manifest import Manifest, list_datasets, list_snapshots, read_published
from lookbook.tasks.datasets.publish import commit
from lookbook.tasks.datasets.tags import find_snapshot, read_tags, remove_tag, set_tag, tags_key
from lookbook.tasks.images.recipe import Recipe
from tests.support.gcp_credentials import AnonymousGcpCredentials
from tests.support.gcs_server import serving_gcs

FIRST, SECOND = "20260101T000000000Z-aaaaaaaa", "20260102T000000000Z-bbbbbbbb"


@pytest.fixture(params=["folder", "bucket"])
def lake(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Lake]:
    """A lake with two snapshots of ``things``; their files matter to no tag."""
    if request.param == "folder":
        yield _filled(FolderLake(root=tmp_path / "lake"))
        return
    with serving_gcs("bucket") as server:
        yield _filled(GcsLake(bucket="bucket", credentials=AnonymousGcpCredentials(endpoint=server.url)))


def _filled(lake: Lake) -> Lake:
    for snapshot_id, previous in ((FIRST, None), (SECOND, FIRST)):
        manifest = Manifest(
            dataset="things", snapshot_id=snapshot_id, created_at=datetime(2026, 1, 1, tzinfo=UTC), source="/photos",
            digest=snapshot_id[-1] * 64, previous=previous, recipe=Recipe(), rules_digest="r", output_digests={},
            versions={}, summary={}, files=[],
        )  # fmt: skip
        commit(lake, manifest, read_published(lake, "things"))
    return lake


def named(lake: Lake) -> dict[str, str]:
    return {name: tag.snapshot for name, tag in read_tags(lake, "things").items()}


def found(lake: Lake, name: str | None) -> str:
    return find_snapshot(lake, "things", name).snapshot_id


def test_a_tag_names_the_current_snapshot_or_another_one_until_it_is_removed(lake: Lake) -> None:
    assert named(lake) == {}
    assert set_tag(lake, "things", "v2").before is None
    set_tag(lake, "things", "v1.0_first-of-all", FIRST)
    set_tag(lake, "things", "same", "v1.0_first-of-all")
    assert named(lake) == {"same": FIRST, "v1.0_first-of-all": FIRST, "v2": SECOND}
    assert remove_tag(lake, "things", "same").before == FIRST
    assert named(lake) == {"v1.0_first-of-all": FIRST, "v2": SECOND}
    assert list_datasets(lake) == ["things"]
    assert len(list_snapshots(lake, "things")) == 2


def test_a_name_is_an_id_a_tag_or_the_current_snapshot(lake: Lake) -> None:
    set_tag(lake, "things", "v1", FIRST)
    assert [found(lake, name) for name in (None, "current", SECOND)] == [SECOND] * 3
    assert [found(lake, name) for name in (FIRST, "v1")] == [FIRST] * 2
    for name in ("v2", "", "20260109T000000000Z-cccccccc", "../things", "datasets", "CURRENT", "ü"):
        with pytest.raises(UsageError, match="there is no snapshot") as caught:
            found(lake, name)
        assert "lookbook snapshots things" in caught.value.way_out


def test_a_tag_is_moved_only_where_that_is_said(lake: Lake) -> None:
    set_tag(lake, "things", "live", FIRST)
    before = read_tags(lake, "things")
    with pytest.raises(UsageError, match=f"live names {FIRST} already") as caught:
        set_tag(lake, "things", "live", SECOND)
    assert "--move" in caught.value.way_out
    set_tag(lake, "things", "live", FIRST)
    assert read_tags(lake, "things") == before, "once more changes nothing"
    moved = set_tag(lake, "things", "live", SECOND, move=True)
    assert (moved.snapshot, moved.before) == (SECOND, FIRST)
    assert found(lake, "live") == SECOND


@pytest.mark.parametrize(
    "tag",
    [
        "",
        ".hidden",
        "-x",
        "a/b",
        "../x",
        "a b",
        "ü",
        "x" * 64,
        "v1\n",
        "current",
        "Current",
        FIRST,
        "20260101T1Z",
        "a\0",
    ],
)
def test_what_cannot_be_a_tag_or_looks_like_an_id_is_refused_by_name(tmp_path: Path, tag: str) -> None:
    lake = _filled(FolderLake(root=tmp_path))
    with pytest.raises(UsageError, match="no name for a tag") as caught:
        set_tag(lake, "things", tag)
    assert "letters, digits" in caught.value.way_out
    assert named(lake) == {}


def test_what_is_not_there_is_named(lake: Lake) -> None:
    with pytest.raises(UsageError, match="there is no tag v1"):
        remove_tag(lake, "things", "v1")
    with pytest.raises(UsageError, match="there is no snapshot v9"):
        set_tag(lake, "things", "v1", "v9")
    for change in (remove_tag, set_tag):
        with pytest.raises(LookbookError, match="no such dataset"):
            change(lake, "others", "v1")
    assert named(lake) == {}


def test_of_many_who_tag_at_once_none_is_lost(lake: Lake) -> None:
    with ThreadPoolExecutor(6) as pool:
        list(pool.map(lambda number: set_tag(lake, "things", f"v{number}", FIRST), range(6)))
        list(pool.map(lambda number: remove_tag(lake, "things", f"v{number}"), range(3)))
    assert named(lake) == {"v3": FIRST, "v4": FIRST, "v5": FIRST}


def test_of_two_who_set_one_tag_at_once_the_second_is_told_of_the_first(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    lake = _filled(FolderLake(root=tmp_path))
    swap = FolderLake.swap

    def overtaken(self: FolderLake, key: str, data: bytes, expected: str | None) -> None:
        monkeypatch.setattr(FolderLake, "swap", swap)
        set_tag(lake, "things", "live", FIRST)
        self.swap(key, data, expected)

    monkeypatch.setattr(FolderLake, "swap", overtaken)
    with pytest.raises(UsageError, match=f"live names {FIRST} already"):
        set_tag(lake, "things", "live", SECOND)
    assert named(lake) == {"live": FIRST}


def test_who_never_gets_a_turn_is_told_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    lake = _filled(FolderLake(root=tmp_path))
    tried = []

    def conflict(_: FolderLake, key: str, *__: object) -> None:
        tried.append(key)
        raise SwapConflictError(f"{key} was changed by another run.")

    monkeypatch.setattr(FolderLake, "swap", conflict)
    with pytest.raises(SwapConflictError):
        set_tag(lake, "things", "v1")
    assert tried == [tags_key("things")] * module.TRIES


def test_damaged_tags_are_named_and_hide_no_snapshot_from_its_id(lake: Lake) -> None:
    lake.put(tags_key("things"), b'{"tags": {"v1": 7}}')
    assert found(lake, FIRST) == FIRST
    for use in (lambda: found(lake, "v1"), lambda: set_tag(lake, "things", "v1"), lambda: read_tags(lake, "things")):
        with pytest.raises(LookbookError, match=r"tags\.json cannot be read") as caught:
            use()
        assert "remove it and tag anew" in caught.value.way_out


def test_a_tag_leads_to_its_snapshot_where_the_way_from_the_current_one_is_broken(lake: Lake) -> None:
    set_tag(lake, "things", "v1", FIRST)
    third = find_snapshot(lake, "things").model_copy(
        update={"snapshot_id": "20260103T000000000Z-cccccccc", "previous": "20260102T999999999Z-00000000"}
    )
    commit(lake, third, read_published(lake, "things"))
    with pytest.raises(UsageError):
        found(lake, FIRST)
    assert found(lake, "v1") == FIRST
    lake.remove(f"datasets/things/snapshots/{FIRST}/manifest.json")
    with pytest.raises(UsageError, match="no tag of that name that leads to one"):
        found(lake, "v1")


def test_there_is_a_most_of_tags(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MOST_TAGS", 2)
    lake = _filled(FolderLake(root=tmp_path))
    set_tag(lake, "things", "a")
    set_tag(lake, "things", "b")
    with pytest.raises(UsageError, match="2 tags already"):
        set_tag(lake, "things", "c")
    set_tag(lake, "things", "b", FIRST, move=True)
