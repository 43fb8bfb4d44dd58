"""What is DuckDB's own; what all warehouses do alike is in test_warehouse.py."""

from __future__ import annotations

import re
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import duckdb
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from lookbook.blocks.duckdb import warehouse as duckdb_warehouse
from lookbook.blocks.duckdb.staging import wider
from lookbook.blocks.duckdb.warehouse import DuckDBWarehouse
from lookbook.blocks.errors import LookbookError
from lookbook.blocks.warehouse import QueryCost, SnapshotLoad
from lookbook.tasks.datasets.schemas import load_models
from tests.support.snapshots import snapshot_load

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


KILLED = """
import os, signal, sys
from pathlib import Path
from lookbook.blocks.duckdb import staging
from lookbook.blocks.duckdb.warehouse import DuckDBWarehouse
from lookbook.tasks.datasets.schemas import load_models
from tests.support.snapshots import snapshot_load

staging.flip = lambda *_: os.kill(os.getpid(), signal.SIGKILL)
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


def test_wider_types_hold_both() -> None:
    assert wider("INTEGER", "BIGINT") == "BIGINT"
    assert wider("BIGINT", "FLOAT") == "DOUBLE"
    assert wider("DATE", "DATE") == "DATE"
    assert wider("BOOLEAN", "BIGINT") == wider("DATE", "TIMESTAMP") == "VARCHAR"


def test_a_row_that_stands_in_the_file_twice_is_wanted_twice(warehouse: DuckDBWarehouse, tmp_path: Path) -> None:
    load = snapshot_load(tmp_path)
    rejects = pq.read_table(load.tables["rejects"])
    pq.write_table(pa.concat_tables([rejects, rejects]), load.tables["rejects"][0])
    warehouse.load_snapshot(load, MODELS)
    assert warehouse.differences(load, MODELS) == []
    first = "SELECT min(rowid) FROM staging.rejects WHERE reject_id = 'r-1'"
    change(warehouse, f"DELETE FROM staging.rejects WHERE rowid = ({first})")
    assert warehouse.differences(load, MODELS) == ["warehouse: staging.rejects: row r-1 is missing"]


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


def test_a_dry_run_costs_nothing_and_checks_names(house: tuple[DuckDBWarehouse, SnapshotLoad]) -> None:
    assert house[0].dry_run("SELECT key FROM warehouse.images") == QueryCost(None)
    with pytest.raises(LookbookError, match="colour_of_hope"):
        house[0].dry_run("SELECT colour_of_hope FROM warehouse.images")


def test_a_query_before_the_first_load_makes_no_file(warehouse: DuckDBWarehouse) -> None:
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


def test_a_folder_that_cannot_be_made_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    warehouse = DuckDBWarehouse(path=tmp_path / "file" / "lookbook.duckdb")
    with pytest.raises(LookbookError, match=re.escape(str(tmp_path / "file"))):
        warehouse.load_snapshot(snapshot_load(tmp_path), MODELS)


def test_importing_the_block_leaves_duckdb_alone() -> None:
    code = "import sys, lookbook.blocks.duckdb.warehouse; print('duckdb' in sys.modules, 'pyarrow' in sys.modules)"
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert found.stdout.split() == ["False", "False"]


def test_a_compacted_file_has_no_byte_of_removed_rows_and_all_else(warehouse: DuckDBWarehouse, tmp_path: Path) -> None:
    rows = "SELECT sha256(i::VARCHAR) || '-gone-' || i AS name FROM range(50_000) AS t (i)"
    made = ("CREATE SCHEMA staging", f"CREATE TABLE staging.people AS {rows}")
    warehouse.path.parent.mkdir(parents=True, exist_ok=True)
    change(warehouse, "SET force_compression = 'uncompressed'", *made)
    load = snapshot_load(tmp_path)
    warehouse.load_snapshot(load, MODELS)
    change(warehouse, "DELETE FROM staging.people")
    change(warehouse, "INSERT INTO staging.people VALUES ('somebody')")
    assert b"-gone-" in warehouse.path.read_bytes()
    warehouse.compact()
    assert b"-gone-" not in warehouse.path.read_bytes()
    assert sorted(path.name for path in warehouse.path.parent.glob(f"{warehouse.path.name}*")) == [warehouse.path.name]
    assert warehouse.differences(load, MODELS) == []
    assert warehouse.tables_holding(["somebody", "nobody"]) == ["staging.people.name"]
    assert warehouse.query("SELECT count(*) AS n FROM warehouse.images")["n"].to_pylist() == [7]
