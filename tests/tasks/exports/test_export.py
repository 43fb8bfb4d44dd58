"""Whole exports: the same bytes for the same request, books that balance, nothing made twice."""

from __future__ import annotations

import csv
import json
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from lookbook.blocks.errors import LookbookError
from lookbook.blocks.lake import FolderLake
from lookbook.tasks.datasets.manifest import require_published
from lookbook.tasks.exports import build as building
from lookbook.tasks.exports.build import ExportFolder, PackedFile
from lookbook.tasks.exports.export import build, count_rows
from lookbook.tasks.runs import progress
from tests.support.exports import SPLIT, digests, exported, place_in, prepared
from tests.support.pipeline import photo, row, write_collection
from tests.support.sets import sampled
from tests.tasks.exports.conftest import publish

REQUESTS: list[dict[str, Any]] = [
    {"recipe": "train-24", "copies": 2, "split": SPLIT},
    {"recipe": "standard", "format": "webdataset", "shard_size": 7, "split": SPLIT, "shuffle": True},
    {"recipe": "tensor-8", "format": "parquet", "shard_size": 7},
    {"recipe": "square-24", "format": "coco", "split": SPLIT},
    {"format": "csv"},
]


@pytest.mark.parametrize("request_", REQUESTS, ids=lambda each: each.get("format", "imagefolder"))
def test_the_same_request_gives_the_same_bytes(
    sample_lake: FolderLake, tmp_path: Path, request_: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    books = exported(sample_lake, tmp_path / "one", **request_)
    monkeypatch.setattr(building, "AHEAD", 1)  # in another order, and with other neighbours
    monkeypatch.setenv("LOOKBOOK_THREADS", "1")
    exported(sample_lake, tmp_path / "other", **request_)
    assert digests(tmp_path / "one") == digests(tmp_path / "other")
    assert books["selected"] == books["exported"] + sum(books["left_out"].values())
    assert books["exported"] > 40


def test_the_books_tell_of_every_chosen_row(small_dataset: FolderLake, tmp_path: Path) -> None:
    key = require_published(small_dataset, "things").manifest
    assert key.summary["images"]["rejected"] == 1
    books = exported(small_dataset, tmp_path, recipe="square-8")
    assert (books["selected"], books["exported"]) == (8, 4)
    assert books["left_out"] == {"duplicate_image": 1, "image_rejected": 1, "missing_image": 2}
    told = (tmp_path / "files" / "left_out.csv").read_text().splitlines()
    assert len(told) == 1 + sum(books["left_out"].values())


def test_an_image_that_a_recipe_cannot_draw_is_left_out_with_the_rule(
    small_dataset: FolderLake, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    resolved = prepared(small_dataset, recipe={"steps": [{"step": "resize", "size": 8}]})
    limits = resolved.resolved.manifest.recipe.model_copy(update={"min_image_size": 30})
    monkeypatch.setattr(resolved.resolved.manifest, "recipe", limits)
    books = build(small_dataset, resolved, place_in(tmp_path))
    assert books["left_out"]["too_small"] == 4
    assert (books["exported"], books["images"]) == (0, {"train": 0})
    assert "too_small" in (tmp_path / "files" / "left_out.csv").read_text()


def test_an_empty_selection_is_an_empty_export(small_dataset: FolderLake, tmp_path: Path) -> None:
    nothing = {"column": "gender", "op": "=", "value": "Nobody"}
    for format_ in ("imagefolder", "webdataset", "parquet", "coco", "csv"):
        books = exported(small_dataset, tmp_path / format_, format=format_, filter=nothing, split=SPLIT)
        assert (books["selected"], books["exported"], books["left_out"]) == (0, 0, {})
        assert (tmp_path / format_ / "files" / "metadata.csv").read_text().startswith('"file_name"')


def test_rows_can_be_counted_without_making_anything(small_dataset: FolderLake, tmp_path: Path) -> None:
    counts = count_rows(prepared(small_dataset))
    books = exported(small_dataset, tmp_path)
    assert counts == {name: books[name] for name in ("selected", "exported", "left_out")}


class Killed(BaseException):
    """In the place of a kill."""


@pytest.fixture
def made(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[str]]:
    """The images that were read, by their keys."""
    read: list[str] = []
    whole = building.read_checked

    def noted(lake: FolderLake, key: str, sha256: str) -> bytes:
        read.append(key)
        return whole(lake, key, sha256)

    monkeypatch.setattr(building, "read_checked", noted)
    return iter([read])


@pytest.mark.parametrize("after", sampled([0, 1, 3, 8, 20], fast=[3]))
@pytest.mark.parametrize("request_", REQUESTS[:3], ids=lambda each: each.get("format", "imagefolder"))
def test_a_killed_export_goes_on_and_gives_the_same_bytes(
    sample_lake: FolderLake, tmp_path: Path, request_: dict[str, Any], after: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("lookbook.tasks.exports.plan.LOOSE_ROWS", 10)
    exported(sample_lake, tmp_path / "whole", **request_)
    monkeypatch.setattr("lookbook.tasks.exports.rows.SORTED_ROWS", 7)  # nor do the bytes depend on how rows are read
    written: list[str] = []
    put = building._put

    def put_until(place: ExportFolder, file: PackedFile) -> None:
        if len(written) == after:
            raise Killed
        written.append(file.name)
        put(place, file)

    with monkeypatch.context() as patch:
        patch.setattr(building, "_put", put_until)
        with suppress(Killed):
            exported(sample_lake, tmp_path / "killed", **request_)
    books = exported(sample_lake, tmp_path / "killed", **request_)
    assert books["made"] + books["there"] == books["exported"]
    assert digests(tmp_path / "killed") == digests(tmp_path / "whole")


def test_what_is_there_and_right_is_not_made_again(sample_lake: FolderLake, tmp_path: Path, made: Any) -> None:
    read = next(made)
    first = exported(sample_lake, tmp_path, recipe="square-24", format="webdataset", shard_size=10)
    assert (first["made"], first["there"]) == (first["exported"], 0)
    read.clear()
    again = exported(sample_lake, tmp_path, recipe="square-24", format="webdataset", shard_size=10)
    assert (again["made"], again["there"], read) == (0, first["exported"], [])
    damaged = tmp_path / "files" / "train-000001.tar"
    before = digests(tmp_path)
    damaged.write_bytes(damaged.read_bytes()[:-1] + b"x")
    mended = exported(sample_lake, tmp_path, recipe="square-24", format="webdataset", shard_size=10)
    assert mended["made"] == len(read) == 10
    assert digests(tmp_path) == before


def test_an_object_that_is_not_what_the_snapshot_says_is_named(small_dataset: FolderLake, tmp_path: Path) -> None:
    key = next(info.key for info in small_dataset.list("originals"))
    small_dataset.replace(key, b"other bytes")
    with pytest.raises(LookbookError, match=f"{key}: the lake has other bytes"):
        exported(small_dataset, tmp_path)
    small_dataset.remove(key)
    with pytest.raises(LookbookError, match=f"{key}: the lake lacks it"):
        exported(small_dataset, tmp_path)


def test_progress_is_told_in_images_and_bytes(small_dataset: FolderLake, tmp_path: Path) -> None:
    for _ in range(2):  # made, and found there
        images: list[int] = []
        sizes: list[int] = []
        announced: list[int] = []
        with progress.listening(announce=announced.append, advance=images.append, wrote=sizes.append):
            books = exported(small_dataset, tmp_path, recipe="square-8")
        assert announced == [4]
        assert (sum(images), sum(sizes)) == (4, books["bytes"])


def test_no_product_is_on_two_sides(sample_lake: FolderLake, tmp_path: Path) -> None:
    import pandas as pd  # noqa: PLC0415

    exported(sample_lake, tmp_path, recipe="thumb", split={"train": 0.5, "test": 0.5})
    rows = pd.read_csv(tmp_path / "files" / "metadata.csv")
    for column in ("product_key", "leak_group", "sha256"):
        assert (rows.dropna(subset=column).groupby(column)["split"].nunique() == 1).all()


def test_export_json_says_what_was_asked_and_by_what_it_was_made(small_dataset: FolderLake, tmp_path: Path) -> None:
    wanted = {"column": "year", "op": ">=", "value": "2012"}
    exported(small_dataset, tmp_path, recipe="square-8", filter=wanted)
    document = json.loads((tmp_path / "files" / "export.json").read_text())
    assert document["request"]["filter"] == wanted | {"value": 2012}
    assert document["request"]["recipe"]["steps"][0]["step"] == "crop"
    assert document["versions"]["codec"]["pillow"]
    assert document["snapshot"] == require_published(small_dataset, "things").manifest.digest
    assert str(tmp_path) not in json.dumps(document)


def test_formulas_are_quoted_in_tables_for_spreadsheets_where_that_is_asked_for(tmp_path: Path) -> None:
    names = {1: "=1+1", 2: "+1", 3: "-1", 4: "@a", 5: "\tb", 6: "a=b", 7: "=gone"}
    rows = [row(number) | {"productDisplayName": name} for number, name in names.items()]
    lake = publish(tmp_path, write_collection(tmp_path / "in", {f"{n}.jpg": photo(n) for n in range(1, 7)}, rows))
    found = {}
    for quote in (False, True):
        out = tmp_path / str(quote)
        exported(lake, out, quote_formulas=quote)
        with (out / "files" / "metadata.csv").open(newline="", encoding="utf-8") as file:
            told = list(csv.DictReader(file))
        found[quote] = [one["productDisplayName"] for one in told]
        assert {one["id"] for one in told} == set("123456")
        assert ("quote_formulas" in (out / "files" / "README.md").read_text()) is quote
        assert ("quote_formulas" in (out / "files" / "export.json").read_text()) is quote  # other ids stay
    plain = [names[number] for number in range(1, 7)]
    assert found == {False: plain, True: [f"'{name}" for name in plain[:5]] + ["a=b"]}
