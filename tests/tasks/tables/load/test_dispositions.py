"""Append, replace and merge, in every database: what stands in the table afterwards."""

from __future__ import annotations

import re

import pytest

from lookbook.blocks.errors import LookbookError
from lookbook.blocks.workspace import Workspace
from tests.support.feeds import Row, context, in_order, load_rows, table_rows


def test_a_batch_that_is_appended_twice_changes_nothing(workspace: Workspace, place: str) -> None:
    rows = [{"sku": "a", "price": 1}, {"sku": "b", "price": 2}]
    for _ in range(2):
        result = load_rows(context(workspace, target=place), rows)
        assert (result.rows_loaded, result.rows) == (2, 2)
    assert table_rows(workspace, place) == rows


def test_a_batch_that_is_appended_again_replaces_only_its_own_rows(workspace: Workspace, place: str) -> None:
    load_rows(context(workspace, day=1, target=place), [{"sku": "a"}])
    load_rows(context(workspace, day=2, target=place), [{"sku": "b"}, {"sku": "c"}])
    assert load_rows(context(workspace, day=2, target=place), [{"sku": "mended"}]).rows == 2
    assert table_rows(workspace, place) == [{"sku": "a"}, {"sku": "mended"}]


def test_every_row_carries_its_load(workspace: Workspace, place: str) -> None:
    result = load_rows(context(workspace, target=place), [{"sku": "a"}])
    (row,) = table_rows(workspace, place, tags=True)
    assert row["_load_id"] == result.load_id
    assert row["_loaded_at"].utcoffset() is not None


def test_replace_leaves_what_the_run_brought(workspace: Workspace, place: str) -> None:
    for day, skus in ((1, "ab"), (2, "c"), (2, "c")):
        settings = {"target": place, "write_disposition": "replace"}
        load_rows(context(workspace, day=day, **settings), [{"sku": sku} for sku in skus])
    assert table_rows(workspace, place) == [{"sku": "c"}]


def test_no_rows_empty_a_table_that_is_replaced_and_change_no_other(workspace: Workspace, place: str) -> None:
    merge = {"write_disposition": "merge", "primary_key": "sku"}
    for settings, left in (({}, 1), (merge, 1), ({"write_disposition": "replace"}, 0)):
        run = context(workspace, day=3, target=place, **settings)
        if settings == {}:
            load_rows(context(workspace, target=place), [{"sku": "a"}])
        result = load_rows(run, [])
        assert (result.rows_in, result.rows) == (0, left)
    assert table_rows(workspace, place) == []


def test_no_rows_make_no_table(workspace: Workspace, place: str) -> None:
    result = load_rows(context(workspace, target=place, write_disposition="replace", fields={"sku": "text"}), [])
    assert result.state is None


def test_merge_keeps_one_row_a_key(workspace: Workspace, place: str) -> None:
    settings = {"target": place, "write_disposition": "merge", "primary_key": ["sku", "day"]}
    load_rows(context(workspace, **settings), [{"sku": "a", "day": 1, "price": 1}, {"sku": "a", "day": 2, "price": 2}])
    result = load_rows(
        context(workspace, day=2, **settings), [{"sku": "a", "day": 2, "price": 3}, {"sku": "b", "day": 2, "price": 4}]
    )
    assert (result.rows_loaded, result.superseded, result.rows) == (2, 0, 3)
    assert [row["price"] for row in table_rows(workspace, place)] == [1, 3, 4]


def test_of_rows_with_one_key_the_one_that_came_last_counts(workspace: Workspace, place: str) -> None:
    run = context(workspace, target=place, write_disposition="merge", primary_key="sku")
    result = load_rows(run, [{"sku": "a", "price": price} for price in (3, 1, 2)])
    assert (result.rows_loaded, result.superseded) == (1, 2)
    assert table_rows(workspace, place) == [{"sku": "a", "price": 2}]


def test_dedup_sort_says_which_of_several_counts(workspace: Workspace, place: str) -> None:
    run = context(
        workspace,
        target=place,
        write_disposition="merge",
        primary_key="sku",
        dedup_sort={"changedAt": "desc", "price": "asc"},
    )
    rows = [{"sku": "a", "changedAt": at, "price": price} for at, price in ((1, 1), (2, 9), (2, 5), (None, 0))]
    load_rows(run, rows)
    assert table_rows(workspace, place) == [{"sku": "a", "changed_at": 2, "price": 5}]


def test_hard_delete_deletes_and_never_inserts(workspace: Workspace, place: str) -> None:
    settings = {"target": place, "write_disposition": "merge", "primary_key": "sku", "hard_delete": "gone"}
    load_rows(context(workspace, **settings), [{"sku": sku, "gone": False} for sku in "abc"])
    changes = [("a", True), ("b", None), ("never seen", True)]
    load_rows(context(workspace, day=2, **settings), [{"sku": sku, "gone": gone} for sku, gone in changes])
    assert {row["sku"] for row in table_rows(workspace, place)} == {"b", "c"}


def test_hard_delete_by_a_column_that_is_no_truth_value(workspace: Workspace, place: str) -> None:
    settings = {"target": place, "write_disposition": "merge", "primary_key": "sku", "hard_delete": "deleted_at"}
    load_rows(context(workspace, fields={"deleted_at": "date"}, **settings), [{"sku": "a"}, {"sku": "b"}])
    load_rows(context(workspace, day=2, **settings), [{"sku": "a", "deleted_at": "2024-01-02"}])
    assert [row["sku"] for row in table_rows(workspace, place)] == ["b"]


def test_history_keeps_each_version_with_the_time_in_which_it_held(workspace: Workspace, place: str) -> None:
    settings = {"target": place, "write_disposition": "merge", "strategy": "scd2", "primary_key": "sku"}
    first, second = ([{"sku": "a", "price": 1}, {"sku": "b", "price": price}] for price in (2, 3))
    for day, rows in ((1, first), (2, second), (2, second), (3, second)):
        load_rows(context(workspace, day=day, **settings), rows)
    found = table_rows(workspace, place)
    assert {(row["sku"], row["price"]): row["valid_to"] is None for row in found} == {
        ("a", 1): True,
        ("b", 2): False,
        ("b", 3): True,
    }
    assert len(found) == 3
    old, new = (next(row for row in found if (row["sku"], row["price"]) == ("b", price)) for price in (2, 3))
    assert old["valid_from"] < old["valid_to"] == new["valid_from"]


def test_history_ends_for_a_row_that_is_gone_and_begins_anew_when_it_is_back(workspace: Workspace, place: str) -> None:
    settings = {"target": place, "write_disposition": "merge", "strategy": "scd2"}
    for day, skus in ((1, "ab"), (2, "a"), (3, "ab")):
        load_rows(context(workspace, day=day, **settings), [{"sku": sku} for sku in skus])
    found = [(row["sku"], row["valid_to"] is None) for row in table_rows(workspace, place)]
    assert sorted(found) == [("a", True), ("b", False), ("b", True)]


def test_a_column_that_is_added_ends_no_history_of_rows_without_it(workspace: Workspace, place: str) -> None:
    settings = {"target": place, "write_disposition": "merge", "strategy": "scd2"}
    load_rows(context(workspace, **settings), [{"sku": "a"}, {"sku": "b"}])
    load_rows(context(workspace, day=2, **settings), [{"sku": "a", "size": None}, {"sku": "b", "size": 4}])
    found = [(row["sku"], row["size"], row["valid_to"] is None) for row in table_rows(workspace, place)]
    assert sorted(found, key=repr) == [("a", None, True), ("b", 4, True), ("b", None, False)]


def test_columns_come_and_go(workspace: Workspace, place: str) -> None:
    load_rows(context(workspace, day=1, target=place), [{"sku": "a", "old": 1}])
    load_rows(context(workspace, day=2, target=place), [{"sku": "b", "new": "x"}])
    expected: list[Row] = [{"sku": "a", "old": 1, "new": None}, {"sku": "b", "old": None, "new": "x"}]
    assert table_rows(workspace, place) == in_order(expected)


@pytest.mark.parametrize("disposition", ["append", "replace", "merge"])
def test_names_that_sql_knows_and_odd_ones(workspace: Workspace, place: str, disposition: str) -> None:
    settings = {"target": place, "table": "order", "write_disposition": disposition, "primary_key": "select"}
    row = {"select": 1, 'a "quoted" name': "x", "Group By": 2, "user": "y", "%s": 3, "Größe": 4}
    for _ in range(2):
        load_rows(context(workspace, **settings), [row])
    assert list(table_rows(workspace, place, "order")[0].values()) == list(row.values())


def test_a_type_that_the_table_has_is_not_changed(workspace: Workspace, place: str) -> None:
    load_rows(context(workspace, target=place), [{"price": 1}])
    with pytest.raises(LookbookError, match=re.escape("has the column price as bigint; its fields say double")):
        load_rows(context(workspace, day=2, target=place, fields={"price": "double"}), [{"price": 2}])
    assert table_rows(workspace, place) == [{"price": 1}]


def test_readers_of_the_warehouse_see_feeds(workspace: Workspace) -> None:
    load_rows(context(workspace), [{"price": 1}])
    tables = workspace.warehouse.query("SHOW ALL TABLES").to_pylist()
    assert ("feeds", "prices") in {(table["schema"], table["name"]) for table in tables}
