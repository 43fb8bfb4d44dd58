"""Random batches, loaded into each database and into a small reference in Python: the same rows stand there."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from lookbook.blocks.duckdb.warehouse import DuckDBWarehouse
from lookbook.blocks.workspace import Workspace
from tests.support.feeds import Row, context, forget_feeds, in_order, load_rows, table_rows

FIELDS = {"id": "bigint", "rank": "bigint", "name": "text", "gone": "bool"}
ROWS = st.fixed_dictionaries(
    {
        "id": st.integers(1, 4) | st.none(),
        "rank": st.integers(1, 3) | st.none(),
        "name": st.sampled_from(["", "a", "Ä\n", "'\"\\,", None]),
        "gone": st.sampled_from([True, False, None]),
    }
)
BATCHES = st.lists(st.tuples(st.integers(1, 3), st.lists(ROWS, max_size=6)), min_size=1, max_size=4)
LOADS = st.sampled_from(
    [
        {"write_disposition": "append"},
        {"write_disposition": "replace"},
        {"write_disposition": "merge", "primary_key": "id"},
        {"write_disposition": "merge", "primary_key": ["id", "name"]},
        {"write_disposition": "merge", "primary_key": "id", "hard_delete": "gone"},
        {"write_disposition": "merge", "primary_key": "id", "dedup_sort": {"rank": "asc", "name": "desc"}},
        {"write_disposition": "merge", "primary_key": "id", "dedup_sort": {"rank": "desc"}, "hard_delete": "gone"},
    ]
)


class Reference:
    """A table as the words of a spec mean it."""

    def __init__(self, load: dict[str, Any]) -> None:
        self.load = load
        key = load.get("primary_key", ())
        self.key = [key] if isinstance(key, str) else list(key)
        self.rows: list[tuple[int, Row]] = []

    def take(self, batch: int, rows: list[Row]) -> None:
        """Load a batch."""
        if self.load["write_disposition"] == "replace":
            self.rows = [(batch, row) for row in rows]
        elif self.load["write_disposition"] == "append":
            # No rows change nothing, also where the batch had some before.
            kept = [pair for pair in self.rows if pair[0] != batch] if rows else self.rows
            self.rows = kept + [(batch, row) for row in rows]
        else:
            self._merge(batch, rows)

    def _merge(self, batch: int, rows: list[Row]) -> None:
        counting: dict[tuple[Any, ...], Row] = {}
        for row in rows:
            key = tuple(row[name] for name in self.key)
            if None not in key and (key not in counting or not self._before(counting[key], row)):
                counting[key] = row
        self.rows = [pair for pair in self.rows if tuple(pair[1][name] for name in self.key) not in counting]
        deletes = self.load.get("hard_delete")
        self.rows += [(batch, row) for row in counting.values() if not (deletes and row[deletes])]

    def _before(self, one: Row, other: Row) -> bool:
        """Whether `one`, which came earlier, counts before the other."""
        for name, way in self.load.get("dedup_sort", {}).items():
            mine, theirs = one[name], other[name]
            if mine == theirs:
                continue
            if mine is None or theirs is None:
                return bool(theirs is None)
            return bool((mine < theirs) == (way == "asc"))
        return False


@pytest.mark.parametrize("place", ["warehouse", "registry"])
@given(load=LOADS, batches=BATCHES)
@settings(
    max_examples=12,
    deadline=None,
    phases=[Phase.explicit, Phase.reuse, Phase.generate],
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
def test_the_table_is_what_the_words_mean(
    workspace: Workspace, place: str, load: dict[str, Any], batches: list[tuple[int, list[Row]]]
) -> None:
    forget_feeds(workspace.registry)
    assert isinstance(workspace.warehouse, DuckDBWarehouse)
    workspace.warehouse.path.unlink(missing_ok=True)
    reference = Reference(load)
    for day, rows in batches:
        load_rows(context(workspace, day=day, target=place, fields=FIELDS, **load), rows)
        reference.take(day, rows)
    if any(rows for _, rows in batches) and _made(load, batches):
        assert table_rows(workspace, place) == in_order([row for _, row in reference.rows])


def _made(load: dict[str, Any], batches: list[tuple[int, list[Row]]]) -> bool:
    """Whether any row could make the table: without its key, none of a merge does."""
    key = load.get("primary_key", ())
    names = [key] if isinstance(key, str) else list(key)
    return any(all(row[name] is not None for name in names) for _, rows in batches for row in rows)
