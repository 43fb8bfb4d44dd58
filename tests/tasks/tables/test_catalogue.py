"""The catalogue: what is registered, what is there, and what is said of each table."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import asyncpg
import duckdb
import pyarrow.parquet as pq
import pytest

from lookbook.blocks.duckdb.warehouse import DuckDBWarehouse
from lookbook.blocks.errors import LookbookError
from lookbook.blocks.gcs import GcsLake
from lookbook.blocks.lake import FolderLake
from lookbook.blocks.workspace import Workspace
from lookbook.tasks.datasets.follow import load
from lookbook.tasks.datasets.manifest import require_published
from lookbook.tasks.datasets.schemas import load_models
from lookbook.tasks.runs.catalogue import TableEntry, TableState, loaded_entry, register, registered, sql_name
from lookbook.tasks.tables.catalogue import describe, list_tables
from lookbook.tasks.tables.lake.commit import LakeTables
from lookbook.tasks.tables.lake.manifest import current_key
from lookbook.tasks.tables.query import query
from tests.support.bigquery_server import BigQueryServer
from tests.support.gcp_credentials import AnonymousGcpCredentials
from tests.support.gcs_server import serving_gcs
from tests.support.lake_tables import lake_job
from tests.support.pipeline import photo, request, row, run, write_collection
from tests.support.warehouses import PROJECT, bigquery_warehouse

NOW = datetime(2026, 3, 1, 12, tzinfo=UTC)
COLUMNS = {"zebra": "BIGINT", "day": "VARCHAR"}


@pytest.fixture(autouse=True)
def few_models(monkeypatch: pytest.MonkeyPatch) -> None:
    """So that tests are quick."""
    monkeypatch.setattr("lookbook.tasks.datasets.follow.load_models", lambda: load_models()[:2])


@pytest.fixture
def source(tmp_path: Path) -> Path:
    return write_collection(tmp_path / "source", {f"{n}.jpg": photo(n) for n in (1, 2, 3)}, [row(1), row(4)])


def load_trips(place: Workspace, folder: Path, table: str = "trips", **more: Any) -> TableState:
    tables = LakeTables(place.lake, place.scratch)
    rows = [{"zebra": n, "day": "ab"[n % 2]} for n in range(5)]
    tables.load(lake_job(folder / "jobs", rows, COLUMNS, table=table, partition_by="day", **more))
    state = tables.state(table)
    assert state is not None
    return state


def listed(place: Workspace) -> dict[str, dict[str, Any]]:
    return {table["name"]: table for table in list_tables(place)}


def change_feeds(place: Workspace, *statements: str) -> None:
    assert isinstance(place.warehouse, DuckDBWarehouse)
    with duckdb.connect(str(place.warehouse.path)) as connection:
        for statement in ("CREATE SCHEMA IF NOT EXISTS feeds", *statements):
            connection.execute(statement)


def test_an_entry_comes_back_as_it_was_registered_and_the_last_one_holds(workspace: Workspace) -> None:
    first = TableEntry("lake", "lake.trips", "feed", {"b": "DATE", "a": "BIGINT"}, fresh_at=NOW)
    full = replace(
        first,
        partitions=[{"day": "x", "rows": 3}],
        rows=3,
        bytes=10,
        run_id="r",
        load_id="l",
        inputs=["https://example.org/a.csv"],
    )
    other = TableEntry("warehouse", "feeds.trips", "model", {"nul\x00": "VARCHAR"}, fresh_at=NOW)
    register(workspace.registry, [first, other])
    register(workspace.registry, [full])
    assert registered(workspace.registry) == [replace(other, columns={"nul\ufffd": "VARCHAR"}), full]
    assert list(registered(workspace.registry)[1].columns) == ["b", "a"]


def test_names_are_quoted_where_sql_wants_it() -> None:
    assert sql_name("lake", "trips") == "lake.trips"
    assert sql_name("lake", "my-shoes", "images") == 'lake."my-shoes".images'
    assert sql_name("lake", "select", "2x", 'a"b') == 'lake."select"."2x"."a""b"'


@pytest.mark.full
def test_all_that_is_printed_can_be_queried_as_printed(workspace: Workspace, source: Path, tmp_path: Path) -> None:
    for dataset in ("my-shoes", "select", "main"):
        run(request(workspace, source, dataset=dataset))
    state = load_trips(workspace, tmp_path)
    register(workspace.registry, [loaded_entry("lake", "trips", state, fresh_at=NOW)])
    change_feeds(workspace, "CREATE TABLE feeds.zones AS SELECT 1 AS zone")
    tables = listed(workspace)
    assert len(tables) == 3 * 5 + 5 + 2 + 2
    for name, table in tables.items():
        assert query(workspace, f"SELECT count(*) AS n FROM {name}").to_pylist() == [{"n": table["rows"]}], name
        assert [c["name"] for c in describe(workspace, name)["columns"]] == query(
            workspace, f"FROM {name}"
        ).column_names


def test_the_tables_of_a_snapshot_are_registered_with_where_they_come_from(workspace: Workspace, source: Path) -> None:
    first = run(request(workspace, source, dataset="first"))
    run(request(workspace, source, dataset="second"))
    load(workspace, require_published(workspace.lake, "first").manifest)  # again: nothing is counted twice
    table = describe(workspace, "warehouse.products")
    assert (table["kind"], table["rows"], table["note"]) == ("dataset", 4, "")
    inputs = {one["dataset"]: one for one in table["lineage"]["inputs"]}
    assert {name: one["rows"] for name, one in inputs.items()} == {"first": 2, "second": 2}
    assert inputs["first"]["snapshot"] == first["snapshot"]
    assert inputs["first"]["source"] == str(source)
    of_lake = describe(workspace, "lake.first.images")
    path = workspace.lake.uri(*require_published(workspace.lake, "first").manifest.keys("images"))
    assert [column["name"] for column in of_lake["columns"]] == pq.read_schema(path).names
    assert of_lake["lineage"]["inputs"][0]["snapshot"] == first["snapshot"]
    assert of_lake["lineage"]["load_id"] == f"first-{first['snapshot']}"
    assert describe(workspace, "dim_category")["rows"] == 2


def test_the_run_that_published_a_snapshot_is_named(workspace: Workspace, source: Path) -> None:
    async def running(connection: asyncpg.Connection[asyncpg.Record]) -> None:
        await connection.execute(
            "INSERT INTO lookbook.runs (run_id, dataset, source, status, owner)"
            " VALUES ('r-1', 'things', 's', 'running', 'o'), ('r-2', 'others', 's', 'running', 'o')"
        )

    workspace.registry.run(running)
    run(request(workspace, source))
    assert describe(workspace, "lake.things.images")["lineage"]["run_id"] == "r-1"


def test_what_nobody_registered_is_not_hidden(workspace: Workspace, source: Path, tmp_path: Path) -> None:
    """As in a workspace of an earlier version, or where a run was killed between load and registration."""
    run(request(workspace, source))
    load_trips(workspace, tmp_path)
    change_feeds(workspace, "CREATE TABLE feeds.zones AS SELECT 1 AS zone", "CREATE TABLE feeds._own AS SELECT 1 AS x")

    async def older(connection: asyncpg.Connection[asyncpg.Record]) -> None:
        await connection.execute("TRUNCATE lookbook.tables")
        await connection.execute("CREATE SCHEMA IF NOT EXISTS feeds")
        await connection.execute("CREATE TABLE feeds.prices (sku text, price float8)")

    async def tidy(connection: asyncpg.Connection[asyncpg.Record]) -> None:
        await connection.execute("DROP TABLE feeds.prices")

    workspace.registry.run(older)
    try:
        tables = listed(workspace)
        prices = describe(workspace, "prices")
    finally:
        workspace.registry.run(tidy)
    assert {table["note"] for table in tables.values()} == {"not registered"}
    assert (tables["lake.trips"]["rows"], tables["lake.trips"]["partitions"]) == (5, 2)
    assert (tables["feeds.zones"]["rows"], tables["feeds.zones"]["kind"]) == (1, "feed")
    assert (tables["lake.things.products"]["rows"], tables["warehouse.products"]["rows"]) == (2, None)
    assert "feeds._own" not in tables
    assert describe(workspace, "warehouse.products")["rows"] == 2
    assert [column["name"] for column in describe(workspace, "lake.things.products")["columns"]][:2] == ["file", "line"]
    assert prices["name"] == "registry.prices"
    assert prices["columns"] == [{"name": "sku", "type": "text"}, {"name": "price", "type": "double precision"}]


def test_what_the_lake_holds_is_said_and_not_what_was_registered(workspace: Workspace, tmp_path: Path) -> None:
    state = load_trips(workspace, tmp_path)
    register(workspace.registry, [loaded_entry("lake", "trips", state, fresh_at=NOW, load_id="l1", run_id="r1")])
    load_trips(workspace, tmp_path, load_id="l2")  # and killed before it was registered
    table = describe(workspace, "trips")
    assert (table["rows"], table["lineage"]["run_id"], table["note"]) == (10, "r1", "")
    assert table["partitions"] == [{"day": "a", "rows": 6}, {"day": "b", "rows": 4}]
    assert [column["name"] for column in table["columns"]] == ["zebra", "day", "_load_id", "_loaded_at"]


def test_what_is_gone_or_damaged_is_said_so(workspace: Workspace, tmp_path: Path) -> None:
    state = load_trips(workspace, tmp_path)
    register(
        workspace.registry,
        [loaded_entry(place, "trips", state, fresh_at=NOW) for place in ("lake", "warehouse", "registry")],
    )
    change_feeds(workspace)
    assert {name: table["note"] for name, table in listed(workspace).items()} == {
        "lake.trips": "",
        "feeds.trips": "gone",
        "registry.trips": "gone",
    }
    assert describe(workspace, "feeds.trips")["rows"] == 5
    workspace.lake.replace(current_key("trips"), b"{}")
    load_trips(workspace, tmp_path, table="other")
    assert "cannot be read" in listed(workspace)["lake.trips"]["note"]
    assert listed(workspace)["lake.other"]["rows"] == 5


def test_a_warehouse_that_is_being_written_to_is_not_waited_for(
    workspace: Workspace, source: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("lookbook.tasks.tables.catalogue.MAX_WAIT", 0.1)
    run(request(workspace, source))
    assert isinstance(workspace.warehouse, DuckDBWarehouse)
    with duckdb.connect(str(workspace.warehouse.path)):
        table = listed(workspace)["warehouse.images"]
    assert (table["rows"], table["note"]) == (3, "")


def test_the_loads_of_a_table_are_told_newest_first(workspace: Workspace, tmp_path: Path) -> None:
    load_trips(workspace, tmp_path)

    async def note(connection: asyncpg.Connection[asyncpg.Record]) -> None:
        for number, place in enumerate(("lake", "warehouse", "lake")):
            await connection.execute(
                "INSERT INTO lookbook.feed_loads VALUES ($1, $2, 'trips', 'taxi', 'load', $3, 5, 1, $4::jsonb, $5)",
                f"l{number}",
                place,
                f"r{number}",
                json.dumps([f"inbox://{number}.csv"]),
                NOW.replace(minute=number),
            )

    workspace.registry.run(note)
    loads = describe(workspace, "lake.trips")["lineage"]["loads"]
    assert [(one["load_id"], one["run_id"], one["inputs"]) for one in loads] == [
        ("l2", "r2", ["inbox://2.csv"]),
        ("l0", "r0", ["inbox://0.csv"]),
    ]
    assert (loads[0]["rows"], loads[0]["rejected"]) == (5, 1)


def test_a_name_that_several_or_no_tables_have_is_said_so(workspace: Workspace, tmp_path: Path) -> None:
    load_trips(workspace, tmp_path)
    change_feeds(workspace, "CREATE TABLE feeds.trips AS SELECT 1 AS x")
    with pytest.raises(LookbookError, match=r"2 tables have this name[\s\S]*feeds\.trips, lake\.trips"):
        describe(workspace, "trips")
    for name in ("nothing", "", "x; DROP TABLE y", "'", "lake.trips, feeds.trips"):
        with pytest.raises(LookbookError, match="no such table"):
            describe(workspace, name)
    assert describe(workspace, "LAKE.Trips")["name"] == "lake.trips"


# In the cloud

DATASETS = {"warehouse_dataset": "readers", "feeds_dataset": "loaded"}


@pytest.fixture
def cloud(workspace: Workspace) -> Iterator[Workspace]:
    server = BigQueryServer(PROJECT)
    with serving_gcs("bucket") as gcs:
        lake = GcsLake(bucket="bucket", prefix="lake", credentials=AnonymousGcpCredentials(endpoint=gcs.url))
        server.run("CREATE SCHEMA loaded")
        server.run("CREATE TABLE loaded.zones AS SELECT 1 AS zone")
        yield replace(workspace, lake=lake, warehouse=bigquery_warehouse(server, **DATASETS))
    server.close()


def test_bucket_and_bigquery_are_listed_alike(cloud: Workspace, source: Path, tmp_path: Path) -> None:
    from_folder = replace(cloud, lake=FolderLake(root=tmp_path / "lake"))  # the stand-in takes uploads
    run(request(from_folder, source))
    load_trips(from_folder, tmp_path)
    zones = loaded_entry("warehouse", "zones", TableState({"zone": "BIGINT"}, 1), fresh_at=NOW)
    register(from_folder.registry, [zones])
    tables = listed(from_folder)
    assert (tables["loaded.zones"]["rows"], tables["loaded.zones"]["note"]) == (1, "")
    assert {name for name in tables if name.startswith("readers.")} >= {"readers.images", "readers.dim_category"}
    assert (tables["readers.images"]["rows"], tables["readers.images"]["note"]) == (3, "")
    load_trips(cloud, tmp_path)
    assert listed(cloud)["lake.trips"]["rows"] == 5
    assert "lake.things.images" not in listed(cloud), "what another lake holds is no table of this one"
