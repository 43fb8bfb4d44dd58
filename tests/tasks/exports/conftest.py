"""A published dataset with every case of naming."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

import pytest

from lookbook.blocks.lake import FolderLake
from lookbook.blocks.workspace import local_workspace
from lookbook.tasks.datasets.inventory import take_inventory
from lookbook.tasks.datasets.publish import finalize
from lookbook.tasks.images.batch import process_batch
from tests.support.pipeline import photo, request, row, write_collection

IMAGES = {
    "1.jpg": photo(1),
    "more/1.jpg": photo(11),  # a second image of product 1
    "2.jpg": photo(2),
    "again/2.jpg": photo(2),  # a copy
    "stray.jpg": photo(99),  # no row names it
    "3.jpg": b"<html>",  # rejected
}


@pytest.fixture
def small_dataset(tmp_path: Path) -> FolderLake:
    """A lake with the dataset ``things`` of these images."""
    return publish(tmp_path, write_collection(tmp_path / "in", IMAGES, [row(number) for number in (1, 2, 3, 4)]))


def publish(tmp_path: Path, source: Path | str) -> FolderLake:
    """The main job up to CURRENT: registry and warehouse have no part in copies."""
    place = local_workspace(tmp_path / "home")
    asked = request(place, source)
    inventory = take_inventory(asked)
    for batch in inventory.batches:
        process_batch(place.lake, batch, threads=2)
    finalize(asked, inventory, datetime.now(UTC))
    assert isinstance(place.lake, FolderLake)
    return place.lake


@pytest.fixture(scope="session")
def sample_lake(tmp_path_factory: pytest.TempPathFactory) -> FolderLake:
    """A lake with the dataset ``things`` of the built-in catalogue: its defects, copies and near duplicates."""
    return publish(tmp_path_factory.mktemp("sample"), "sample://60")
