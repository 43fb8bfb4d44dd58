"""Rejects are kept whole, and are taken up again when the spec or the table allows it."""

from __future__ import annotations

import json
from typing import Any

import pyarrow.parquet as pq
import pytest

from lookbook.blocks.errors import LookbookError
from lookbook.blocks.workspace import Workspace
from lookbook.tasks.tables.context import Staged
from lookbook.tasks.tables.load import load, open_rejects, replay
from tests.support.feeds import Row, context, in_order, load_rows, stage, table_rows

ROWS: list[Row] = [{"Sku No": "a", "price": "1"}, {"Sku No": "b", "price": "dear"}, {"Sku No": "c", "price": "1.5"}]
STRICT = {"schema_contract": "discard_row", "fields": {"price": "bigint"}}
WIDER = {"schema_contract": "discard_value"}


def strict(workspace: Workspace, **settings: Any) -> Any:
    """A run whose price is a whole number."""
    return context(workspace, **(STRICT | settings))


def test_a_reject_is_kept_whole(workspace: Workspace) -> None:
    result = load_rows(strict(workspace), ROWS)
    first, second = open_rejects(workspace.registry, "feed")
    assert json.loads(first["raw"]) == ROWS[1]
    assert (first["rule"], first["message"], first["input"], first["line"]) == (
        "data_type",
        "price: dear is no bigint",
        "rows.csv",
        3,
    )
    assert (first["load_id"], first["table_name"], first["place"]) == (result.load_id, "prices", "warehouse")
    path = workspace.lake.local_copy(f"rejects/feed/load/{result.load_id}-prices.parquet", workspace.scratch)
    in_lake = pq.read_table(path).to_pylist()
    assert {row["reject_id"] for row in in_lake} == {first["reject_id"], second["reject_id"]}


def test_rejects_of_a_batch_that_is_loaded_again_take_the_place_of_the_former(workspace: Workspace) -> None:
    for _ in range(2):
        load_rows(strict(workspace), ROWS)
    assert len(open_rejects(workspace.registry, "feed")) == 2
    result = load_rows(strict(workspace), ROWS[:1])
    assert open_rejects(workspace.registry, "feed") == []
    assert list(workspace.lake.list(f"rejects/feed/load/{result.load_id}")) == []


def test_rows_that_are_alike_are_rejects_each(workspace: Workspace) -> None:
    run = strict(workspace)
    rows = [row | {"_input": "x.csv", "_line": None} for row in [*ROWS, ROWS[1]]]
    assert load_rows(run, rows).rejected == 3
    assert len({reject["reject_id"] for reject in open_rejects(workspace.registry, "feed")}) == 3


def test_replay_loads_what_fits_now_and_keeps_the_rest(workspace: Workspace, place: str) -> None:
    load_rows(strict(workspace, target=place), ROWS)
    (result,) = replay(context(workspace, target=place, schema_contract={"data_type": "discard_row"}))
    assert (result.rows_in, result.rows_loaded, result.rejected) == (2, 0, 2)
    (result,) = replay(context(workspace, target=place))
    assert (result.rows_in, result.rows_loaded, result.rejected, result.rows) == (2, 2, 0, 3)
    assert open_rejects(workspace.registry, "feed") == []
    found = {row["sku_no"]: row["price__v_text"] for row in table_rows(workspace, place)}
    assert found == {"a": None, "b": "dear", "c": "1.5"}


def test_what_stays_breaks_the_rule_that_it_breaks_now(workspace: Workspace) -> None:
    fields = {"price": {"type": "bigint", "nullable": False}, "size": {"type": "bigint", "nullable": False}}
    load_rows(strict(workspace), [*ROWS, {"Sku No": "d", "price": None}])
    (result,) = replay(strict(workspace, fields=fields), "load")
    assert result.rejected == 2
    assert {reject["rule"] for reject in open_rejects(workspace.registry, "feed")} == {"data_type"}
    replay(context(workspace, schema_contract="discard_value", fields=fields))
    assert {(r["rule"], r["line"]) for r in open_rejects(workspace.registry, "feed")} == {
        ("data_type", 3),
        ("data_type", 4),
    }


def test_replay_twice_changes_nothing(workspace: Workspace) -> None:
    load_rows(strict(workspace), ROWS)
    replay(context(workspace, **WIDER))
    assert replay(context(workspace, **WIDER)) == []
    assert len(table_rows(workspace, "warehouse")) == 3


def test_a_replay_that_was_killed_before_its_books_is_done_again(
    workspace: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    load_rows(strict(workspace), ROWS)
    with monkeypatch.context() as patch:
        patch.setattr("lookbook.tasks.tables.load.loading._settle", lambda *_: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            replay(context(workspace, **WIDER))
    replay(context(workspace, **WIDER))
    assert len(table_rows(workspace, "warehouse")) == 3
    assert open_rejects(workspace.registry, "feed") == []


def test_a_batch_that_is_loaded_again_replaces_the_replay_of_its_rejects(workspace: Workspace, place: str) -> None:
    load_rows(strict(workspace, target=place), ROWS)
    replay(context(workspace, target=place, **WIDER))
    load_rows(context(workspace, target=place, **WIDER), ROWS)
    assert [row["sku_no"] for row in table_rows(workspace, place)] == ["a", "b", "c"]


def test_replay_adds_to_a_table_that_is_replaced(workspace: Workspace, place: str) -> None:
    load_rows(strict(workspace, target=place, write_disposition="replace"), ROWS)
    replay(context(workspace, target=place, write_disposition="replace", **WIDER))
    assert len(table_rows(workspace, place)) == 3
    load_rows(context(workspace, day=2, target=place, write_disposition="replace", **WIDER), ROWS[:1])
    assert len(table_rows(workspace, place)) == 1


def test_a_replace_leaves_no_rejects_of_former_rows(workspace: Workspace) -> None:
    for day in (1, 2):
        load_rows(strict(workspace, write_disposition="replace") if day == 1 else context(workspace, day=day), ROWS)
        load_rows(context(workspace, day=day, write_disposition="replace", **STRICT), ROWS)
    assert len(open_rejects(workspace.registry, "feed")) == 2


def test_replay_merges_by_key(workspace: Workspace) -> None:
    merge = {"write_disposition": "merge", "primary_key": "Sku No"}
    load_rows(strict(workspace, **merge), ROWS)
    replay(context(workspace, **merge, **WIDER))
    expected: list[Row] = [{"sku_no": "a", "price": 1}, {"sku_no": "b", "price": None}, {"sku_no": "c", "price": None}]
    assert table_rows(workspace, "warehouse") == in_order(expected)


def test_a_table_with_history_takes_no_single_rows(workspace: Workspace) -> None:
    history = {"write_disposition": "merge", "strategy": "scd2"}
    load_rows(strict(workspace, **history), ROWS)
    with pytest.raises(LookbookError, match="keeps its history"):
        replay(context(workspace, **history))
    assert len(open_rejects(workspace.registry, "feed")) == 2


def test_lines_that_are_no_rows_are_in_the_books_and_stay(workspace: Workspace) -> None:
    broken = {"rule": "fields", "message": "11 fields of 10", "raw": 'a,"b', "_input": "rows.csv", "_line": 9}
    run = strict(workspace)
    (result,) = load(run, "load", [Staged({"": stage(run, ROWS, rejects=[broken])})])
    assert (result.rows_in, result.rows_loaded, result.rejected) == (4, 1, 3)
    (replayed,) = replay(context(workspace, **WIDER))
    assert (replayed.rows_in, replayed.rows_loaded, replayed.rejected) == (3, 2, 1)
    assert replayed.unreadable == ("rows.csv line 9",)
    (left,) = open_rejects(workspace.registry, "feed")
    assert (left["raw"], left["message"]) == ('a,"b', "11 fields of 10")


def test_rejects_of_an_extract_further_up_are_in_the_books(workspace: Workspace) -> None:
    broken = {"rule": "fields", "message": "broken", "raw": "x", "_input": "rows.csv", "_line": 9}
    run = context(workspace)
    raw = Staged({"": stage(run, [], group="raw", rejects=[broken])})
    (result,) = load(run, "load", [Staged({"": stage(run, ROWS)})], extracted=[raw])
    assert (result.rows_in, result.rows_loaded, result.rejected) == (4, 3, 1)


def test_values_of_every_kind_come_back_from_a_reject(workspace: Workspace) -> None:
    row = {"id": 1, "big": 2**62, "price": 1.25, "ok": True, "name": 'Ä\n"', "tags": '["x"]', "gone": None}
    fields = {"must": {"type": "text", "nullable": False}, "price": "decimal(10,2)", "tags": "json"}
    load_rows(context(workspace, fields=fields), [row])
    load_rows(context(workspace, day=2, fields=fields | {"must": "text"}), [row | {"must": "x"}])
    replay(context(workspace, fields=fields | {"must": "text"}))
    first, second = table_rows(workspace, "warehouse")
    assert first | {"must": None} == second | {"must": None}


@pytest.mark.parametrize("events", [["followed"], []])
def test_rows_of_no_event_stand_in_the_books_and_stay_there(workspace: Workspace, events: list[str]) -> None:
    """Whether other rows of the batch had an event or none had: no table could be named for these."""
    run = context(workspace, table="web_{event}")
    lost = {"rule": "no_group", "message": "it has no event", "raw": '{"id": 7}', "_input": "a.json", "_line": 3}
    whole = Staged({"": stage(run, [], rejects=[lost])})
    groups = {event: stage(run, [{"id": 1}], event) for event in events}
    for _ in range(2):
        results = load(run, "load", [Staged(groups)], [whole])
        assert [(one.table, one.rows_in, one.rows_loaded, one.rejected) for one in results] == [
            ("web_{event}", 1, 0, 1),
            *[(f"web_{event}", 1, 1, 0) for event in events],
        ]
    (reject,) = open_rejects(workspace.registry, "feed")
    assert (reject["table_name"], reject["raw"], reject["line"]) == ("web_{event}", '{"id": 7}', 3)
    (again,) = replay(run)
    assert (again.rows_in, again.rows_loaded, again.rejected, again.unreadable) == (1, 0, 1, ("a.json line 3",))
    assert len(open_rejects(workspace.registry, "feed")) == 1
    load(run, "load", [Staged(groups)], [Staged({})])
    assert open_rejects(workspace.registry, "feed") == []
