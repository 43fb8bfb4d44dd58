"""Feeds in BigQuery: what holds in the other databases, asked of Google's client and the stand-in on the wire."""

from __future__ import annotations

import datetime as dt
from collections.abc import Callable, Iterator
from dataclasses import replace
from decimal import Decimal
from typing import Any

import pytest

from lookbook.blocks.errors import LookbookError
from lookbook.blocks.workspace import Workspace
from lookbook.tasks.tables.load import open_rejects, replay
from tests.support.bigquery_server import BigQueryServer
from tests.support.feeds import Row, context, in_order, load_rows, table_rows
from tests.support.sets import sampled
from tests.support.warehouses import PROJECT, bigquery_warehouse
from tests.tasks.tables.load import test_dispositions as dispositions
from tests.tasks.tables.load import test_loading as loading
from tests.tasks.tables.load import test_replaying as replaying

SHARED = [
    *(value for name, value in vars(dispositions).items() if name.startswith("test_") and "readers" not in name),
    replaying.test_replay_loads_what_fits_now_and_keeps_the_rest,
    replaying.test_a_batch_that_is_loaded_again_replaces_the_replay_of_its_rejects,
    replaying.test_replay_adds_to_a_table_that_is_replaced,
]
#: BigQuery forbids quotes in names.
SHARED.remove(dispositions.test_names_that_sql_knows_and_odd_ones)


@pytest.fixture
def server() -> Iterator[BigQueryServer]:
    """A BigQuery without datasets."""
    made = BigQueryServer(PROJECT)
    yield made
    made.close()


@pytest.fixture
def cloud(workspace: Workspace, server: BigQueryServer) -> Workspace:
    """A workspace whose warehouse is that BigQuery."""
    return replace(workspace, warehouse=bigquery_warehouse(server))


@pytest.mark.parametrize(
    "test", sampled(SHARED, fast=SHARED[::3]), ids=lambda test: test.__name__.removeprefix("test_")
)
def test_as_in_other_databases(test: Callable[[Workspace, str], None], cloud: Workspace) -> None:
    test(cloud, "warehouse")


def test_values_of_every_type_arrive(cloud: Workspace) -> None:
    row = {
        "t": "Ä\n'\"\\",
        "i": -(2**63),
        "f": 1.5,
        "b": True,
        "at": dt.datetime(2024, 1, 1, 12, 30, tzinfo=dt.UTC),
        "local": dt.datetime(2024, 1, 1, 12, 30, 0, 5),  # noqa: DTZ001 - one without a zone
        "day": dt.date(2024, 1, 1),
        "clock": dt.time(1, 2, 3),
        "raw": b"\x00\xff",
    }
    for _ in range(2):
        load_rows(context(cloud), [row])
    assert table_rows(cloud, "warehouse") == [row]


@pytest.mark.parametrize("value", ["12345678901234567.89", "1.123456789012345678", f"0.{'1' * 38}"])
def test_decimals_keep_every_digit(cloud: Workspace, server: BigQueryServer, value: str) -> None:
    rows = [{"d": Decimal(value)}]
    for _ in range(2):
        load_rows(context(cloud), rows)
    load_rows(context(cloud, day=2, write_disposition="merge", primary_key="d"), rows)
    assert table_rows(cloud, "warehouse") == rows
    kinds = {field["name"]: field["type"] for field in server.catalog.fields("feeds", "prices")}
    assert kinds["d"] == ("NUMERIC" if value.endswith(".89") else "BIGNUMERIC"), "a NUMERIC has nine digits behind it"


def test_json_arrives_as_json(cloud: Workspace, server: BigQueryServer) -> None:
    rows = [{"id": 1, "tags": '{"a": [1, null]}'}]
    for _ in range(2):
        load_rows(context(cloud, fields={"tags": "json"}), rows)
    fields = {field["name"]: field["type"] for field in server.catalog.fields("feeds", "prices")}
    assert fields["tags"] == "JSON"


def test_nothing_is_left_in_staging(cloud: Workspace, server: BigQueryServer) -> None:
    load_rows(context(cloud, fields={"tags": "json"}), [{"id": 1, "tags": "[]"}])
    left = [name for dataset, name in server.catalog.tables if dataset == cloud.warehouse.staging_dataset]  # type: ignore[attr-defined]
    assert left == ["fences"]


def test_a_run_that_is_overtaken_between_the_question_and_the_commit_changes_no_table(
    cloud: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    loading.test_a_run_that_is_overtaken_between_the_question_and_the_commit_changes_no_table(
        cloud, monkeypatch, "warehouse"
    )


def test_a_script_that_fails_leaves_what_stood_there(cloud: Workspace, monkeypatch: pytest.MonkeyPatch) -> None:
    settings = {"write_disposition": "replace"}
    load_rows(context(cloud, **settings), [{"id": 1}])
    broken = ['INSERT INTO "feeds"."prices" ("id") SELECT CAST(\'x\' AS BIGINT)']
    monkeypatch.setattr("lookbook.tasks.tables.load.statements.list_load", lambda *_: broken)
    with pytest.raises(LookbookError):
        load_rows(context(cloud, day=2, **settings), [{"id": 2}, {"id": 3}])
    assert table_rows(cloud, "warehouse") == [{"id": 1}]


def test_killed_after_the_upload_and_run_again(cloud: Workspace, monkeypatch: pytest.MonkeyPatch) -> None:
    """The process dies: nothing that stands behind `finally` is done. A table of staging stays, and expires."""
    with monkeypatch.context() as patch:
        patch.setattr("lookbook.blocks.bigquery.client.Store.drop", lambda *_: None)
        patch.setattr("lookbook.tasks.tables.load.bigquery_tables.BigQueryTables._insert", lambda *_: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            load_rows(context(cloud), [{"id": 1}])
    result = load_rows(context(cloud), [{"id": 1}])
    assert (result.rows, table_rows(cloud, "warehouse")) == (1, [{"id": 1}])


def test_a_batch_that_is_committed_and_not_in_the_books_is_there_once(
    cloud: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patch:
        patch.setattr("lookbook.tasks.tables.load.loading.write_books", lambda *_, **__: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            load_rows(context(cloud), [{"id": 1}, {"id": 2}])
    load_rows(context(cloud), [{"id": 1}, {"id": 2}])
    assert table_rows(cloud, "warehouse") == [{"id": 1}, {"id": 2}]


def test_rows_that_do_not_fit_are_rejects_here_too(cloud: Workspace) -> None:
    rows: list[Row] = [{"sku": "a", "price": "1"}, {"sku": "b", "price": "dear"}]
    strict: dict[str, Any] = {"schema_contract": "discard_row", "fields": {"price": "bigint"}}
    load_rows(context(cloud, **strict), rows)
    assert len(open_rejects(cloud.registry, "feed")) == 1
    replay(context(cloud))
    expected: list[Row] = [
        {"sku": "a", "price": 1, "price__v_text": None},
        {"sku": "b", "price": None, "price__v_text": "dear"},
    ]
    assert table_rows(cloud, "warehouse") == in_order(expected)
