"""Restoring: a new snapshot that equals an older one, of what is whole alone; killed anywhere, nothing stays."""

from __future__ import annotations

import shutil
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from lookbook.blocks.errors import LeaseLostError, SwapConflictError, UsageError
from lookbook.blocks.lake import FolderLake, Lake
from lookbook.blocks.workspace import Workspace, local_workspace
from lookbook.tasks.datasets import follow, publish
from lookbook.tasks.datasets import restore as module
from lookbook.tasks.datasets.differences import compare_snapshots
from lookbook.tasks.datasets.gc import remove_snapshots
from lookbook.tasks.datasets.inventory import clear_batches, take_inventory
from lookbook.tasks.datasets.manifest import (
    TABLES,
    DamagedSnapshotError,
    file_faults,
    list_snapshots,
    read_manifest,
    read_table,
    require_published,
)
from lookbook.tasks.datasets.publish import finalize, sweep_unfinished
from lookbook.tasks.datasets.rename import make_renamed
from lookbook.tasks.datasets.restore import Restored, restore_snapshot
from lookbook.tasks.datasets.snapshot import logical_digest
from lookbook.tasks.datasets.tags import set_tag
from lookbook.tasks.datasets.verify import verify
from lookbook.tasks.images.batch import process_batch
from lookbook.tasks.images.recipe import OutputDefinition, Recipe
from lookbook.tasks.runs.lease import Hold, lease
from lookbook.tasks.runs.removal import Amount, Rule
from tests.support.desks import shared_desk
from tests.support.leases import holding
from tests.support.lives import whole_tables
from tests.support.pipeline import SMALL, photo, request, row, run, write_collection


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str, str]:
    """A folder with a lake, its source, and two snapshots: the second has one image more, and another 2.jpg."""
    folder = tmp_path_factory.mktemp("made")
    place = local_workspace(folder / "home")
    files = {f"{number}.jpg": photo(number) for number in (1, 2, 3)} | {"4.jpg": photo(1), "5.jpg": b"<html>"}
    source = write_collection(folder / "source", files, [row(1), row(2), row(9)])
    first = publish_alone(place, source)
    write_collection(source, {"2.jpg": photo(22), "6.jpg": photo(6)}, [row(1), row(2), row(6)])
    return folder, first, publish_alone(place, source)


def publish_alone(place: Workspace, source: Path) -> str:
    """The main job up to CURRENT."""
    asked = request(place, source)
    inventory = take_inventory(asked)
    for batch in inventory.batches:
        process_batch(place.lake, batch, threads=1)
    summary = finalize(asked, inventory, datetime.now(UTC)).summary
    clear_batches(place.lake, "things")
    return str(summary["snapshot"])


@pytest.fixture
def source(tmp_path: Path, made: tuple[Path, str, str]) -> Path:
    """The source as it is at the second snapshot."""
    return Path(shutil.copytree(made[0] / "source", tmp_path / "source"))


@pytest.fixture
def two(workspace: Workspace, made: tuple[Path, str, str]) -> tuple[str, str]:
    """The ids of the two snapshots, which the workspace's lake holds."""
    shutil.copytree(made[0] / "home" / "lake", workspace.lake.uri("x").removesuffix("/x"), dirs_exist_ok=True)
    return made[1:]


def restore(place: Workspace, name: str) -> Restored:
    return restore_snapshot(place, "things", name, datetime.now(UTC))


def current(place: Workspace) -> str:
    return require_published(place.lake, "things").manifest.snapshot_id


def keys(lake: Lake) -> set[str]:
    folders = ("originals", "derived", "rejected", "batches", "datasets")
    return {info.key for folder in folders for info in lake.list(folder) if not info.key.endswith(".lock")}


def _of(place: Workspace, snapshot_id: str) -> Any:
    found = read_manifest(place.lake, "things", snapshot_id)
    assert found is not None
    return found


def test_a_restored_snapshot_equals_the_older_one_and_names_it(workspace: Workspace, two: tuple[str, str]) -> None:
    first, second = two
    restored = restore(workspace, first)
    manifest, old = require_published(workspace.lake, "things").manifest, read_manifest(workspace.lake, "things", first)
    assert old is not None
    assert restored.published
    assert (manifest.restored_from, manifest.previous, manifest.digest) == (first, second, old.digest)
    assert manifest.snapshot_id not in two
    assert (manifest.recipe, manifest.rules_digest, manifest.source) == (old.recipe, old.rules_digest, old.source)
    tables = {name: read_table(workspace.lake, manifest, name) for name in TABLES}
    assert tables == {name: read_table(workspace.lake, old, name) for name in TABLES}
    assert logical_digest(tables, SMALL, shared_desk()) == manifest.digest
    assert manifest.summary == restored.summary
    assert (manifest.summary["snapshot"], manifest.summary["restored_from"]) == (manifest.snapshot_id, first)
    assert manifest.summary["images"] == old.summary["images"]
    assert sum(manifest.summary["outputs"].values()) == 0, "nothing was drawn"
    assert [each.snapshot_id for each in list_snapshots(workspace.lake, "things")] == [
        manifest.snapshot_id,
        second,
        first,
    ]
    report = workspace.lake.get(f"{manifest.folder}/report.html").decode()
    assert f"{manifest.snapshot_id}, restored at" in report
    assert report.count('role="note"') == 1
    follow.index(workspace, manifest)
    follow.load(workspace, manifest)
    assert verify(workspace, "things").differences == []


def test_a_restore_writes_a_manifest_and_a_report_and_no_table(workspace: Workspace, two: tuple[str, str]) -> None:
    before = keys(workspace.lake)
    restored = restore(workspace, two[0]).summary["snapshot"]
    folder = f"datasets/things/snapshots/{restored}"
    assert keys(workspace.lake) - before == {f"{folder}/manifest.json", f"{folder}/report.html"}


def test_snapshots_of_earlier_versions_are_read_restored_followed_and_collected(
    workspace: Workspace, source: Path, two: tuple[str, str]
) -> None:
    lake = workspace.lake
    told = [{name: read_table(lake, _of(workspace, one), name) for name in TABLES} for one in two]
    whole_tables(lake, "things")
    assert not lake.folders("datasets/things/tables")
    follow.catch_up(workspace, "things")
    assert verify(workspace, "things").differences == []
    assert [{name: read_table(lake, _of(workspace, one), name) for name in TABLES} for one in two] == told
    found = compare_snapshots(lake, workspace.scratch, _of(workspace, two[0]), _of(workspace, two[1]))
    assert found.changes["images"].counts["added"] == 1
    restored = restore(workspace, two[0]).summary["snapshot"]
    assert {name: read_table(lake, _of(workspace, restored), name) for name in TABLES} == told[0]
    assert run(request(workspace, source))["published"], "from whole tables on it goes in pieces"
    assert len(lake.folders("datasets/things/tables")) == len(TABLES)
    make_renamed(workspace, "things", "wares", lambda _: None)
    assert all(file_faults(lake, one) == [] for one in list_snapshots(lake, "wares"))
    with lease(workspace.registry, "dataset/things"):
        hold = Hold(workspace.registry, "dataset/things")
        remove_snapshots(workspace, "things", Rule(1, timedelta(0), timedelta(0)), hold, Amount(), lambda _: None)
    manifest = require_published(lake, "things").manifest
    assert lake.folders("datasets/things/snapshots") == [manifest.snapshot_id]
    assert file_faults(lake, manifest) == []


def test_registry_and_warehouse_hold_the_restored_rows(workspace: Workspace, two: tuple[str, str]) -> None:
    restored = restore(workspace, two[0]).summary["snapshot"]
    assert follow.catch_up(workspace, "things") == ["registry", "warehouse"]
    assert workspace.warehouse.current_snapshots() == {"things": restored}
    found = workspace.warehouse.query("SELECT key FROM warehouse.images ORDER BY key").to_pylist()
    assert [each["key"] for each in found] == [f"{number}.jpg" for number in (1, 2, 3, 4, 5)]


def test_the_next_ingest_compares_with_the_restored_snapshot(
    workspace: Workspace, source: Path, two: tuple[str, str]
) -> None:
    restored = restore(workspace, two[0]).summary["snapshot"]
    summary = run(request(workspace, source))
    assert summary["published"]
    manifest = require_published(workspace.lake, "things").manifest
    before = read_manifest(workspace.lake, "things", two[1])
    assert before is not None
    assert (manifest.previous, manifest.restored_from, manifest.digest) == (restored, None, before.digest)
    assert verify(workspace, "things").differences == []
    (source / "6.jpg").unlink()
    write_collection(source, {"2.jpg": photo(2)}, [row(1), row(2), row(9)])
    run(request(workspace, source))
    again = restore(workspace, two[0])
    assert not again.published, "the ingest came to the same"


@pytest.mark.usefixtures("two")
def test_an_ingest_with_the_recipe_of_before_finds_all_drawn(workspace: Workspace, source: Path) -> None:
    first = run(request(workspace, source))["snapshot"]
    other = Recipe(outputs={"standard": OutputDefinition(image_size=20)})
    run(request(workspace, source, recipe=other))
    assert restore(workspace, first).published
    summary = run(request(workspace, source, recipe=SMALL))
    assert (summary["published"], sum(summary["outputs"].values())) == (False, 0)
    assert run(request(workspace, source, recipe=other))["published"]


def test_what_is_current_already_is_not_published_again(workspace: Workspace, two: tuple[str, str]) -> None:
    written = keys(workspace.lake)
    same = restore(workspace, two[1])
    assert (same.published, same.note) == (False, f"nothing to do: {two[1]} is current already")
    assert (same.summary["snapshot"], same.summary["published"]) == (two[1], False)
    assert keys(workspace.lake) == written
    restored = restore(workspace, two[0]).summary["snapshot"]
    again = restore(workspace, two[0])
    assert again.note == f"nothing to do: {two[0]} is what {restored} holds already"
    assert current(workspace) == restored
    assert restore(workspace, two[1]).published, "and back"


def test_a_tag_works_as_an_id_does(workspace: Workspace, two: tuple[str, str]) -> None:
    set_tag(workspace.lake, "things", "v1", two[0])
    assert restore(workspace, "v1").summary["restored_from"] == two[0]


def test_a_snapshot_that_is_not_there_is_refused(workspace: Workspace, two: tuple[str, str]) -> None:
    for name in ("v1", "20200101T000000000Z-00000000", f"{two[0]}/../{two[1]}"):
        with pytest.raises(UsageError, match="there is no snapshot"):
            restore(workspace, name)


@pytest.mark.parametrize("table", ["images", "rejects"])
@pytest.mark.parametrize("damage", ["missing", "changed"])
def test_a_damaged_snapshot_is_refused_and_nothing_is_written(
    workspace: Workspace, two: tuple[str, str], table: str, damage: str
) -> None:
    key = _of(workspace, two[0]).keys(table)[0]
    if damage == "missing":
        workspace.lake.remove(key)
    else:
        data = bytearray(workspace.lake.get(key))
        data[len(data) // 2] ^= 1
        workspace.lake.replace(key, bytes(data))
    written = keys(workspace.lake)
    with pytest.raises(
        DamagedSnapshotError, match=f"{key} is {'missing' if damage == 'missing' else 'damaged'}"
    ) as fault:
        restore(workspace, two[0])
    assert "lookbook verify things --all" in fault.value.way_out
    assert (keys(workspace.lake), current(workspace)) == (written, two[1])


@pytest.mark.parametrize("most", [module.MOST_LOOKED_FOR, 0])
@pytest.mark.parametrize("column", ["original_key", "object_key"])
@pytest.mark.parametrize("damage", ["missing", "cut off"])
def test_a_snapshot_of_which_an_object_is_missing_or_cut_off_is_refused(
    workspace: Workspace, two: tuple[str, str], monkeypatch: pytest.MonkeyPatch, most: int, column: str, damage: str
) -> None:
    monkeypatch.setattr(module, "MOST_LOOKED_FOR", most)
    images, outputs = (read_table(workspace.lake, _of(workspace, two[0]), name) for name in ("images", "outputs"))
    (lost,) = (each for each in images.to_pylist() if each["key"] == "2.jpg")  # which the current one does not list
    drawn = next(each for each in outputs.to_pylist() if each["sha256"] == lost["sha256"])
    key = (lost | drawn)[column]
    workspace.lake.remove(key)
    if damage == "cut off":
        workspace.lake.put(key, b"x")
    written = keys(workspace.lake)
    with pytest.raises(DamagedSnapshotError, match=f"{key} is {damage}"):
        restore(workspace, two[0])
    assert (keys(workspace.lake), current(workspace)) == (written, two[1])


def test_a_damaged_current_snapshot_gives_way_to_a_whole_one_that_is_equal(
    workspace: Workspace, two: tuple[str, str]
) -> None:
    restored = restore(workspace, two[0]).summary["snapshot"]
    key = f"datasets/things/snapshots/{restored}/report.html"
    data = workspace.lake.get(key)
    workspace.lake.replace(key, bytes([data[0] ^ 1, *data[1:]]))
    assert restore(workspace, two[0]).published
    follow.catch_up(workspace, "things")
    assert verify(workspace, "things").differences == []


class Killed(BaseException):
    """In the place of SIGKILL."""


@pytest.mark.parametrize("step", ["put note", "put report.html", "put manifest.json", "swap", "swapped"])
def test_killed_at_any_step_current_is_the_old_or_the_new_one_and_nothing_is_stranded(
    workspace: Workspace, two: tuple[str, str], monkeypatch: pytest.MonkeyPatch, step: str
) -> None:
    before = keys(workspace.lake)
    put, swap, remove = FolderLake.put, FolderLake.swap, FolderLake.remove
    dead: list[str] = []

    def at(name: str) -> None:
        if dead or name == step:
            dead.append(name)
            raise Killed

    def dying_put(self: FolderLake, key: str, data: bytes) -> bool:
        at("put " + ("note" if "/writing/" in key else key.rpartition("/")[2]))
        return put(self, key, data)

    def dying_swap(self: FolderLake, *given: Any) -> None:
        at("swap")
        swap(self, *given)
        at("swapped")

    def dying_remove(self: FolderLake, key: str) -> None:
        at("remove")
        remove(self, key)

    with monkeypatch.context() as patch:
        for name, dying in (("put", dying_put), ("swap", dying_swap), ("remove", dying_remove)):
            patch.setattr(FolderLake, name, dying)
        with pytest.raises(Killed):
            restore(workspace, two[0])
    is_new = step == "swapped"
    assert (current(workspace) != two[1]) is is_new
    swept = sweep_unfinished(workspace.lake, "things")
    assert len(swept) == (not is_new and step != "put note")
    if not is_new:
        assert keys(workspace.lake) == before
    assert restore(workspace, two[0]).published is not is_new
    now = current(workspace)
    new = {key for key in keys(workspace.lake) if f"/{now}/" in key}
    assert keys(workspace.lake) == before | new
    follow.catch_up(workspace, "things")
    assert verify(workspace, "things").differences == []


def test_a_run_that_stands_still_right_before_its_swap_cannot_publish_what_was_swept(
    workspace: Workspace, two: tuple[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    swap = FolderLake.swap

    def stand_still(self: FolderLake, *given: Any) -> None:
        monkeypatch.setattr(FolderLake, "swap", swap)
        with holding(2, "dataset/things"):
            assert len(sweep_unfinished(workspace.lake, "things")) == 1
        self.swap(*given)

    monkeypatch.setattr(FolderLake, "swap", stand_still)
    with holding(1, "dataset/things"), pytest.raises(LeaseLostError):
        restore(workspace, two[0])
    assert current(workspace) == two[1]
    assert sweep_unfinished(workspace.lake, "things"), "what the loser has written is known"
    assert sweep_unfinished(workspace.lake, "things") == []


def test_a_restore_beside_a_run_that_publishes_leaves_that_one(
    workspace: Workspace, source: Path, two: tuple[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    write_collection(source, {"7.jpg": photo(7)})
    others = []

    def publishing(_: object) -> None:
        monkeypatch.setattr(module, "confirm", lambda _: None)
        others.append(run(request(workspace, source))["snapshot"])

    monkeypatch.setattr(module, "confirm", publishing)
    with pytest.raises(SwapConflictError):
        restore(workspace, two[0])
    assert [current(workspace)] == others


@pytest.mark.usefixtures("two")
def test_an_ingest_that_is_killed_before_its_swap_leaves_nothing_either(
    workspace: Workspace, source: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_collection(source, {"7.jpg": photo(7)})

    def kill(*_: object) -> None:
        raise Killed

    with monkeypatch.context() as patch:
        patch.setattr(publish, "commit", kill)
        with pytest.raises(Killed):
            run(request(workspace, source))
    assert len(workspace.lake.folders("datasets/things/snapshots")) == 3
    (swept,) = sweep_unfinished(workspace.lake, "things")
    assert not any(swept in key for key in keys(workspace.lake))
    assert run(request(workspace, source))["published"]
