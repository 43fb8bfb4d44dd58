"""Whatever is loaded into a table of the lake, and however often: it holds what the rules say, row by row."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from lookbook.blocks.lake import FolderLake
from lookbook.tasks.tables.lake.commit import LakeTables
from tests.support.lake_tables import in_order, lake_job, lake_rows

COLUMNS = {"key": "BIGINT", "part": "VARCHAR", "rank": "BIGINT", "gone": "BOOLEAN"}

ROWS = st.lists(
    st.fixed_dictionaries(
        {
            "key": st.sampled_from([1, 2, 3, 4, None]),
            "part": st.sampled_from(["a", "b", "c d", None]),
            "rank": st.integers(0, 3) | st.none(),
            "gone": st.sampled_from([False, False, None, True]),
        }
    ),
    max_size=6,
)
LOADS = st.lists(
    st.tuples(st.sampled_from(["append", "replace", "merge"]), st.sampled_from("xyz"), ROWS, st.integers(1, 2)),
    min_size=1,
    max_size=4,
)
Rows = list[dict[str, Any]]


class Reference:
    """A table as a list of rows, each with the load that brought it."""

    def __init__(self, primary_key: tuple[str, ...], dedup_sort: Mapping[str, str], *, deletes: bool) -> None:
        self.rows: list[tuple[str, dict[str, Any]]] = []
        self.primary_key = primary_key
        self.dedup_sort, self.deletes = dedup_sort, deletes

    def load(self, disposition: str, load_id: str, batch: Rows) -> int:
        """How many rows of the batch gave way to others."""
        if disposition == "replace":
            self.rows = []
        if disposition != "merge":
            self.rows = [each for each in self.rows if each[0] != load_id] + [(load_id, row) for row in batch]
            return 0
        winners: dict[Any, dict[str, Any]] = {}
        for row in batch:
            key = self.key(row)
            if key not in winners or self.comes_first(row, winners[key]):
                winners[key] = row
        self.rows = [each for each in self.rows if self.key(each[1]) not in winners]
        self.rows += [(load_id, row) for row in winners.values() if not (self.deletes and row["gone"])]
        return len(batch) - len(winners)

    def key(self, row: dict[str, Any]) -> tuple[Any, ...]:
        return tuple(row[name] for name in self.primary_key)

    def comes_first(self, later: dict[str, Any], former: dict[str, Any]) -> bool:
        for column, way in self.dedup_sort.items():
            one, other = later[column], former[column]
            if one != other:
                if one is None or other is None:
                    return other is None
                return bool(one < other) if way == "asc" else bool(one > other)
        return True


@settings(max_examples=25, deadline=None)
@given(
    loads=LOADS,
    partition_by=st.sampled_from([(), ("part",), ("part", "rank")]),
    primary_key=st.sampled_from([("key",), ("part", "key"), ("part", "rank")]),
    dedup_sort=st.sampled_from([{}, {"rank": "asc"}, {"rank": "desc"}, {"rank": "desc", "part": "asc"}]),
    deletes=st.booleans(),
)
def test_a_table_holds_what_the_loads_leave(
    loads: list[tuple[str, str, Rows, int]],
    partition_by: tuple[str, ...],
    primary_key: tuple[str, ...],
    dedup_sort: dict[str, str],
    deletes: bool,
) -> None:
    reference = Reference(primary_key, dedup_sort, deletes=deletes)
    with TemporaryDirectory() as name:
        folder = Path(name)
        lake = FolderLake(root=folder / "lake")
        tables = LakeTables(lake, folder / "scratch")
        for disposition, load_id, rows, times in loads:
            said: dict[str, Any] = {"write_disposition": disposition, "partition_by": partition_by}
            if disposition == "merge":
                said |= {"primary_key": primary_key, "dedup_sort": dedup_sort}
                said |= {"hard_delete": "gone"} if deletes else {}
            superseded = reference.load(disposition, load_id, rows)
            for _ in range(times):
                assert tables.load(lake_job(folder / "jobs", rows, COLUMNS, load_id, files=2, **said)) == superseded
            assert lake_rows(lake, folder) == in_order(row for _, row in reference.rows)
            state = tables.state("trips")
            assert state is not None
            assert state.rows == len(reference.rows)
            assert state.rows == sum(int(part["rows"]) for part in state.partitions) or not partition_by
