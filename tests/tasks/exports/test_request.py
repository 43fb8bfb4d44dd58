"""Requests: one id for one meaning, named errors for what can't be meant."""

from __future__ import annotations

import re
from typing import Any

import pytest

from lookbook.blocks.errors import UsageError
from lookbook.blocks.lake import FolderLake
from lookbook.tasks.datasets.manifest import find_snapshot, require_published
from lookbook.tasks.exports.plan import NAME, Resolved, resolve, select
from lookbook.tasks.exports.recipes import built_in
from lookbook.tasks.exports.request import read_request
from lookbook.tasks.exports.rows import read_rows


def resolved(lake: FolderLake, **values: Any) -> Resolved:
    request = read_request({"dataset": "things"} | values)
    manifest = find_snapshot(lake, request.dataset, request.snapshot)
    rows = read_rows(lake, manifest)
    return resolve(request, manifest, rows, rows.table)


def test_what_means_the_same_has_the_same_id(small_dataset: FolderLake) -> None:
    plain = resolved(small_dataset, recipe="square-32", filter={"column": "year", "op": "=", "value": "2012"})
    recipe = built_in("square-32")
    assert recipe is not None
    year = {"column": "year", "op": "=", "value": 2012}
    assert resolved(small_dataset, recipe=recipe.model_dump(), filter={"and": [year, year]}).id == plain.id
    snapshot = require_published(small_dataset, "things").manifest.snapshot_id
    assert resolved(small_dataset, recipe="square-32", filter=year, snapshot=snapshot).id == plain.id


@pytest.mark.parametrize(
    "change",
    [
        {"recipe": "square-33"},
        {"recipe": "standard"},
        {"format": "parquet"},
        {"seed": 1},
        {"split": {"train": 0.5, "test": 0.5}},
        {"filter": {"text": "thing"}},
        {"label": "gender"},
        {"columns": ["year"]},
        {"shard_size": 7},
        {"shuffle": True},
        {"quote_formulas": True},
        {"recipe": "train-32", "copies": 2},
    ],
)
def test_what_means_something_else_has_another_id(small_dataset: FolderLake, change: dict[str, Any]) -> None:
    assert resolved(small_dataset, **change).id != resolved(small_dataset).id


def test_sides_in_another_order_are_another_split(small_dataset: FolderLake) -> None:
    one, other = ({"train": 0.5, "test": 0.5}, {"test": 0.5, "train": 0.5})
    assert resolved(small_dataset, split=one).id != resolved(small_dataset, split=other).id


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"copies": 2}, "differ only by a recipe with a random step"),
        ({"copies": 2, "recipe": "square-9"}, "differ only by"),
        ({"recipe": "tensor-9"}, "imagefolder holds no arrays; webdataset and parquet do"),
        ({"recipe": "square-9", "format": "csv"}, "csv holds links"),
        ({"split": {"train": 0.5}}, "add up to 0.5"),
        ({"split": {"../x": 1.0}}, "should match pattern"),
        ({"exact_shares": True}, "none is asked for"),
        ({"stratify": "gender"}, "none is asked for"),
        ({"format": "tfrecord"}, "Input should be"),
        ({"shard_size": 0}, "greater than or equal to 1"),
        ({"colour": "x"}, "Extra inputs"),
        ({"dataset": "../x"}, "should match pattern"),
        ({"recipe": {"steps": [{"step": "normalise"}]}}, "no jpeg holds"),
        ({"recipe": {"steps": [{"step": "crop", "size": 0}]}}, "greater than or equal to 1"),
        ({"recipe": {"steps": [{"step": "crop", "size": 9, "scale": [1, 0.5]}]}}, "from the smaller"),
        ({"recipe": {"steps": [{"step": "normalise"}, {"step": "flip"}], "encode_format": "npy"}}, "the last step"),
    ],
)
def test_what_cannot_be_meant_is_named(values: dict[str, Any], message: str) -> None:
    with pytest.raises(UsageError, match=re.escape(message)):
        read_request({"dataset": "things"} | values)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"recipe": "gray"}, "no such output"),
        ({"snapshot": "nobody"}, "there is no snapshot nobody"),
        ({"label": "gendr"}, "no column gendr"),
        ({"columns": ["year", "x"]}, "no column x"),
        ({"split": {"train": 1.0}, "stratify": "sex"}, "no column sex"),
    ],
)
def test_what_the_snapshot_has_not_is_named(small_dataset: FolderLake, values: dict[str, Any], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        resolved(small_dataset, **values)


def test_each_content_is_exported_once_and_the_rest_has_a_reason(small_dataset: FolderLake) -> None:
    found = resolved(small_dataset)
    selection = select(read_rows(small_dataset, found.manifest), found)
    assert selection.table[NAME].to_pylist()[:2] == ["1", f"1-{selection.table['sha256'][1].as_py()[:8]}"]
    assert len(set(selection.table["sha256"].to_pylist())) == selection.table.num_rows == 4
    reasons = selection.left_out["reason"].to_pylist()
    assert sorted(reasons) == ["duplicate_image", "image_rejected", "missing_image", "missing_image"]
    assert selection.selected == selection.table.num_rows + selection.left_out.num_rows
