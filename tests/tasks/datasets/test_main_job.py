"""The main job on small collections: its outcomes, its books, and what a further run does."""

from __future__ import annotations

import hashlib
import io
import os
import tarfile
import zipfile
import zlib
from datetime import UTC, datetime
from pathlib import Path

import asyncpg
import pyarrow as pa
import pytest
from PIL import Image

from lookbook.blocks.errors import LookbookError
from lookbook.blocks.workspace import Workspace
from lookbook.tasks.datasets import follow
from lookbook.tasks.datasets.inventory import Inventory, take_inventory
from lookbook.tasks.datasets.manifest import read_published, read_table, require_published
from lookbook.tasks.datasets.publish import finalize
from lookbook.tasks.datasets.verify import verify
from lookbook.tasks.images.batch import process_batch
from lookbook.tasks.images.parquet import from_parquet, to_parquet
from lookbook.tasks.images.recipe import OutputDefinition, Recipe
from tests.support.pipeline import SMALL, photo, request, row, run, write_collection
from tests.support.sets import sampled


def images_of(workspace: Workspace, dataset: str = "things") -> dict[str, dict[str, object]]:
    manifest = require_published(workspace.lake, dataset).manifest
    return {image["key"]: image for image in read_table(workspace.lake, manifest, "images").to_pylist()}


def products_of(workspace: Workspace) -> list[dict[str, object]]:
    manifest = require_published(workspace.lake, "things").manifest
    rows: list[dict[str, object]] = read_table(workspace.lake, manifest, "products").to_pylist()
    return rows


def keys_of_the_registry(workspace: Workspace) -> set[str]:
    async def work(connection: asyncpg.Connection[asyncpg.Record]) -> set[str]:
        return {str(row["key"]) for row in await connection.fetch("SELECT key FROM lookbook.assets")}

    return workspace.registry.run(work)


def derived_objects(workspace: Workspace) -> dict[str, int]:
    root = Path(workspace.lake.uri("derived"))
    return {str(path): path.stat().st_mtime_ns for path in root.rglob("*") if path.is_file()}


@pytest.fixture
def source(tmp_path: Path) -> Path:
    """Five images and six rows: every outcome that an image or a row can have, but for rejected rows."""
    files = {f"images/{number}.jpg": photo(number) for number in (1, 2, 3)}
    files |= {"images/4.jpg": photo(1), "images/5.jpg": b"<html>not found</html>"}
    rows = [row(1), row(2), row(4), row(5), row(9), row(2)]
    return write_collection(tmp_path / "source", files, rows)


def test_every_image_and_every_row_has_one_named_outcome(workspace: Workspace, source: Path) -> None:
    summary = run(request(workspace, source))
    assert summary["images"] == {"found": 5, "loaded": 3, "unchanged": 0, "duplicate": 1, "rejected": 1}
    assert summary["rows"] == {
        "found": 6,
        "matched": 3,
        "missing_image": 2,
        "ambiguous_image": 0,
        "duplicate": 1,
        "rejected": 0,
    }
    assert summary["orphan_images"] == 1
    assert summary["outputs"] == {"standard": 3, "grey": 3, "thumb": 3}
    assert summary["published"] is True
    images = images_of(workspace)
    assert {key: image["outcome"] for key, image in images.items()} == {
        "images/1.jpg": "loaded",
        "images/2.jpg": "loaded",
        "images/3.jpg": "loaded",
        "images/4.jpg": "duplicate",
        "images/5.jpg": "rejected",
    }
    assert images["images/4.jpg"]["duplicate_of"] == "images/1.jpg"
    assert [key for key, image in images.items() if image["orphan"]] == ["images/3.jpg"]
    assert [(p["product_key"], p["outcome"], p["missing_reason"]) for p in products_of(workspace)] == [
        ("1", "matched", None),
        ("2", "matched", None),
        ("4", "matched", None),
        ("5", "missing_image", "image_rejected:not_an_image"),
        ("9", "missing_image", "no_image"),
        ("2", "duplicate", None),
    ]
    assert verify(workspace, "things").differences == []


def test_a_second_run_changes_nothing_and_publishes_nothing(workspace: Workspace, source: Path) -> None:
    first = run(request(workspace, source))
    written = derived_objects(workspace)
    second = run(request(workspace, source))
    assert second["images"] == {"found": 5, "loaded": 0, "unchanged": 3, "duplicate": 1, "rejected": 1}
    assert second["outputs"] == {"standard": 0, "grey": 0, "thumb": 0}
    assert (second["published"], second["snapshot"]) == (False, first["snapshot"])
    assert derived_objects(workspace) == written


def test_files_that_were_only_touched_are_read_but_not_drawn_again(workspace: Workspace, source: Path) -> None:
    run(request(workspace, source))
    for path in (source / "images").iterdir():
        path.touch()
    second = run(request(workspace, source))
    assert second["images"]["unchanged"] == 3
    assert second["outputs"] == {"standard": 0, "grey": 0, "thumb": 0}
    assert second["published"] is False


def test_added_changed_and_removed_images_make_a_new_snapshot(workspace: Workspace, source: Path) -> None:
    first = run(request(workspace, source))
    (source / "images" / "2.jpg").write_bytes(photo(22, size=(30, 30)))
    (source / "images" / "3.jpg").unlink()
    (source / "images" / "6.jpg").write_bytes(photo(6))
    second = run(request(workspace, source))
    assert second["images"] == {"found": 5, "loaded": 2, "unchanged": 1, "duplicate": 1, "rejected": 1}
    assert second["outputs"] == {"standard": 2, "grey": 2, "thumb": 2}
    assert second["snapshot"] != first["snapshot"]
    assert "images/3.jpg" not in images_of(workspace)
    assert verify(workspace, "things").differences == []


def test_a_changed_output_alone_is_drawn_again(workspace: Workspace, source: Path) -> None:
    run(request(workspace, source))
    grey = SMALL.outputs["grey"].model_copy(update={"encode_quality": 50})
    changed = Recipe(outputs={**SMALL.outputs, "grey": grey})
    second = run(request(workspace, source, recipe=changed))
    assert second["outputs"] == {"standard": 0, "grey": 3, "thumb": 0}
    assert second["published"] is True
    assert verify(workspace, "things").differences == []


def test_a_changed_rule_judges_again_without_drawing_again(workspace: Workspace, source: Path) -> None:
    run(request(workspace, source))
    stricter = SMALL.model_copy(update={"min_image_size": 30})
    second = run(request(workspace, source, recipe=stricter))
    assert second["images"]["rejected"] == 5
    again = run(request(workspace, source))
    assert again["images"]["rejected"] == 1
    assert again["images"]["loaded"] + again["images"]["unchanged"] == 3


def test_a_new_output_under_another_name_with_the_same_definition_costs_no_drawing(
    workspace: Workspace, source: Path
) -> None:
    run(request(workspace, source))
    more = Recipe(outputs={**SMALL.outputs, "preview": OutputDefinition(image_size=16)})
    second = run(request(workspace, source, recipe=more))
    assert sum(second["outputs"].values()) == 0
    manifest = require_published(workspace.lake, "things").manifest
    outputs = read_table(workspace.lake, manifest, "outputs").to_pylist()
    assert {o["object_key"] for o in outputs if o["output"] == "preview"} == {
        o["object_key"] for o in outputs if o["output"] == "thumb"
    }


def test_a_limited_run_never_replaces_a_fuller_snapshot(workspace: Workspace, source: Path) -> None:
    full = run(request(workspace, source))
    limited = run(request(workspace, source, limit=2))
    assert limited["images"]["found"] == 2
    assert (limited["published"], limited["snapshot"]) == (False, full["snapshot"])
    assert len(images_of(workspace)) == 5


def test_a_limited_first_run_publishes_and_the_full_one_goes_on_from_it(workspace: Workspace, source: Path) -> None:
    assert run(request(workspace, source, limit=2))["published"] is True
    full = run(request(workspace, source))
    assert full["images"] == {"found": 5, "loaded": 1, "unchanged": 2, "duplicate": 1, "rejected": 1}


def test_too_many_rejects_publish_nothing_and_name_the_rules(workspace: Workspace, source: Path) -> None:
    with pytest.raises(LookbookError, match=r"1 of 5 images \(20.0%\) were rejected: 1 not_an_image.*limit is 0.1"):
        run(request(workspace, source, reject_limit=0.1))
    assert read_published(workspace.lake, "things") is None
    assert run(request(workspace, source, reject_limit=0.2))["published"] is True


def test_a_row_taken_out_of_a_part_fails_the_run_and_is_named(workspace: Workspace, source: Path) -> None:
    def lose_a_row(inventory: Inventory) -> None:
        key = f"{inventory.batches[0]}/part.parquet"
        part, metadata = from_parquet(workspace.lake.get(key))
        lost.append(part.column("key").to_pylist()[0])
        workspace.lake.replace(key, to_parquet(part.slice(1), metadata))

    lost: list[str] = []
    with pytest.raises(LookbookError, match="do not balance: 5 images were found; 1 without an outcome") as caught:
        run(request(workspace, source), between=lose_a_row)
    assert lost[0] in str(caught.value)
    assert read_published(workspace.lake, "things") is None
    assert run(request(workspace, source))["published"] is True, "the next run heals it"


def test_a_row_doubled_in_a_part_fails_the_run_and_is_named(workspace: Workspace, source: Path) -> None:
    def double_a_row(inventory: Inventory) -> None:
        key = f"{inventory.batches[0]}/part.parquet"
        part, metadata = from_parquet(workspace.lake.get(key))
        workspace.lake.replace(key, to_parquet(pa.concat_tables([part, part.slice(0, 1)]), metadata))

    with pytest.raises(LookbookError, match="1 with several outcomes"):
        run(request(workspace, source), between=double_a_row)


def test_a_part_that_lost_an_output_fails_the_run(workspace: Workspace, source: Path) -> None:
    def lose_an_output(inventory: Inventory) -> None:
        for batch in inventory.batches:
            key = f"{batch}/part.parquet"
            part, metadata = from_parquet(workspace.lake.get(key))
            rows = part.to_pylist()
            for outcome in rows:
                outcome["drawn"] = outcome["drawn"][:-1]
            workspace.lake.replace(key, to_parquet(pa.Table.from_pylist(rows, schema=part.schema), metadata))

    with pytest.raises(LookbookError, match=r"outputs were not drawn .*thumb of images/1\.jpg"):
        run(request(workspace, source), between=lose_an_output)
    assert run(request(workspace, source))["published"] is True, "the next run heals it"


def test_batches_that_an_earlier_run_finished_are_not_done_again(workspace: Workspace, tmp_path: Path) -> None:
    sizes = {f"{edge}.jpg": photo(edge, (edge, edge)) for edge in range(20, 220, 20)}
    source = write_collection(tmp_path / "source", sizes)
    stopped = take_inventory(request(workspace, source, batch_size=4))
    assert [len(from_parquet(workspace.lake.get(f"{batch}/manifest.parquet"))[0]) for batch in stopped.batches] == [
        4,
        4,
        2,
    ]
    process_batch(workspace.lake, stopped.batches[1], threads=1)
    for batch_size in (2, 5):  # whatever the borders of the new batches
        inventory = take_inventory(request(workspace, source, batch_size=batch_size))
        assert inventory.work["todo"] == 6
    summary = run(request(workspace, source))
    assert summary["images"]["loaded"] == 10
    assert summary["outputs"] == {"standard": 6, "grey": 6, "thumb": 6}
    assert verify(workspace, "things").differences == []


def test_a_half_written_part_is_no_part(workspace: Workspace, source: Path) -> None:
    inventory = take_inventory(request(workspace, source))
    process_batch(workspace.lake, inventory.batches[0], threads=1)
    key = f"{inventory.batches[0]}/part.parquet"
    workspace.lake.replace(key, workspace.lake.get(key)[:-10])
    again = take_inventory(request(workspace, source))
    assert again.work["todo"] == 5


def test_parts_made_with_another_recipe_do_not_count(workspace: Workspace, source: Path) -> None:
    inventory = take_inventory(request(workspace, source))
    process_batch(workspace.lake, inventory.batches[0], threads=1)
    again = take_inventory(request(workspace, source, recipe=Recipe()))
    assert again.work["todo"] == 5


def test_the_digest_does_not_depend_on_batches_or_on_where_the_files_lie(
    workspace: Workspace, source: Path, tmp_path: Path
) -> None:
    archive = tmp_path / "source.zip"
    with zipfile.ZipFile(archive, "w") as target:
        for path in sorted(source.rglob("*")):
            if path.is_file():
                target.write(path, path.relative_to(source))
    run(request(workspace, source, dataset="folder", batch_size=2))
    run(request(workspace, archive, dataset="archive", batch_size=5))
    digests = {require_published(workspace.lake, name).manifest.digest for name in ("folder", "archive")}
    assert len(digests) == 1
    (source / "styles.csv").write_text((source / "styles.csv").read_text().replace("Blue", "Red"))
    run(request(workspace, source, dataset="other"))
    assert require_published(workspace.lake, "other").manifest.digest not in digests


def test_the_nested_second_copy_of_kaggles_archive_comes_out_as_duplicate(workspace: Workspace, tmp_path: Path) -> None:
    files = {f"images/{number}.jpg": photo(number) for number in range(4)}
    source = write_collection(tmp_path / "source", files, [row(number) for number in range(4)])
    write_collection(source / "myntradataset", files, [row(number) for number in range(4)])
    summary = run(request(workspace, source))
    assert summary["images"] == {"found": 8, "loaded": 4, "unchanged": 0, "duplicate": 4, "rejected": 0}
    assert summary["rows"] == {
        "found": 8,
        "matched": 4,
        "missing_image": 0,
        "ambiguous_image": 0,
        "duplicate": 4,
        "rejected": 0,
    }
    assert summary["orphan_images"] == 0
    assert summary["outputs"]["standard"] == 4, "drawn once"
    duplicates = {key for key, image in images_of(workspace).items() if image["outcome"] == "duplicate"}
    assert duplicates == {f"myntradataset/images/{number}.jpg" for number in range(4)}


def test_a_folder_without_a_catalogue_is_a_dataset_of_orphans(workspace: Workspace, tmp_path: Path) -> None:
    source = write_collection(tmp_path / "source", {"a.jpg": photo(1), "b/c.png": as_png(photo(2))})
    summary = run(request(workspace, source))
    assert summary["images"]["loaded"] == 2
    assert summary["rows"]["found"] == 0
    assert summary["orphan_images"] == 2
    assert verify(workspace, "things").differences == []


def test_another_catalogue_is_matched_by_its_file_names(workspace: Workspace, tmp_path: Path) -> None:
    source = write_collection(tmp_path / "source", {"train/a 1.jpg": photo(1), "train/b.jpg": photo(2)})
    (source / "train" / "metadata.csv").write_text("file_name,price,label\na 1.jpg,12.5,shoe\nzz.jpg,3,hat\n")
    summary = run(request(workspace, source))
    assert summary["rows"] == {
        "found": 2,
        "matched": 1,
        "missing_image": 1,
        "ambiguous_image": 0,
        "duplicate": 0,
        "rejected": 0,
    }
    assert summary["orphan_images"] == 1
    matched = next(product for product in products_of(workspace) if product["outcome"] == "matched")
    assert (matched["image_key"], matched["price"], matched["label"]) == ("train/a 1.jpg", 12.5, "shoe")
    found = workspace.warehouse.query("SELECT label, price FROM warehouse.products WHERE outcome = 'matched'")
    assert found.to_pylist() == [{"label": "shoe", "price": 12.5}]


def test_a_source_without_images_is_an_error_that_says_what_is_wanted(workspace: Workspace, tmp_path: Path) -> None:
    source = write_collection(tmp_path / "source", {"readme.txt": b"hello"})
    with pytest.raises(LookbookError, match="no image among its 1 files"):
        run(request(workspace, source))


def test_rejected_files_are_kept_with_their_bytes(workspace: Workspace, source: Path) -> None:
    run(request(workspace, source))
    manifest = require_published(workspace.lake, "things").manifest
    reject = read_table(workspace.lake, manifest, "rejects").to_pylist()[0]
    assert (reject["kind"], reject["locator"], reject["rule"]) == ("image", "images/5.jpg", "not_an_image")
    assert workspace.lake.get(reject["raw"]) == (source / "images" / "5.jpg").read_bytes()


def as_png(data: bytes) -> bytes:
    sink = io.BytesIO()
    Image.open(io.BytesIO(data)).save(sink, "PNG")
    return sink.getvalue()


def test_a_damaged_part_or_manifest_of_a_batch_is_written_anew(workspace: Workspace, source: Path) -> None:
    inventory = take_inventory(request(workspace, source))
    process_batch(workspace.lake, inventory.batches[0], threads=1)
    for name in ("part", "manifest"):
        key = f"{inventory.batches[0]}/{name}.parquet"
        workspace.lake.replace(key, workspace.lake.get(key)[:-10])
    assert run(request(workspace, source))["published"] is True
    assert verify(workspace, "things").differences == []


def test_empty_files_that_a_power_cut_left_in_the_lake_are_written_anew(workspace: Workspace, source: Path) -> None:
    inventory = take_inventory(request(workspace, source))
    process_batch(workspace.lake, inventory.batches[0], threads=1)
    workspace.lake.remove(f"{inventory.batches[0]}/part.parquet")
    for prefix in ("originals", "derived", "rejected"):
        for info in list(workspace.lake.list(prefix)):
            workspace.lake.replace(info.key, b"")
    assert run(request(workspace, source))["published"] is True
    assert verify(workspace, "things").differences == []


def test_a_copy_that_was_removed_before_the_next_run_takes_no_drawing_with_it(
    workspace: Workspace, tmp_path: Path
) -> None:
    source = write_collection(tmp_path / "source", {"a.jpg": photo(1), "b.jpg": photo(1)})
    inventory = take_inventory(request(workspace, source))
    process_batch(workspace.lake, inventory.batches[0], threads=1)
    part = from_parquet(workspace.lake.get(f"{inventory.batches[0]}/part.parquet"))[0].to_pylist()
    drew = next(outcome["key"] for outcome in part if outcome["drawn"])
    (source / drew).unlink()
    summary = run(request(workspace, source))
    assert summary["images"]["loaded"] == 1
    assert verify(workspace, "things").differences == []


@pytest.mark.parametrize("name", sampled(["tables/images", "tables/products", "report.html"], fast=["tables/products"]))
def test_ingesting_again_heals_a_damaged_snapshot(workspace: Workspace, source: Path, name: str) -> None:
    first = run(request(workspace, source))
    manifest = require_published(workspace.lake, "things").manifest
    (key,) = (manifest.key(file) for file in manifest.files if file.name.startswith(name))
    workspace.lake.replace(key, workspace.lake.get(key)[:-10])
    assert [name in found.line for found in verify(workspace, "things").differences] == [True]
    second = run(request(workspace, source))
    assert second["published"] is True
    assert second["snapshot"] != first["snapshot"]
    assert verify(workspace, "things").differences == []


def test_touched_files_are_read_once_and_then_known_again(workspace: Workspace, source: Path) -> None:
    run(request(workspace, source))
    for path in (source / "images").iterdir():
        path.touch()
    run(request(workspace, source))
    assert take_inventory(request(workspace, source)).batches == []


def test_names_of_any_length_and_kind_reach_every_book(workspace: Workspace, tmp_path: Path) -> None:
    archive = tmp_path / "odd.zip"
    names = ["n" * 6000 + ".jpg", "line\nbreak.jpg", "<script>alert(1)</script>.jpg", "写真 ü.jpg"]
    with zipfile.ZipFile(archive, "w") as target:
        for number, name in enumerate(names):
            target.writestr(name, photo(number))
    summary = run(request(workspace, archive))
    assert summary["images"]["loaded"] == 4
    assert set(images_of(workspace)) == set(names)
    assert verify(workspace, "things").differences == []
    assert "<script>alert" not in Path(summary["report"]).read_text()


def test_files_of_any_name_in_a_folder_are_kept_apart_in_every_book(workspace: Workspace, tmp_path: Path) -> None:
    root = tmp_path / "source"
    root.mkdir()
    names = {
        b"two words .jpg": "two words .jpg",
        b"line\nbreak\t.jpg": "line\nbreak\t.jpg",
        "写真 ü.jpg".encode(): "写真 ü.jpg",
        b"caf\xe9 \xff.jpg": "caf\\xe9 \\xff.jpg",
        b"n" * 246 + b".jpg": "n" * 246 + ".jpg",
        b"Case.jpg": "Case.jpg",
        b"case.JPG": "case.JPG",
        b"case.jpg": "case.jpg",
        b"'quoted\"; --.jpg": "'quoted\"; --.jpg",
    }
    for number, name in enumerate(names):
        Path(os.fsdecode(os.fsencode(root) + b"/" + name)).write_bytes(photo(number))
    (tmp_path / "private.jpg").write_bytes(photo(100))
    (root / "inside.jpg").symlink_to("Case.jpg")
    (root / "outside.jpg").symlink_to("../private.jpg")
    (root / "nowhere.jpg").symlink_to("gone.jpg")
    summary = run(request(workspace, root))
    assert summary["images"] == {"found": 12, "loaded": 9, "unchanged": 0, "duplicate": 1, "rejected": 2}
    images = images_of(workspace)
    assert {key for key, image in images.items() if image["outcome"] == "loaded"} == set(names.values())
    contents = {key: hashlib.sha256(photo(number)).hexdigest() for number, key in enumerate(names.values())}
    assert {key: images[key]["sha256"] for key in contents} == contents
    assert {workspace.lake.get(str(images[key]["original_key"])) for key in contents} == set(map(photo, range(9)))
    assert images["inside.jpg"]["duplicate_of"] == "Case.jpg"
    rules = {key: image["rule"] for key, image in images.items() if image["outcome"] == "rejected"}
    assert rules == {"outside.jpg": "outside_source", "nowhere.jpg": "dangling_link"}
    secret = hashlib.sha256(photo(100)).hexdigest()
    kept = [info.key for folder in ("originals", "derived", "rejected") for info in workspace.lake.list(folder)]
    assert not any(secret in key for key in kept), "its bytes went nowhere"
    assert keys_of_the_registry(workspace) == set(images)
    assert set(workspace.warehouse.query("SELECT key FROM warehouse.images")["key"].to_pylist()) == set(images)
    assert verify(workspace, "things").differences == []
    assert run(request(workspace, root))["published"] is False


def test_rows_whose_image_the_limit_left_out_are_not_called_imageless(workspace: Workspace, source: Path) -> None:
    run(request(workspace, source, limit=1))
    reasons = {str(product["product_key"]): product["missing_reason"] for product in products_of(workspace)}
    assert (reasons["1"], reasons["4"], reasons["9"]) == (None, "beyond_limit", "no_image")


def test_a_header_that_claims_billions_of_frames_costs_that_count_only(workspace: Workspace, tmp_path: Path) -> None:
    png = as_png(photo(1))
    chunk = b"acTL" + (0x80000000).to_bytes(4, "big") + bytes(4)
    hostile = png[:33] + (8).to_bytes(4, "big") + chunk + zlib.crc32(chunk).to_bytes(4, "big") + png[33:]
    summary = run(request(workspace, write_collection(tmp_path / "source", {"a.png": hostile, "b.jpg": photo(2)})))
    assert summary["images"]["found"] == summary["images"]["loaded"] + summary["images"]["rejected"] == 2


def test_reordered_outputs_make_a_new_snapshot_with_the_new_first_size(workspace: Workspace, source: Path) -> None:
    run(request(workspace, source))
    reordered = Recipe(outputs={name: SMALL.outputs[name] for name in ("thumb", "standard", "grey")})
    assert run(request(workspace, source, recipe=reordered))["published"] is True
    assert images_of(workspace)["images/1.jpg"]["width"] == 16


def test_an_archive_that_is_rewritten_while_it_is_read_publishes_nothing(workspace: Workspace, tmp_path: Path) -> None:
    archive = tmp_path / "photos.tar"

    def write(numbers: tuple[int, ...]) -> None:
        with tarfile.open(archive, "w") as target:
            for place, number in enumerate(numbers):
                member = tarfile.TarInfo(f"{place}.jpg")
                member.size = len(photo(number))
                target.addfile(member, io.BytesIO(photo(number)))

    write((1, 2, 3))
    with pytest.raises(LookbookError, match=r"photos\.tar was changed while it was read"):
        run(request(workspace, archive), between=lambda _: write((4, 5, 6, 7)))
    assert read_published(workspace.lake, "things") is None
    assert run(request(workspace, archive))["images"]["loaded"] == 4


def test_a_run_killed_after_its_commit_leaves_images_that_are_unchanged(workspace: Workspace, source: Path) -> None:
    asked = request(workspace, source)
    inventory = take_inventory(asked)
    for batch in inventory.batches:
        process_batch(workspace.lake, batch, threads=1)
    finalize(asked, inventory, datetime.now(UTC))  # CURRENT is swapped; nothing follows, no batch is cleared
    assert follow.catch_up(workspace, "things") == ["registry", "warehouse"]
    assert run(asked)["images"]["unchanged"] == 3
    assert verify(workspace, "things").differences == []


@pytest.mark.parametrize("same_size", [False, True])
def test_a_damaged_snapshot_that_registry_and_warehouse_never_saw_is_replaced(
    workspace: Workspace, source: Path, same_size: bool
) -> None:
    asked = request(workspace, source)
    inventory = take_inventory(asked)
    for batch in inventory.batches:
        process_batch(workspace.lake, batch, threads=1)
    finalize(asked, inventory, datetime.now(UTC))
    (key,) = require_published(workspace.lake, "things").manifest.keys("products")
    if same_size:
        path = Path(workspace.lake.uri(key))
        path.write_bytes(bytes(path.stat().st_size))
    else:
        workspace.lake.remove(key)
    assert follow.catch_up(workspace, "things") == []
    assert run(asked)["published"] is True
    assert verify(workspace, "things").differences == []
