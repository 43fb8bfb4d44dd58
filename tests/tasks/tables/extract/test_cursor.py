"""Incremental extracts: rows that are new are taken, whatever the order and the batches in which they arrive."""

from __future__ import annotations

import json
from collections import Counter
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from lookbook.blocks.errors import LookbookError
from lookbook.blocks.workspace import Workspace
from lookbook.tasks.tables.context import load_id
from lookbook.tasks.tables.extract import cursor as cursors
from lookbook.tasks.tables.extract import extract
from lookbook.tasks.tables.extract.cursor import Cursor, exact_of, exact_value
from lookbook.tasks.tables.extract.pieces import Piece, located
from lookbook.tasks.tables.spec.tasks import Incremental
from tests.support.extracting import context_of, load_task, rejects_of, run_and_commit, values_of
from tests.support.sets import sampled

Row = tuple[Any, int]
START = datetime(2026, 1, 1, tzinfo=UTC)


def piece(rows: list[Row], cursor_type: pa.DataType | None = None) -> Piece:
    table = pa.table({"at": pa.array([at for at, _ in rows], cursor_type), "id": [number for _, number in rows]})
    return Piece(located(table, "source", pa.array(range(1, len(rows) + 1), pa.int64())))


def take(rows: list[list[Row]], state: dict[str, Any], incremental: Incremental, kind: Any = None) -> Any:
    """The rows that are taken of pieces, and the state behind them, which the registry keeps as JSON."""
    cursor = Cursor(incremental, state)
    taken: list[Row] = []
    for part in rows:
        found = cursor.take(piece(part, kind)).rows
        taken += [(row["at"], row["id"]) for row in found.to_pylist()] if found is not None else []
    return taken, json.loads(json.dumps(state | cursor.state()))


KINDS: dict[str, tuple[Any, Any]] = {
    "integers": (pa.int64(), lambda n: n),
    "large integers": (pa.int64(), lambda n: 2**60 + n),
    "floats": (pa.float64(), lambda n: n / 7),
    "decimals": (pa.decimal128(20, 3), lambda n: Decimal(n) / 8),
    "times with a zone": (pa.timestamp("us", "UTC"), lambda n: START + timedelta(seconds=n)),
    "times without a zone": (pa.timestamp("us"), lambda n: (START + timedelta(seconds=n)).replace(tzinfo=None)),
    "dates": (pa.date32(), lambda n: date(2026, 1, 1) + timedelta(days=n)),
    "text of numbers": (pa.string(), str),
    "text of times": (pa.string(), lambda n: (START + timedelta(seconds=n)).isoformat()),
}


@pytest.mark.parametrize("kind", sampled(KINDS, fast=["times without a zone", "dates", "text of numbers"]))
@settings(max_examples=40, deadline=None)
@given(
    steps=st.lists(st.integers(0, 2), min_size=1, max_size=12),
    cuts=st.lists(st.integers(0, 12), max_size=3),
    order=st.randoms(use_true_random=False),
    overlap=st.integers(0, 12),
)
@example(steps=[0, 0, 0, 1, 0], cuts=[2, 3, 4], order=None, overlap=5)
def test_without_a_lag_every_row_that_is_not_late_is_taken_exactly_once(
    kind: str, steps: list[int], cuts: list[int], order: Any, overlap: int
) -> None:
    """Rows come in the order of their cursors, many with equal ones; each fetch sees all so far, or the last of them.

    Rows with equal values of all columns are among them, and count as often as they are there.
    """
    arrow_type, value = KINDS[kind]
    rows, at = [], 0
    for number, step in enumerate(steps):
        at += step
        rows.append((value(at), number // 2))
    taken: Counter[Row] = Counter()
    state: dict[str, Any] = {}
    for border in [*sorted(cuts), len(rows)]:
        seen = rows[:border]
        # A source that is asked for new rows may leave out those below the watermark, but none at it.
        first = next((n for n, row in enumerate(seen) if row[0] == seen[-1][0]), 0) if seen else 0
        seen = seen[max(0, first - overlap) :] if taken == Counter(rows[:border]) else seen
        if order is not None:
            order.shuffle(seen)
        parts = [seen[: len(seen) // 2], seen[len(seen) // 2 :]]
        found, state = take(parts, state, Incremental(cursor="at"), arrow_type)
        taken.update(found)
        assert taken == Counter(rows[:border])


@settings(max_examples=100, deadline=None)
@given(
    arrivals=st.lists(st.tuples(st.integers(0, 50), st.integers(0, 9)), min_size=1, max_size=30),
    cuts=st.lists(st.integers(0, 30), max_size=4),
)
def test_with_a_lag_every_row_that_is_late_by_no_more_is_taken(
    arrivals: list[tuple[int, int]], cuts: list[int]
) -> None:
    lag = 10
    rows: list[Row] = []
    high = 0
    for number, (step, late) in enumerate(arrivals):
        high = max(high, step)
        rows.append((START + timedelta(seconds=high - late), number))
    taken: set[Row] = set()
    state: dict[str, Any] = {}
    for border in [*sorted(cuts), len(rows)]:
        incremental = Incremental(cursor="at", lag=timedelta(seconds=lag))
        found, state = take([rows[:border]], state, incremental, pa.timestamp("us", "UTC"))
        taken |= set(found)
    assert taken == set(rows)


def test_rows_below_the_watermark_are_left_out() -> None:
    _, state = take([[(1, 1), (5, 2)]], {}, Incremental(cursor="at"))
    found, after = take([[(4, 3), (6, 4), (5, 2), (5, 5)]], state, Incremental(cursor="at"))
    assert found == [(6, 4), (5, 5)]
    found, _ = take([[(6, 4)]], after, Incremental(cursor="at"))
    assert found == []


def test_with_a_lag_the_watermark_stays_the_highest_value() -> None:
    incremental = Incremental(cursor="at", lag=timedelta(seconds=3))
    _, state = take([[(10, 1)]], {}, incremental)
    found, state = take([[(8, 2), (6, 3)]], state, incremental)
    assert found == [(8, 2)]
    found, _ = take([[(7, 4)]], state, incremental)
    assert found == [(7, 4)]


def test_a_row_at_the_watermark_is_known_in_a_column_of_another_type() -> None:
    """As JSON has it: whole numbers in one batch, fractions beside them in the next."""
    _, state = take([[(1, 1), (2, 2)]], {}, Incremental(cursor="at"), pa.int64())
    found, _ = take([[(2, 2), (2.5, 3)]], state, Incremental(cursor="at"), pa.float64())
    assert found == [(2.5, 3)]


@pytest.mark.parametrize(("on_missing", "expected"), [("include", [(1, 1), (None, 2)]), ("exclude", [(1, 1)])])
def test_rows_without_a_value(on_missing: Any, expected: list[Row]) -> None:
    incremental = Incremental(cursor="at", on_missing=on_missing)
    found, state = take([[(1, 1), (None, 2)]], {}, incremental)
    assert found == expected
    assert take([[(None, 2)]], state, incremental)[0] == expected[1:]


def test_a_row_without_a_value_is_an_error_that_names_its_line() -> None:
    with pytest.raises(LookbookError, match="source line 2 has no value in at"):
        take([[(1, 1), (None, 2)]], {}, Incremental(cursor="at"))
    with pytest.raises(LookbookError, match="columns are at, id"):
        take([[(1, 1)]], {}, Incremental(cursor="updated_at"))


def test_the_cursor_may_be_named_as_the_table_names_it() -> None:
    table = pa.table({"updatedAt": [1, 2]})
    found = Cursor(Incremental(cursor="updated_at"), {}).take(
        Piece(located(table, "source", pa.array([1, 2], pa.int64())))
    )
    assert found.rows is not None
    assert found.rows.num_rows == 2


def test_values_that_are_none_become_rejects() -> None:
    cursor = Cursor(Incremental(cursor="at"), {})
    found = cursor.take(piece([("2026-01-01", 1), ("soon", 2), ("2026-01-02T00:00:00+01:00", 3)]))
    assert found.rows is not None
    assert found.rows.column("id").to_pylist() == [1, 3]
    (reject,) = found.rejects
    assert (reject.rule, reject.line, json.loads(reject.raw)) == ("bad_cursor", 2, {"at": "soon", "id": "2"})
    assert cursor.state()["cursor"]["watermark"] == "2026-01-02T00:00:00+01:00"


@pytest.mark.parametrize("value", [float("nan"), float("inf"), float("-inf")])
def test_numbers_that_are_none_become_rejects(value: float) -> None:
    found = Cursor(Incremental(cursor="at"), {}).take(piece([(1.0, 1), (value, 2)]))
    assert [reject.rule for reject in found.rejects] == ["bad_cursor"]


def test_a_column_that_does_not_grow_is_an_error() -> None:
    with pytest.raises(LookbookError, match="bool"):
        take([[(True, 1)]], {}, Incremental(cursor="at"))
    _, state = take([[(1, 1)]], {}, Incremental(cursor="at"))
    with pytest.raises(LookbookError, match="was a number before"):
        take([[(START, 1)]], state, Incremental(cursor="at"))


def test_too_many_rows_at_the_watermark_are_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cursors, "MAX_BOUNDARY", 5)
    with pytest.raises(LookbookError, match="smaller steps"):
        take([[(1, number) for number in range(6)]], {}, Incremental(cursor="at"))


@pytest.mark.parametrize(
    "value", [7, -(2**62), 1.1, Decimal("1.10"), START, START.replace(tzinfo=None, microsecond=4), date(2026, 1, 1)]
)
def test_exact_values_come_back(value: Any) -> None:
    text = exact_value(value)
    assert text is not None
    assert exact_of(text) == value
    assert type(exact_of(text)) is type(value)


def test_an_extract_of_files_takes_what_is_new(workspace: Workspace, tmp_path: Path) -> None:
    tasks = {
        "extract": {"source": {"type": "file", "path": "f.csv"}},
        "load": load_task(incremental={"cursor": "updated_at"}),
    }
    path = tmp_path / "f.csv"
    path.write_text("id,updatedAt\n1,2026-01-01\n2,2026-01-02 10:00\n")
    first, states = run_and_commit(context_of(workspace, tmp_path, tasks))
    assert [row["id"] for row in values_of(workspace, first)] == ["1", "2"]
    assert states["extract"]["cursor"]["watermark"] == "2026-01-02 10:00"
    path.write_text("id,updatedAt\n1,2026-01-01\n2,2026-01-02 10:00\n3,2026-01-02 10:00\n4,2026-01-03\n5,soon\n")
    context = context_of(workspace, tmp_path, tasks, states)
    second, after = run_and_commit(context)
    assert [row["id"] for row in values_of(workspace, second)] == ["3", "4"]
    assert [row["rule"] for row in rejects_of(workspace, second)] == ["bad_cursor"]
    assert load_id(context, "load") != load_id(context_of(workspace, tmp_path, tasks, after), "load")


def test_unchanged_with_a_lag_is_what_brings_the_same_again(workspace: Workspace, tmp_path: Path) -> None:
    tasks = {
        "extract": {"source": {"type": "file", "path": "f.csv"}, "skip_unchanged": True},
        "load": load_task(incremental={"cursor": "at", "lag": "1h"}, write_disposition="merge", primary_key="id"),
    }
    (tmp_path / "f.csv").write_text("id,at\n1,2026-01-01\n2,2026-01-02\n")
    _, states = run_and_commit(context_of(workspace, tmp_path, tasks))
    second, states = run_and_commit(context_of(workspace, tmp_path, tasks, states))
    assert (second.unchanged, second.groups[""].rows) == (False, 1), "the first had older rows, too"
    assert extract(context_of(workspace, tmp_path, tasks, states), "extract").unchanged
