"""Each format is read back by the library that it is made for."""

from __future__ import annotations

import csv
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow.parquet as pq
import pytest
import webdataset
import yaml
from PIL import Image
from pycocotools.coco import COCO

from lookbook.blocks.lake import FolderLake
from tests.support.exports import SPLIT, exported
from tests.support.sets import sampled

ROOT = Path(__file__).parents[3]


def load(code: str, folder: Path, cache: Path) -> Any:
    """What a program that uses Hugging Face's datasets prints, as JSON; without a network, and with a cache of its own.

    In a process of its own: its settings are read when it is imported.
    """
    settings = {"HF_DATASETS_OFFLINE": "1", "HF_HUB_OFFLINE": "1", "HF_HOME": str(cache)}
    kept = {name: value for name, value in os.environ.items() if not name.startswith("HF_")}
    done = subprocess.run(
        [sys.executable, "-c", code, str(folder)],
        env=kept | settings,
        capture_output=True,
        text=True,
        check=False,
        timeout=240,
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout.splitlines()[-1])


IMAGES = """
import json, sys
from datasets import load_dataset
data = load_dataset({arguments})
told = {{
    side: [[row["image"].size, row["label"], row["sha256"], row["gender"], row["year"]] for row in rows]
    for side, rows in data.items()
}}
print(json.dumps({{"rows": told, "features": {{name: str(kind) for name, kind in data["train"].features.items()}}}}))
"""


def csv_rows(path: Path) -> list[dict[str, str]]:
    with path.open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


@pytest.mark.parametrize("recipe", sampled(["square-24", "standard", "originals"], fast=["square-24"]))
def test_an_image_folder_is_loaded_in_one_line(sample_lake: FolderLake, tmp_path: Path, recipe: str) -> None:
    books = exported(sample_lake, tmp_path, recipe=recipe, split=SPLIT)
    files = tmp_path / "files"
    code = IMAGES.format(arguments='"imagefolder", data_dir=sys.argv[1]')
    loaded = load(code, files, tmp_path / "cache")
    assert {side: len(rows) for side, rows in loaded["rows"].items()} == books["images"]
    told = csv_rows(files / "metadata.csv")
    assert len(told) == sum(books["images"].values())
    expected = {(row["sha256"], row["label"], int(row["width"])) for row in told}
    assert {(row[2], row[1], row[0][0]) for rows in loaded["rows"].values() for row in rows} == expected


def test_parquet_has_images_and_classes_and_is_loaded_by_its_folder(sample_lake: FolderLake, tmp_path: Path) -> None:
    books = exported(sample_lake, tmp_path, recipe="square-24", format="parquet", split=SPLIT, shard_size=20)
    files = tmp_path / "files"
    loaded = load(IMAGES.format(arguments="sys.argv[1]"), files, tmp_path / "cache")
    assert {side: len(rows) for side, rows in loaded["rows"].items()} == books["images"]
    assert loaded["features"]["image"].startswith("Image")
    assert loaded["features"]["label"].startswith("ClassLabel")
    assert {tuple(row[0]) for rows in loaded["rows"].values() for row in rows} == {(24, 24)}
    shards = sorted((files / "data").iterdir())
    assert sum(pq.read_metadata(shard).num_rows for shard in shards) == sum(books["images"].values())
    assert all(pq.read_metadata(shard).num_rows <= 20 for shard in shards)


def test_arrays_in_parquet_are_arrays(sample_lake: FolderLake, tmp_path: Path) -> None:
    exported(sample_lake, tmp_path, recipe="tensor-8", format="parquet")
    code = """
import json, sys
from datasets import load_dataset
data = load_dataset(sys.argv[1], split="train").with_format("numpy")
array = data[0]["array"]
print(json.dumps([list(array.shape), str(array.dtype), float(array.mean())]))
"""
    shape, kind, mean = load(code, tmp_path / "files", tmp_path / "cache")
    assert (shape, kind) == ([3, 8, 8], "float32")
    assert -3 < mean < 3


def test_webdataset_reads_the_shards(sample_lake: FolderLake, tmp_path: Path) -> None:
    books = exported(sample_lake, tmp_path, recipe="square-24", format="webdataset", split=SPLIT, shard_size=16)
    files = tmp_path / "files"
    told = {row["sha256"]: row for row in csv_rows(files / "metadata.csv")}
    classes = sorted({row["label"] for row in told.values()})
    for side, count in books["images"].items():
        shards = sorted(map(str, files.glob(f"{side}-*.tar")))
        rows = list(webdataset.WebDataset(shards, shardshuffle=False).decode("pil"))
        assert len(rows) == count
        for row in rows:
            assert row["jpg"].size == (24, 24)
            assert classes[row["cls"]] == row["json"]["label"] == told[row["json"]["sha256"]]["label"]


def test_webdataset_reads_arrays_and_copies(sample_lake: FolderLake, tmp_path: Path) -> None:
    recipe = {"steps": [{"step": "crop", "size": 8, "mode": "random"}, {"step": "normalise"}], "encode_format": "npy"}
    books = exported(sample_lake, tmp_path, recipe=recipe, format="webdataset", copies=3)
    shards = sorted(map(str, (tmp_path / "files").glob("*.tar")))
    rows = list(webdataset.WebDataset(shards, shardshuffle=False).decode())
    assert len(rows) == 3 * books["exported"] == sum(books["images"].values())
    assert {(row["npy"].shape, row["npy"].dtype) for row in rows} == {((3, 8, 8), np.dtype(np.float32))}
    assert {row["json"]["copy"] for row in rows} == {0, 1, 2}


def test_pycocotools_reads_the_annotations(sample_lake: FolderLake, tmp_path: Path) -> None:
    books = exported(
        sample_lake, tmp_path, recipe={"steps": [{"step": "resize", "size": 24}]}, format="coco", split=SPLIT
    )
    files = tmp_path / "files"
    labels = {row["file_name"]: row["label"] for row in csv_rows(files / "metadata.csv")}
    seen: set[int] = set()
    for side, count in books["images"].items():
        coco = COCO(str(files / "annotations" / f"instances_{side}.json"))
        assert len(coco.getImgIds()) == len(coco.getAnnIds()) == count
        for image in coco.loadImgs(coco.getImgIds()):
            (annotation,) = coco.loadAnns(coco.getAnnIds(imgIds=image["id"]))
            (category,) = coco.loadCats(annotation["category_id"])
            assert category["name"] == labels[image["file_name"]]
            with Image.open(files / image["file_name"]) as found:
                assert found.size == (image["width"], image["height"])
            assert coco.annToMask(annotation).sum() == annotation["area"] == image["width"] * image["height"]
        assert not seen & set(coco.getImgIds())
        seen |= set(coco.getImgIds())


def test_csv_links_to_what_the_lake_holds(sample_lake: FolderLake, tmp_path: Path) -> None:
    books = exported(sample_lake, tmp_path, recipe="thumb", format="csv")
    rows = pd.read_csv(tmp_path / "files" / "metadata.csv")
    assert len(rows) == books["exported"]
    for row in rows.itertuples():
        with Image.open(str(row.url)) as image:
            assert image.size == (row.width, row.height)
    assert books["files"] == 0


@pytest.mark.full
def test_mlcroissant_finds_nothing_wrong_and_reads_the_records(sample_lake: FolderLake, tmp_path: Path) -> None:
    for format_ in ("imagefolder", "webdataset", "parquet", "coco"):
        exported(sample_lake, tmp_path / format_, recipe="square-24", format=format_, split=SPLIT)
        code = """
import json, sys
import mlcroissant
found = mlcroissant.Dataset(jsonld=sys.argv[1] + "/croissant.json")
rows = [row for row, _ in zip(found.records("images"), range(5))]
issues = found.metadata.ctx.issues
print(json.dumps([sorted(issues.errors), len(rows), sorted(rows[0])]))
"""
        errors, rows, columns = load(code, tmp_path / format_ / "files", tmp_path / "cache")
        assert (errors, rows) == ([], 5)
        assert "images/file_name" in columns


def test_the_card_has_front_matter_that_names_the_files_of_each_side(sample_lake: FolderLake, tmp_path: Path) -> None:
    books = exported(sample_lake, tmp_path, recipe="square-24", format="parquet", split=SPLIT)
    _, front, text = (tmp_path / "files" / "README.md").read_text(encoding="utf-8").split("---\n", 2)
    described = yaml.safe_load(front)
    for each in described["configs"][0]["data_files"]:
        assert list((tmp_path / "files").glob(each["path"]))
    assert {each["split"] for each in described["configs"][0]["data_files"]} == set(books["images"])
    assert "load_dataset" in text


def test_the_checksums_are_those_that_sha256sum_finds(sample_lake: FolderLake, tmp_path: Path) -> None:
    exported(sample_lake, tmp_path, recipe="square-24", split=SPLIT)
    files = tmp_path / "files"
    done = subprocess.run(["sha256sum", "--check", "--strict", "--quiet", "SHA256SUMS"], cwd=files, check=False)
    assert done.returncode == 0
    listed = {line.split("  ", 1)[1] for line in (files / "SHA256SUMS").read_text().splitlines()}
    there = {path.relative_to(files).as_posix() for path in files.rglob("*") if path.is_file()}
    assert listed == there - {"SHA256SUMS"}
