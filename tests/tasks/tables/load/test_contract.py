"""The schema contract: every mode against columns that are new, missing, renamed or of another type."""

from __future__ import annotations

import json

import pytest

from lookbook.blocks.errors import LookbookError
from lookbook.blocks.workspace import Workspace
from lookbook.tasks.tables.load import open_rejects
from tests.support.feeds import Row, context, load_rows, table_rows

STANDING = [{"sku": "a", "price": 1}]
#: What the second batch brings.
BATCHES: dict[str, list[Row]] = {
    "new": [{"sku": "b", "price": 2, "size": 7}, {"sku": "c", "price": 3, "size": None}],
    "missing": [{"sku": "b"}, {"sku": "c"}],
    "renamed": [{"sku": "b", "cost": 2}, {"sku": "c", "cost": None}],
    "retyped": [{"sku": "b", "price": "2"}, {"sku": "c", "price": "dear"}],
}
B: Row = {"sku": "b"}
C: Row = {"sku": "c"}
NULL: Row = {"price": None}
#: For each mode and batch: the rows that are loaded, and the keys of those set aside; None: the load fails.
EXPECTED: dict[tuple[str, str], tuple[list[Row], list[str]] | None] = {
    ("evolve", "new"): ([B | {"price": 2, "size": 7}, C | {"price": 3, "size": None}], []),
    ("freeze", "new"): None,
    ("discard_row", "new"): ([C | {"price": 3}], ["b"]),
    ("discard_value", "new"): ([B | {"price": 2}, C | {"price": 3}], []),
    ("evolve", "renamed"): ([B | NULL | {"cost": 2}, C | NULL | {"cost": None}], []),
    ("freeze", "renamed"): None,
    ("discard_row", "renamed"): ([C | NULL], ["b"]),
    ("discard_value", "renamed"): ([B | NULL, C | NULL], []),
    ("evolve", "retyped"): (
        [B | {"price": 2, "price__v_text": None}, C | {"price": None, "price__v_text": "dear"}],
        [],
    ),
    ("freeze", "retyped"): None,
    ("discard_row", "retyped"): ([B | {"price": 2}], ["c"]),
    ("discard_value", "retyped"): ([B | {"price": 2}, C | NULL], []),
}
EXPECTED |= {(mode, "missing"): ([B | NULL, C | NULL], []) for mode, _ in list(EXPECTED)}


@pytest.mark.parametrize(("mode", "change"), EXPECTED, ids="-".join)
def test_contract(workspace: Workspace, mode: str, change: str) -> None:
    load_rows(context(workspace), STANDING)
    run = context(workspace, day=2, schema_contract=mode)
    expected = EXPECTED[mode, change]
    if expected is None:
        with pytest.raises(LookbookError, match="freezes that"):
            load_rows(run, BATCHES[change])
        assert table_rows(workspace, "warehouse") == STANDING
        return
    loaded, rejected = expected
    result = load_rows(run, BATCHES[change])
    found = table_rows(workspace, "warehouse")
    assert [row for row in found if row["sku"] != "a"] == loaded
    assert [json.loads(row["raw"])["sku"] for row in open_rejects(workspace.registry, "feed")] == rejected
    assert result.rejected == len(rejected)


@pytest.mark.parametrize("change", ["new", "renamed", "retyped"])
def test_freeze_names_column_value_file_and_line(workspace: Workspace, change: str) -> None:
    load_rows(context(workspace), STANDING)
    column, value, line = {"new": ("size", "7", 2), "renamed": ("cost", "2", 2), "retyped": ("price", "dear", 3)}[
        change
    ]
    with pytest.raises(LookbookError) as caught:
        load_rows(context(workspace, day=2, schema_contract="freeze"), BATCHES[change])
    for part in (column, repr(value), f"in rows.csv line {line}"):
        assert part in caught.value.problem


def test_a_contract_that_freezes_tables_makes_none(workspace: Workspace) -> None:
    with pytest.raises(LookbookError, match="no table prices"):
        load_rows(context(workspace, schema_contract={"tables": "freeze"}), STANDING)


def test_a_contract_lets_a_new_table_have_all_its_columns(workspace: Workspace) -> None:
    load_rows(context(workspace, schema_contract={"columns": "freeze"}, fields={"sku": "text"}), STANDING)
    assert table_rows(workspace, "warehouse") == STANDING


def test_declared_columns_are_new_to_no_contract(workspace: Workspace) -> None:
    load_rows(context(workspace), STANDING)
    load_rows(context(workspace, day=2, schema_contract="freeze", fields={"size": "bigint"}), BATCHES["new"])
    assert [row["size"] for row in table_rows(workspace, "warehouse")] == [None, 7, None]


def test_a_new_column_without_any_value_is_none(workspace: Workspace) -> None:
    load_rows(context(workspace), STANDING)
    load_rows(context(workspace, day=2, schema_contract="freeze"), [{"sku": "b", "price": 1, "size": None}])
    assert set(table_rows(workspace, "warehouse")[0]) == {"sku", "price"}


def test_values_that_are_discarded_are_counted(workspace: Workspace) -> None:
    load_rows(context(workspace), STANDING)
    run = context(workspace, day=2, schema_contract="discard_value")
    result = load_rows(run, [{"sku": "b", "price": "dear", "size": 1}, {"sku": "c", "price": "cheap", "size": None}])
    assert result.discarded == {"price": 2, "size": 1}


def test_a_variant_column_bears_the_type_of_its_values(workspace: Workspace) -> None:
    load_rows(context(workspace), STANDING)
    for day, value in ((2, 1.5), (3, 2.5)):
        load_rows(context(workspace, day=day), [{"sku": "b", "price": value}])
    assert [row["price__v_double"] for row in table_rows(workspace, "warehouse")] == [None, 1.5, 2.5]


@pytest.mark.parametrize("mode", ["evolve", "discard_row", "discard_value"])
def test_a_key_that_is_missing_or_of_another_type_is_rejected_in_every_mode(workspace: Workspace, mode: str) -> None:
    settings = {"write_disposition": "merge", "primary_key": "id", "schema_contract": mode}
    load_rows(context(workspace, **settings), [{"id": 1}])
    result = load_rows(context(workspace, day=2, **settings), [{"id": "x"}, {"id": None}, {"id": "2"}])
    assert [row["id"] for row in table_rows(workspace, "warehouse")] == [1, 2]
    rejects = open_rejects(workspace.registry, "feed")
    assert [(row["rule"], row["line"]) for row in rejects] == [("data_type", 2), ("not_null", 3)]
    assert result.rejected == 2


def test_a_field_that_is_not_nullable(workspace: Workspace) -> None:
    load_rows(context(workspace, fields={"price": {"type": "double", "nullable": False}}), [{"price": "1.5"}, {"x": 1}])
    (reject,) = open_rejects(workspace.registry, "feed")
    assert (reject["rule"], reject["message"]) == ("not_null", "price: no value, and the column needs one")


def test_a_key_that_no_row_has_is_an_error(workspace: Workspace) -> None:
    with pytest.raises(LookbookError, match="have no column sku, which primary_key names"):
        load_rows(context(workspace, write_disposition="merge", primary_key="sku"), [{"id": 1}])
