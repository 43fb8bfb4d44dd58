"""``lookbook ingest kaggle://…`` and ``lookbook copy`` as a user runs them, with a stand-in for Kaggle."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from lookbook.blocks.lake import FolderLake
from lookbook.tasks.datasets.manifest import list_snapshots
from tests.support.command import lookbook, lookbook_json
from tests.support.kaggle_server import Dataset, KaggleServer, kaggle
from tests.support.loopback import Fault
from tests.support.pipeline import photo

pytestmark = pytest.mark.integration

STYLES = "id,gender,baseColour,year,productDisplayName\n" + "".join(f"{n},Men,Red,2020,Shoe {n}\n" for n in range(1, 9))
PHOTOS = {f"images/{n}.jpg": photo(n, (300, 400)) for n in range(1, 9)}
SHOES = PHOTOS | {"styles.csv": STYLES.encode(), "padding.bin": bytes(range(256)) * 2048}


@pytest.fixture
def server() -> Iterator[KaggleServer]:
    with kaggle(shoes=Dataset([SHOES], private=True)) as server:
        yield server


@pytest.mark.full
def test_a_private_dataset_becomes_a_snapshot_and_a_copy_of_it_a_folder(
    shared_home: Path, server: KaggleServer, tmp_path: Path
) -> None:
    """Cut in the middle and told to wait; then a newer version, whose download is dropped."""
    logged_in = server.environment() | {"HOME": str(tmp_path), "KAGGLE_API_TOKEN": "good-token"}
    source = ("ingest", "kaggle://ann/shoes", "--dataset", "kaggle-shoes", "--batch-size", "5")

    server.storage.inject(Fault(cut=True, cut_after=300_000, count=1))
    server.api.inject(Fault("datasets.DownloadDataset", status=429, count=1, headers={"Retry-After": "0"}))
    first = lookbook_json(shared_home, *source, **logged_in)
    assert first["images"] == {"found": 8, "loaded": 8, "unchanged": 0, "duplicate": 0, "rejected": 0}
    assert first["rows"]["matched"] == 8
    assert first["source"] == "kaggle://ann/shoes@1"
    assert server.storage.fired["storage.get"] == 1
    assert any(server.ranges()), "it went on where it was cut"

    server.datasets["ann/shoes"].versions.append(SHOES | {"images/9.jpg": photo(9, (300, 400))})
    second = lookbook_json(shared_home, *source, "--drop-download", **logged_in)
    assert (second["images"]["found"], second["images"]["unchanged"]) == (9, 8)
    assert second["source"] == "kaggle://ann/shoes@2"
    downloads = shared_home / "scratch" / "kaggle" / "ann" / "shoes"
    assert [path.name for path in downloads.rglob("*.zip")] == ["shoes.zip"]
    assert [path.name for path in (downloads / "2" / "whole").iterdir()] == ["lock"], "which others may wait for"
    snapshots = list_snapshots(FolderLake(root=shared_home / "lake"), "kaggle-shoes")
    assert [each.source for each in snapshots] == ["kaggle://ann/shoes@2", "kaggle://ann/shoes@1"]

    for path in shared_home.rglob("*"):
        assert not path.is_file() or b"good-token" not in path.read_bytes(), f"the token is in {path}"

    out = tmp_path / "out"
    copied = lookbook_json(
        shared_home, "copy", "kaggle-shoes", "--output", "grey", "--output", "originals", "--to", str(out)
    )
    assert {name: counts["sent"] for name, counts in copied["folders"].items()} == {"grey": 9, "originals": 9}
    assert sorted(path.name for path in (out / "grey").iterdir() if path.is_file()) == [f"{n}.jpg" for n in range(1, 9)]
    assert (out / "originals" / "1.jpg").read_bytes() == SHOES["images/1.jpg"]


@pytest.mark.full
def test_a_dataset_that_may_not_be_read_is_refused_in_two_lines(
    shared_home: Path, server: KaggleServer, tmp_path: Path
) -> None:
    nobody = server.environment() | {"HOME": str(tmp_path), "KAGGLE_API_TOKEN": ""}
    done = lookbook(shared_home, "ingest", "kaggle://ann/shoes", "--dataset", "kaggle-refused", **nobody)
    assert done.returncode == 1
    assert "Kaggle answers 403" in done.stderr
    assert "Without credentials" in done.stderr
    assert len(done.stderr.splitlines()) == 2


def test_an_address_that_names_no_dataset_is_wrong_usage(shared_home: Path) -> None:
    done = lookbook(shared_home, "ingest", "kaggle://ann", "--dataset", "x")
    assert done.returncode == 2
    assert "kaggle://ann/shoes@3/a.zip" in done.stderr
