"""The current snapshot in the registry: written whole, and compared row by row."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import pyarrow as pa
import pytest

from lookbook.blocks.registry import Registry
from lookbook.blocks.workspace import Workspace
from lookbook.tasks.datasets.follow import index_snapshot, indexed_snapshot, registry_differences
from lookbook.tasks.datasets.manifest import Manifest
from lookbook.tasks.datasets.schemas import IMAGES_SCHEMA, PRODUCTS_SCHEMA, REJECTS_SCHEMA
from lookbook.tasks.images.recipe import Recipe
from tests.support.reports import image_row, product_row, reject_row

Tables = dict[str, pa.Table]


def manifest(snapshot_id: str = "s-1", dataset: str = "things") -> Manifest:
    return Manifest(
        dataset=dataset, snapshot_id=snapshot_id, created_at=datetime(2026, 11, 21, tzinfo=UTC), source="/photos",
        digest="d" * 64, previous=None, recipe=Recipe(), rules_digest="r", output_digests={}, versions={},
        summary={}, files=[],
    )  # fmt: skip


def tables(count: int = 3) -> Tables:
    images = [image_row(number) for number in range(count)]
    images.append(image_row(90, outcome="rejected", rule="truncated", orphan=True, product_key=None))
    products = [product_row(number) for number in range(count)]
    products.append(product_row(91, outcome="missing_image", image_key=None, missing_reason="no_image"))
    rejects = [reject_row(1), reject_row(2, kind="row", locator="styles.csv:9", raw="a\x00b,写真")]
    kept = [{name: row.get(name) for name in PRODUCTS_SCHEMA.names} for row in products]
    return {
        "images": pa.Table.from_pylist(images, schema=IMAGES_SCHEMA),
        "products": pa.Table.from_pylist(kept, schema=PRODUCTS_SCHEMA),
        "rejects": pa.Table.from_pylist(rejects, schema=REJECTS_SCHEMA),
    }


def execute(registry: Registry, sql: str) -> None:
    async def work(connection: Any) -> None:
        done = await connection.execute(sql)
        assert done.split()[-1] == "1", f"{sql} was to change one row: {done}"

    registry.run(work)


def counts(registry: Registry) -> dict[str, int]:
    async def work(connection: Any) -> dict[str, int]:
        names = ("assets", "products", "rejects", "snapshots", "current_snapshots")
        return {name: await connection.fetchval(f"SELECT count(*) FROM lookbook.{name}") for name in names}

    return registry.run(work)


@pytest.fixture
def books(workspace: Workspace) -> Registry:
    """A registry that holds one snapshot."""
    index_snapshot(workspace.registry, manifest(), tables())
    return workspace.registry


def test_an_indexed_snapshot_is_known_and_has_no_difference(books: Registry) -> None:
    assert indexed_snapshot(books, "things") == "s-1"
    assert indexed_snapshot(books, "nobody") is None
    assert registry_differences(books, manifest(), tables()) == []
    assert counts(books) == {"assets": 4, "products": 4, "rejects": 2, "snapshots": 1, "current_snapshots": 1}


def test_indexing_twice_changes_nothing(books: Registry) -> None:
    before = counts(books)
    index_snapshot(books, manifest(), tables())
    assert counts(books) == before
    assert registry_differences(books, manifest(), tables()) == []


def test_another_snapshot_takes_the_place_of_the_first_and_of_no_other_dataset(books: Registry) -> None:
    index_snapshot(books, manifest(dataset="others"), tables())
    index_snapshot(books, manifest("s-2"), tables(1))
    assert indexed_snapshot(books, "things") == "s-2"
    assert registry_differences(books, manifest("s-2"), tables(1)) == []
    assert registry_differences(books, manifest(dataset="others"), tables()) == []
    assert counts(books) == {"assets": 6, "products": 6, "rejects": 4, "snapshots": 3, "current_snapshots": 2}


def test_a_registry_that_lags_behind_is_one_difference(books: Registry) -> None:
    assert registry_differences(books, manifest("s-2"), tables(1)) == [
        "registry: it holds snapshot s-1, CURRENT is s-2"
    ]


@pytest.mark.parametrize(
    ("sql", "difference"),
    [
        ("DELETE FROM lookbook.assets WHERE key = 'images/1.jpg'", "assets row images/1.jpg is missing"),
        ("DELETE FROM lookbook.products WHERE line = 3", "products row styles.csv:3 is missing"),
        ("DELETE FROM lookbook.rejects WHERE reject_id = 'r-2'", "rejects row r-2 is missing"),
        (
            "INSERT INTO lookbook.assets (dataset, key, outcome, orphan) VALUES ('things', 'z.jpg', 'loaded', true)",
            "assets row z.jpg is not in the snapshot",
        ),
        (
            "INSERT INTO lookbook.products (dataset, file, line, product_key, outcome)"
            " VALUES ('things', 'other.csv', 2, '1', 'matched')",
            "products row other.csv:2 is not in the snapshot",
        ),
        ("INSERT INTO lookbook.rejects VALUES ('things', 'r-9', 'row', 'x', 'y', 'z', '')",
         "rejects row r-9 is not in the snapshot"),
        ("UPDATE lookbook.assets SET outcome = 'rejected' WHERE key = 'images/2.jpg'",
         "assets row images/2.jpg differs"),
        ("UPDATE lookbook.assets SET bytes = NULL WHERE key = 'images/2.jpg'", "assets row images/2.jpg differs"),
        ("UPDATE lookbook.assets SET orphan = NOT orphan WHERE key = 'images/90.jpg'",
         "assets row images/90.jpg differs"),
        ("UPDATE lookbook.products SET image_key = 'x' WHERE line = 93", "products row styles.csv:93 differs"),
        ("UPDATE lookbook.rejects SET raw = 'ab,写真' WHERE reject_id = 'r-2'", "rejects row r-2 differs"),
    ],
)  # fmt: skip
def test_each_changed_row_is_one_line(books: Registry, sql: str, difference: str) -> None:
    execute(books, sql)
    assert registry_differences(books, manifest(), tables()) == [f"registry: {difference}"]


def test_rows_of_other_datasets_are_no_difference(books: Registry) -> None:
    execute(books, "INSERT INTO lookbook.rejects VALUES ('others', 'r-9', 'row', 'x', 'y', 'z', '')")
    assert registry_differences(books, manifest(), tables()) == []


def test_a_failing_index_leaves_the_former_snapshot(books: Registry) -> None:
    broken = tables()
    broken["rejects"] = pa.concat_tables([broken["rejects"], broken["rejects"]])
    with pytest.raises(Exception, match="duplicate key"):
        index_snapshot(books, manifest("s-2"), broken)
    assert registry_differences(books, manifest(), tables()) == []


@pytest.mark.parametrize("column", ["duplicate_of", "rule", "sha256", "original_key", "product_key"])
def test_every_column_of_an_image_is_compared(books: Registry, column: str) -> None:
    execute(books, f"UPDATE lookbook.assets SET {column} = 'something else' WHERE key = 'images/0.jpg'")
    assert registry_differences(books, manifest(), tables()) == ["registry: assets row images/0.jpg differs"]
