"""Models over loaded tables: one contract, held by every warehouse."""

from __future__ import annotations

import hashlib
import itertools
import re
import threading
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from lookbook.blocks import models
from lookbook.blocks.bigquery.warehouse import BigQueryWarehouse
from lookbook.blocks.errors import LookbookError
from lookbook.blocks.models import FeedModel, ModelTestsFailedError, Reference
from lookbook.blocks.warehouse import Warehouse
from tests.support.sets import sampled
from tests.support.stars import DIM_DATE, DIM_VENDOR, DIM_ZONE, FACT_TRIP, STAR, ZONES, changed, loaded_rig, put, trips
from tests.support.warehouses import RIGS, Rig

NAMES = [model.name for model in STAR]


@pytest.fixture(params=sampled(RIGS, fast=["duckdb"]))
def rig(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Rig]:
    """A warehouse with loaded trips and zones."""
    with loaded_rig(request.param, tmp_path) as found:
        yield found


def shown(warehouse: Warehouse, name: str) -> pd.DataFrame:
    frame: pd.DataFrame = warehouse.query(f"SELECT * FROM feeds.{name}").to_pandas()
    return frame.sort_values(list(frame.columns)).reset_index(drop=True)


def content(warehouse: Warehouse) -> dict[str, list[Any]]:
    return {name: shown(warehouse, name).astype(str).values.tolist() for name in NAMES}


# What is made


def test_the_star_is_what_pandas_makes_of_the_same_rows(rig: Rig) -> None:
    built = {model.name: model for model in rig.warehouse.build_feed_models(STAR)}
    flat = trips()
    kept = flat[flat.fare >= 0]
    assert {name: built[name].rows for name in NAMES} == {
        "dim_zone": len(ZONES),
        "dim_vendor": flat.vendor.nunique(),
        "dim_date": flat.day.nunique(),
        "fact_trip": len(kept),
    }
    joined = rig.warehouse.query(
        "SELECT z.borough, v.vendor, d.year, COUNT(*) AS n, SUM(f.fare) AS fares FROM feeds.fact_trip AS f"
        " JOIN feeds.dim_date AS d ON d.date_key = f.date_key JOIN feeds.dim_zone AS z ON z.zone_key = f.zone_key"
        " LEFT JOIN feeds.dim_vendor AS v ON v.vendor_key = f.vendor_key GROUP BY z.borough, v.vendor, d.year"
    ).to_pandas()
    expected = (
        kept.assign(year=[day.year for day in kept.day])
        .merge(ZONES, on="zone_id")
        .groupby(["borough", "vendor", "year"], dropna=False)
        .agg(n=("fare", "size"), fares=("fare", "sum"))
        .reset_index()
    )

    def as_rows(frame: pd.DataFrame) -> list[tuple[str, ...]]:
        rows = frame.astype({"fares": float}).to_dict("records")
        return sorted(tuple(str(v) if v == v else "None" for v in row.values()) for row in rows)  # noqa: PLR0124 - NaN

    assert as_rows(joined) == as_rows(expected)


def test_the_surrogate_key_comes_first_and_columns_are_told_in_duckdbs_words(rig: Rig) -> None:
    built = rig.warehouse.build_feed_models([DIM_VENDOR, DIM_DATE])
    assert built[0].columns == {"vendor_key": "BIGINT", "vendor": "VARCHAR"}
    assert list(built[1].columns) == ["date_key", "day", "year"]
    assert built[1].columns["day"] == "DATE"
    assert rig.warehouse.query("SELECT * FROM feeds.dim_vendor").column_names == ["vendor_key", "vendor"]


def test_surrogate_keys_are_the_same_for_rows_in_another_order(rig: Rig) -> None:
    rig.warehouse.build_feed_models(STAR)
    before = content(rig.warehouse)
    put(rig, "trips", trips().sample(frac=1, random_state=1))
    put(rig, "zones", ZONES[::-1])
    rig.warehouse.build_feed_models(STAR)
    assert content(rig.warehouse) == before


KINDS = {
    "text": ("'Größe: 2:x'", "Größe: 2:x"),
    "whole": ("CAST(-7 AS BIGINT)", "-7"),
    "float_whole": ("CAST(5 AS DOUBLE)", "5"),
    "float": ("CAST(2.5 AS DOUBLE)", "2.5"),
    "number": ("CAST(12.50 AS DECIMAL(20, 9))", "12.5"),
    "hundred": ("CAST(100 AS DECIMAL(20, 9))", "100"),
    "truth": ("1 = 1", "true"),
    "day": ("DATE '2024-02-29'", "2024-02-29"),
    "moment": ("CAST('2024-02-29 12:00:00.5' AS TIMESTAMP)", "1709208000500000"),
    "nothing": ("''", ""),
}


def test_surrogate_keys_are_the_documented_hash_in_every_warehouse(rig: Rig) -> None:
    """Against Python's own MD5, so that both warehouses give the same."""
    columns = ", ".join(f"{sql} AS c_{name}" for name, (sql, _) in KINDS.items())
    model = FeedModel("wide", f"SELECT {columns}", tuple(f"c_{name}" for name in KINDS), "wide_key")
    rig.warehouse.build_feed_models([model])
    text = "".join(f"{len(part)}:{part}" for _, part in KINDS.values())
    expected = int(hashlib.md5(text.encode(), usedforsecurity=False).hexdigest()[:15], 16)
    assert rig.warehouse.query("SELECT wide_key FROM feeds.wide").to_pylist() == [{"wide_key": expected}]


def test_values_that_run_into_each_other_have_other_keys(rig: Rig) -> None:
    rows = [("1:a", "b"), ("1", ":ab"), ("", "1:ab"), ("1:ab", "")]
    sql = " UNION ALL ".join(f"SELECT '{a}' AS a, '{b}' AS b" for a, b in rows)
    rig.warehouse.build_feed_models([FeedModel("pairs", sql, ("a", "b"), "pair_key")])
    assert rig.warehouse.query("SELECT COUNT(DISTINCT pair_key) AS n FROM feeds.pairs").to_pylist() == [{"n": 4}]


def test_keys_that_get_one_number_fail_the_build(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(models, "DIGITS", 1)
    with pytest.raises(ModelTestsFailedError) as failed:
        rig.warehouse.build_feed_models(
            [replace(FACT_TRIP, sql="SELECT trip_id, day FROM feeds.trips", surrogate_key="k", references=())]
        )
    assert {one.test for one in failed.value.failures} == {"surrogate_key(k)"}
    assert " and " in failed.value.failures[0].examples[0]


# Tests that fail

BROKEN: dict[str, tuple[list[FeedModel], str, int, str]] = {
    "a key that is there twice": (
        changed(
            "dim_date",
            sql="SELECT day, EXTRACT(year FROM day) AS year FROM feeds.trips WHERE trip_id < 2 UNION ALL"
            " SELECT DATE '2020-01-01', 2020 UNION ALL SELECT DATE '2020-01-01', 2021",
        ),
        "dim_date: unique(day)",
        2,
        "2020-01-01",
    ),
    "a key that is missing": (
        changed("dim_vendor", sql="SELECT DISTINCT vendor FROM feeds.trips"),
        "dim_vendor: not_null(vendor)",
        1,
        "NULL",
    ),
    "unique": (
        changed("dim_zone", sql="SELECT zone_id, borough, 'x' AS zone FROM feeds.zones"),
        "dim_zone: unique(borough, zone)",
        2,
        "Bronx, x",
    ),
    "not_null": (
        changed(
            "dim_zone", sql="SELECT zone_id, CASE WHEN zone_id > 2 THEN borough END AS borough, zone FROM feeds.zones"
        ),
        "dim_zone: not_null(borough)",
        2,
        "zone_id=1",
    ),
    "accepted_values": (
        changed("dim_vendor", accepted_values={"vendor": ("green", 1, True)}),
        "dim_vendor: accepted_values(vendor)",
        1,
        "yellow",
    ),
    "relationships to a model": (
        changed("fact_trip", references=(Reference("trip_id", "dim_zone", "zone_id"),)),
        "fact_trip: relationships(trip_id → dim_zone.zone_id)",
        int((trips().fare >= 0).sum() - (trips().fare[1:5] >= 0).sum()),
        "",
    ),
    "relationships to a loaded table": (
        changed("dim_zone", references=(Reference("zone_id", "feeds.trips", "zone_id"),)),
        "dim_zone: relationships(zone_id → feeds.trips.zone_id)",
        1,
        "4",
    ),
}


@pytest.mark.parametrize("broken", sampled(BROKEN, fast=["relationships to a model"]))
def test_a_test_that_fails_is_named_and_keeps_all_old_tables(rig: Rig, broken: str) -> None:
    models, named, rows, example = BROKEN[broken]
    rig.warehouse.build_feed_models(STAR)
    before = content(rig.warehouse)
    with pytest.raises(ModelTestsFailedError, match=re.escape(named)) as failed:
        rig.warehouse.build_feed_models([replace(m, sql=m.sql + " ") for m in models])
    failure = next(one for one in failed.value.failures if f"{one.model}: {one.test}" == named)
    assert failure.rows == rows
    assert 1 <= len(failure.examples) <= 3
    assert any(example in one for one in failure.examples)
    seen = rig.warehouse.query(failure.sql).to_pandas()
    assert seen.row_count.sum() == rows
    assert set(failure.examples) <= set(seen.example)
    assert content(rig.warehouse) == before


def test_all_failing_tests_are_told_at_once(rig: Rig) -> None:
    models = [
        replace(DIM_ZONE, sql="SELECT 1 AS zone_id, CAST(NULL AS VARCHAR) AS borough, 'a' AS zone FROM feeds.zones")
    ]
    with pytest.raises(ModelTestsFailedError) as failed:
        rig.warehouse.build_feed_models(models)
    assert [one.test for one in failed.value.failures] == ["unique(zone_id)", "not_null(borough)"]
    with pytest.raises(LookbookError):
        rig.warehouse.query("SELECT * FROM feeds.dim_zone")


def test_numbers_and_texts_are_accepted_whatever_the_columns_type(rig: Rig) -> None:
    sql = "SELECT 1 AS id, '2' AS t, CAST(3 AS DOUBLE) AS d, 1 = 1 AS b UNION ALL SELECT 2, NULL, NULL, NULL"
    accepted: dict[str, tuple[Any, ...]] = {"id": (1.0, "2"), "t": (2,), "d": (3,), "b": (True,)}
    rig.warehouse.build_feed_models([FeedModel("kinds", sql, ("id",), accepted_values=accepted)])
    with pytest.raises(ModelTestsFailedError) as failed:
        rig.warehouse.build_feed_models([FeedModel("kinds", sql, ("id",), accepted_values={"b": (False,), "t": ()})])
    assert [one.examples for one in failed.value.failures] == [("true",), ("2",)]


# Whole or not at all


def test_readers_see_all_old_tables_or_all_new_ones(rig: Rig) -> None:
    """While versions are built one after the other, some of which fail, a reader joins two tables over and over."""

    def version(number: int) -> list[FeedModel]:
        dim = FeedModel("dim_v", f"SELECT zone_id, {number} AS v FROM feeds.zones", ("zone_id",))
        sql = (
            f"SELECT t.trip_id, t.zone_id, {number} AS v FROM feeds.trips AS t JOIN dim_v ON dim_v.zone_id = t.zone_id"
        )
        accepted: dict[str, tuple[Any, ...]] = {"v": (0, 1, 3, 5)}
        return [dim, FeedModel("fact_v", sql, ("trip_id",), accepted_values=accepted)]

    rig.warehouse.build_feed_models(version(0))
    seen: set[tuple[int, int, int, int]] = set()
    faults: list[Exception] = []
    done, looked = threading.Event(), threading.Semaphore(0)

    def read() -> None:
        sql = (
            "SELECT MIN(d.v) AS a, MAX(d.v) AS b, MIN(f.v) AS c, MAX(f.v) AS d FROM feeds.fact_v AS f"
            " JOIN feeds.dim_v AS d ON d.zone_id = f.zone_id"
        )
        while not done.is_set():
            try:
                seen.update(tuple(row.values()) for row in rig.warehouse.query(sql).to_pylist())
            except Exception as error:  # noqa: BLE001 - told below
                faults.append(error)
                done.set()
            looked.release()

    reader = threading.Thread(target=read)
    reader.start()
    try:
        for number in range(1, 6):
            looked.acquire(timeout=30)
            if number % 2:
                rig.warehouse.build_feed_models(version(number))
            else:
                with pytest.raises(ModelTestsFailedError):
                    rig.warehouse.build_feed_models(version(number))
        looked.acquire(timeout=30)
    finally:
        done.set()
        reader.join()
    assert not faults
    assert {len(set(row)) for row in seen} == {1}
    assert {row[0] for row in seen} <= {0, 1, 3, 5}
    assert len(seen) > 1


def test_a_select_that_fails_keeps_the_old_tables(rig: Rig) -> None:
    rig.warehouse.build_feed_models(STAR)
    before = content(rig.warehouse)
    with pytest.raises(LookbookError, match="nowhere"):
        rig.warehouse.build_feed_models(
            [*STAR[:3], replace(FACT_TRIP, sql="SELECT trip_id, day, nowhere FROM feeds.trips")]
        )
    assert content(rig.warehouse) == before


def test_models_may_get_other_columns_and_partitions(rig: Rig) -> None:
    rig.warehouse.build_feed_models(STAR)
    other = replace(
        FACT_TRIP,
        sql="SELECT trip_id, CAST(fare AS VARCHAR) AS fare FROM feeds.trips",
        partition_by=None,
        references=(),
    )
    rig.warehouse.build_feed_models([other])
    assert list(shown(rig.warehouse, "fact_trip")) == ["trip_id", "fare"]
    rig.warehouse.build_feed_models(STAR)
    assert "zone_key" in shown(rig.warehouse, "fact_trip")


def test_nothing_is_left_aside(rig: Rig) -> None:
    rig.warehouse.build_feed_models(STAR)
    with pytest.raises(ModelTestsFailedError):
        rig.warehouse.build_feed_models(BROKEN["unique"][0])
    if isinstance(rig.warehouse, BigQueryWarehouse):
        client = rig.warehouse.credentials.get_bigquery_client(project=rig.warehouse.project)
        assert list(client.list_tables("staging")) == []
        assert {table.table_id for table in client.list_tables("feeds")} == {*NAMES, "zones", "trips"}
        fact = client.get_table("feeds.fact_trip")
        assert (fact.time_partitioning.field, fact.labels) == ("day", {"tool": "lookbook"})
        assert fact.expires is None
    else:
        tables = rig.warehouse.query("SELECT table_schema || '.' || table_name AS t FROM information_schema.tables")
        assert set(tables["t"].to_pylist()) == {f"feeds.{name}" for name in [*NAMES, "zones", "trips"]}


# What is refused

REFUSED = {
    "a column that is not there": (replace(DIM_ZONE, key=("id",)), "key names id, but its SELECT gives zone_id"),
    "a test of one": (replace(DIM_ZONE, not_null=("x",)), r"tests.not_null names x"),
    "a surrogate key that is there": (replace(DIM_ZONE, surrogate_key="ZONE"), "which is to be its surrogate key"),
    "a partition by text": (replace(DIM_ZONE, partition_by="zone"), "partition_by names zone, which is"),
    "a surrogate key of a list": (
        FeedModel("lists", "SELECT [1, 2] AS l", ("l",), "k"),
        "cannot be made of l, which is",
    ),
    "a table that is not there": (FeedModel("x", "SELECT a FROM feeds.nowhere", ("a",)), "nowhere"),
}


@pytest.mark.parametrize("what", REFUSED)
def test_what_cannot_be_is_refused_by_name(rig: Rig, what: str) -> None:
    model, message = REFUSED[what]
    with pytest.raises(LookbookError, match=message):
        rig.warehouse.build_feed_models([model])


@pytest.mark.parametrize(
    "sql",
    [
        "SELECT * FROM read_text('/etc/passwd')",
        "SELECT * FROM '/etc/passwd'",
        "SELECT 1 AS content; SELECT 2",
        "DROP TABLE x",
    ],
)
def test_a_model_reads_no_file(rig: Rig, sql: str) -> None:
    with pytest.raises((LookbookError, ValueError)):
        rig.warehouse.build_feed_models([FeedModel("leak", sql, ("content",))])


def test_columns_are_read_in_the_order_of_their_values(rig: Rig) -> None:
    found = rig.warehouse.read_columns("feeds.zones", ["borough", "zone_id"])
    assert found.column_names == ["borough", "zone_id"]
    expected = sorted(zip(ZONES.borough, ZONES.zone_id, strict=True))
    assert [tuple(row.values()) for row in found.to_pylist()] == expected
    with pytest.raises(LookbookError, match="nowhere"):
        rig.warehouse.read_columns("feeds.zones", ["nowhere"])


def test_every_warehouse_makes_the_same_star(tmp_path: Path) -> None:
    made = []
    for kind in RIGS:
        with loaded_rig(kind, tmp_path / kind) as rig:
            rig.warehouse.build_feed_models(STAR)
            made.append(content(rig.warehouse))
    assert all(one == other for one, other in itertools.pairwise(made))
