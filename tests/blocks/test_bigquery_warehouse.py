"""What is BigQuery's own; what all warehouses do alike is in test_warehouse.py."""

from __future__ import annotations

import re
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from itertools import chain
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from google.cloud.bigquery._http import Connection
from pydantic import ValidationError

from lookbook.blocks.bigquery import snapshots, sql
from lookbook.blocks.bigquery.warehouse import BigQueryWarehouse
from lookbook.blocks.errors import LookbookError, OutOfReachError
from lookbook.blocks.warehouse import STAGING_KEYS, SnapshotLoad
from lookbook.tasks.datasets.schemas import load_models
from tests.support.bigquery_catalog import Catalog, Refused
from tests.support.bigquery_server import BigQueryServer
from tests.support.loopback import Fault
from tests.support.sets import sampled
from tests.support.snapshots import products_with, snapshot_load
from tests.support.warehouses import PROJECT, bigquery_warehouse

#: Few, so that tests are quick; the contract suite has them all.
MODELS = load_models()[:2]


class Bucket:
    """Files of this machine as objects: ``gs://bucket/<path>``."""

    def __init__(self) -> None:
        self.asked: list[str] = []

    def __call__(self, uri: str) -> dict[str, bytes]:
        self.asked.append(uri)
        folder, _, pattern = uri.removeprefix("gs://bucket").rpartition("/")
        return {str(path): path.read_bytes() for path in sorted(Path(folder).glob(pattern))}


@pytest.fixture
def server() -> Iterator[BigQueryServer]:
    server = BigQueryServer(PROJECT)
    yield server
    server.close()


@pytest.fixture(scope="module")
def catalog(tmp_path_factory: pytest.TempPathFactory) -> Catalog:
    """What stands there after a load of s1."""
    server = BigQueryServer(PROJECT)
    bigquery_warehouse(server).load_snapshot(snapshot_load(tmp_path_factory.mktemp("s1")), MODELS)
    server.close()
    return server.catalog


@pytest.fixture
def loaded(catalog: Catalog) -> Iterator[BigQueryServer]:
    """A server at snapshot s1 of fashion."""
    server = BigQueryServer(PROJECT, catalog=catalog.clone())
    yield server
    server.close()


def one(warehouse: BigQueryWarehouse, statement: str) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = warehouse.query(statement).to_pylist()
    return found


# Tables


def test_tables_are_partitioned_clustered_and_labelled(loaded: BigQueryServer) -> None:
    images = loaded.catalog.tables["staging", "images"].properties
    assert images["timePartitioning"] == {"type": "DAY", "field": "_loaded_at"}
    assert images["clustering"] == {"fields": ["dataset", "_version", "key"]}
    assert images["labels"] == {"tool": "lookbook"}
    assert loaded.catalog.datasets["staging"]["location"] == "EU"
    assert loaded.catalog.datasets["warehouse"]["labels"] == {"tool": "lookbook"}


def test_a_table_whose_column_is_widened_keeps_its_layout(loaded: BigQueryServer, tmp_path: Path) -> None:
    before = loaded.catalog.tables["staging", "products"].properties
    texts = snapshot_load(tmp_path, "texts", products=products_with({"id": ["a", "b"]}))
    bigquery_warehouse(loaded).load_snapshot(texts, MODELS)
    after = loaded.catalog.tables["staging", "products"].properties
    for name in ("timePartitioning", "clustering", "labels"):
        assert after[name] == before[name], name


def test_a_table_is_rewritten_by_a_job_that_is_found_again(loaded: BigQueryServer, tmp_path: Path) -> None:
    """Killed behind it, the same load finds it; were its work undone, the load begins anew and does it once more."""
    texts = snapshot_load(tmp_path, "texts", products=products_with({"id": ["a", "b"]}))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("lookbook.blocks.bigquery.sql.insertion", lambda *_: "SELECT ERROR('insert')")
        with pytest.raises(LookbookError, match="insert"):
            bigquery_warehouse(loaded).load_snapshot(texts, MODELS)
    assert [name for name in loaded.jobs.by_id if re.fullmatch(r"lookbook-[0-9a-f]{16}-rewrite-products-0", name)]
    again = "CREATE OR REPLACE TABLE staging.products PARTITION BY TIMESTAMP_TRUNC(_loaded_at, DAY) AS SELECT"
    loaded.run(f"{again} * REPLACE (1 AS id) FROM staging.products")
    bigquery_warehouse(loaded).load_snapshot(texts, MODELS)
    assert bigquery_warehouse(loaded).differences(texts, MODELS) == []
    assert len([name for name in loaded.jobs.by_id if "-rewrite-products-" in name]) == 2


def test_jobs_carry_the_labels_and_the_limit(server: BigQueryServer, tmp_path: Path) -> None:
    warehouse = bigquery_warehouse(server, labels={"team": "shoes"}, maximum_bytes_billed=1 << 40)
    warehouse.load_snapshot(snapshot_load(tmp_path), MODELS)
    for job in server.jobs.by_id.values():
        configuration = job.resource["configuration"]
        assert configuration["labels"] == {"team": "shoes"}
        assert configuration.get("query", {"maximumBytesBilled": str(1 << 40)})["maximumBytesBilled"] == str(1 << 40)


def test_nothing_is_left_of_a_load(loaded: BigQueryServer) -> None:
    tables = {name for dataset, name in loaded.catalog.tables if dataset == "staging"}
    assert tables == {*STAGING_KEYS, "dim_category", "dim_colour", "current_snapshot"}


@pytest.mark.parametrize("label", [{"Team": "x"}, {"team": "Shoes"}, {"": "x"}, {"team": "x" * 64}])
def test_labels_that_bigquery_refuses_are_refused_at_once(server: BigQueryServer, label: dict[str, str]) -> None:
    with pytest.raises(ValidationError, match="lower-case"):
        bigquery_warehouse(server, labels=label)


def test_other_datasets_and_places(tmp_path: Path) -> None:
    server = BigQueryServer(PROJECT, location="europe-west3")
    names = {"staging_dataset": "lake_staging", "warehouse_dataset": "lake_views", "location": "europe-west3"}
    warehouse = bigquery_warehouse(server, **names)
    load = snapshot_load(tmp_path)
    warehouse.load_snapshot(load, MODELS)
    assert one(warehouse, "SELECT count(*) AS n FROM lake_views.images") == [{"n": 7}]
    assert warehouse.differences(load, MODELS) == []
    with pytest.raises(LookbookError, match="location US"):
        bigquery_warehouse(server, **names | {"location": "US"}).load_snapshot(load, MODELS)
    server.close()


# Files


def test_files_of_a_bucket_are_loaded_where_they_lie(tmp_path: Path) -> None:
    bucket = Bucket()
    server = BigQueryServer(PROJECT, fetch=bucket)
    local = snapshot_load(tmp_path)
    addresses = {name: [f"gs://bucket{path}" for path in files] for name, files in local.tables.items()}
    load = SnapshotLoad("fashion", "s1", "load-1", addresses)
    bigquery_warehouse(server).load_snapshot(load, MODELS)
    assert sorted(bucket.asked) == sorted(chain(*load.tables.values()))
    assert server.calls["jobs.upload"] == 0
    assert bigquery_warehouse(server).differences(local, MODELS) == []
    server.close()


def test_a_wildcard_names_all_parts_of_a_table(tmp_path: Path) -> None:
    server = BigQueryServer(PROJECT, fetch=Bucket())
    local = snapshot_load(tmp_path)
    images = pq.read_table(local.tables["images"])
    for n in range(len(images)):
        pq.write_table(images.slice(n, 1), tmp_path / f"part-{n}.parquet")
    load = SnapshotLoad("fashion", "s1", "l", local.tables | {"images": [f"gs://bucket{tmp_path}/part-*.parquet"]})
    bigquery_warehouse(server).load_snapshot(load, MODELS)
    assert bigquery_warehouse(server).differences(local, MODELS) == []
    server.close()


def test_an_object_that_is_gone_is_named(server: BigQueryServer, tmp_path: Path) -> None:
    local = snapshot_load(tmp_path)
    load = SnapshotLoad("fashion", "s1", "l", local.tables | {"images": ["gs://bucket/gone.parquet"]})
    with pytest.raises(LookbookError, match=r"gs://bucket/gone\.parquet"):
        bigquery_warehouse(server).load_snapshot(load, MODELS)


def test_a_large_file_is_uploaded_in_parts(
    server: BigQueryServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("google.cloud.bigquery.client._MAX_MULTIPART_SIZE", 1)
    load = snapshot_load(tmp_path)
    bigquery_warehouse(server).load_snapshot(load, MODELS)
    assert server.calls["jobs.uploadChunk"] == sum(map(len, load.tables.values()))
    assert bigquery_warehouse(server).differences(load, MODELS) == []


def test_names_that_bigquery_has_no_words_for_get_underscores(server: BigQueryServer, tmp_path: Path) -> None:
    load = snapshot_load(tmp_path, products=products_with({'size (cm); "wide"': pa.array([1.5]), "größe": ["x"]}))
    warehouse = bigquery_warehouse(server)
    warehouse.load_snapshot(load, MODELS)
    (row,) = one(warehouse, "SELECT * FROM warehouse.products")
    assert (row["size _cm__ _wide_"], row["größe"]) == (1.5, "x")
    assert warehouse.differences(load, MODELS) == []


# Whole or not at all


class Killed(BaseException):
    """The process dies here."""


@pytest.mark.parametrize("after", sampled([3, 12, 22, 30, 38, 46], fast=[12, 38]))
def test_killed_anywhere_readers_see_the_former_or_the_new_one_and_the_next_run_finishes(
    loaded: BigQueryServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, after: int
) -> None:
    later = snapshot_load(tmp_path, snapshot_id="s2", load_id="load-2", brightness=0.1)
    warehouse, asked, counted = bigquery_warehouse(loaded), [], threading.Lock()
    plain = Connection.api_request

    def dying(self: Any, **given: Any) -> Any:
        with counted:
            asked.append(given["path"])
            if len(asked) > after:
                raise Killed
        return plain(self, **given)  # type: ignore[no-untyped-call]

    monkeypatch.setattr(Connection, "api_request", dying)
    with pytest.raises(Killed):
        warehouse.load_snapshot(later, MODELS)
    monkeypatch.setattr(Connection, "api_request", plain)
    (shown,) = one(warehouse, "SELECT snapshot_id, count(*) AS n FROM warehouse.images GROUP BY snapshot_id")
    assert shown == {"snapshot_id": warehouse.current_snapshots()["fashion"], "n": 7}
    warehouse.load_snapshot(later, MODELS)
    assert warehouse.current_snapshots() == {"fashion": "s2"}
    assert warehouse.differences(later, MODELS) == []
    assert one(warehouse, "SELECT count(*) AS n FROM staging.images") == [{"n": 7}]


KILLED = """
import os, signal, sys
from pathlib import Path
from lookbook.blocks.bigquery import sql
from lookbook.tasks.datasets.schemas import load_models
from tests.support.snapshots import snapshot_load
from tests.support.warehouses import PROJECT
from tests.support.gcp_credentials import AnonymousGcpCredentials
from lookbook.blocks.bigquery.warehouse import BigQueryWarehouse

sql.flipping = lambda *_: os.kill(os.getpid(), signal.SIGKILL)
warehouse = BigQueryWarehouse(project=PROJECT, credentials=AnonymousGcpCredentials(endpoint=sys.argv[1]))
later = snapshot_load(Path(sys.argv[2]), snapshot_id="s2", brightness=0.1)
warehouse.load_snapshot(later, load_models()[:2])
"""


@pytest.mark.full
def test_a_run_that_was_killed_finds_its_own_jobs(loaded: BigQueryServer, tmp_path: Path) -> None:
    """Everything but the flip is done already: the next run loads and inserts nothing once more."""
    command = [sys.executable, "-c", KILLED, loaded.url, str(tmp_path)]
    assert subprocess.run(command, check=False).returncode == -signal.SIGKILL
    assert bigquery_warehouse(loaded).current_snapshots() == {"fashion": "s1"}
    before = set(loaded.jobs.by_id)
    later = snapshot_load(tmp_path, snapshot_id="s2", brightness=0.1)
    bigquery_warehouse(loaded).load_snapshot(later, MODELS)
    added = set(loaded.jobs.by_id) - before
    assert not [name for name in added if "-load-" in name or "-insert-" in name]
    assert len([name for name in added if "-flip-" in name]) == 1
    assert bigquery_warehouse(loaded).differences(later, MODELS) == []


def test_what_an_earlier_run_made_and_others_removed_is_made_again(loaded: BigQueryServer, tmp_path: Path) -> None:
    later = snapshot_load(tmp_path, snapshot_id="s2", brightness=0.1)
    warehouse = bigquery_warehouse(loaded)
    loaded.inject(Fault("tabledata.list", status=403, count=None))
    with pytest.raises(LookbookError):
        warehouse.load_snapshot(later, MODELS)
    loaded.faults.clear()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("lookbook.blocks.bigquery.sql.flipping", lambda *_: "SELECT ERROR('flip')")
        with pytest.raises(LookbookError, match="flip"):
            warehouse.load_snapshot(later, MODELS)
    loaded.run("DELETE FROM staging.outputs WHERE snapshot_id = 's2'")
    warehouse.load_snapshot(later, MODELS)
    assert warehouse.current_snapshots() == {"fashion": "s2"}
    assert warehouse.differences(later, MODELS) == []


@pytest.mark.full
def test_a_warehouse_that_is_dropped_is_loaded_again_however_often(server: BigQueryServer, tmp_path: Path) -> None:
    """BigQuery knows the jobs of former loads for months, whatever became of what they made."""
    warehouse, load = bigquery_warehouse(server), snapshot_load(tmp_path)
    for _ in range(7):
        warehouse.load_snapshot(load, MODELS[:1])
        assert one(warehouse, "SELECT count(*) AS n FROM warehouse.images") == [{"n": 7}]
        for name in ("warehouse", "staging"):
            server.catalog.drop_dataset(name, contents=True)


def test_a_load_removes_rows_of_earlier_loads_and_none_of_later_ones(loaded: BigQueryServer, tmp_path: Path) -> None:
    """The rows of a load that began while this one's removal was queued."""
    for version, moment in ((1, "2020-01-01 00:00:00+00:00"), (2, "2999-01-01 00:00:00+00:00")):
        replaced = f"{version} AS _version, TIMESTAMP '{moment}' AS _loaded_at"
        loaded.run(f"INSERT INTO staging.rejects SELECT * REPLACE ({replaced}) FROM staging.rejects WHERE _version > 2")
    bigquery_warehouse(loaded).load_snapshot(snapshot_load(tmp_path, snapshot_id="s2"), MODELS)
    left = one(bigquery_warehouse(loaded), "SELECT DISTINCT LEAST(_version, 3) AS version FROM staging.rejects")
    assert sorted(row["version"] for row in left) == [2, 3]


def test_a_job_that_failed_is_run_again_under_another_id(loaded: BigQueryServer, tmp_path: Path) -> None:
    """The mended cause of a failure: BigQuery never runs an id twice."""
    warehouse, bucket = bigquery_warehouse(loaded), Bucket()
    loaded.jobs.fetch = bucket
    local = snapshot_load(tmp_path, snapshot_id="s2", brightness=0.3)
    path = Path(local.tables["images"][0])
    load = SnapshotLoad("fashion", "s2", "l", local.tables | {"images": [f"gs://bucket{path}"]})
    path.rename(tmp_path / "aside")
    for _ in range(2):
        with pytest.raises(LookbookError, match="gs://bucket"):
            warehouse.load_snapshot(load, MODELS)
    (tmp_path / "aside").rename(path)
    warehouse.load_snapshot(load, MODELS)
    assert warehouse.current_snapshots() == {"fashion": "s2"}
    tries = sorted(name[-1] for name in loaded.jobs.by_id if "-load-images-" in name)
    assert tries == ["0", "1", "2"]


def test_rows_that_vanish_while_they_are_loaded_are_never_current(
    loaded: BigQueryServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    count, counted = snapshots._counted, list[int]()

    def vanishing(store: Any, load: SnapshotLoad, version: int, names: Any) -> Any:
        if not counted:
            loaded.run(f"DELETE FROM staging.images WHERE _version = {version}")
        counted.append(version)
        return count(store, load, version, names)

    monkeypatch.setattr(snapshots, "_counted", vanishing)
    later = snapshot_load(tmp_path, snapshot_id="s2", load_id="load-2")
    bigquery_warehouse(loaded).load_snapshot(later, MODELS)
    assert bigquery_warehouse(loaded).differences(later, MODELS) == []
    first, second = counted
    flips = " ".join(name for name in loaded.jobs.by_id if "-flip" in name)
    assert f"{second:016x}" in flips
    assert f"{first:016x}" not in flips


def test_readers_never_see_a_mixture(loaded: BigQueryServer, tmp_path: Path) -> None:
    """At every request of a load all views show one snapshot, and one load of it."""
    later = snapshot_load(tmp_path, snapshot_id="s2", load_id="load-2", brightness=0.1)
    seen, plain = [], loaded.due

    def looking(route: str) -> list[Fault]:
        with loaded.lock:
            for table in ("images", "outputs", "products", "dim_colour"):
                loads = loaded.catalog.duckdb.execute(f"SELECT DISTINCT _load_id FROM warehouse.{table}").fetchall()
                seen.append((table, tuple(name for (name,) in loads)))
        return plain(route)

    loaded.due = looking  # type: ignore[method-assign]
    bigquery_warehouse(loaded).load_snapshot(later, MODELS)
    for n in range(0, len(seen), 4):
        assert len({loads for _, loads in seen[n : n + 4]}) == 1, seen[n : n + 4]
    assert {loads for _, loads in seen} == {("load-1",), ("load-2",)}


# Queries


@pytest.mark.parametrize(
    ("statement", "message"),
    [
        ("DELETE FROM staging.images WHERE true", "only reads: this is DELETE"),
        ("CREATE TABLE staging.t AS SELECT 1 AS x", "only reads: this is CREATE_TABLE_AS_SELECT"),
        ("SELECT 1 AS x; DROP TABLE staging.images", "only reads: this is SCRIPT"),
        ("SELECT 1 AS x FROM warehouse.nowhere", "Not found: Table test-project:warehouse.nowhere"),
        ("SELECT x FROM warehouse.images", "x"),
        ("SELECT FROM WHERE", "Syntax error"),
        ("SELECT CAST(1 AS VARCHAR)", "Syntax error"),
        ("", "no rows"),
        ("SELECT 1 AS x FROM images", "must be qualified with a dataset"),
    ],
)
def test_a_query_only_reads(loaded: BigQueryServer, statement: str, message: str) -> None:
    warehouse = bigquery_warehouse(loaded)
    for ask in (warehouse.query, warehouse.dry_run):
        with pytest.raises(LookbookError, match=re.escape(message)):
            ask(statement)
    assert one(warehouse, "SELECT count(*) AS n FROM staging.images") == [{"n": 7}]


def test_a_dry_run_tells_the_bytes_and_bills_nothing(loaded: BigQueryServer) -> None:
    jobs = len(loaded.jobs.by_id)
    keys = bigquery_warehouse(loaded).dry_run("SELECT key FROM staging.images")
    assert keys.bytes_processed == 7 * (2 + len("images/1.jpg"))
    assert (keys.tables, keys.bytes_billed) == (["staging.images"], 10 << 20)
    more = bigquery_warehouse(loaded).dry_run("SELECT * FROM staging.images")
    assert more.bytes_processed is not None
    assert more.bytes_processed > 10 * keys.bytes_processed
    assert len(loaded.jobs.by_id) == jobs


def test_a_query_that_would_bill_too_much_fails(loaded: BigQueryServer) -> None:
    warehouse = bigquery_warehouse(loaded, maximum_bytes_billed=10 << 20)
    assert len(one(warehouse, "SELECT key FROM staging.images")) == 7
    with pytest.raises(LookbookError, match=r"20971520 or higher required[\s\S]*maximum_bytes_billed"):
        warehouse.query("SELECT i.key FROM staging.images AS i JOIN staging.outputs AS o ON i.sha256 = o.sha256")


def test_results_of_many_pages_come_whole(loaded: BigQueryServer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tests.support.bigquery_server._PAGE", 2)
    found = one(bigquery_warehouse(loaded), "SELECT key FROM warehouse.images ORDER BY key")
    assert [row["key"] for row in found] == [f"images/{n}.jpg" for n in (1, 2, 3, 5, 6, 7, 9)]
    assert loaded.calls["jobs.getQueryResults"] >= 4


# Faults


@pytest.mark.parametrize(
    ("fault", "error", "message"),
    [
        (Fault(status=401), LookbookError, "credentials cannot be used"),
        (Fault(status=403), LookbookError, "injected"),
        (Fault(status=500), OutOfReachError, "does not answer as it should"),
        (Fault(status=503), OutOfReachError, "does not answer as it should"),
        (Fault(cut=True), OutOfReachError, "does not answer as it should"),
    ],
)
def test_a_fault_that_stays_is_named_and_bounded(
    loaded: BigQueryServer, fault: Fault, error: type[LookbookError], message: str
) -> None:
    loaded.inject(fault)
    warehouse = bigquery_warehouse(loaded, retry_seconds=0.5)
    for ask in (warehouse.current_snapshots, lambda: warehouse.query("SELECT 1 AS x")):
        with pytest.raises(error, match=message) as caught:
            ask()
        assert type(caught.value) is error


def test_a_project_of_another_name_is_named(loaded: BigQueryServer) -> None:
    warehouse = bigquery_warehouse(loaded).model_copy(update={"project": "elsewhere"})
    for ask in (warehouse.current_snapshots, lambda: warehouse.query("SELECT 1 AS x")):
        with pytest.raises(LookbookError, match="project elsewhere: there is none of this name"):
            ask()


def test_a_load_survives_faults_of_every_route(loaded: BigQueryServer, tmp_path: Path) -> None:
    routes = ["jobs.insert", "jobs.upload", "tables.get", "tables.patch", "tabledata.list", "tables.delete"]
    for route in routes:
        loaded.inject(Fault(route, status=503, count=2))
        loaded.inject(Fault(route, cut=True, count=1))
    later = snapshot_load(tmp_path, snapshot_id="s2", brightness=0.1)
    warehouse = bigquery_warehouse(loaded, retry_seconds=60)
    warehouse.load_snapshot(later, MODELS)
    assert warehouse.differences(later, MODELS) == []
    assert all(loaded.fired[route] for route in routes)


def test_an_answer_that_is_lost_is_no_second_job(loaded: BigQueryServer, tmp_path: Path) -> None:
    """The job was begun, its answer cut: the client asks again, is told 409, and the job is fetched."""
    for route in ("jobs.insert", "jobs.upload"):
        loaded.inject(Fault(route, cut=True, cut_after=1, count=3))
    later = snapshot_load(tmp_path, snapshot_id="s2", brightness=0.1)
    warehouse = bigquery_warehouse(loaded, retry_seconds=60)
    warehouse.load_snapshot(later, MODELS)
    assert one(warehouse, "SELECT count(*) AS n FROM staging.images") == [{"n": 7}]
    assert warehouse.differences(later, MODELS) == []


def test_a_job_that_fails_of_what_may_pass_is_run_again_and_others_are_not(loaded: BigQueryServer) -> None:
    warehouse = bigquery_warehouse(loaded)
    concurrent = "Could not serialize access to table test-project:staging.images due to concurrent update"
    aborted = "Transaction is aborted due to concurrent update against table test-project:staging.fences"
    loaded.jobs.failing = [Refused(500, "backendError", "busy")]
    loaded.jobs.failing += [Refused(400, "invalidQuery", words) for words in (concurrent, aborted)]
    assert one(warehouse, "SELECT 1 AS x") == [{"x": 1}]
    loaded.jobs.failing = [Refused(403, "quotaExceeded", "Quota exceeded: too many")] * 2
    with pytest.raises(LookbookError, match=r"Quota exceeded: too many[\s\S]*until the quota is free"):
        warehouse.query("SELECT 1 AS x")
    assert len(loaded.jobs.failing) == 1


def test_a_job_that_takes_a_while_is_waited_for(loaded: BigQueryServer) -> None:
    loaded.jobs.polls = 2
    assert one(bigquery_warehouse(loaded), "SELECT 1 AS x") == [{"x": 1}]
    loaded.jobs.polls = 1_000_000
    with pytest.raises(OutOfReachError, match=r"has not ended within 0\.2 s"):
        bigquery_warehouse(loaded, job_seconds=0.2).query("SELECT 1 AS x")


# SQL


def test_wider_types_hold_both() -> None:
    assert sql.wider("INT64", "FLOAT64") == sql.wider("FLOAT64", "INT64") == "FLOAT64"
    assert sql.wider("DATE", "DATE") == "DATE"
    assert (
        sql.wider("BOOL", "INT64") == sql.wider("DATE", "TIMESTAMP") == sql.wider("ARRAY<STRING>", "INT64") == "STRING"
    )


def test_a_version_is_the_same_for_the_same_load_only(tmp_path: Path) -> None:
    load = snapshot_load(tmp_path)
    first = sql.version_of(load, MODELS, "staging", None, 0)
    assert first == sql.version_of(load, list(MODELS), "staging", None, 0)
    assert 0 <= first < 2**63
    others = {
        sql.version_of(load, MODELS, "staging", first, 0),
        sql.version_of(load, MODELS, "staging", None, 1),
        sql.version_of(load, MODELS, "other_staging", None, 0),
        sql.version_of(load, MODELS[:1], "staging", None, 0),
        sql.version_of(snapshot_load(tmp_path, load_id="load-2"), MODELS, "staging", None, 0),
    }
    assert len(others | {first}) == 6
