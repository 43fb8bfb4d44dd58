"""What all warehouses do alike: one contract, held by each of them."""

from __future__ import annotations

import re
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from decimal import Decimal
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from lookbook.blocks.errors import LookbookError
from lookbook.blocks.warehouse import MOST_ROWS, STAGING_KEYS, STANDING_COLUMNS, SnapshotLoad, StarModel, Warehouse
from lookbook.tasks.datasets.schemas import load_models
from tests.support.sets import sampled
from tests.support.snapshots import products_with, snapshot_load
from tests.support.warehouses import RIGS, Rig

ALL_MODELS = load_models()
#: Those that read files only, so that tests are quick; all of them are held against each other at the end.
MODELS = [
    model
    for model in ALL_MODELS
    if model.name
    in {"dim_category", "dim_season", "dim_usage", "agg_image_sizes", "agg_image_issues", "near_duplicate_groups"}
]
TABLES = [*STAGING_KEYS, *(model.name for model in MODELS)]


@pytest.fixture(scope="module", params=sampled(RIGS, fast=["duckdb"]))
def kind(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture(scope="module")
def house(kind: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Rig, SnapshotLoad]]:
    """A loaded warehouse that tests only read or copy."""
    folder = tmp_path_factory.mktemp("house")
    load = snapshot_load(folder)
    with RIGS[kind](folder) as rig:
        rig.warehouse.load_snapshot(load, MODELS)
        yield rig, load


@pytest.fixture
def warehouse(kind: str, tmp_path: Path) -> Iterator[Warehouse]:
    """An empty one."""
    with RIGS[kind](tmp_path) as rig:
        yield rig.warehouse


@pytest.fixture
def rig(house: tuple[Rig, SnapshotLoad], tmp_path: Path) -> Iterator[Rig]:
    """A loaded one, for this test alone."""
    with house[0].copy(tmp_path) as rig:
        yield rig


@pytest.fixture
def loaded(house: tuple[Rig, SnapshotLoad]) -> SnapshotLoad:
    """What stands in the loaded one."""
    return house[1]


def rows(warehouse: Warehouse, sql: str) -> list[tuple[Any, ...]]:
    return [tuple(row.values()) for row in warehouse.query(sql).to_pylist()]


def content(warehouse: Warehouse, tables: list[str] = TABLES) -> dict[str, list[str]]:
    """All that readers see, but for what each load writes anew."""
    found = {}
    for name in tables:
        shown = warehouse.query(f"SELECT * FROM warehouse.{name}").drop_columns(["_load_id", "_loaded_at"])
        found[name] = sorted(repr(sorted(_plain(row).items())) for row in shown.to_pylist())
    return found


def _plain(row: dict[str, Any]) -> dict[str, Any]:
    """DuckDB sums into a decimal."""
    return {name: int(value) if isinstance(value, Decimal) else value for name, value in row.items()}


# What stands there after a load


def test_a_load_holds_every_row_of_every_file(house: tuple[Rig, SnapshotLoad]) -> None:
    warehouse, load = house[0].warehouse, house[1]
    assert warehouse.current_snapshots() == {"fashion": "s1"}
    for table, path in load.tables.items():
        expected = pq.read_table(path)
        order = ", ".join(STAGING_KEYS[table])
        found = warehouse.query(f"SELECT {', '.join(expected.column_names)} FROM warehouse.{table} ORDER BY {order}")
        by_key = [(name, "ascending") for name in STAGING_KEYS[table]]
        assert found.to_pylist() == expected.sort_by(by_key).to_pylist(), table
    assert warehouse.differences(load, MODELS) == []


@pytest.mark.parametrize("table", TABLES)
def test_each_row_carries_its_tags(house: tuple[Rig, SnapshotLoad], table: str) -> None:
    sql = f"SELECT DISTINCT dataset, snapshot_id, _load_id, _loaded_at IS NOT NULL AS t FROM warehouse.{table}"
    assert rows(house[0].warehouse, sql) == [("fashion", "s1", "load-1", True)]


def test_readers_are_told_the_views_with_their_columns(rig: Rig) -> None:
    tables = rig.warehouse.tables()
    assert set(tables) == {f"warehouse.{name}" for name in TABLES}
    for name, table in tables.items():
        assert list(table.columns) == rig.warehouse.query(f"SELECT * FROM {name} LIMIT 0").column_names, name
        assert table.rows is None, "a view would have to be read to count it"


def test_tables_of_feeds_are_told_with_their_rows(rig: Rig) -> None:
    rig.change("CREATE SCHEMA feeds")
    rig.change("CREATE TABLE feeds.zones AS SELECT 1 AS zone")
    zones = rig.warehouse.tables()["feeds.zones"]
    assert (list(zones.columns), zones.rows) == (["zone"], 1)


def test_a_warehouse_that_is_not_there_has_no_tables(warehouse: Warehouse) -> None:
    assert warehouse.tables() == {}


def test_loading_twice_leaves_no_row_twice(rig: Rig, tmp_path: Path) -> None:
    once = content(rig.warehouse)
    rig.warehouse.load_snapshot(snapshot_load(tmp_path, load_id="load-2"), MODELS)
    assert content(rig.warehouse) == once
    assert rows(rig.warehouse, "SELECT DISTINCT _load_id FROM staging.images") == [("load-2",)]
    counted = "SELECT (SELECT count(*) FROM staging.images) AS a, (SELECT count(*) FROM warehouse.images) AS b"
    assert rows(rig.warehouse, counted) == [(7, 7)]


def test_two_datasets_stand_side_by_side(rig: Rig, loaded: SnapshotLoad, tmp_path: Path) -> None:
    other = snapshot_load(tmp_path, "shoes", "s9", brightness=0.9)
    rig.warehouse.load_snapshot(other, MODELS)
    assert rig.warehouse.current_snapshots() == {"fashion": "s1", "shoes": "s9"}
    assert rig.warehouse.differences(loaded, MODELS) == rig.warehouse.differences(other, MODELS) == []
    counted = "SELECT dataset, count(*) AS n FROM warehouse.images GROUP BY dataset ORDER BY dataset"
    assert rows(rig.warehouse, counted) == [("fashion", 7), ("shoes", 7)]


def test_a_dataset_that_is_removed_is_gone_and_no_other(rig: Rig, tmp_path: Path) -> None:
    before = content(rig.warehouse)
    rig.warehouse.load_snapshot(snapshot_load(tmp_path / "other", dataset="other"), MODELS)
    for _ in range(2):
        rig.warehouse.remove_dataset("other", MODELS)
        assert content(rig.warehouse) == before
        assert rig.warehouse.current_snapshots() == {"fashion": "s1"}
    rig.change("INSERT INTO staging.current_snapshot (dataset, snapshot_id) VALUES ('other', 's1')")
    assert content(rig.warehouse) == before, "no row is left that it could show"


def test_a_later_snapshot_takes_the_place_of_the_former(rig: Rig, loaded: SnapshotLoad, tmp_path: Path) -> None:
    later = snapshot_load(tmp_path, snapshot_id="s2", load_id="load-2", brightness=0.25)
    rig.warehouse.load_snapshot(later, MODELS)
    assert rig.warehouse.current_snapshots() == {"fashion": "s2"}
    assert rows(rig.warehouse, "SELECT DISTINCT snapshot_id FROM staging.images") == [("s2",)]
    assert rows(rig.warehouse, "SELECT brightness FROM warehouse.images WHERE key = 'images/1.jpg'") == [(0.25,)]
    assert rig.warehouse.differences(loaded, MODELS) == ["warehouse: fashion is at snapshot s2 instead of s1"]


def test_views_show_only_the_current_snapshot(rig: Rig) -> None:
    rig.change("INSERT INTO staging.images (dataset, snapshot_id, key) VALUES ('fashion', 's0', 'old.jpg')")
    assert rows(rig.warehouse, "SELECT count(*) AS n FROM warehouse.images WHERE key = 'old.jpg'") == [(0,)]


def test_a_snapshot_without_one_of_its_tables_is_refused(warehouse: Warehouse, tmp_path: Path) -> None:
    load = snapshot_load(tmp_path)
    load = replace(load, tables={name: files for name, files in load.tables.items() if name != "outputs"})
    with pytest.raises(LookbookError, match="see outputs"):
        warehouse.load_snapshot(load, MODELS)


# Whole or not at all


def test_a_load_that_fails_leaves_the_former_snapshot(rig: Rig, loaded: SnapshotLoad, tmp_path: Path) -> None:
    before = content(rig.warehouse)
    later = snapshot_load(tmp_path, snapshot_id="s2", products=products_with({"year": pa.array(["a"])}))
    broken = StarModel("broken", "SELECT error('boom') AS x FROM images", ("x",))
    with pytest.raises(LookbookError, match="boom"):
        rig.warehouse.load_snapshot(later, [*MODELS, broken])
    assert rig.warehouse.current_snapshots() == {"fashion": "s1"}
    if rig.warehouse.query("SELECT year FROM warehouse.products").schema.field("year").type == pa.int64():
        assert content(rig.warehouse) == before
    rig.warehouse.load_snapshot(loaded, MODELS)
    assert rig.warehouse.differences(loaded, MODELS) == []
    left = "SELECT count(*) AS n FROM staging.images WHERE snapshot_id = 's2'"
    assert rows(rig.warehouse, left) == [(0,)]


def test_a_file_that_is_gone_is_named(warehouse: Warehouse, tmp_path: Path) -> None:
    load = snapshot_load(tmp_path)
    (outputs,) = load.tables["outputs"]
    Path(outputs).unlink()
    with pytest.raises(LookbookError, match=re.escape(outputs)):
        warehouse.load_snapshot(load, MODELS)
    assert warehouse.current_snapshots() == {}


# Catalogues of other shapes


def test_other_columns_are_added_and_the_standing_ones_are_null(rig: Rig, loaded: SnapshotLoad, tmp_path: Path) -> None:
    other = products_with({"Price": pa.array([1.5, None]), "a name: with spaces": pa.array(["x", "y"])})
    load = snapshot_load(tmp_path, "prices", products=other)
    rig.warehouse.load_snapshot(load, MODELS)
    found = rig.warehouse.query("SELECT * FROM warehouse.products WHERE dataset = 'prices' ORDER BY line").to_pylist()
    names = ("Price", "a name: with spaces", "masterCategory")
    assert [tuple(row[name] for name in names) for row in found] == [(1.5, "x", None), (None, "y", None)]
    category = "SELECT DISTINCT master_category FROM warehouse.dim_category WHERE dataset = 'prices'"
    assert rows(rig.warehouse, category) == [("Unknown",)]
    assert rig.warehouse.differences(loaded, MODELS) == rig.warehouse.differences(load, MODELS) == []


def test_a_collection_without_a_catalogue_has_the_standing_columns(warehouse: Warehouse, tmp_path: Path) -> None:
    load = snapshot_load(tmp_path, products=products_with({"x": pa.array([], pa.int64())}))
    warehouse.load_snapshot(load, MODELS)
    assert warehouse.query("SELECT id, articleType FROM warehouse.products").num_rows == 0
    assert rows(warehouse, "SELECT count(*) AS n FROM warehouse.agg_image_sizes") == [(2,)]


def test_a_snapshot_of_an_earlier_version_is_loaded_and_one_already_loaded_can_be_compared(
    warehouse: Warehouse, tmp_path: Path
) -> None:
    load = snapshot_load(tmp_path)
    images = pq.read_table(load.tables["images"])
    added = [name for name in images.column_names if name.startswith(("is_", "near_")) or name.endswith("_score")]
    for file in load.tables["images"]:
        pq.write_table(pq.read_table(file).drop_columns(added), file)
    before = [model for model in MODELS if model.name not in {"agg_image_issues", "near_duplicate_groups"}]
    with pytest.MonkeyPatch.context() as patch:
        patch.delitem(STANDING_COLUMNS, "images")
        warehouse.load_snapshot(load, before)
    assert {line.split(": ", 1)[1].split(":")[0] for line in warehouse.differences(load, MODELS)} == {
        "staging.images",
        "warehouse.agg_image_issues",
        "warehouse.near_duplicate_groups",
    }
    warehouse.load_snapshot(load, MODELS)
    assert warehouse.differences(load, MODELS) == []
    assert rows(warehouse, "SELECT count(*) AS n FROM warehouse.agg_image_issues") == [(0,)]


def test_a_column_that_is_text_elsewhere_becomes_text(warehouse: Warehouse, tmp_path: Path) -> None:
    """Integer, then float, then text: what was loaded first reads as if it had been text at once."""
    kinds = [
        snapshot_load(tmp_path, "integers", products=products_with({"size": pa.array([7, 8])})),
        snapshot_load(tmp_path, "floats", products=products_with({"SIZE": pa.array([7.5, None])})),
        snapshot_load(tmp_path, "texts", products=products_with({"size": pa.array(["XL", "M"]), "id": ["a", "b"]})),
    ]
    types = []
    for load in kinds:
        warehouse.load_snapshot(load, MODELS)
        types.append(warehouse.query("SELECT size FROM warehouse.products").schema.field("size").type)
    assert types == [pa.int64(), pa.float64(), pa.string()]
    found = rows(warehouse, "SELECT dataset, size FROM warehouse.products ORDER BY dataset, line")
    assert found == [
        *(("floats", size) for size in ("7.5", None)),
        *(("integers", size) for size in ("7", "8")),
        *(("texts", size) for size in ("XL", "M")),
    ]
    for load in kinds:
        assert warehouse.differences(load, MODELS) == []


def test_a_column_named_like_a_tag_gets_another_name(warehouse: Warehouse, tmp_path: Path) -> None:
    columns = {"Dataset": pa.array(["train"]), "dataset_": pa.array(["x"]), "nothing": pa.nulls(1)}
    load = snapshot_load(tmp_path, products=products_with(columns))
    warehouse.load_snapshot(load, MODELS)
    found = rows(warehouse, "SELECT dataset, Dataset__, dataset_, nothing FROM warehouse.products")
    assert found == [("fashion", "train", "x", None)]
    assert warehouse.differences(load, MODELS) == []


def test_files_may_lie_in_any_folder(warehouse: Warehouse, tmp_path: Path) -> None:
    load = snapshot_load(tmp_path / "it's" / "a=b" / "x[1]*?" / "Größe ü", dataset='o\'clock \\ "x"')
    warehouse.load_snapshot(load, MODELS)
    assert warehouse.current_snapshots() == {load.dataset: "s1"}
    assert warehouse.differences(load, MODELS) == []
    assert "a" not in warehouse.query("SELECT * FROM warehouse.images").column_names


# Differences


FAULTS = [
    (
        "DELETE FROM staging.images WHERE key = 'images/1.jpg'",
        "staging.images: row images/1.jpg is missing",
    ),
    (
        "UPDATE staging.images SET bytes = 1 WHERE key = 'images/2.jpg'",
        "staging.images: row images/2.jpg differs",
    ),
    (
        "INSERT INTO staging.rejects SELECT * FROM staging.rejects WHERE reject_id = 'r-1'",
        "staging.rejects: row r-1 should not be there",
    ),
    (
        "UPDATE staging.products SET snapshot_id = 's0' WHERE line = 2",
        "staging.products: row styles.csv:2 differs",
    ),
    (
        "DELETE FROM staging.dim_category WHERE article_type = 'Heels'",
        "warehouse.dim_category: row Footwear:Shoes:Heels is missing",
    ),
    (
        "UPDATE staging.agg_image_sizes SET images = 9 WHERE original_width = 60",
        "warehouse.agg_image_sizes: row 60:80 differs",
    ),
    (
        "INSERT INTO staging.dim_season (dataset, snapshot_id, season) VALUES ('fashion', 's1', 'Monsoon')",
        "warehouse.dim_season: row Monsoon:null should not be there",
    ),
    ("ALTER TABLE staging.image_links DROP COLUMN link", "staging.image_links: column link is missing"),
    ("DROP TABLE staging.dim_usage", "warehouse.dim_usage: the table is missing"),
    ("DROP VIEW warehouse.outputs", "warehouse.outputs: the view is missing"),
]


def test_each_fault_is_one_line_and_a_load_mends_them_all(rig: Rig, loaded: SnapshotLoad) -> None:
    for statement, _ in FAULTS:
        rig.change(statement)
    assert sorted(rig.warehouse.differences(loaded, MODELS)) == sorted(f"warehouse: {line}" for _, line in FAULTS)
    rig.warehouse.load_snapshot(loaded, MODELS)
    assert rig.warehouse.differences(loaded, MODELS) == []


def test_a_row_that_stands_in_the_file_twice_is_wanted_twice(warehouse: Warehouse, tmp_path: Path) -> None:
    load = snapshot_load(tmp_path)
    rejects = pq.read_table(load.tables["rejects"])
    pq.write_table(pa.concat_tables([rejects, rejects]), load.tables["rejects"][0])
    warehouse.load_snapshot(load, MODELS)
    assert warehouse.differences(load, MODELS) == []
    pq.write_table(rejects, load.tables["rejects"][0])
    surplus = [f"warehouse: staging.rejects: row r-{n} should not be there" for n in (1, 2)]
    assert warehouse.differences(load, MODELS) == surplus


def test_the_rows_named_are_bounded(warehouse: Warehouse, tmp_path: Path) -> None:
    load = snapshot_load(tmp_path, products=products_with({"x": pa.array(range(3))}))
    warehouse.load_snapshot(load, MODELS[:0])
    more = snapshot_load(tmp_path, products=products_with({"x": pa.array(range(MOST_ROWS + 17 + 3))}))
    lines = warehouse.differences(more, MODELS[:0])
    assert len(lines) == MOST_ROWS + 1
    assert lines[-1] == "warehouse: staging.products: … and 17 more"


@pytest.mark.parametrize(
    "statement", ["DELETE FROM staging.current_snapshot WHERE true", "DROP SCHEMA staging CASCADE"]
)
def test_a_dataset_that_is_not_loaded_is_one_line(rig: Rig, loaded: SnapshotLoad, statement: str) -> None:
    rig.change(statement)
    assert rig.warehouse.differences(loaded, MODELS) == ["warehouse: no snapshot of fashion is loaded"]
    assert rig.warehouse.current_snapshots() == {}


def test_a_warehouse_that_was_never_loaded_says_so(warehouse: Warehouse, tmp_path: Path) -> None:
    assert warehouse.differences(snapshot_load(tmp_path), MODELS) == ["warehouse: no snapshot of fashion is loaded"]
    assert warehouse.current_snapshots() == {}
    for asked in (warehouse.query, warehouse.dry_run):
        with pytest.raises(LookbookError, match=r"Nothing was loaded yet[\s\S]*lookbook ingest"):
            asked("SELECT * FROM warehouse.images")


def test_threads_that_load_at_once_all_succeed(warehouse: Warehouse, tmp_path: Path) -> None:
    loads = [snapshot_load(tmp_path, f"set{n}") for n in range(3)]
    with ThreadPoolExecutor() as pool:
        list(pool.map(lambda load: warehouse.load_snapshot(load, MODELS[:2]), loads))
    assert list(warehouse.current_snapshots()) == ["set0", "set1", "set2"]
    for load in loads:
        assert warehouse.differences(load, MODELS[:2]) == []


# All of them


@pytest.mark.full
def test_all_warehouses_show_the_same_of_every_model(tmp_path: Path) -> None:
    load, shown = snapshot_load(tmp_path), []
    tables = [*STAGING_KEYS, *(model.name for model in ALL_MODELS)]
    for kind, make in RIGS.items():
        with make(tmp_path / kind) as rig:
            rig.warehouse.load_snapshot(load, ALL_MODELS)
            shown.append(content(rig.warehouse, tables))
            assert rig.warehouse.differences(load, ALL_MODELS) == []
    for name in tables:
        assert shown[0][name] == shown[1][name], name
