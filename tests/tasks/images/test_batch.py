"""One batch with real images in a real lake: outcomes, the part as commit mark, and copies drawn once."""

from __future__ import annotations

import hashlib
import os
import shutil
import zipfile
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from lookbook.blocks.errors import LookbookError
from lookbook.blocks.lake import FolderLake
from lookbook.tasks.images.batch import BatchCounts, process_batch
from lookbook.tasks.images.items import Item, KnownContent, Locator
from lookbook.tasks.images.parquet import from_parquet, manifest_table, to_parquet
from lookbook.tasks.images.recipe import OutputDefinition, Recipe
from lookbook.tasks.images.render import render
from lookbook.tasks.images.renderers import Renderers
from lookbook.tasks.runs.progress import listening
from tests.support.pictures import encoded, natural, pixels
from tests.support.pipeline import SMALL, photo

BATCH = "batches/things/b1"


@pytest.fixture
def lake(tmp_path: Path) -> FolderLake:
    return FolderLake(root=tmp_path / "lake")


def item(folder: Path, name: str, data: bytes | None = None, **values: Any) -> Item:
    """An image of a folder; its file is written where `data` are given."""
    path = folder / "source" / name
    path.parent.mkdir(parents=True, exist_ok=True)
    if data is not None:
        path.write_bytes(data)
    size = path.stat().st_size if path.exists() else 0
    return Item(name, f"mtime:{name}", Locator("file", os.fsencode(path), size=size), **values)


def write_manifest(lake: FolderLake, items: Sequence[Item], recipe: Recipe = SMALL, key: str = BATCH) -> None:
    metadata = {"recipe": recipe.model_dump_json(), "recipe_digest": "of the recipe", "dataset": "things"}
    lake.put(f"{key}/manifest.parquet", to_parquet(manifest_table(items), metadata))


def part(lake: FolderLake, key: str = BATCH) -> dict[str, dict[str, Any]]:
    """The rows of the part, by key of the image."""
    rows = from_parquet(lake.get(f"{key}/part.parquet"))[0].to_pylist()
    assert len({row["key"] for row in rows}) == len(rows)
    return {row["key"]: row for row in rows}


def done(lake: FolderLake, *items: Item, recipe: Recipe = SMALL, threads: int = 2) -> dict[str, dict[str, Any]]:
    write_manifest(lake, items, recipe)
    process_batch(lake, BATCH, threads)
    return part(lake)


def objects(lake: FolderLake, *folders: str) -> dict[str, bytes]:
    return {info.key: lake.get(info.key) for folder in folders for info in lake.list(folder)}


def sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def test_an_image_has_its_original_and_every_output_in_the_lake(lake: FolderLake, tmp_path: Path) -> None:
    data = photo(1)
    row = done(lake, item(tmp_path, "a.jpg", data))["a.jpg"]
    assert (row["status"], row["rule"], row["fingerprint"]) == ("ok", "", "mtime:a.jpg")
    assert (row["sha256"], row["bytes"]) == (sha256(data), len(data))
    assert row["original_key"] == f"originals/{sha256(data)[:2]}/{sha256(data)}.jpg"
    assert lake.get(row["original_key"]) == data
    assert (row["original_width"], row["original_height"], row["format"]) == (24, 32, "JPEG")
    assert [drawn["output"] for drawn in row["drawn"]] == ["grey", "standard", "thumb"]
    for drawn in row["drawn"]:
        file = lake.get(drawn["object_key"])
        definition = SMALL.outputs[drawn["output"]]
        assert drawn["output_digest"] == definition.digest()
        assert drawn["object_key"].startswith(f"derived/{definition.digest()}/")
        assert (drawn["sha256"], drawn["bytes"]) == (sha256(file), len(file))
        assert pixels(file).shape[:2] == (drawn["height"], drawn["width"]) == (definition.image_size,) * 2


def test_an_original_is_named_after_what_its_bytes_are(lake: FolderLake, tmp_path: Path) -> None:
    kinds = {"PNG": "png", "WEBP": "webp", "TIFF": "tif", "GIF": "gif", "BMP": "bmp"}
    items = [item(tmp_path, f"{kind}.jpg", encoded(natural(20, 20), kind)) for kind in kinds]
    rows = done(lake, *items)
    assert {key: row["original_key"].rsplit(".")[-1] for key, row in rows.items()} == {
        f"{kind}.jpg": extension for kind, extension in kinds.items()
    }


def test_the_counts_and_the_progress_are_those_of_the_part(lake: FolderLake, tmp_path: Path) -> None:
    items = [item(tmp_path, f"{n}.jpg", photo(n)) for n in range(4)]
    items += [item(tmp_path, "copy.jpg", photo(0)), item(tmp_path, "bad.jpg", b"<html>")]
    write_manifest(lake, items)
    advanced: list[int] = []
    with listening(lambda _: None, advanced.append):
        counts = process_batch(lake, BATCH, threads=3)
    assert counts == BatchCounts(images=6, rejected=1, drawn=4 * len(SMALL.outputs))
    assert sum(advanced) == 6
    assert list(part(lake)) == [each.key for each in items], "in the order of the manifest"


def test_the_part_says_what_it_was_made_with(lake: FolderLake, tmp_path: Path) -> None:
    done(lake, item(tmp_path, "a.jpg", photo(1)))
    metadata = from_parquet(lake.get(f"{BATCH}/part.parquet"))[1]
    assert metadata["recipe_digest"] == "of the recipe"
    assert Recipe.model_validate_json(metadata["recipe"]) == SMALL


def test_a_store_that_fails_at_any_write_leaves_no_part_and_the_next_try_goes_on(
    lake: FolderLake, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    items = [item(tmp_path, f"{n}.jpg", photo(n)) for n in range(3)]
    write_manifest(lake, items)
    write, written, fails_at = FolderLake._write, [0], [0]

    def failing_write(self: FolderLake, path: str, data: bytes) -> None:
        written[0] += 1
        if written[0] == fails_at[0]:
            raise OSError(28, "No space left on device")
        write(self, path, data)

    monkeypatch.setattr(FolderLake, "_write", failing_write)
    for number in (1, 5, 13):  # an original, an output, the part itself: twelve objects come before it
        for folder in ("originals", "derived"):
            shutil.rmtree(lake.root / folder, ignore_errors=True)
        written[0], fails_at[0] = 0, number
        with pytest.raises(OSError, match="No space left"):
            process_batch(lake, BATCH, threads=1)
        assert [info.key for info in lake.list(BATCH)] == [f"{BATCH}/manifest.parquet"]
    written[0], fails_at[0] = 0, 0
    assert process_batch(lake, BATCH, threads=1).images == 3
    assert written[0] == 1, "only the part was missing"
    assert {row["status"] for row in part(lake).values()} == {"ok"}


def test_the_part_is_written_after_everything_else_is_durable(
    lake: FolderLake, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_manifest(lake, [item(tmp_path, "a.jpg", photo(1)), item(tmp_path, "b.jpg", b"no image")])
    steps: list[str] = []
    write, settle = FolderLake._write, FolderLake.settle

    def noted_write(self: FolderLake, path: str, data: bytes) -> None:
        steps.append(Path(path).relative_to(self.root).as_posix())
        write(self, path, data)

    def noted_settle(self: FolderLake) -> None:
        steps.append("settle")
        settle(self)

    monkeypatch.setattr(FolderLake, "_write", noted_write)
    monkeypatch.setattr(FolderLake, "settle", noted_settle)
    process_batch(lake, BATCH, threads=2)
    place = steps.index(f"{BATCH}/part.parquet")
    assert steps[place - 1] == "settle"
    assert "settle" not in steps[: place - 1]
    assert all(step == "settle" for step in steps[place + 1 :])


def test_running_a_batch_twice_changes_nothing(lake: FolderLake, tmp_path: Path) -> None:
    items = [item(tmp_path, f"{n}.jpg", photo(n)) for n in range(5)]
    items.append(item(tmp_path, "bad.jpg", photo(9)[:-300]))
    write_manifest(lake, items)
    first = process_batch(lake, BATCH, threads=4)
    before = objects(lake, "originals", "derived", "rejected", "batches")
    assert process_batch(lake, BATCH, threads=1) == first
    assert objects(lake, "originals", "derived", "rejected", "batches") == before


def test_threads_change_neither_the_part_nor_a_byte(tmp_path: Path) -> None:
    items = [item(tmp_path, f"{n}.jpg", encoded(natural(90, 60, n), "JPEG", quality=90)) for n in range(12)]
    items += [item(tmp_path, f"{n}.png", encoded(natural(33, 44, n), "PNG")) for n in range(4)]
    items += [item(tmp_path, "bad.jpg", b"no image"), item(tmp_path, "cut.jpg", photo(3)[:-200])]
    made = []
    for threads in (1, 8):
        lake = FolderLake(root=tmp_path / f"lake-{threads}")
        rows = done(lake, *items, threads=threads)
        made.append(([rows[key] for key in sorted(rows)], objects(lake, "originals", "derived", "rejected")))
    assert made[0] == made[1]


@pytest.mark.parametrize("threads", [1, 8])
def test_copies_within_a_batch_are_drawn_once(
    lake: FolderLake, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, threads: int
) -> None:
    rendered: list[str] = []

    def counted(_: Renderers, data: bytes, *arguments: Any) -> Any:
        rendered.append(sha256(data))
        return render(data, *arguments)

    monkeypatch.setattr(Renderers, "render", counted)
    items = [item(tmp_path, f"{n % 3}/{n}.jpg", photo(n % 3)) for n in range(24)]
    items += [item(tmp_path, f"bad-{n}.jpg", b"no image") for n in range(4)]
    rows = done(lake, *items, threads=threads)
    assert sorted(rendered) == sorted(sha256(data) for data in (photo(0), photo(1), photo(2), b"no image"))
    for number in range(3):
        copies = [row for key, row in rows.items() if key.startswith(f"{number}/")]
        assert len(copies) == 8
        assert sorted(len(row["drawn"]) for row in copies) == [0] * 7 + [3]
        described = [{k: v for k, v in row.items() if k not in ("key", "fingerprint", "drawn")} for row in copies]
        assert all(each == described[0] for each in described)
    assert {row["rule"] for key, row in rows.items() if key.startswith("bad")} == {"not_an_image"}


def test_a_fault_while_drawing_is_raised_and_keeps_no_copy_waiting(
    lake: FolderLake, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*_: Any) -> Any:
        raise OSError(5, "Input/output error")

    monkeypatch.setattr(Renderers, "render", broken)
    write_manifest(lake, [item(tmp_path, f"{n}.jpg", photo(1)) for n in range(6)])
    with pytest.raises(OSError, match="Input/output error"):
        process_batch(lake, BATCH, threads=4)
    assert "part.parquet" not in {info.key.rsplit("/")[-1] for info in lake.list(BATCH)}


def test_a_source_that_fails_is_raised_and_no_outcome(lake: FolderLake, tmp_path: Path) -> None:
    items = [item(tmp_path, "a.jpg", photo(1)), item(tmp_path, "b.jpg", photo(2))]
    write_manifest(lake, items)
    (tmp_path / "source" / "b.jpg").rename(tmp_path / "gone.jpg")
    with pytest.raises(FileNotFoundError):
        process_batch(lake, BATCH, threads=2)
    (tmp_path / "source" / "b.jpg").write_bytes(photo(2)[:-1])
    with pytest.raises(OSError, match="were listed"):
        process_batch(lake, BATCH, threads=2)
    assert [info.key for info in lake.list(BATCH)] == [f"{BATCH}/manifest.parquet"]
    shutil.move(tmp_path / "gone.jpg", tmp_path / "source" / "b.jpg")
    process_batch(lake, BATCH, threads=2)
    assert {row["status"] for row in part(lake).values()} == {"ok"}


def test_what_was_refused_when_listed_is_rejected_without_being_read(lake: FolderLake, tmp_path: Path) -> None:
    secret = item(tmp_path, "link.jpg", photo(1), refused=("outside_source", "a link to /etc"))
    gone = item(tmp_path, "dangling.jpg", refused=("dangling_link", "a link to nowhere"))
    rows = done(lake, secret, gone)
    for key, rule, message in (
        ("link.jpg", "outside_source", "a link to /etc"),
        ("dangling.jpg", "dangling_link", "a link to nowhere"),
    ):
        row = rows[key]
        assert (row["status"], row["rule"], row["error_message"], row["sha256"]) == ("rejected", rule, message, "")
    assert objects(lake, "originals", "derived", "rejected") == {}


def test_a_file_beyond_the_recipes_bytes_is_rejected_without_being_read(lake: FolderLake, tmp_path: Path) -> None:
    largest = photo(1)
    recipe = SMALL.model_copy(update={"max_file_bytes": len(largest)})
    gone = item(tmp_path, "huge.jpg")
    gone = replace(gone, locator=replace(gone.locator, size=len(largest) + 1))  # reading it would raise
    rows = done(lake, item(tmp_path, "a.jpg", largest), gone, recipe=recipe)
    assert rows["a.jpg"]["status"] == "ok"
    assert (rows["huge.jpg"]["status"], rows["huge.jpg"]["rule"]) == ("rejected", "too_large")
    assert str(len(largest) + 1) in rows["huge.jpg"]["error_message"]
    assert f"max_file_bytes is {len(largest)}" in rows["huge.jpg"]["error_message"]


def test_a_rejected_image_keeps_its_bytes_and_nothing_else(lake: FolderLake, tmp_path: Path) -> None:
    cut = photo(1)[:-300]
    row = done(lake, item(tmp_path, "cut.jpg", cut))["cut.jpg"]
    assert (row["status"], row["rule"], row["sha256"], row["bytes"]) == ("rejected", "truncated", sha256(cut), len(cut))
    assert lake.get(row["original_key"]) == cut
    assert row["drawn"] == []
    assert objects(lake, "originals", "derived") == {}


def test_a_damaged_member_of_an_archive_is_rejected_and_its_neighbour_is_not(lake: FolderLake, tmp_path: Path) -> None:
    path = tmp_path / "photos.zip"
    with zipfile.ZipFile(path, "w") as archive:
        for name, data in (("a.jpg", photo(1)), ("b.jpg", photo(2))):
            archive.writestr(name, data)
    whole = path.read_bytes()
    place = whole.index(photo(2)) + 100
    path.write_bytes(whole[:place] + bytes([whole[place] ^ 1]) + whole[place + 1 :])
    with zipfile.ZipFile(path) as archive:
        infos = archive.infolist()
    items = [
        Item(i.filename, "crc32:1", Locator("zip", os.fsencode(path), i.filename, i.header_offset, i.file_size))
        for i in infos
    ]
    rows = done(lake, *items)
    assert rows["a.jpg"]["status"] == "ok"
    assert (rows["b.jpg"]["status"], rows["b.jpg"]["rule"]) == ("rejected", "damaged_member")


def known_as(data: bytes, *outputs: str) -> dict[str, Any]:
    return {"known": (KnownContent("0" * 64, ("grey",)), KnownContent(sha256(data), outputs))}


def test_a_known_content_with_all_its_outputs_is_not_drawn(lake: FolderLake, tmp_path: Path) -> None:
    data = photo(1)
    row = done(lake, item(tmp_path, "a.jpg", data, **known_as(data, *SMALL.outputs)))["a.jpg"]
    assert (row["status"], row["sha256"], row["bytes"], row["drawn"]) == ("same", sha256(data), len(data), [])
    assert objects(lake, "originals", "derived") == {}


def test_of_a_known_content_only_what_is_lacking_is_drawn(lake: FolderLake, tmp_path: Path) -> None:
    data = photo(1)
    row = done(lake, item(tmp_path, "a.jpg", data, **known_as(data, "standard", "former")))["a.jpg"]
    assert row["status"] == "ok"
    assert [drawn["output"] for drawn in row["drawn"]] == ["grey", "thumb"]


def test_a_known_content_is_judged_and_measured_again_without_drawing(lake: FolderLake, tmp_path: Path) -> None:
    good, small = photo(1), photo(2, (8, 8))
    recipe = SMALL.model_copy(update={"min_image_size": 16})
    rows = done(
        lake,
        item(tmp_path, "good.jpg", good, measure_again=True, **known_as(good, *SMALL.outputs)),
        item(tmp_path, "small.jpg", small, measure_again=True, **known_as(small, *SMALL.outputs)),
        recipe=recipe,
    )
    assert (rows["good.jpg"]["status"], rows["good.jpg"]["drawn"]) == ("ok", [])
    assert rows["good.jpg"]["brightness"] is not None
    assert (rows["small.jpg"]["status"], rows["small.jpg"]["rule"]) == ("rejected", "too_small")
    assert objects(lake, "derived") == {}


def test_another_content_of_a_known_size_is_drawn(lake: FolderLake, tmp_path: Path) -> None:
    row = done(lake, item(tmp_path, "a.jpg", photo(1), **known_as(photo(2), *SMALL.outputs)))["a.jpg"]
    assert (row["status"], len(row["drawn"])) == ("ok", 3)


def test_a_copy_drawn_by_an_earlier_batch_gives_the_same_objects(lake: FolderLake, tmp_path: Path) -> None:
    first = done(lake, item(tmp_path, "a.jpg", photo(1)))["a.jpg"]
    before = objects(lake, "originals", "derived")
    write_manifest(lake, [item(tmp_path, "b.jpg", photo(1))], key="batches/things/b2")
    process_batch(lake, "batches/things/b2", threads=1)
    assert part(lake, "batches/things/b2")["b.jpg"]["drawn"] == first["drawn"]
    assert objects(lake, "originals", "derived") == before


def test_outputs_of_one_definition_under_two_names_are_one_object(lake: FolderLake, tmp_path: Path) -> None:
    recipe = Recipe(outputs={name: OutputDefinition(image_size=16) for name in ("thumb", "preview")})
    row = done(lake, item(tmp_path, "a.jpg", photo(1)), recipe=recipe)["a.jpg"]
    assert {drawn["output"] for drawn in row["drawn"]} == {"thumb", "preview"}
    assert len(objects(lake, "derived")) == 1


def test_a_lake_without_the_batch_is_another_machines(lake: FolderLake) -> None:
    with pytest.raises(LookbookError, match="no such batch in this worker's lake") as caught:
        process_batch(lake, BATCH, threads=1)
    assert BATCH in caught.value.problem
    assert str(lake.root) in caught.value.problem
    assert "worker" in caught.value.way_out


def test_a_batch_of_nothing_has_an_empty_part(lake: FolderLake) -> None:
    assert done(lake) == {}
    assert isinstance(from_parquet(lake.get(f"{BATCH}/part.parquet"))[0], pa.Table)
