"""Sources of another machine: nothing is read there, word is left, and what is landed gives the same outcomes."""

from __future__ import annotations

import os
import zipfile
from pathlib import Path

import pyarrow as pa
import pytest

import lookbook.tasks.images.locators
from lookbook.blocks.lake import FolderLake
from lookbook.blocks.settings import this_host
from lookbook.tasks.images.batch import process_batch, read_part
from lookbook.tasks.images.items import Item, Locator
from lookbook.tasks.images.locators import LISTED_ON, SourceElsewhereError, land, needs_landing
from lookbook.tasks.images.parquet import from_parquet, manifest_items, manifest_table, to_parquet
from tests.support.pipeline import SMALL, photo

BATCH = "batches/things/b"
RECIPE = SMALL.model_copy(update={"max_file_bytes": 5000})


@pytest.fixture
def lake(tmp_path: Path) -> FolderLake:
    return FolderLake(root=tmp_path / "lake")


def file(folder: Path, name: str, data: bytes) -> Item:
    path = folder / name
    path.parent.mkdir(exist_ok=True)
    path.write_bytes(data)
    return Item(name, f"f-{name}", Locator("file", os.fsencode(path), size=len(data)))


def members(folder: Path) -> list[Item]:
    """A good and a damaged member of an archive."""
    path = folder / "a.zip"
    path.parent.mkdir(exist_ok=True)
    with zipfile.ZipFile(path, "w") as archive:
        for number in (7, 8):
            archive.writestr(f"{number}.jpg", photo(number))
        offset = archive.infolist()[1].header_offset
    whole = bytearray(path.read_bytes())
    whole[offset + 60] ^= 0xFF
    path.write_bytes(whole)
    return [
        Item(f"{n}.jpg", f"f-{n}", Locator("zip", os.fsencode(path), f"{n}.jpg", size=len(photo(n)))) for n in (7, 8)
    ]


def items(folder: Path) -> list[Item]:
    refused = Item("out.jpg", "f", Locator("file", b"/nowhere"), refused=("outside_source", "It leads out."))
    return [
        *(file(folder, f"{number}.jpg", photo(number)) for number in (1, 2, 1)),
        file(folder, "huge.jpg", bytes(6000)),
        file(folder, "torn.jpg", photo(3)[:200]),
        refused,
        *members(folder),
    ]


def send(lake: FolderLake, todo: list[Item], listed_on: str) -> None:
    metadata = {"recipe": RECIPE.model_dump_json(), "recipe_digest": "r", "dataset": "things", LISTED_ON: listed_on}
    lake.replace(f"{BATCH}/manifest.parquet", to_parquet(manifest_table(todo), metadata))


def outcomes(lake: FolderLake) -> pa.Table:
    part = read_part(lake, BATCH)
    assert part is not None
    return part


def test_a_batch_of_another_machine_is_not_read_and_word_is_left(lake: FolderLake, tmp_path: Path) -> None:
    send(lake, items(tmp_path / "source"), "elsewhere/1234")
    with pytest.raises(SourceElsewhereError, match="elsewhere/1234"):
        process_batch(lake, BATCH, 1)
    assert needs_landing(lake, BATCH)
    assert read_part(lake, BATCH) is None
    assert not list(lake.list("originals"))


def test_a_batch_of_this_machine_is_read_where_it_lies(lake: FolderLake, tmp_path: Path) -> None:
    send(lake, items(tmp_path / "source"), this_host())
    process_batch(lake, BATCH, 1)
    assert not needs_landing(lake, BATCH)
    assert not list(lake.list(f"{BATCH}/landed"))


def test_what_is_landed_ends_as_it_would_have_where_it_lay(lake: FolderLake, tmp_path: Path) -> None:
    source = tmp_path / "source"
    todo = items(source)
    send(lake, todo, this_host())
    process_batch(lake, BATCH, 1)
    expected, made = outcomes(lake), {info.key for kind in ("originals", "derived") for info in lake.list(kind)}

    other = FolderLake(root=tmp_path / "other")
    send(other, todo, "elsewhere/1234")
    with pytest.raises(SourceElsewhereError):
        process_batch(other, BATCH, 1)
    land(other, BATCH)
    assert not needs_landing(other, BATCH)
    source.rename(tmp_path / "gone")
    process_batch(other, BATCH, 1)
    assert outcomes(other).equals(expected)
    assert {info.key for kind in ("originals", "derived") for info in other.list(kind)} == made
    assert set(expected.column("rule").to_pylist()) >= {"too_large", "outside_source", "damaged_member"}


def test_what_is_never_read_is_not_landed(lake: FolderLake, tmp_path: Path) -> None:
    send(lake, items(tmp_path / "source"), "elsewhere/1234")
    land(lake, BATCH)
    landed = manifest_items(from_parquet(lake.get(f"{BATCH}/manifest.parquet"))[0])
    assert {item.key for item in landed if item.locator.store != "lake"} == {"huge.jpg", "out.jpg", "8.jpg"}
    assert len(list(lake.list(f"{BATCH}/landed"))) == 5


def test_landing_twice_changes_nothing(lake: FolderLake, tmp_path: Path) -> None:
    source = tmp_path / "source"
    send(lake, items(source), "elsewhere/1234")
    land(lake, BATCH)
    manifest = lake.get(f"{BATCH}/manifest.parquet")
    source.rename(tmp_path / "gone")
    land(lake, BATCH)
    assert from_parquet(lake.get(f"{BATCH}/manifest.parquet"))[0].equals(from_parquet(manifest)[0])


def test_a_source_that_fails_while_it_is_landed_leaves_the_manifest_as_it_was(lake: FolderLake, tmp_path: Path) -> None:
    todo = items(tmp_path / "source")
    send(lake, todo, "elsewhere/1234")
    before = lake.get(f"{BATCH}/manifest.parquet")
    (tmp_path / "source" / "2.jpg").unlink()
    with pytest.raises(FileNotFoundError):
        land(lake, BATCH)
    assert lake.get(f"{BATCH}/manifest.parquet") == before


def test_a_batch_without_anything_to_read_needs_no_landing(lake: FolderLake, tmp_path: Path) -> None:
    send(lake, [file(tmp_path / "source", "huge.jpg", bytes(6000))], "elsewhere/1234")
    assert process_batch(lake, BATCH, 1).rejected == 1


def test_a_manifest_that_names_no_machine_is_of_this_one(
    lake: FolderLake, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    todo = [file(tmp_path / "source", "1.jpg", photo(1))]
    metadata = {"recipe": RECIPE.model_dump_json(), "recipe_digest": "r"}
    lake.replace(f"{BATCH}/manifest.parquet", to_parquet(manifest_table(todo), metadata))
    monkeypatch.setattr(lookbook.tasks.images.locators, "this_host", lambda: "any/where")
    assert process_batch(lake, BATCH, 1).images == 1
