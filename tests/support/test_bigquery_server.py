"""The stand-in does what BigQuery is documented to do, asked by the real client."""

from __future__ import annotations

import datetime as dt
import io
from collections.abc import Iterator
from typing import cast

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from google.api_core import exceptions as api
from google.cloud.bigquery import (
    Client,
    CopyJobConfig,
    LoadJob,
    LoadJobConfig,
    QueryJobConfig,
    SchemaField,
    Table,
)

from tests.support.bigquery_server import BigQueryServer
from tests.support.gcp_credentials import AnonymousGcpCredentials

PROJECT = "test-project"
ROWS = pa.table(
    {"id": [1, 2, 3], "name": ["a", "b", None], "at": [dt.datetime(2026, 1, n, tzinfo=dt.UTC) for n in (1, 2, 3)]}
)


@pytest.fixture
def server() -> Iterator[BigQueryServer]:
    server = BigQueryServer(PROJECT)
    yield server
    server.close()


@pytest.fixture
def client(server: BigQueryServer) -> Iterator[Client]:
    """With a dataset `d`, and in it a table `t` of three rows."""
    client = AnonymousGcpCredentials(endpoint=server.url).get_bigquery_client(PROJECT, "EU")
    client.create_dataset("d")
    load(client, ROWS)
    yield client
    client.close()  # type: ignore[no-untyped-call]


def load(client: Client, rows: pa.Table, job_id: str | None = None, **config: str) -> None:
    sink = io.BytesIO()
    pq.write_table(rows, sink)
    given = LoadJobConfig(source_format="PARQUET", **config)
    client.load_table_from_file(
        sink, "d.t", rewind=True, size=len(sink.getvalue()), job_id=job_id, job_config=given
    ).result()


def asked(client: Client, sql: str) -> list[tuple[object, ...]]:
    return [tuple(row.values()) for row in client.query_and_wait(sql)]


def refused(client: Client, sql: str) -> str:
    """The reason for which a statement fails."""
    with pytest.raises(api.GoogleAPICallError) as caught:
        client.query(sql, job_retry=None).result(retry=None, job_retry=None)
    return str(caught.value.errors[0]["reason"])


def test_values_travel_as_text_and_come_back_as_what_they_were(client: Client) -> None:
    sql = """SELECT id, name, at, id > 1 AS more, id / 2 AS half, [id, 7] AS list, STRUCT(id AS x) AS pair,
                    DATE "2026-01-31" AS day, b"\\x00\\xff" AS raw FROM d.t WHERE id = 2"""
    day, at = dt.date(2026, 1, 31), dt.datetime(2026, 1, 2, tzinfo=dt.UTC)
    assert asked(client, sql)[0][:8] == (2, "b", at, True, 1.0, [2, 7], {"x": 2}, day)


def test_an_id_is_run_once(client: Client) -> None:
    load(client, ROWS, "again", write_disposition="WRITE_APPEND")
    with pytest.raises(api.Conflict) as caught:
        load(client, ROWS, "again", write_disposition="WRITE_APPEND")
    assert caught.value.errors[0]["reason"] == "duplicate"
    assert asked(client, "SELECT count(*) AS n FROM d.t") == [(6,)]
    assert cast("LoadJob", client.get_job("again")).output_rows == 3
    with pytest.raises(api.NotFound):
        client.get_job("again", location="US")


def test_results_come_in_pages(client: Client) -> None:
    job = client.query("SELECT id FROM d.t ORDER BY id")
    pages = [[row["id"] for row in page] for page in job.result(page_size=2).pages]
    assert pages == [[1, 2], [3]]
    assert [row["id"] for row in client.list_rows("d.t", page_size=2)] == [1, 2, 3]


@pytest.mark.parametrize(
    ("sql", "reason"),
    [
        ("INSERT INTO d.t (id) SELECT name FROM d.t", "invalidQuery"),
        ("INSERT INTO d.t (name) SELECT id FROM d.t", "invalidQuery"),
        ("INSERT INTO d.t (nothing) SELECT id FROM d.t", "invalidQuery"),
        ("UPDATE d.t SET id = 1", "invalidQuery"),
        ("DELETE FROM d.t", "invalidQuery"),
        ("SELECT CAST(id AS VARCHAR) FROM d.t", "invalidQuery"),
        ("SELECT id FROM d.t EXCEPT ALL SELECT id FROM d.t", "invalidQuery"),
        ("SELECT epoch_ms(at) FROM d.t", "invalidQuery"),
        ("SELECT * FROM d.u", "notFound"),
        ("SELECT * FROM e.t", "notFound"),
        ("SELECT * FROM `other`.d.t", "accessDenied"),
        ("CREATE TABLE d.t (x INT64)", "duplicate"),
        ("CREATE TABLE d.u (x FLOAT64) CLUSTER BY x", "invalidQuery"),
        ("CREATE TABLE d.u (a INT64, b INT64, c INT64, e INT64, f INT64) CLUSTER BY a, b, c, e, f", "invalidQuery"),
        ("CREATE OR REPLACE TABLE d.t PARTITION BY DATE(at) AS SELECT * FROM d.t", "invalidQuery"),
    ],
)
def test_what_bigquery_refuses_is_refused_though_duckdb_would_do_it(client: Client, sql: str, reason: str) -> None:
    assert refused(client, sql) == reason


def test_a_merge_tells_what_it_did(client: Client) -> None:
    sql = """MERGE INTO d.t AS t USING (SELECT 3 AS id, "c" AS name UNION ALL SELECT 4, "d") AS s ON t.id = s.id
             WHEN MATCHED THEN UPDATE SET name = s.name
             WHEN NOT MATCHED THEN INSERT (id, name) VALUES (s.id, s.name)"""
    job = client.query(sql)
    job.result()
    assert job.dml_stats is not None
    assert (job.dml_stats.inserted_row_count, job.dml_stats.updated_row_count) == (1, 1)
    assert job.num_dml_affected_rows == 2
    assert asked(client, "SELECT id, name FROM d.t ORDER BY id")[2:] == [(3, "c"), (4, "d")]


def test_tables_keep_partitions_clusters_labels_and_expiry(server: BigQueryServer, client: Client) -> None:
    client.query_and_wait("""CREATE TABLE d.p (id INT64, at TIMESTAMP)
                             PARTITION BY TIMESTAMP_TRUNC(at, MONTH) CLUSTER BY id
                             OPTIONS (labels = [("a", "b")], description = "x")""")
    table = client.get_table("d.p")
    assert (table.time_partitioning.type_, table.time_partitioning.field) == ("MONTH", "at")
    assert (table.clustering_fields, table.labels, table.description) == (["id"], {"a": "b"}, "x")
    table.expires = dt.datetime(2020, 1, 1, tzinfo=dt.UTC)
    with pytest.raises(api.BadRequest, match="in the future"):
        client.update_table(table, ["expires"])
    server.catalog.tables["d", "p"].properties["expirationTime"] = "1"
    with pytest.raises(api.NotFound):
        client.get_table("d.p")


def test_a_view_follows_its_table(client: Client) -> None:
    view = Table(f"{PROJECT}.d.v")
    client.query_and_wait("CREATE VIEW d.v AS SELECT t.id, t.name FROM d.t AS t")
    assert client.get_table(view).view_query == "SELECT t.id, t.name FROM d.t AS t"
    client.query_and_wait("CREATE OR REPLACE TABLE d.t AS SELECT CAST(id AS STRING) AS id, name FROM d.t")
    assert asked(client, "SELECT id FROM d.v WHERE id = '1'") == [("1",)]


def test_copies_and_the_list_of_columns(client: Client) -> None:
    client.copy_table("d.t", "d.copy").result()
    with pytest.raises(api.Conflict):
        client.copy_table("d.t", "d.copy").result()
    client.copy_table("d.t", "d.copy", job_config=CopyJobConfig(write_disposition="WRITE_APPEND")).result()
    assert asked(client, "SELECT count(*) AS n FROM d.copy") == [(6,)]
    columns = """SELECT column_name, data_type FROM d.INFORMATION_SCHEMA.COLUMNS
                 WHERE table_name = 't' ORDER BY ordinal_position"""
    assert asked(client, columns) == [("id", "INT64"), ("name", "STRING"), ("at", "TIMESTAMP")]
    assert sorted(table.table_id for table in client.list_tables("d", page_size=1)) == ["copy", "t"]


def test_a_load_refuses_another_schema(client: Client) -> None:
    with pytest.raises(api.BadRequest, match="does not match"):
        load(client, pa.table({"id": ["x"]}), write_disposition="WRITE_APPEND")
    with pytest.raises(api.BadRequest, match="enableListInference"):
        load(client, pa.table({"id": [[1]]}), write_disposition="WRITE_TRUNCATE")
    client.create_table(Table(f"{PROJECT}.d.empty", schema=[SchemaField("x", "STRING")]))
    assert list(client.list_rows("d.empty")) == []


def test_a_dry_run_runs_nothing_and_a_limit_holds(client: Client) -> None:
    dry = client.query("SELECT id, name FROM d.t", job_config=QueryJobConfig(dry_run=True))
    assert dry.total_bytes_processed == 3 * 8 + 2 * 3
    assert [field.name for field in dry.schema or []] == ["id", "name"]
    limited = QueryJobConfig(maximum_bytes_billed=1)
    with pytest.raises(api.InternalServerError) as caught:
        client.query("SELECT id FROM d.t", job_config=limited, job_retry=None).result(retry=None, job_retry=None)
    assert caught.value.errors[0]["reason"] == "bytesBilledLimitExceeded"
