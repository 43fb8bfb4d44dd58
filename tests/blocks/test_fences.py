"""Fences: no place takes a commit of a run whose lease another run took, and committed with."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lookbook.blocks.errors import LeaseLostError
from lookbook.blocks.models import FeedModel
from lookbook.blocks.registry import raised
from lookbook.tasks.datasets.schemas import load_models
from tests.support.leases import holding
from tests.support.snapshots import products_with, snapshot_load
from tests.support.stars import loaded_rig
from tests.support.warehouses import RIGS, Rig

MODELS = load_models()[:1]
MODEL = FeedModel("made", "SELECT 1 AS id, DATE '2024-01-01' AS day", ("id",))
#: With other rows, with other columns, and partitioned otherwise.
CHANGED = {
    "rows": replace(MODEL, sql="SELECT 2 AS id, DATE '2024-01-01' AS day"),
    "columns": replace(MODEL, sql="SELECT 1 AS id"),
    "partitions": replace(MODEL, sql="SELECT 3 AS id, DATE '2024-01-01' AS day", partition_by="day"),
}


@given(st.lists(st.tuples(st.sampled_from("abc"), st.integers(0, 5)), max_size=12))
def test_a_place_takes_a_commit_unless_it_has_seen_a_higher_counter_of_its_lease(
    commits: list[tuple[str, int]],
) -> None:
    fences: dict[str, int] = {}
    for done, (name, counter) in enumerate(commits):
        before = dict(fences)
        with holding(counter, name):
            if counter < max((other for of, other in commits[:done] if of == name), default=0):
                with pytest.raises(LeaseLostError, match=f"{name}: this run stood still"):
                    raised(fences)
            else:
                fences = raised(fences)
                assert fences == before | {name: counter}


@pytest.fixture(params=RIGS)
def rig(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Rig]:
    """A warehouse with loaded trips and zones."""
    with loaded_rig(request.param, tmp_path) as found:
        yield found


def shown(rig: Rig, table: str) -> list[Any]:
    return sorted(rig.warehouse.query(f"SELECT * FROM {table}").to_pylist(), key=repr)


@pytest.mark.parametrize("late", CHANGED.values(), ids=CHANGED)
def test_no_model_is_put_in_place_by_a_run_that_was_overtaken(rig: Rig, late: FeedModel) -> None:
    with holding(2):
        rig.warehouse.build_feed_models([MODEL])
    before = shown(rig, "feeds.made")
    with holding(1), pytest.raises(LeaseLostError, match="warehouse: this run stood still"):
        rig.warehouse.build_feed_models([late])
    assert shown(rig, "feeds.made") == before
    with holding(3):
        rig.warehouse.build_feed_models([late])
    assert shown(rig, "feeds.made") != before


def test_who_holds_no_lease_is_not_asked_and_lowers_no_fence(rig: Rig) -> None:
    with holding(2):
        rig.warehouse.build_feed_models([MODEL])
    rig.warehouse.build_feed_models([MODEL])
    with holding(1, "another"):
        rig.warehouse.build_feed_models([MODEL])
    with holding(1), pytest.raises(LeaseLostError):
        rig.warehouse.build_feed_models([MODEL])


def test_readers_of_a_warehouse_are_shown_no_fences(rig: Rig) -> None:
    before = set(rig.warehouse.tables())
    with holding(2):
        rig.warehouse.build_feed_models([MODEL])
    assert set(rig.warehouse.tables()) == before | {"feeds.made"}


def test_no_snapshot_is_made_current_by_a_run_that_was_overtaken(rig: Rig, tmp_path: Path) -> None:
    newer, older = (snapshot_load(tmp_path, snapshot_id=name, load_id=name) for name in ("s2", "s1"))
    with holding(2):
        rig.warehouse.load_snapshot(newer, MODELS)
    with holding(1), pytest.raises(LeaseLostError, match="warehouse: this run stood still"):
        rig.warehouse.load_snapshot(older, MODELS)
    assert rig.warehouse.current_snapshots() == {"fashion": "s2"}
    assert {row["snapshot_id"] for row in shown(rig, "warehouse.products")} == {"s2"}
    assert rig.warehouse.differences(newer, MODELS) == []
    wider = snapshot_load(tmp_path, snapshot_id="s3", products=products_with({"year": pa.array(["MMXII"])}))
    with holding(1), pytest.raises(LeaseLostError):
        rig.warehouse.load_snapshot(wider, MODELS)
    assert all(isinstance(row["year"], int | None) for row in shown(rig, "warehouse.products")), "no column is widened"
    with holding(3):
        rig.warehouse.load_snapshot(older, MODELS)
    assert rig.warehouse.current_snapshots() == {"fashion": "s1"}


def test_a_run_that_was_overtaken_adds_no_column_and_makes_no_view(rig: Rig, tmp_path: Path) -> None:
    load = snapshot_load(tmp_path, snapshot_id="s1", load_id="s1")
    with holding(2):
        rig.warehouse.load_snapshot(load, MODELS)
    columns = rig.warehouse.query("SELECT * FROM staging.products").column_names
    more = snapshot_load(tmp_path, snapshot_id="s2", products=products_with({"fabric": pa.array(["wool"])}))
    with holding(1), pytest.raises(LeaseLostError):
        rig.warehouse.load_snapshot(more, MODELS)
    assert rig.warehouse.query("SELECT * FROM staging.products").column_names == columns
    rig.change("DROP VIEW warehouse.outputs")
    with holding(1), pytest.raises(LeaseLostError):
        rig.warehouse.load_snapshot(replace(load, snapshot_id="s3", load_id="s3"), MODELS)
    assert rig.warehouse.differences(load, MODELS) == ["warehouse: warehouse.outputs: the view is missing"]
