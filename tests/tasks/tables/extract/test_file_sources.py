"""Sources of files: read whole, or each file once, whatever its time."""

from __future__ import annotations

import gzip
import json
import os
import threading
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from lookbook.blocks.errors import LookbookError, OutOfReachError
from lookbook.blocks.workspace import Workspace
from lookbook.tasks.tables.context import load_id
from lookbook.tasks.tables.extract import extract, file_sources, files, taken_inputs
from lookbook.tasks.tables.extract.csv_files import read_csv
from tests.support.extracting import context_of, kill_extract, load_task, rejects_of, run_and_commit, values_of

FILE = {"source": {"type": "file", "path": "in/*.csv"}}
OBJECTS = {"source": {"type": "objects", "path": "in/*.json"}}


@pytest.fixture(autouse=True)
def _no_waiting(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(file_sources, "SETTLE", timedelta(0))


def write(folder: Path, name: str, data: str | bytes, at: int | None = None) -> Path:
    path = folder / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data.encode() if isinstance(data, str) else data)
    if at is not None:
        os.utime(path, (at, at))
    return path


def numbers(workspace: Workspace, staged: Any) -> list[int]:
    return [row["n"] for row in values_of(workspace, staged)]


def test_all_files_of_a_pattern_are_one_stage(workspace: Workspace, tmp_path: Path) -> None:
    write(tmp_path, "in/a.csv", "x,y\n1,2\n")
    write(tmp_path, "in/b.csv", "y,z\n3,4\n5\n")
    staged = extract(context_of(workspace, tmp_path, {"extract": FILE}), "extract")
    assert values_of(workspace, staged) == [{"x": "1", "y": "2"}, {"y": "3", "z": "4"}]
    assert staged.groups[""].inputs == ("in/a.csv", "in/b.csv")
    assert [(row["_input"], row["_line"], row["rule"]) for row in rejects_of(workspace, staged)] == [
        ("in/b.csv", 3, "ragged_row")
    ]


def test_placeholders_stand_for_the_date_and_for_params(workspace: Workspace, tmp_path: Path) -> None:
    write(tmp_path, "in/2026/03/berlin.csv", "x\n1\n")
    task = {"source": {"type": "file", "path": "in/{year}/{month}/{city}.csv"}}
    context = context_of(workspace, tmp_path, {"extract": task}, params={"city": "berlin"})
    assert values_of(workspace, extract(context, "extract")) == [{"x": "1"}]


def test_a_file_that_is_missing_is_an_error_that_names_it(workspace: Workspace, tmp_path: Path) -> None:
    with pytest.raises(LookbookError, match=r"in/\*\.csv"):
        extract(context_of(workspace, tmp_path, {"extract": FILE}), "extract")
    staged = extract(context_of(workspace, tmp_path, {"extract": OBJECTS}), "extract")
    assert (staged.groups[""].rows, staged.unchanged) == (0, False)


def test_a_file_that_cannot_be_read_is_an_error_and_leaves_no_stage(workspace: Workspace, tmp_path: Path) -> None:
    write(tmp_path, "in/a.csv", "x,y\n1,2\n")
    write(tmp_path, "in/b.csv", gzip.compress(b"x,y\n" + b"1,2\n" * 9999, mtime=0)[:-10])
    context = context_of(workspace, tmp_path, {"extract": FILE})
    with pytest.raises(LookbookError, match=r"in/b\.csv.*damaged_file"):
        extract(context, "extract")
    write(tmp_path, "in/b.csv", "x,y\n3,4\n")
    assert len(values_of(workspace, extract(context, "extract"))) == 2


def test_a_file_that_changes_while_it_is_read_is_tried_again(
    workspace: Workspace, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = write(tmp_path, "in/a.csv", "x,y\n1,2\n")

    def slowly(*arguments: Any) -> Any:
        yield from read_csv(*arguments)
        with path.open("ab") as file:
            file.write(b"3,4\n")

    monkeypatch.setattr(files, "read_csv", slowly)
    with pytest.raises(OutOfReachError, match="changed while"):
        extract(context_of(workspace, tmp_path, {"extract": FILE}), "extract")


def test_each_object_is_taken_once_whatever_its_time(workspace: Workspace, tmp_path: Path) -> None:
    tasks = {"extract": OBJECTS, "load": load_task()}
    write(tmp_path, "in/a.json", '{"n":1}', at=1000)
    write(tmp_path, "in/b.json", '{"n":2}', at=1000)
    first, states = run_and_commit(context_of(workspace, tmp_path, tasks))
    assert numbers(workspace, first) == [1, 2]
    assert states["extract"]["taken"] == 2
    assert datetime.fromisoformat(states["extract"]["watermark"]) == datetime.fromtimestamp(1000, UTC)
    write(tmp_path, "in/c.json", '{"n":3}', at=1000)  # of the same time
    write(tmp_path, "in/d.json", '{"n":4}', at=10)  # of long before
    second, states = run_and_commit(context_of(workspace, tmp_path, tasks, states))
    assert numbers(workspace, second) == [4, 3]
    third, after = run_and_commit(context_of(workspace, tmp_path, tasks, states))
    assert (numbers(workspace, third), after) == ([], states)


def test_an_object_that_changed_is_taken_again(workspace: Workspace, tmp_path: Path) -> None:
    tasks = {"extract": OBJECTS}
    write(tmp_path, "in/a.json", '{"n":1}', at=1000)
    _, states = run_and_commit(context_of(workspace, tmp_path, tasks))
    write(tmp_path, "in/a.json", '{"n":1}{"n":2}', at=1000)
    staged, states = run_and_commit(context_of(workspace, tmp_path, tasks, states))
    assert numbers(workspace, staged) == [1, 2]
    assert numbers(workspace, run_and_commit(context_of(workspace, tmp_path, tasks, states))[0]) == []


def test_what_was_not_committed_is_taken_again_by_the_same_batch(workspace: Workspace, tmp_path: Path) -> None:
    tasks = {"extract": OBJECTS, "load": load_task()}
    write(tmp_path, "in/a.json", '{"n":1}')
    context = context_of(workspace, tmp_path, tasks)
    staged = extract(context, "extract")
    write(tmp_path, "in/b.json", '{"n":2}')
    assert extract(context, "extract") == staged, "a run that goes on takes up its stage"
    anew = context_of(workspace, tmp_path, tasks, generation=1)
    assert sorted(numbers(workspace, extract(anew, "extract"))) == [1, 2]
    assert load_id(anew, "load") == load_id(context, "load")
    _, states = run_and_commit(anew)
    assert load_id(context_of(workspace, tmp_path, tasks, states), "load") != load_id(context, "load")


def test_what_a_failed_run_staged_serves_no_later_date(workspace: Workspace, tmp_path: Path) -> None:
    tasks = {"extract": OBJECTS, "load": load_task()}
    write(tmp_path, "in/a.json", '{"n":1}')
    failed = context_of(workspace, tmp_path, tasks)
    extract(failed, "extract")
    write(tmp_path, "in/a.json", '{"n":2}')  # corrected
    later = context_of(workspace, tmp_path, tasks, logical_date=failed.logical_date + timedelta(days=1))
    assert numbers(workspace, extract(later, "extract")) == [2]
    assert load_id(later, "load") == load_id(failed, "load"), "what the failed run loaded is replaced"


def test_pipelines_and_tasks_take_for_themselves(workspace: Workspace, tmp_path: Path) -> None:
    write(tmp_path, "in/a.json", '{"n":1}')
    context = context_of(workspace, tmp_path, {"extract": OBJECTS, "other": OBJECTS})
    run_and_commit(context)
    assert numbers(workspace, run_and_commit(context, "other")[0]) == [1]


def test_taken_inputs_tell_what_and_when(workspace: Workspace, tmp_path: Path) -> None:
    path = write(tmp_path, "in/a.json", '{"n":1}', at=1000)
    context = context_of(workspace, tmp_path, {"extract": OBJECTS})
    (taken,) = taken_inputs(workspace.lake, extract(context, "extract"))
    assert taken.input == "in/a.json"
    assert str(path.stat().st_mtime_ns) in taken.fingerprint
    assert taken.modified == datetime.fromtimestamp(1000, UTC)


def test_an_object_that_cannot_be_read_is_one_reject_and_is_not_taken_again(
    workspace: Workspace, tmp_path: Path
) -> None:
    write(tmp_path, "in/a.json", gzip.compress(b'{"n":1}' * 9999, mtime=0)[:-10])
    write(tmp_path, "in/b.json", '{"n":2}')
    context = context_of(workspace, tmp_path, {"extract": OBJECTS})
    staged, states = run_and_commit(context)
    assert numbers(workspace, staged) == [2]
    assert [(row["rule"], row["_input"]) for row in rejects_of(workspace, staged)] == [("damaged_file", "in/a.json")]
    again = run_and_commit(context_of(workspace, tmp_path, {"extract": OBJECTS}, states))[0]
    assert (again.groups[""].rows, again.groups[""].rejected) == (0, 0)


def test_objects_of_the_lake_are_taken_once(workspace: Workspace, tmp_path: Path) -> None:
    tasks = {"extract": {"source": {"type": "objects", "path": "lake://drop/**/*.json"}}}
    workspace.lake.put("drop/a.json", b'{"n":1}')
    staged, states = run_and_commit(context_of(workspace, tmp_path, tasks))
    assert numbers(workspace, staged) == [1]
    workspace.lake.put("drop/later/b.json", b'{"n":2}')
    staged, states = run_and_commit(context_of(workspace, tmp_path, tasks, states))
    assert numbers(workspace, staged) == [2]
    assert states["extract"]["taken"] == 2


def test_many_objects_are_remembered(workspace: Workspace, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("lookbook.tasks.tables.extract.stage_rows.CHUNK", 7)
    for number in range(30):
        write(tmp_path, f"in/{number:02}.json", json.dumps({"n": number}))
    tasks = {"extract": OBJECTS}
    staged, states = run_and_commit(context_of(workspace, tmp_path, tasks))
    assert sorted(numbers(workspace, staged)) == list(range(30))
    write(tmp_path, "in/30.json", '{"n":30}')
    assert numbers(workspace, run_and_commit(context_of(workspace, tmp_path, tasks, states))[0]) == [30]


def test_a_file_that_is_being_written_is_left_to_the_next_run(
    workspace: Workspace, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(file_sources, "SETTLE", timedelta(seconds=60))
    growing = write(tmp_path, "in/a.json", '{"n":1}')
    write(tmp_path, "in/b.json", '{"n":2}')
    looked = threading.Event()

    def wait(seconds: float) -> None:
        assert seconds == 60
        looked.set()
        write(tmp_path, "in/a.json", '{"n":1}{"n":11}')

    monkeypatch.setattr("lookbook.tasks.tables.extract.file_sources.time.sleep", wait)
    staged, states = run_and_commit(context_of(workspace, tmp_path, {"extract": OBJECTS}))
    assert looked.is_set()
    assert numbers(workspace, staged) == [2]
    os.utime(growing, (1000, 1000))
    staged, _ = run_and_commit(context_of(workspace, tmp_path, {"extract": OBJECTS}, states))
    assert numbers(workspace, staged) == [1, 11]


def test_what_a_killed_run_had_taken_is_not_what_the_next_one_takes(
    workspace: Workspace, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = write(tmp_path, "in/a.json", '{"n":1}')
    context = context_of(workspace, tmp_path, {"extract": OBJECTS})
    kill_extract(context, monkeypatch)
    path.unlink()
    assert taken_inputs(workspace.lake, extract(context, "extract")) == []
