"""Queries over lake and warehouse alike: what they give, what they reach, and what they refuse."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import duckdb
import pytest

from lookbook.blocks.bigquery.warehouse import BigQueryWarehouse
from lookbook.blocks.duckdb.warehouse import DuckDBWarehouse
from lookbook.blocks.errors import LookbookError
from lookbook.blocks.gcs import GcsLake
from lookbook.blocks.lake import FolderLake
from lookbook.blocks.warehouse import QueryCost
from lookbook.blocks.workspace import Workspace, local_workspace
from lookbook.tasks.tables import query as querying
from lookbook.tasks.tables.lake.commit import LakeTables
from lookbook.tasks.tables.lake.manifest import read_table
from lookbook.tasks.tables.query import dry_run, query, tables_named
from tests.support.bigquery_server import BigQueryServer
from tests.support.gcp_credentials import AnonymousGcpCredentials
from tests.support.gcs_server import serving_gcs
from tests.support.lake_tables import lake_job
from tests.support.pipeline import photo, request, row, run, write_collection
from tests.support.warehouses import PROJECT, bigquery_warehouse

COLUMNS = {"id": "BIGINT", "zone": "BIGINT", "day": "VARCHAR"}
ROWS = [{"id": n, "zone": n % 3, "day": "ab"[n % 2]} for n in range(10)]


@pytest.fixture
def place(tmp_path: Path) -> Workspace:
    """A workspace with a table in the lake and one in the warehouse; no registry is asked."""
    place = local_workspace(tmp_path / "home")
    fill_lake(place, tmp_path)
    fill_warehouse(place)
    return place


def fill_lake(place: Workspace, folder: Path, rows: list[dict[str, Any]] = ROWS, **settings: Any) -> None:
    job = lake_job(folder / "jobs", rows, COLUMNS, partition_by="day", **settings)
    LakeTables(place.lake, place.scratch).load(job)


def fill_warehouse(place: Workspace) -> None:
    assert isinstance(place.warehouse, DuckDBWarehouse)
    with duckdb.connect(str(place.warehouse.path)) as connection:
        connection.execute("CREATE SCHEMA feeds")
        connection.execute("CREATE TABLE feeds.zones AS SELECT * FROM (VALUES (0, 'old'), (1, 'new')) AS z(zone, name)")


def test_one_statement_joins_lake_and_warehouse(place: Workspace) -> None:
    sql = "SELECT name, count(*) AS n FROM LAKE.Trips JOIN feeds.zones USING (zone) GROUP BY 1 ORDER BY 1"
    assert query(place, sql).to_pylist() == [{"name": "new", "n": 3}, {"name": "old", "n": 4}]
    assert dry_run(place, sql) == QueryCost(None)
    assert query(place, "SELECT count(*) AS n FROM feeds.zones").to_pylist() == [{"n": 2}]
    assert query(place, "SELECT 1 AS lake").to_pylist() == [{"lake": 1}]


@pytest.mark.parametrize(
    "sql",
    [
        'SELECT count(*) AS n FROM lake."trips"',
        "SELECT count(*) AS n FROM lake.main.trips",
        "WITH trips AS (SELECT * FROM lake.trips) SELECT count(*) AS n FROM trips",
        "SELECT (SELECT count(*) FROM lake.trips) AS n",
        "FROM (FROM lake.trips) SELECT count(*) AS n",
        "SELECT count(*) AS n FROM query_table('lake.trips')",
        "SELECT sum(a + b) AS n FROM (PIVOT lake.trips ON day IN ('a', 'b') USING count(*))",
    ],
)
def test_lake_tables_are_found_wherever_they_are_named_and_need_no_warehouse(tmp_path: Path, sql: str) -> None:
    place = local_workspace(tmp_path / "home")
    fill_lake(place, tmp_path)
    assert query(place, sql).to_pylist() == [{"n": 10}]
    assert not (tmp_path / "home" / "lookbook.duckdb").exists()
    with pytest.raises(LookbookError, match="Nothing was loaded yet"):
        query(place, "SELECT * FROM lake.trips, feeds.zones")


def test_descriptions_and_plans_are_answered_too(place: Workspace) -> None:
    described = {row["column_name"]: row["column_type"] for row in query(place, "DESCRIBE lake.trips").to_pylist()}
    assert described == COLUMNS | {"_load_id": "VARCHAR", "_loaded_at": "TIMESTAMP WITH TIME ZONE"}
    assert query(place, "EXPLAIN SELECT * FROM lake.trips").num_rows == 1
    assert query(place, "SUMMARIZE lake.trips").num_rows == len(described)
    pivoted = query(place, "PIVOT (SELECT day FROM lake.trips) ON day USING count(*)").to_pylist()
    assert pivoted == [{"a": 5, "b": 5}]


@pytest.mark.parametrize(
    ("sql", "message"),
    [
        ("SELECT * FROM lake.nothing", r"lake\.nothing: no such table in the lake"),
        ("SELECT * FROM lake.nobody.products", r"there is no dataset nobody"),
        ('SELECT * FROM lake."../../etc"', "no such table in the lake"),
        ('SELECT * FROM lake."../x".products', "there is no dataset"),
        ("SELECT colour FROM lake.trips", "colour"),
        ("SELECT FROM WHERE lake.trips", "syntax error"),
        ("SELECT * FROM lake.trips, nowhere", "nowhere does not exist"),
        ("SELECT * FROM registry.prices", "registry's PostgreSQL"),
        ("INSERT INTO lake.trips SELECT * FROM lake.trips", "only reads"),
        ("DELETE FROM lake.trips", "only reads"),
        ("CREATE TABLE lake.x AS SELECT * FROM lake.trips", "only reads"),
        ("CREATE TABLE feeds.x AS SELECT * FROM lake.trips", "only reads"),
        ("WITH a AS (INSERT INTO feeds.zones SELECT 7, day FROM lake.trips RETURNING *) FROM a", "read-only"),
        ("SELECT 1; DROP TABLE lake.trips", "only reads"),
        ("SELECT * FROM lake.trips, read_text('{other}')", "disabled by configuration"),
        ("SELECT * FROM lake.trips, '{other}'", "does not exist|disabled by configuration"),
        ("SELECT * FROM lake.trips; ATTACH '{other}'", "only reads"),
        ("SELECT * FROM lake.trips; SET enable_external_access = true", "only reads"),
    ],
)
def test_a_query_only_reads_and_only_what_it_names(place: Workspace, tmp_path: Path, sql: str, message: str) -> None:
    other = tmp_path / "other.csv"
    other.write_text("secret")
    with pytest.raises(LookbookError, match=message):
        query(place, sql.format(other=other))
    assert query(place, "SELECT count(*) AS n FROM lake.trips").to_pylist() == [{"n": 10}]
    assert list(place.scratch.glob("query-*")) == []


@pytest.mark.parametrize(
    "sql",
    [
        "COPY (SELECT * FROM lake.trips) TO '{file}' (USE_TMP_FILE false)",
        "WITH a AS MATERIALIZED (COPY (FROM lake.trips) TO '{file}' (FORMAT csv, USE_TMP_FILE false)) SELECT 1",
        "EXPLAIN ANALYZE COPY (SELECT * FROM lake.trips) TO '{file}' (USE_TMP_FILE false)",
        "WITH a AS MATERIALIZED (/* x */ CoPy (FROM lake.trips) TO '{file}' (USE_TMP_FILE false)) SELECT 'é', 1",
    ],
)
def test_no_statement_writes_over_a_file_that_it_may_read(place: Workspace, sql: str) -> None:
    (key, *_) = read_table(place.lake, "trips")
    before = place.lake.get(key)
    with pytest.raises(LookbookError, match="only reads"):
        query(place, sql.format(file=place.lake.uri(key)))
    assert place.lake.get(key) == before
    assert query(place, "SELECT 'copy' AS \"copy\" FROM lake.trips -- copy\n LIMIT 1").to_pylist() == [{"copy": "copy"}]


def test_other_files_of_the_lake_are_out_of_reach(place: Workspace, tmp_path: Path) -> None:
    fill_lake(place, tmp_path, table="secrets")
    (key, *_) = read_table(place.lake, "secrets")
    with pytest.raises(LookbookError, match=r"disabled by configuration|does not exist"):
        query(place, f"SELECT * FROM lake.trips, read_parquet('{place.lake.uri(key)}')")


def test_the_warehouse_file_is_waited_for_with_a_bound_and_lake_tables_need_no_wait(place: Workspace) -> None:
    assert isinstance(place.warehouse, DuckDBWarehouse)
    hurried = replace(place, warehouse=place.warehouse.model_copy(update={"lock_timeout_seconds": 0.2}))
    with duckdb.connect(str(place.warehouse.path)):
        with pytest.raises(LookbookError, match=r"held by another connection of this program; waited 0\.2 s"):
            query(hurried, "SELECT * FROM lake.trips, feeds.zones")
        assert query(hurried, "FROM lake.trips").num_rows == 10
    assert query(hurried, "FROM lake.trips, feeds.zones").num_rows == 20


def test_queries_at_once_do_not_disturb_each_other(place: Workspace) -> None:
    found: list[int] = []

    def ask() -> None:
        found.append(query(place, "FROM lake.trips, feeds.zones").num_rows)
        found.append(query(place, "FROM feeds.zones").num_rows)

    threads = [threading.Thread(target=ask) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(found) == [2] * 4 + [20] * 4


def test_files_that_loads_take_away_are_looked_up_anew(
    place: Workspace, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    look, loads = querying.lake_views, iter(range(2))

    def late(*arguments: Any) -> Any:
        views = look(*arguments)
        if (number := next(loads, None)) is not None:
            for again in range(2):
                fill_lake(place, tmp_path, ROWS[:4], load_id=f"l{number}{again}", write_disposition="replace")
        return views

    monkeypatch.setattr("lookbook.tasks.tables.query.lake_views", late)
    assert query(place, "FROM lake.trips").num_rows == 4


def test_a_file_that_is_lost_is_said_so(place: Workspace) -> None:
    assert isinstance(place.lake, FolderLake)
    place.lake.remove(read_table(place.lake, "trips")[0])
    with pytest.raises(LookbookError, match="not in the lake"):
        query(place, "FROM lake.trips")


def test_tables_of_snapshots_in_the_lake_are_asked_by_their_dataset(workspace: Workspace, tmp_path: Path) -> None:
    source = write_collection(tmp_path / "source", {f"{n}.jpg": photo(n) for n in (1, 2, 3)}, [row(1), row(4)])
    run(request(workspace, source, dataset="my-shoes"))
    sql = 'SELECT p.outcome, w.outcome AS same FROM lake."my-shoes".products p JOIN warehouse.products w USING (line)'
    assert {(one["outcome"], one["same"]) for one in query(workspace, sql).to_pylist()} == {
        ("matched", "matched"),
        ("missing_image", "missing_image"),
    }
    with pytest.raises(LookbookError, match=r"has no such table[\s\S]*images, outputs, products"):
        query(workspace, 'FROM lake."my-shoes".report')


def test_what_lies_in_a_bucket_is_copied_and_joined(place: Workspace, tmp_path: Path) -> None:
    with serving_gcs("bucket") as server:
        lake = GcsLake(bucket="bucket", prefix="lake", credentials=AnonymousGcpCredentials(endpoint=server.url))
        far = replace(place, lake=lake, scratch=tmp_path / "new" / "scratch")
        fill_lake(far, tmp_path)
        assert query(far, "FROM lake.trips JOIN feeds.zones USING (zone)").num_rows == 7
        assert list(far.scratch.iterdir()) == []


def test_the_folder_for_scratch_is_named_where_it_cannot_be_used(place: Workspace, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(LookbookError, match=r"scratch, .*file.* cannot be used"):
        query(replace(place, scratch=tmp_path / "file" / "scratch"), "FROM lake.trips")


# BigQuery


@pytest.fixture
def bigquery() -> Iterator[BigQueryWarehouse]:
    server = BigQueryServer(PROJECT)
    server.run("CREATE SCHEMA feeds")
    server.run("CREATE TABLE feeds.zones AS SELECT 1 AS zone, 'new' AS name")
    yield bigquery_warehouse(server)
    server.close()


def test_with_bigquery_each_side_is_asked_by_itself(place: Workspace, bigquery: BigQueryWarehouse) -> None:
    place = replace(place, warehouse=bigquery)
    assert query(place, "SELECT name FROM feeds.zones").to_pylist() == [{"name": "new"}]
    assert query(place, "SELECT name AS lake FROM `feeds.zones`").to_pylist() == [{"lake": "new"}]
    assert query(place, "SELECT count(*) AS n FROM lake.trips").to_pylist() == [{"n": 10}]
    assert dry_run(place, "SELECT count(*) AS n FROM lake.trips") == QueryCost(None)
    for mixed in (
        "SELECT * FROM lake.trips JOIN feeds.zones USING (zone)",
        "SELECT * FROM `lake.trips`, `feeds.zones`",
    ):
        with pytest.raises(LookbookError, match=r"lake\.trips and feeds\.zones: BigQuery does not see"):
            query(place, mixed)


def test_names_are_found_by_duckdbs_own_parser_and_by_sqlglot_beyond() -> None:
    assert tables_named('FROM lake."a ""b".c, x') == {("lake", 'a "b', "c"), ("x",)}
    assert tables_named("SELECT 1; SELECT * FROM lake.b") == {("lake", "b")}
    assert tables_named("SELECT * FROM `p.d.t`", "bigquery") == {("p", "d", "t")}
    assert tables_named("SELECT FROM WHERE") == set()
    assert tables_named("") == set()
