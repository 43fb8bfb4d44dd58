"""From rows to a stage: split, compared with the last one, taken up again, within bounds."""

from __future__ import annotations

import json
import random
from datetime import timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest

from lookbook.blocks.errors import LookbookError
from lookbook.blocks.workspace import Workspace
from lookbook.tasks.tables.extract import extract, file_sources, stage_rows
from lookbook.tasks.tables.extract.pieces import as_json
from lookbook.tasks.tables.staging import read_stage
from tests.support.extracting import context_of, kill_extract, load_task, rejects_of, rows_of, run_and_commit, values_of

EVENTS = {"source": {"type": "file", "path": "e.json"}, "split_by": "event"}
SKIPPING = {"source": {"type": "file", "path": "f.csv"}, "skip_unchanged": True}


@pytest.fixture(autouse=True)
def _no_waiting(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(file_sources, "SETTLE", timedelta(0))


def events(*records: Any) -> str:
    return "".join(map(json.dumps, records))


def test_one_stream_becomes_a_table_for_each_event(workspace: Workspace, tmp_path: Path) -> None:
    (tmp_path / "e.json").write_text(
        events(
            {"event": "Post Created", "post": {"id": 1, "title": "x"}},
            {"event": "UserFollowed", "follower": 3},
            {"event": "post created", "post": {"id": 2}},
            {"event": None, "id": 4},
            {"id": 5},
            {"event": "!?", "id": 6},
            {"event": "2nd", "id": 7},
        )
    )
    staged = extract(context_of(workspace, tmp_path, {"extract": EVENTS}), "extract")
    assert set(staged.groups) == {"", "post_created", "user_followed"}
    assert values_of(workspace, staged, "post_created") == [
        {"event": "Post Created", "post__id": 1, "post__title": "x"},
        {"event": "post created", "post__id": 2},
    ]
    (followed,) = rows_of(workspace, staged.groups["user_followed"])
    assert set(followed) == {"event", "follower", "_input", "_line"}, "no columns of other events"
    assert staged.groups[""].rows == 0
    rejects = rejects_of(workspace, staged)
    assert sorted((row["rule"], row["_line"]) for row in rejects) == [
        ("bad_group", 6),
        ("bad_group", 7),
        ("no_group", 4),
        ("no_group", 5),
    ]
    assert {json.loads(row["raw"]).get("id") for row in rejects} == {"4", "5", "6", "7"}


def test_a_split_stage_is_taken_up_with_its_groups_and_without_those_of_a_killed_run(
    workspace: Workspace, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "e.json").write_text(events({"event": "a", "n": 1}, {"event": "b", "n": 2}))
    context = context_of(workspace, tmp_path, {"extract": EVENTS})
    kill_extract(context, monkeypatch)
    (tmp_path / "e.json").write_text(events({"event": "a", "n": 3}))
    staged = extract(context, "extract")
    assert set(staged.groups) == {"", "a"}
    (tmp_path / "e.json").unlink()
    assert extract(context, "extract") == staged


def test_a_file_that_is_not_there_any_more_is_not_asked_where_its_stage_is(
    workspace: Workspace, tmp_path: Path
) -> None:
    (tmp_path / "f.csv").write_text("a\n1\n")
    context = context_of(workspace, tmp_path, {"extract": SKIPPING})
    staged = extract(context, "extract")
    (tmp_path / "f.csv").unlink()
    assert extract(context, "extract") == staged
    with pytest.raises(LookbookError):
        extract(context_of(workspace, tmp_path, {"extract": SKIPPING}, generation=1), "extract")


def test_the_same_rows_in_another_order_are_unchanged(workspace: Workspace, tmp_path: Path) -> None:
    lines = [f"{number},x{number % 3},{number / 7}" for number in range(500)]
    (tmp_path / "f.csv").write_text("a,b,c\n" + "\n".join(lines))
    first, states = run_and_commit(context_of(workspace, tmp_path, {"extract": SKIPPING}))
    assert not first.unchanged
    order = random.Random(1).sample(lines, len(lines))  # noqa: S311
    shuffled = [",".join(reversed(line.split(","))) for line in order]
    (tmp_path / "f.csv").write_text("c,b,a\n" + "\n".join(shuffled))
    second, after = run_and_commit(context_of(workspace, tmp_path, {"extract": SKIPPING}, states, generation=1))
    assert (second.unchanged, after) == (True, states)
    assert extract(context_of(workspace, tmp_path, {"extract": SKIPPING}, states, generation=1), "extract").unchanged


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ({"code": "a", "Code": "x"}, {"code": "x", "Code": "a"}),
        ({"code": "a", "Code": "x"}, {"code": "a", "Code": "y"}),
        ({"d": Decimal("1.123456789012345678")}, {"d": Decimal("1.123456789012345679")}),
    ],
)
def test_what_differs_in_the_case_of_a_name_or_in_a_late_digit_is_a_change(
    workspace: Workspace, tmp_path: Path, before: Any, after: Any
) -> None:
    task = {"source": {"type": "file", "path": "f.json"}, "skip_unchanged": True}
    (tmp_path / "f.json").write_text(as_json(before))
    _, states = run_and_commit(context_of(workspace, tmp_path, {"extract": task}))
    (tmp_path / "f.json").write_text(as_json(after))
    assert not extract(context_of(workspace, tmp_path, {"extract": task}, states, generation=1), "extract").unchanged


@pytest.mark.parametrize(
    "content", ["a,b\n1,2\n", "a,b\n1,2\n3,4\n3,4\n", "a,c\n1,2\n3,4\n", "a,b\n1,2\n3,5\n", "a,b\n1,2\n3,4\nx\n"],
    ids=["a row less", "a row twice", "another name", "another value", "a reject more"],
)  # fmt: skip
def test_other_content_is_a_change(workspace: Workspace, tmp_path: Path, content: str) -> None:
    (tmp_path / "f.csv").write_text("a,b\n1,2\n3,4\n")
    _, states = run_and_commit(context_of(workspace, tmp_path, {"extract": SKIPPING}))
    (tmp_path / "f.csv").write_text(content)
    context = context_of(workspace, tmp_path, {"extract": SKIPPING}, states, generation=1)
    assert not extract(context, "extract").unchanged


def test_unchanged_is_compared_for_split_rows_too(workspace: Workspace, tmp_path: Path) -> None:
    task = EVENTS | {"skip_unchanged": True}
    one, two = {"event": "a", "n": 1}, {"event": "b", "n": 2}
    (tmp_path / "e.json").write_text(events(one, two))
    _, states = run_and_commit(context_of(workspace, tmp_path, {"extract": task}))
    (tmp_path / "e.json").write_text(events(two, one))
    assert extract(context_of(workspace, tmp_path, {"extract": task}, states, generation=1), "extract").unchanged
    (tmp_path / "e.json").write_text(events(two, one | {"event": "b"}))
    assert not extract(context_of(workspace, tmp_path, {"extract": task}, states, generation=2), "extract").unchanged


def test_objects_are_unchanged_where_none_is_new_and_never_by_their_content(
    workspace: Workspace, tmp_path: Path
) -> None:
    tasks = {"extract": {"source": {"type": "objects", "path": "*.csv"}, "skip_unchanged": True}, "load": load_task()}
    (tmp_path / "a.csv").write_text("a\n1\n")
    first, states = run_and_commit(context_of(workspace, tmp_path, tasks))
    assert not first.unchanged
    second, states = run_and_commit(context_of(workspace, tmp_path, tasks, states))
    assert second.unchanged
    (tmp_path / "b.csv").write_text("a\n1\n")
    third, _ = run_and_commit(context_of(workspace, tmp_path, tasks, states))
    assert (third.unchanged, values_of(workspace, third)) == (False, [{"a": "1"}])


def test_columns_of_several_types_are_unified_and_files_are_few(
    workspace: Workspace, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(stage_rows, "ROWS", 1)
    for number in range(20):
        record = {"n": number if number % 2 else number + 0.5, f"only_{number % 2}": True}
        (tmp_path / f"{number:02}.json").write_text(json.dumps(record))
    task = {"source": {"type": "file", "path": "*.json"}}
    staged = extract(context_of(workspace, tmp_path, {"extract": task}), "extract")
    assert len(staged.groups[""].files) <= 2
    assert [row["n"] for row in rows_of(workspace, staged.groups[""])] == [
        number if number % 2 else number + 0.5 for number in range(20)
    ]


def test_small_pieces_are_written_together(workspace: Workspace, tmp_path: Path) -> None:
    for number in range(50):
        (tmp_path / f"{number}.csv").write_text("a\n1\n")
    task = {"source": {"type": "file", "path": "*.csv"}}
    (file,) = extract(context_of(workspace, tmp_path, {"extract": task}), "extract").groups[""].files
    path = workspace.lake.local_copy(file.key, tmp_path)
    assert (file.rows, pq.ParquetFile(path).num_row_groups) == (50, 1)


def test_too_many_rejects_are_an_error_that_shows_one(
    workspace: Workspace, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(stage_rows, "MAX_REJECTS", 10)
    (tmp_path / "f.csv").write_text("a,b\n" + "1;2\n" * 11)
    with pytest.raises(LookbookError, match=r"f\.csv line \d+: ragged_row"):
        extract(context_of(workspace, tmp_path, {"extract": SKIPPING}), "extract")


def test_too_many_groups_are_an_error(workspace: Workspace, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stage_rows, "MAX_GROUPS", 3)
    (tmp_path / "e.json").write_text(events(*({"event": f"e{number}"} for number in range(5))))
    with pytest.raises(LookbookError, match=r"3 tables \(split_by event"):
        extract(context_of(workspace, tmp_path, {"extract": EVENTS}), "extract")


def test_a_stage_that_is_written_by_halves_is_none(workspace: Workspace, tmp_path: Path) -> None:
    (tmp_path / "f.csv").write_text("a,b\n1,2\n")
    context = context_of(workspace, tmp_path, {"extract": SKIPPING})
    staged = extract(context, "extract")
    workspace.lake.remove(f"{staged.groups[''].folder}/manifest.json")
    assert read_stage(workspace.lake, staged.groups[""].folder) is None
    assert extract(context, "extract") == staged
