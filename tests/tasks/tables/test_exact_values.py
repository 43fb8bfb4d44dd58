"""From source to table nothing changes in silence: no column has another one's values, no number is another number."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from blocks.errors import LookbookError
from blocks.workspace import Workspace
from tasks.tables.context import Context
from tasks.tables.extract import extract
from tasks.tables.load import LoadResult, load, open_rejects
from tests.support.extracting import context_of
from tests.support.feeds import table_rows

#: Small inputs from public reports; they are not part of the repository.
CASES = Path(__file__).parents[4] / "shared" / "cases" / "tables"


def context(workspace: Workspace, folder: Path, files: str | dict[str, str], **load_task: Any) -> Context:
    """A pipeline that loads files of a folder, which are made where their content is given."""
    for name, content in files.items() if isinstance(files, dict) else ():
        (folder / name).write_text(content)
    path = files if isinstance(files, str) else "*"
    source = {"type": "file", "path": path, "csv": load_task.pop("csv", {})}
    settings = {"after": ["extract"], "table": "prices"} | load_task
    return context_of(workspace, folder, {"extract": {"source": source}, "load": settings})


def loaded(run: Context) -> LoadResult:
    """What becomes of the rows."""
    (result,) = load(run, "load", [extract(run, "extract")])
    return result


def imported(
    workspace: Workspace, folder: Path, files: str | dict[str, str], place: str = "warehouse", **load_task: Any
) -> list[dict[str, Any]]:
    """The rows of the table that files become."""
    result = loaded(context(workspace, folder, files, target=place, **load_task))
    assert result.rows_in == result.rows_loaded + result.superseded + result.rejected
    return table_rows(workspace, place)


@pytest.fixture
def inputs(tmp_path: Path) -> Path:
    """A folder with nothing in it."""
    (tmp_path / "in").mkdir()
    return tmp_path / "in"


def case(name: str) -> Path:
    """An input that was handed to us."""
    if not (CASES / name).exists():
        pytest.skip("the shared cases are not here")
    return CASES


@pytest.mark.parametrize(
    ("files", "names"),
    [
        ({"a.csv": "id,code,Code\n1,a,x\n"}, {"'code'", "'Code'"}),
        ({"a.csv": "id,fee,Fee\n1,,2.5\n"}, {"'fee'", "'Fee'"}),
        ({"a.jsonl": '{"userId":"u1"}\n{"UserID":"u3"}\n'}, {"'userId'", "'UserID'"}),
        ({"a.csv": "fee\n1\n", "b.csv": "Fee\n2\n"}, {"'fee'", "'Fee'"}),
    ],
)
def test_columns_that_differ_in_case_are_an_error_that_names_both(
    workspace: Workspace, inputs: Path, files: dict[str, str], names: set[str]
) -> None:
    with pytest.raises(LookbookError) as caught:
        imported(workspace, inputs, files)
    assert all(name in caught.value.problem for name in names)


@pytest.mark.parametrize(
    "name",
    [
        "names-differ-in-case.csv",
        "names-differ-in-case.jsonl",
        "names-differ-in-case-empty.csv",
        "taxi-months/*.parquet",
    ],
)
def test_the_reported_columns_that_differ_in_case(workspace: Workspace, name: str) -> None:
    with pytest.raises(LookbookError, match="would get the name"):
        imported(workspace, case(name.partition("/")[0]), name)


def test_columns_that_differ_in_case_and_get_two_names_have_each_its_own_values(
    workspace: Workspace, inputs: Path
) -> None:
    rows = [{"n": 1, "userId": "a", "userid": "b"}, {"n": 2, "userid": "c"}, {"n": "x", "userId": "d", "userid": "e"}]
    settings: dict[str, Any] = {"fields": {"n": "bigint"}, "schema_contract": "discard_row"}
    loaded(context(workspace, inputs, {"a.json": json.dumps(rows)}, **settings))
    expected = [{"n": 1, "user_id": "a", "userid": "b"}, {"n": 2, "user_id": None, "userid": "c"}]
    assert table_rows(workspace, "warehouse") == expected
    (reject,) = open_rejects(workspace.registry, "p")
    assert json.loads(reject["raw"]) == {"n": "x", "userId": "d", "userid": "e"}


def test_one_spelling_in_several_files_is_one_column(workspace: Workspace, inputs: Path) -> None:
    files = {"a.csv": "Fee,x\n1,\n", "b.csv": "x,Fee\ny,2\n"}
    assert imported(workspace, inputs, files) == [{"fee": 1, "x": None}, {"fee": 2, "x": "y"}]
