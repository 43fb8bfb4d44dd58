"""The commands about tables as a user runs them."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from lookbook.blocks.lake import FolderLake
from lookbook.tasks.tables.lake.commit import LakeTables
from tests.support.command import lookbook, lookbook_json
from tests.support.lake_tables import lake_job
from tests.support.pipeline import photo, row, write_collection

pytestmark = pytest.mark.integration


@pytest.fixture(scope="module")
def home(shared_home: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A home with the dataset tabular, and the table trips in its lake."""
    folder = tmp_path_factory.mktemp("tables")
    source = write_collection(folder / "source", {f"{n}.jpg": photo(n) for n in (1, 2, 3)}, [row(1), row(2)])
    lookbook_json(shared_home, "ingest", str(source), "--dataset", "tabular")
    rows = [{"id": number, "day": f"2026-03-0{1 + number % 2}"} for number in range(10)]
    job = lake_job(folder, rows, {"id": "BIGINT", "day": "VARCHAR"}, partition_by="day")
    LakeTables(FolderLake(root=shared_home / "lake"), folder / "scratch").load(job)
    return shared_home


def test_tables_are_listed_and_described(home: Path) -> None:
    tables = {table["name"]: table for table in lookbook_json(home, "tables")}
    assert tables["lake.tabular.images"]["rows"] == 3
    assert (tables["lake.trips"]["rows"], tables["lake.trips"]["note"]) == (10, "not registered")
    assert "warehouse.fact_product" in lookbook(home, "tables").stdout
    described = lookbook_json(home, "describe", "trips")
    assert described["partitions"] == [{"day": "2026-03-01", "rows": 5}, {"day": "2026-03-02", "rows": 5}]
    printed = lookbook(home, "describe", "lake.tabular.products").stdout
    assert "productDisplayName" in printed
    assert "tabular: snapshot" in printed


@pytest.mark.full
def test_lake_and_warehouse_are_queried_in_one_statement(home: Path) -> None:
    sql = "SELECT count(*) AS n FROM lake.trips JOIN warehouse.products ON products.id = trips.id"
    sql += " WHERE dataset = 'tabular'"
    assert lookbook_json(home, "query", sql) == [{"n": 2}]
    assert lookbook(home, "query", sql, "--csv").stdout.split() == ['"n"', "2"]
    assert "bills nothing" in lookbook(home, "query", sql, "--dry-run").stdout


@pytest.mark.full
def test_what_is_not_there_is_said_so(home: Path) -> None:
    for arguments in (["describe", "lake.nothing"], ["query", "FROM lake.nothing"]):
        done = lookbook(home, *arguments, "--json")
        assert done.returncode == 1
        assert json.loads(done.stdout)["error"].startswith("lake.nothing: no such table")
        assert "lookbook tables" in done.stderr
