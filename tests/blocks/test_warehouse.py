from __future__ import annotations

import re
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import duckdb
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from blocks import duckdb_warehouse
from blocks.duckdb_staging import wider
from blocks.duckdb_warehouse import DuckDBWarehouse
from blocks.errors import LookbookError
from blocks.warehouse import MOST_ROWS, STAGING_KEYS, STANDING_COLUMNS, Model, SnapshotLoad
from tasks.tables.models import load_models
from tests.support.snapshots import products_with, snapshot_load

MODELS = load_models()


@pytest.fixture
def warehouse(tmp_path: Path) -> DuckDBWarehouse:
    return DuckDBWarehouse(path=tmp_path / "a house" / "lookbook.duckdb", lock_timeout_seconds=0.3)


@pytest.fixture(scope="module")
def house(tmp_path_factory: pytest.TempPathFactory) -> tuple[DuckDBWarehouse, SnapshotLoad]:
    """A loaded warehouse that tests only read or copy."""
    folder = tmp_path_factory.mktemp("house")
    house, load = DuckDBWarehouse(path=folder / "lookbook.duckdb"), snapshot_load(folder)
    house.load_snapshot(load, MODELS)
    return house, load


@pytest.fixture
def loaded(warehouse: DuckDBWarehouse, house: tuple[DuckDBWarehouse, SnapshotLoad]) -> SnapshotLoad:
    """Fills the warehouse with what this load holds."""
    warehouse.path.parent.mkdir()
    shutil.copy(house[0].path, warehouse.path)
    return house[1]


def rows(warehouse: DuckDBWarehouse, sql: str) -> list[tuple[Any, ...]]:
    table = warehouse.query(sql)
    return [tuple(row.values()) for row in table.to_pylist()]


def change(warehouse: DuckDBWarehouse, *statements: str) -> None:
    """Change the file behind the warehouse's back."""
    with duckdb.connect(str(warehouse.path)) as connection:
        for statement in statements:
            connection.execute(statement)


def content(warehouse: DuckDBWarehouse) -> dict[str, list[tuple[Any, ...]]]:
    """All that staging holds, but for what each load writes anew."""
    names = rows(warehouse, "SELECT table_name FROM duckdb_tables() WHERE schema_name = 'staging'")
    return {
        name: rows(warehouse, f"SELECT * EXCLUDE (_load_id, _loaded_at) FROM staging.{name} ORDER BY ALL")
        for (name,) in names
    }


# What stands there after a load


def test_a_load_holds_every_row_of_every_file(warehouse: DuckDBWarehouse, tmp_path: Path) -> None:
    load = snapshot_load(tmp_path)
    warehouse.load_snapshot(load, MODELS)
    assert warehouse.current_snapshots() == {"fashion": "s1"}
    for table, path in load.tables.items():
        expected = pq.read_table(path)
        shown = ", ".join(f'"{name}"' for name in expected.column_names)
        order = ", ".join(STAGING_KEYS[table])
        found = warehouse.query(f"SELECT {shown} FROM warehouse.{table} ORDER BY {order}")
        by_key = [(name, "ascending") for name in STAGING_KEYS[table]]
        assert found.to_pylist() == expected.sort_by(by_key).to_pylist(), table
    assert warehouse.differences(load, MODELS) == []


def test_each_row_carries_its_tags(warehouse: DuckDBWarehouse, tmp_path: Path) -> None:
    warehouse.load_snapshot(snapshot_load(tmp_path, load_id="load-7"), MODELS)
    for table in [*STAGING_KEYS, *(model.name for model in MODELS)]:
        tags = rows(
            warehouse,
            f"SELECT DISTINCT dataset, snapshot_id, _load_id, _loaded_at IS NOT NULL FROM warehouse.{table}",
        )
        assert tags == [("fashion", "s1", "load-7", True)], table


@pytest.mark.usefixtures("loaded")
def test_loading_twice_leaves_no_row_twice(warehouse: DuckDBWarehouse, tmp_path: Path) -> None:
    once = content(warehouse)
    warehouse.load_snapshot(snapshot_load(tmp_path, load_id="load-2"), MODELS)
    assert content(warehouse) == once
    assert rows(warehouse, "SELECT DISTINCT _load_id FROM staging.images") == [("load-2",)]


def test_two_datasets_stand_side_by_side(warehouse: DuckDBWarehouse, tmp_path: Path) -> None:
    one, other = snapshot_load(tmp_path, "fashion"), snapshot_load(tmp_path, "shoes", "s9", brightness=0.9)
    warehouse.load_snapshot(one, MODELS)
    warehouse.load_snapshot(other, MODELS)
    assert warehouse.current_snapshots() == {"fashion": "s1", "shoes": "s9"}
    assert warehouse.differences(one, MODELS) == warehouse.differences(other, MODELS) == []
    joined = """SELECT f.dataset, count(*) AS n FROM warehouse.fact_product f
                JOIN warehouse.dim_colour USING (colour_key) GROUP BY ALL ORDER BY ALL"""
    assert rows(warehouse, joined) == [("fashion", 7), ("shoes", 7)]


def test_a_later_snapshot_takes_the_place_of_the_former(
    warehouse: DuckDBWarehouse, loaded: SnapshotLoad, tmp_path: Path
) -> None:
    later = snapshot_load(tmp_path, snapshot_id="s2", load_id="load-2", brightness=0.25)
    warehouse.load_snapshot(later, MODELS)
    assert warehouse.current_snapshots() == {"fashion": "s2"}
    assert rows(warehouse, "SELECT DISTINCT snapshot_id FROM staging.images") == [("s2",)]
    assert rows(warehouse, "SELECT brightness FROM warehouse.images WHERE key = 'images/1.jpg'") == [(0.25,)]
    assert warehouse.differences(loaded, MODELS) == ["warehouse: fashion is at snapshot s2 instead of s1"]


@pytest.mark.usefixtures("loaded")
def test_views_show_only_the_current_snapshot(warehouse: DuckDBWarehouse) -> None:
    change(
        warehouse,
        "INSERT INTO staging.images (dataset, snapshot_id, key) VALUES ('fashion', 's0', 'old.jpg')",
    )
    assert rows(warehouse, "SELECT count(*) AS n FROM warehouse.images WHERE key = 'old.jpg'") == [(0,)]


def test_a_snapshot_without_one_of_its_tables_is_refused(warehouse: DuckDBWarehouse, tmp_path: Path) -> None:
    load = snapshot_load(tmp_path)
    del load.tables["outputs"]
    with pytest.raises(LookbookError, match="see outputs"):
        warehouse.load_snapshot(load, MODELS)


# Whole or not at all


def test_a_load_that_fails_leaves_the_former_snapshot(
    warehouse: DuckDBWarehouse, loaded: SnapshotLoad, tmp_path: Path
) -> None:
    before = content(warehouse)
    later = snapshot_load(tmp_path, snapshot_id="s2", products=products_with({"year": pa.array(["a"])}))
    broken = Model("broken", "SELECT error('boom') AS x FROM images", ("x",))
    with pytest.raises(LookbookError, match=r"boom[\s\S]*still stands"):
        warehouse.load_snapshot(later, [*MODELS, broken])
    assert content(warehouse) == before
    assert warehouse.differences(loaded, MODELS) == []


KILLED = """
import os, signal, sys
from pathlib import Path
from blocks import duckdb_staging
from blocks.duckdb_warehouse import DuckDBWarehouse
from tasks.tables.models import load_models
from tests.support.snapshots import snapshot_load

duckdb_staging.flip = lambda *_: os.kill(os.getpid(), signal.SIGKILL)
later = snapshot_load(Path(sys.argv[2]), snapshot_id="s2", brightness=0.1)
DuckDBWarehouse(path=Path(sys.argv[1])).load_snapshot(later, load_models())
"""


@pytest.mark.usefixtures("loaded")
def test_a_load_that_is_killed_leaves_the_former_snapshot(warehouse: DuckDBWarehouse, tmp_path: Path) -> None:
    before = content(warehouse)
    command = [sys.executable, "-c", KILLED, str(warehouse.path), str(tmp_path)]
    assert subprocess.run(command, check=False).returncode == -signal.SIGKILL
    assert content(warehouse) == before
    warehouse.load_snapshot(snapshot_load(tmp_path, snapshot_id="s2", brightness=0.1), MODELS)
    assert warehouse.current_snapshots() == {"fashion": "s2"}


def test_a_file_that_is_gone_is_named(warehouse: DuckDBWarehouse, tmp_path: Path) -> None:
    load = snapshot_load(tmp_path)
    Path(load.tables["outputs"]).unlink()
    with pytest.raises(LookbookError, match=re.escape(load.tables["outputs"])):
        warehouse.load_snapshot(load, MODELS)
    assert warehouse.current_snapshots() == {}


# Catalogues of other shapes


def test_other_columns_are_added_and_the_standing_ones_are_null(
    warehouse: DuckDBWarehouse, loaded: SnapshotLoad, tmp_path: Path
) -> None:
    other = products_with({"Price": pa.array([1.5, None]), 'a "quoted; name': pa.array(["x", "y"])})
    load = snapshot_load(tmp_path, "prices", products=other)
    warehouse.load_snapshot(load, MODELS)
    found = rows(
        warehouse,
        """SELECT dataset, "Price", "a ""quoted; name", "masterCategory" FROM warehouse.products
                               WHERE dataset = 'prices' ORDER BY line""",
    )
    assert found == [("prices", 1.5, "x", None), ("prices", None, "y", None)]
    assert rows(warehouse, "SELECT DISTINCT master_category FROM warehouse.dim_category WHERE dataset = 'prices'") == [
        ("Unknown",)
    ]
    assert warehouse.differences(loaded, MODELS) == warehouse.differences(load, MODELS) == []


def test_a_collection_without_a_catalogue_has_the_standing_columns(warehouse: DuckDBWarehouse, tmp_path: Path) -> None:
    load = snapshot_load(tmp_path, products=products_with({"x": pa.array([], pa.int64())}))
    warehouse.load_snapshot(load, MODELS)
    assert warehouse.query('SELECT id, "articleType" FROM warehouse.products').num_rows == 0
    assert rows(warehouse, "SELECT count(*) AS n FROM warehouse.agg_image_sizes") == [(2,)]


def test_a_snapshot_of_an_earlier_version_is_loaded_and_one_already_loaded_can_be_compared(
    warehouse: DuckDBWarehouse, tmp_path: Path
) -> None:
    load = snapshot_load(tmp_path)
    images = pq.read_table(load.tables["images"])
    added = [name for name in images.column_names if name.startswith(("is_", "near_")) or name.endswith("_score")]
    pq.write_table(images.drop_columns(added), load.tables["images"])
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
    assert rows(warehouse, "SELECT count(*) FROM warehouse.agg_image_issues") == [(0,)]


def test_a_column_that_is_text_elsewhere_becomes_text(warehouse: DuckDBWarehouse, tmp_path: Path) -> None:
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


def test_wider_types_hold_both() -> None:
    assert wider("INTEGER", "BIGINT") == "BIGINT"
    assert wider("BIGINT", "FLOAT") == "DOUBLE"
    assert wider("DATE", "DATE") == "DATE"
    assert wider("BOOLEAN", "BIGINT") == wider("DATE", "TIMESTAMP") == "VARCHAR"


def test_a_column_named_like_a_tag_gets_another_name(warehouse: DuckDBWarehouse, tmp_path: Path) -> None:
    columns = {"Dataset": pa.array(["train"]), "dataset_": pa.array(["x"]), "nothing": pa.nulls(1)}
    load = snapshot_load(tmp_path, products=products_with(columns))
    warehouse.load_snapshot(load, MODELS)
    found = rows(warehouse, 'SELECT dataset, "Dataset__", dataset_, nothing FROM warehouse.products')
    assert found == [("fashion", "train", "x", None)]
    assert warehouse.differences(load, MODELS) == []


@pytest.mark.parametrize("folder", ["it's", "a=b", "x[1]*?", "Größe ü"])
def test_files_may_lie_in_any_folder(warehouse: DuckDBWarehouse, tmp_path: Path, folder: str) -> None:
    load = snapshot_load(tmp_path / folder, dataset="o'clock")
    warehouse.load_snapshot(load, MODELS)
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
        "DELETE FROM staging.fact_product WHERE product_key = '5'",
        "warehouse.fact_product: row 5 is missing",
    ),
    (
        "UPDATE staging.agg_products_by_colour SET products = 9 WHERE base_colour = 'Blue'",
        "warehouse.agg_products_by_colour: row Blue differs",
    ),
    (
        "INSERT INTO staging.dim_season (dataset, snapshot_id, season) VALUES ('fashion', 's1', 'Monsoon')",
        "warehouse.dim_season: row Monsoon:null should not be there",
    ),
    ("ALTER TABLE staging.image_links DROP COLUMN link", "staging.image_links: column link is missing"),
    ("DROP TABLE staging.dim_usage", "warehouse.dim_usage: the table is missing"),
    ("DROP VIEW warehouse.outputs", "warehouse.outputs: the view is missing"),
]


@pytest.mark.parametrize(("statement", "line"), FAULTS)
def test_one_fault_is_one_line(warehouse: DuckDBWarehouse, loaded: SnapshotLoad, statement: str, line: str) -> None:
    change(warehouse, statement)
    assert warehouse.differences(loaded, MODELS) == [f"warehouse: {line}"]


def test_a_load_mends_every_fault(warehouse: DuckDBWarehouse, loaded: SnapshotLoad) -> None:
    change(warehouse, *(statement for statement, _ in FAULTS))
    found = warehouse.differences(loaded, MODELS)
    assert {f"warehouse: {line}" for _, line in FAULTS} <= set(found)
    warehouse.load_snapshot(loaded, MODELS)
    assert warehouse.differences(loaded, MODELS) == []


def test_a_row_that_stands_in_the_file_twice_is_wanted_twice(warehouse: DuckDBWarehouse, tmp_path: Path) -> None:
    load = snapshot_load(tmp_path)
    rejects = pq.read_table(load.tables["rejects"])
    pq.write_table(pa.concat_tables([rejects, rejects]), load.tables["rejects"])
    warehouse.load_snapshot(load, MODELS)
    assert warehouse.differences(load, MODELS) == []
    first = "SELECT min(rowid) FROM staging.rejects WHERE reject_id = 'r-1'"
    change(warehouse, f"DELETE FROM staging.rejects WHERE rowid = ({first})")
    assert warehouse.differences(load, MODELS) == ["warehouse: staging.rejects: row r-1 is missing"]


def test_the_rows_named_are_bounded(warehouse: DuckDBWarehouse, tmp_path: Path) -> None:
    load = snapshot_load(tmp_path, products=products_with({"x": pa.array(range(MOST_ROWS + 17))}))
    warehouse.load_snapshot(load, MODELS)
    change(warehouse, "DELETE FROM staging.products")
    lines = warehouse.differences(load, MODELS)
    assert len(lines) == MOST_ROWS + 1
    assert lines[-1] == "warehouse: staging.products: … and 17 more"


@pytest.mark.parametrize("statement", [None, "DELETE FROM staging.current_snapshot", "DROP SCHEMA staging CASCADE"])
def test_a_dataset_that_is_not_loaded_is_one_line(
    warehouse: DuckDBWarehouse, tmp_path: Path, statement: str | None
) -> None:
    load = snapshot_load(tmp_path)
    if statement:
        warehouse.load_snapshot(load, MODELS)
        change(warehouse, statement)
    assert warehouse.differences(load, MODELS) == ["warehouse: no snapshot of fashion is loaded"]
    assert warehouse.current_snapshots() == {}


# Queries


@pytest.mark.parametrize(
    ("sql", "message"),
    [
        ("DELETE FROM staging.images", "read-only"),
        ("CREATE TABLE t AS SELECT 1", "read-only"),
        ("SELECT 1 FROM nowhere", "nowhere does not exist"),
        ("SELECT FROM WHERE", "syntax error"),
        ("", "no rows"),
        ("SELECT * FROM read_text('{other}')", "disabled by configuration"),
        ("SELECT * FROM '{other}'", "disabled by configuration"),
        ("ATTACH '{other}'", "disabled by configuration"),
        ("COPY (SELECT 1) TO '{other}'", "disabled by configuration"),
        ("SET enable_external_access = true", "locked"),
        ("INSTALL httpfs", "disabled by configuration"),
        ("SELECT * FROM holdings", "does not exist"),
    ],
)
def test_a_query_only_reads_and_only_the_warehouse(
    house: tuple[DuckDBWarehouse, SnapshotLoad],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    sql: str,
    message: str,
) -> None:
    warehouse, _ = house
    monkeypatch.setattr(duckdb_warehouse, "holdings", pa.table({"secret": [1]}), raising=False)
    other = tmp_path / "other.csv"
    other.write_text("secret")
    before = warehouse.path.read_bytes()
    with pytest.raises(LookbookError, match=message):
        warehouse.query(sql.format(other=other))
    assert warehouse.path.read_bytes() == before
    assert other.read_text() == "secret"


def test_a_query_before_the_first_load_says_so(warehouse: DuckDBWarehouse) -> None:
    with pytest.raises(LookbookError, match=r"Nothing was loaded yet[\s\S]*lookbook ingest"):
        warehouse.query("SELECT 1")
    assert not warehouse.path.exists()


@pytest.mark.parametrize("name", ["warehouse.duckdb", "Staging.db", "main"])
def test_a_file_named_like_a_schema_is_refused(tmp_path: Path, name: str) -> None:
    with pytest.raises(ValueError, match=r"name it lookbook\.duckdb"):
        DuckDBWarehouse(path=tmp_path / name)


def test_a_file_that_is_no_warehouse_is_named(warehouse: DuckDBWarehouse) -> None:
    warehouse.path.parent.mkdir()
    warehouse.path.write_bytes(b"no database" * 1000)
    with pytest.raises(LookbookError, match="not a valid DuckDB database"):
        warehouse.query("SELECT 1")


# Several programs


@contextmanager
def held_by_another_process(path: Path) -> Iterator[int]:
    code = "import duckdb, sys; c = duckdb.connect(sys.argv[1]); print('open', flush=True); sys.stdin.read()"
    with subprocess.Popen(
        [sys.executable, "-c", code, str(path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as holder:
        assert holder.stdout is not None
        assert holder.stdout.readline() == "open\n"
        yield holder.pid


def test_who_holds_the_file_is_named(warehouse: DuckDBWarehouse, loaded: SnapshotLoad) -> None:
    with held_by_another_process(warehouse.path) as pid:
        message = rf"held by python.* \(process {pid}\); waited 0.3 s"
        with pytest.raises(LookbookError, match=message):
            warehouse.query("SELECT 1")
        with pytest.raises(LookbookError, match=message):
            warehouse.load_snapshot(loaded, MODELS)
    assert warehouse.current_snapshots() == {"fashion": "s1"}


def test_another_connection_of_this_process_is_waited_for(warehouse: DuckDBWarehouse, loaded: SnapshotLoad) -> None:
    with (
        duckdb.connect(str(warehouse.path)),
        pytest.raises(LookbookError, match="held by another connection of this program"),
    ):
        warehouse.query("SELECT 1")
    assert warehouse.differences(loaded, MODELS) == []


def test_threads_that_load_at_once_all_succeed(tmp_path: Path) -> None:
    warehouse = DuckDBWarehouse(path=tmp_path / "lookbook.duckdb")
    loads = [snapshot_load(tmp_path, f"set{n}") for n in range(3)]
    with ThreadPoolExecutor() as pool:
        list(pool.map(lambda load: warehouse.load_snapshot(load, MODELS), loads))
    assert list(warehouse.current_snapshots()) == ["set0", "set1", "set2"]


def test_a_folder_that_cannot_be_made_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    warehouse = DuckDBWarehouse(path=tmp_path / "file" / "lookbook.duckdb")
    with pytest.raises(LookbookError, match=re.escape(str(tmp_path / "file"))):
        warehouse.load_snapshot(snapshot_load(tmp_path), MODELS)


def test_importing_the_block_leaves_duckdb_alone() -> None:
    code = "import sys, blocks.duckdb_warehouse; print('duckdb' in sys.modules, 'pyarrow' in sys.modules)"
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert found.stdout.split() == ["False", "False"]
