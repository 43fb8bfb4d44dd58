"""Where exports go: whole or not at all, answered from what is there, nothing of anybody else's touched."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from lookbook.blocks.errors import LookbookError, UsageError
from lookbook.blocks.gcs import GcsLake
from lookbook.blocks.lake import FolderLake
from lookbook.tasks.datasets.manifest import list_datasets
from lookbook.tasks.exports import places
from lookbook.tasks.exports.finished import find_finished, remove_export, require_finished
from lookbook.tasks.exports.places import Exported, export_to_folder, export_to_lake
from tests.support.exports import digests, prepared
from tests.support.gcp_credentials import AnonymousGcpCredentials
from tests.support.gcs_server import serving_gcs


def test_a_folder_and_the_lake_hold_the_same_bytes(small_dataset: FolderLake, tmp_path: Path) -> None:
    wanted = prepared(small_dataset, recipe="square-8")
    folder = export_to_folder(small_dataset, wanted, tmp_path / "out")
    lake = export_to_lake(small_dataset, wanted)
    assert folder.id == lake.id
    finished = require_finished(small_dataset, lake.id)
    names = finished.files["name"].to_pylist()
    found = dict(zip(names, finished.files["sha256"].to_pylist(), strict=True))
    assert found == digests(tmp_path / "out")
    assert digests(Path(lake.uri) / "files") == found
    assert [path.name for path in tmp_path.iterdir() if "partial" in path.name] == []
    assert list_datasets(small_dataset) == ["things"]


def test_a_bucket_holds_the_bytes_that_a_folder_holds(small_dataset: FolderLake, tmp_path: Path) -> None:
    with serving_gcs("bucket") as server:
        bucket = GcsLake(bucket="bucket", prefix="lake", credentials=AnonymousGcpCredentials(endpoint=server.url))
        for path in Path(small_dataset.root).rglob("*"):
            if path.is_file():
                bucket.put(path.relative_to(small_dataset.root).as_posix(), path.read_bytes())
        folder = export_to_lake(small_dataset, prepared(small_dataset, recipe="square-8"))
        first, again = (export_to_lake(bucket, prepared(bucket, recipe="square-8"), tmp_path / "s") for _ in range(2))
        assert (first.id, first.answered, again.answered) == (folder.id, False, True)
        here, there = (require_finished(lake, folder.id) for lake in (small_dataset, bucket))
        assert here.files.equals(there.files)
        for name in here.files["name"].to_pylist():
            assert bucket.get(there.place.file(name)) == small_dataset.get(here.place.file(name)), name


def test_the_same_request_is_answered_from_what_is_there(small_dataset: FolderLake, tmp_path: Path) -> None:
    wanted = prepared(small_dataset, recipe="square-8")
    ways: list[Callable[[], Exported]] = [
        lambda: export_to_folder(small_dataset, wanted, tmp_path / "out"),
        lambda: export_to_lake(small_dataset, wanted),
    ]
    for export in ways:
        first, again = export(), export()
        assert (first.answered, again.answered) == (False, True)
        made = {name: value for name, value in first.books.items() if name not in {"made", "there"}}
        assert made == again.books


def test_an_export_that_lost_a_file_is_made_whole_again_in_the_lake(small_dataset: FolderLake) -> None:
    wanted = prepared(small_dataset, recipe="square-8")
    lake = export_to_lake(small_dataset, wanted)
    before = digests(Path(lake.uri))
    finished = require_finished(small_dataset, lake.id)
    for name in ("train/1.jpg", "metadata.csv"):
        small_dataset.remove(finished.place.file(name))
        assert not finished.is_whole()
        assert export_to_lake(small_dataset, wanted).answered is False
        assert digests(Path(lake.uri)) == before


@pytest.mark.parametrize("name", ["train/1.jpg", "metadata.csv"])
def test_an_export_of_which_a_file_has_other_bytes_of_the_same_size_is_made_anew(
    small_dataset: FolderLake, tmp_path: Path, name: str
) -> None:
    with serving_gcs("bucket") as server:
        bucket = GcsLake(bucket="bucket", prefix="lake", credentials=AnonymousGcpCredentials(endpoint=server.url))
        for path in Path(small_dataset.root).rglob("*"):
            if path.is_file():
                bucket.put(path.relative_to(small_dataset.root).as_posix(), path.read_bytes())
        for lake in (small_dataset, bucket):
            wanted = prepared(lake, recipe="square-8")
            finished = require_finished(lake, export_to_lake(lake, wanted, tmp_path / "s").id)
            good = finished.read(name)
            lake.replace(finished.place.file(name), bytes(len(good)))
            assert not finished.is_whole()
            with pytest.raises(LookbookError, match=f"{name} is damaged"):
                finished.read(name)
            with pytest.raises(LookbookError, match=f"{name} is damaged"):
                list(finished.stream())
            assert export_to_lake(lake, wanted, tmp_path / "s").answered is False
            assert finished.read(name) == good
            assert export_to_lake(lake, wanted, tmp_path / "s").answered is True


@pytest.mark.parametrize("lost", [True, False])
def test_an_export_whose_list_of_files_is_lost_or_damaged_is_made_anew(small_dataset: FolderLake, lost: bool) -> None:
    wanted = prepared(small_dataset, recipe="square-8")
    finished = require_finished(small_dataset, export_to_lake(small_dataset, wanted).id)
    key = f"{finished.place.folder}files.parquet"
    small_dataset.remove(key) if lost else small_dataset.replace(key, b"PAR1")
    assert not finished.is_whole()
    assert export_to_lake(small_dataset, wanted).answered is False
    assert require_finished(small_dataset, finished.id).is_whole()


def test_a_folder_that_holds_something_else_is_left_alone(small_dataset: FolderLake, tmp_path: Path) -> None:
    wanted = prepared(small_dataset, recipe="square-8")
    out = tmp_path / "out"
    out.mkdir()
    export_to_folder(small_dataset, wanted, out)  # an empty one is taken
    with pytest.raises(UsageError, match="another export"):
        export_to_folder(small_dataset, prepared(small_dataset, recipe="square-9"), out)
    (out / "train" / "1.jpg").write_bytes(b"other")
    with pytest.raises(LookbookError, match=r"train/1.jpg is not as it was made"):
        export_to_folder(small_dataset, wanted, out)
    other = tmp_path / "other"
    other.mkdir()
    (other / "mine.txt").write_text("mine")
    with pytest.raises(UsageError, match="something stands there"):
        export_to_folder(small_dataset, wanted, other)
    with pytest.raises(UsageError, match="a file stands there"):
        export_to_folder(small_dataset, wanted, other / "mine.txt")
    assert (other / "mine.txt").read_text() == "mine"


def test_no_export_goes_into_the_lake_by_its_path(small_dataset: FolderLake) -> None:
    with pytest.raises(UsageError, match="belongs to the lake"):
        export_to_folder(small_dataset, prepared(small_dataset), small_dataset.root / "exports" / "x")


def test_an_interrupted_export_leaves_nothing_where_it_was_to_be_and_goes_on(
    small_dataset: FolderLake, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    wanted = prepared(small_dataset, recipe="square-8")

    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(places, "_move", interrupt)
        with pytest.raises(KeyboardInterrupt):
            export_to_folder(small_dataset, wanted, tmp_path / "out")
    assert not (tmp_path / "out").exists()
    done = export_to_folder(small_dataset, wanted, tmp_path / "out")
    assert (done.books["made"], done.books["there"]) == (0, 4)


def test_two_that_export_into_one_folder_do_not_meet(small_dataset: FolderLake, tmp_path: Path) -> None:
    wanted = prepared(small_dataset, recipe="square-8")
    aside = tmp_path / f".out.{wanted.id}.partial"
    aside.mkdir()
    # POSIX grants the lock of one process again: another one has to hold it.
    code = (
        "import fasteners, sys; lock = fasteners.InterProcessLock(sys.argv[1]); lock.acquire(); print(flush=True)"
        "; sys.stdin.read()"
    )
    other = subprocess.Popen(
        [sys.executable, "-c", code, str(aside / "lock")], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    )
    with other:
        assert other.stdout
        other.stdout.readline()
        with pytest.raises(LookbookError, match="another run is exporting there"):
            export_to_folder(small_dataset, wanted, tmp_path / "out")
    assert export_to_folder(small_dataset, wanted, tmp_path / "out").answered is False


def test_a_folder_below_a_file_is_named(small_dataset: FolderLake, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x")
    with pytest.raises(LookbookError, match="--out"):
        export_to_folder(small_dataset, prepared(small_dataset), tmp_path / "file" / "out")


@pytest.mark.parametrize("name", ["", "x", "../" + "0" * 29, "A" * 32, "0" * 33])
def test_what_is_no_id_reads_nothing(small_dataset: FolderLake, name: str) -> None:
    with pytest.raises(UsageError, match="no id of an export"):
        find_finished(small_dataset, name)


def test_only_files_of_the_export_are_read(small_dataset: FolderLake) -> None:
    lake = export_to_lake(small_dataset, prepared(small_dataset))
    finished = require_finished(small_dataset, lake.id)
    for name in ("../manifest.json", "/etc/passwd", "", "train"):
        with pytest.raises(UsageError, match="has no such file"):
            finished.read(name)


def test_a_removed_export_is_gone_and_no_other(small_dataset: FolderLake) -> None:
    one = export_to_lake(small_dataset, prepared(small_dataset))
    other = export_to_lake(small_dataset, prepared(small_dataset, recipe="square-8"))
    assert remove_export(small_dataset, one.id)
    assert not remove_export(small_dataset, one.id)
    assert find_finished(small_dataset, one.id) is None
    assert require_finished(small_dataset, other.id).is_whole()
