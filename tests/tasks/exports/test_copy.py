"""Copies of a snapshot: whole, under names that people read, and sent once."""

from __future__ import annotations

import errno
import hashlib
import json
import os
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from lookbook.blocks.errors import LookbookError, UsageError
from lookbook.blocks.lake import FolderLake
from lookbook.tasks.datasets.manifest import read_table, require_published
from lookbook.tasks.exports.copy import FolderTarget, copy_dataset
from lookbook.tasks.runs.progress import listening
from tests.support.pipeline import photo, write_collection
from tests.tasks.exports.conftest import IMAGES, publish


def files(folder: Path) -> dict[str, bytes]:
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_images_and_tables_have_names_that_people_read(small_dataset: FolderLake, tmp_path: Path) -> None:
    done = copy_dataset(small_dataset, "things", ["grey", "originals"], str(tmp_path / "out"))
    names = ["1.jpg", "1-2.jpg", "2.jpg", "orphans/stray.jpg"]
    found = files(tmp_path / "out")
    assert sorted(found) == sorted(
        [f"{folder}/{name}" for folder in ("grey", "originals") for name in names]
        + [f"{name}.parquet" for name in ("styles", "images", "outputs", "image_links", "rejects", "files")]
        + ["manifest.json"]
    )
    assert found["originals/1-2.jpg"] == IMAGES["more/1.jpg"]
    assert found["originals/orphans/stray.jpg"] == IMAGES["stray.jpg"]
    assert done["folders"]["grey"] == {"files": 4, "sent": 4, "bytes": sum(len(found[f"grey/{n}"]) for n in names)}
    assert (done["tables"]["files"], done["rejected"]) == (7, 1)
    assert json.loads(found["manifest.json"])["snapshot_id"] == done["snapshot"]


def test_the_table_of_files_says_what_each_one_is(small_dataset: FolderLake, tmp_path: Path) -> None:
    copy_dataset(small_dataset, "things", ["thumb"], str(tmp_path / "out"))
    found = files(tmp_path / "out")
    rows = pq.read_table(tmp_path / "out" / "files.parquet").to_pylist()
    manifest = require_published(small_dataset, "things").manifest
    drawn = {each["output_sha256"] for each in read_table(small_dataset, manifest, "outputs").to_pylist()}
    for each in rows:
        data = found[each["file"]]
        assert (len(data), hashlib.sha256(data).hexdigest()) == (each["bytes"], each["file_sha256"])
        assert each["file_sha256"] in drawn
    assert {each["file"]: each["product_key"] for each in rows}["thumb/orphans/stray.jpg"] is None


def test_by_hash_each_content_is_there_once(small_dataset: FolderLake, tmp_path: Path) -> None:
    copy_dataset(small_dataset, "things", ["originals"], str(tmp_path / "out"), "hash")
    expected = {hashlib.sha256(data).hexdigest(): data for data in IMAGES.values() if data != b"<html>"}
    found = {name: data for name, data in files(tmp_path / "out").items() if name.startswith("originals/")}
    assert found == {f"originals/{sha256[:2]}/{sha256}.jpg": data for sha256, data in expected.items()}


def test_what_stands_there_is_not_sent_again(small_dataset: FolderLake, tmp_path: Path) -> None:
    first = copy_dataset(small_dataset, "things", ["grey", "thumb"], str(tmp_path / "out"))
    before = {path: path.stat().st_mtime_ns for path in (tmp_path / "out").rglob("*") if path.is_file()}
    again = copy_dataset(small_dataset, "things", ["grey", "thumb"], str(tmp_path / "out"))
    assert {name: counts["sent"] for name, counts in again["folders"].items()} == {"grey": 0, "thumb": 0}
    assert again["tables"] == first["tables"] | {"sent": 0, "bytes": 0}
    assert {path: path.stat().st_mtime_ns for path in before} == before


def test_what_is_damaged_there_is_sent_again(small_dataset: FolderLake, tmp_path: Path) -> None:
    copy_dataset(small_dataset, "things", ["grey"], str(tmp_path / "out"))
    path = tmp_path / "out" / "grey" / "1.jpg"
    good = path.read_bytes()
    path.write_bytes(bytes(len(good)))
    assert copy_dataset(small_dataset, "things", ["grey"], str(tmp_path / "out"))["folders"]["grey"]["sent"] == 1
    assert path.read_bytes() == good


def test_what_is_announced_is_done(small_dataset: FolderLake, tmp_path: Path) -> None:
    announced: list[int] = []
    done: list[int] = []
    with listening(announce=announced.append, advance=done.append):
        copy_dataset(small_dataset, "things", ["grey", "originals"], str(tmp_path / "out"))
    assert announced == [sum(done)] == [2 * 4 + 7]


class Breaking(FolderTarget):
    """A folder that breaks down after a few files."""

    left = 3

    def write(self, name: str, data: bytes, sha256: str) -> None:
        self.left -= 1
        if self.left < 0:
            raise LookbookError("out of order")
        super().write(name, data, sha256)


def test_a_copy_that_broke_off_goes_on_and_its_manifest_comes_last(small_dataset: FolderLake, tmp_path: Path) -> None:
    broken = Breaking(tmp_path / "out")
    with pytest.raises(LookbookError, match="out of order"):
        copy_dataset(small_dataset, "things", ["grey"], "", target=broken)
    assert len(files(tmp_path / "out")) == 3
    assert not (tmp_path / "out" / "manifest.json").exists()
    done = copy_dataset(small_dataset, "things", ["grey"], str(tmp_path / "out"))
    assert done["folders"]["grey"]["sent"] + done["tables"]["sent"] == 4 + 7 - 3


def test_a_second_copy_that_broke_off_stands_under_no_manifest(small_dataset: FolderLake, tmp_path: Path) -> None:
    """What stands there is of two snapshots then; where nothing changed, the manifest stays."""
    copy_dataset(small_dataset, "things", ["grey"], str(tmp_path / "out"))
    manifest = tmp_path / "out" / "manifest.json"
    before = manifest.stat().st_ino
    copy_dataset(small_dataset, "things", ["grey"], str(tmp_path / "out"))
    assert manifest.stat().st_ino == before
    manifest.write_text("of an older snapshot")
    broken = Breaking(tmp_path / "out")
    broken.left = 0
    with pytest.raises(LookbookError, match="out of order"):
        copy_dataset(small_dataset, "things", ["thumb"], "", target=broken)
    assert not manifest.exists()


def test_the_lakes_damage_is_not_copied(small_dataset: FolderLake, tmp_path: Path) -> None:
    manifest = require_published(small_dataset, "things").manifest
    key = read_table(small_dataset, manifest, "outputs").to_pylist()[0]["object_key"]
    small_dataset.replace(key, b"other bytes")
    with pytest.raises(LookbookError, match="other bytes"):
        copy_dataset(small_dataset, "things", ["standard", "grey", "thumb"], str(tmp_path / "out"))


def test_one_image_of_two_products_is_a_file_of_each(tmp_path: Path) -> None:
    folder = write_collection(tmp_path / "in", {"shared.jpg": photo(5)})
    (folder / "styles.csv").write_text("id,filename\n1,shared.jpg\n2,shared.jpg\n")
    copy_dataset(publish(tmp_path, folder), "things", ["originals"], str(tmp_path / "out"))
    found = files(tmp_path / "out")
    assert found["originals/1.jpg"] == found["originals/2.jpg"] == photo(5)


@pytest.mark.parametrize("to", ["", "ftp://host/x", "file://host/x", "gs://", "gs://UP/x y", "~no-such-user/x", "a\0b"])
def test_a_target_that_cannot_be_meant_is_refused(small_dataset: FolderLake, to: str) -> None:
    with pytest.raises(UsageError, match="--to"):
        copy_dataset(small_dataset, "things", ["grey"], to)


def test_the_lake_itself_is_no_target(small_dataset: FolderLake) -> None:
    with pytest.raises(UsageError, match="belongs to the lake"):
        copy_dataset(small_dataset, "things", ["grey"], str(small_dataset.root / "out"))


def test_an_unknown_output_is_answered_with_those_there_are(small_dataset: FolderLake, tmp_path: Path) -> None:
    with pytest.raises(UsageError) as refused:
        copy_dataset(small_dataset, "things", ["gray"], str(tmp_path / "out"))
    assert "grey, standard, thumb, originals" in refused.value.way_out
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("number", "problem", "way_out"),
    [(errno.EACCES, "cannot be written", "Name a folder"), (errno.ENOSPC, "no space left", "Free some")],
)
def test_a_folder_that_cannot_be_written_is_told_by_the_option_that_named_it(
    small_dataset: FolderLake, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int, problem: str, way_out: str
) -> None:
    def refused(*_: object) -> None:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(os, "replace", refused)
    with pytest.raises(LookbookError, match=f"--to {tmp_path / 'out'}.*{problem}") as told:
        copy_dataset(small_dataset, "things", ["grey"], str(tmp_path / "out"))
    assert way_out in told.value.way_out
    assert "LOOKBOOK_HOME" not in str(told.value)


def test_a_file_where_the_copy_needs_a_folder_is_told(small_dataset: FolderLake, tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "grey").write_text("a file")
    with pytest.raises(LookbookError, match=r"--to .* cannot be written: (File exists|Not a directory)"):
        copy_dataset(small_dataset, "things", ["grey"], str(tmp_path / "out"))
