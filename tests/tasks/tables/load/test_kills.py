"""A load that is killed at any point: run again, and every row is there once."""

from __future__ import annotations

from itertools import product
from typing import Any

import pytest

from lookbook.blocks.workspace import Workspace
from lookbook.tasks.tables.load import open_rejects
from tests.support.feeds import Row, context, in_order, load_rows, table_rows
from tests.support.killed_load import POINTS, load_killed
from tests.support.sets import sampled

FIRST: list[Row] = [{"sku": sku, "price": 1} for sku in ("a", "b")]
#: One changes, one is new, one is no row for this table.
SECOND: list[Row] = [{"sku": "b", "price": 2}, {"sku": "c", "price": 3}, {"sku": "d", "price": "dear"}]
FITTING: list[Row] = SECOND[:2]
DISPOSITIONS: dict[str, tuple[dict[str, Any], list[Row]]] = {
    "append": ({"write_disposition": "append"}, FIRST + FITTING),
    "replace": ({"write_disposition": "replace"}, FITTING),
    "merge": ({"write_disposition": "merge", "primary_key": "sku"}, [FIRST[0], *FITTING]),
    "history": ({"write_disposition": "merge", "strategy": "scd2"}, FIRST + FITTING),
}
#: Where a disposition's own statements run; the other points are the same for all.
WRITES = {
    "append": ("rows are about to be deleted", "rows are written, not committed"),
    "replace": ("rows are about to be deleted", "rows are written, not committed"),
    "merge": ("rows are landed", "rows are written, not committed"),
    "history": ("rows are landed", "rows are written, not committed"),
}
OTHERS = [point for point in POINTS if not any(point in points for points in WRITES.values())]


@pytest.mark.parametrize(
    ("place", "disposition"),
    sampled(product(("warehouse", "registry"), DISPOSITIONS), fast=[("warehouse", "merge"), ("registry", "append")]),
)
def test_killed_while_it_writes_and_run_again(workspace: Workspace, place: str, disposition: str) -> None:
    for point in WRITES[disposition]:
        check(workspace, place, disposition, point)


@pytest.mark.parametrize("point", sampled(OTHERS, fast=["rows are committed", "the books are open"]))
def test_killed_before_or_after_and_run_again(workspace: Workspace, point: str) -> None:
    check(workspace, "warehouse", "append", point)


def check(workspace: Workspace, place: str, disposition: str, point: str) -> None:
    """Load, load and be killed, load again: the table is never half of a load, and whole at the end."""
    own, expected = DISPOSITIONS[disposition]
    second = [{name: str(value) for name, value in row.items()} for row in SECOND]
    table = f"prices_{list(POINTS).index(point)}"
    settings = own | {"target": place, "table": table, "schema_contract": "discard_row"}
    load_rows(context(workspace, day=1, **settings), FIRST)
    assert load_killed(workspace, point, 2, second, settings), f"the load did not come to: {point}"
    assert _rows(workspace, place, table) in (in_order(FIRST), in_order(expected))
    result = load_rows(context(workspace, day=2, **settings), second)
    assert _rows(workspace, place, table) == in_order(expected)
    assert (result.rows, result.rejected) == (len(expected), 1)
    rejects = [reject for reject in open_rejects(workspace.registry, "feed") if reject["table_name"] == table]
    assert [reject["line"] for reject in rejects] == [4]


def _rows(workspace: Workspace, place: str, table: str) -> list[Row]:
    history = {"_row_hash", "valid_from", "valid_to"}
    rows = table_rows(workspace, place, table)
    return in_order([{name: row[name] for name in row if name not in history} for row in rows])
