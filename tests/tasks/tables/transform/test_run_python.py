"""Python functions over staged rows: called by names, streamed, and their faults named without their data."""

from __future__ import annotations

import json
import sys
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from lookbook.blocks.errors import LookbookError
from lookbook.blocks.workspace import Workspace
from lookbook.tasks.tables.context import Context, Staged
from lookbook.tasks.tables.extract import extract
from lookbook.tasks.tables.transform import run_python
from lookbook.tasks.tables.transform.python_tasks import MAX_VALUE
from tests.support.extracting import context_of, load_task, rows_of, run_and_commit, values_of

CSV = {"source": {"type": "file", "path": "a.csv"}}
HEAD = """from __future__ import annotations
from collections.abc import Iterator
import pandas as pd
import pyarrow as pa
"""


@pytest.fixture
def a_csv(tmp_path: Path) -> Path:
    (tmp_path / "a.csv").write_text("id,qty\n" + "".join(f"{n},{n % 3}\n" for n in range(10)))
    return tmp_path


def prepared(workspace: Workspace, folder: Path, code: str, tasks: Any = None, **more: Any) -> Context:
    (folder / "code.py").write_text(HEAD + code)
    tasks = {"a": CSV} if tasks is None else tasks
    function = {"python": "code:f"} | ({"after": list(tasks)} if tasks else {}) | more.pop("function", {})
    return context_of(workspace, folder, tasks | {"f": function} | more.pop("later", {}), **more)


def run(workspace: Workspace, folder: Path, code: str, tasks: Any = None, **more: Any) -> Any:
    """Call the function ``f`` of this code over these extracts."""
    context = prepared(workspace, folder, code, tasks, **more)
    return run_python(context, "f", {name: extract(context, name) for name in context.pipeline.tasks["f"].after})


def rows(workspace: Workspace, staged: Any, group: str = "") -> list[dict[str, Any]]:
    assert isinstance(staged, Staged)
    return values_of(workspace, staged, group)


@pytest.mark.parametrize(
    "code",
    [
        "def f(a):\n    return a[a.qty == '1']",
        "def f(a: pd.DataFrame) -> pd.DataFrame:\n    return a.query('qty == \"1\"')",
        "def f(a: pa.Table) -> pa.Table:\n    return a.filter(pa.compute.equal(a['qty'], '1'))\nimport pyarrow.compute",
        "import pyarrow.compute as pc\ndef f(a: Iterator[pa.RecordBatch]):\n    for b in a:\n"
        "        yield b.filter(pc.equal(b['qty'], '1'))",
        "def f(a):\n    for _, one in a[a.qty == '1'].groupby('id'):\n        yield one",
        "def f(a):\n    return iter([pa.Table.from_pandas(a[a.qty == '1'], preserve_index=False)])",
        "class F:\n    def __call__(self, a):\n        return a[a.qty == '1']\nf = F()",
        "def f(**tables):\n    return tables['a'][tables['a'].qty == '1']",
    ],
)  # fmt: skip
def test_tables_come_and_go_in_several_forms(workspace: Workspace, a_csv: Path, code: str) -> None:
    staged = run(workspace, a_csv, code)
    assert [row["id"] for row in rows(workspace, staged)] == ["1", "4", "7"]
    (first, *_) = rows_of(workspace, staged.groups[""])
    assert (first["_input"], first["_line"]) == ("a.csv", 3)
    assert staged.groups[""].inputs == ("a.csv",)


def test_arguments_are_given_by_name(workspace: Workspace, a_csv: Path) -> None:
    code = """
def f(logical_date, params, *, a, config, b, more=7):
    return {"date": logical_date.isoformat(), "params": params, "config": config, "rows": len(a), "b": b, "more": more}
"""
    (a_csv / "b.py").write_text("def b(a):\n    return [len(a)]\n")
    tasks = {"a": CSV, "b": {"after": ["a"], "python": "b:b"}}
    context = prepared(workspace, a_csv, code, tasks, params={"x": 1}, config={"y": [2]})
    results: dict[str, Any] = {"a": extract(context, "a")}
    results["b"] = run_python(context, "b", results)
    assert run_python(context, "f", results) == {
        "date": "2026-03-01T14:00:00+00:00", "params": {"x": 1}, "config": {"y": [2]}, "rows": 10, "b": [10], "more": 7,
    }  # fmt: skip


def test_results_of_loads_are_for_order_only(workspace: Workspace, a_csv: Path) -> None:
    context = prepared(workspace, a_csv, "def f():\n    return 1", {"a": CSV, "load": load_task("a")},
                       function={"after": ["load"]})  # fmt: skip
    assert run_python(context, "f", {"load": ["whatever a load returns"]}) == 1


@pytest.mark.parametrize(
    ("code", "message"),
    [
        ("def f(b):\n    return b", "no parameter a"),
        ("def f(a, b):\n    return b", "parameter b that nothing is given for.*\n.*params, config, logical_date, a"),
        ("def f(a, b, /):\n    return b", "parameter"),
        ("def f(a: list[int]):\n    return a", r"annotated list\[int\]"),
        ("def g(a):\n    return a", "no function f"),
        ("f = 3", "no function f"),
        (
            "import not_there_at_all\ndef f(a):\n    return a",
            "importing it raised ModuleNotFoundError in code.py line 5",
        ),
        ("def f(a:\n", "SyntaxError in code.py line"),
        ("raise ValueError('hunter2')\ndef f(a):\n    return a", "importing it raised ValueError in code.py line 5"),
    ],
)
def test_functions_that_cannot_be_called_are_named(workspace: Workspace, a_csv: Path, code: str, message: str) -> None:
    with pytest.raises(LookbookError, match=message) as caught:
        run(workspace, a_csv, code)
    assert str(caught.value).startswith("code:f")
    assert "hunter2" not in str(caught.value)


FAILING = [
    "def f(a):\n    secret = 'hunter2'\n    return a['hunter' + '2']",
    "def f(a):\n    return int('hunter' + '2')",
    "def f(a):\n    yield a\n    raise ValueError('hunter' + '2')",
    "def g(a):\n    raise KeyError('hunter' + '2')\ndef f(a):\n    return g(a)",
]


@pytest.mark.parametrize("code", FAILING)
def test_faults_name_the_place_and_not_the_data(workspace: Workspace, a_csv: Path, code: str) -> None:
    line = code.split("\n").index(next(one for one in code.split("\n") if "+ '2'" in one)) + 5
    with pytest.raises(LookbookError, match=rf"code:f: it raised \w+ in code\.py line {line} \(\w\)") as caught:
        run(workspace, a_csv, code)
    error: BaseException | None = caught.value
    assert error is not None
    assert "hunter2" not in str(error)
    assert error.__cause__ is None
    assert error.__suppress_context__, "and no log shows the error that it came from"


def test_an_error_of_ours_passes_as_it_is(workspace: Workspace, a_csv: Path) -> None:
    code = "from lookbook.blocks.errors import *\ndef f(a):\n    raise LookbookError('No prices today.', 'Wait.')"
    with pytest.raises(LookbookError, match=r"^No prices today\.\nWait\.$"):
        run(workspace, a_csv, code)


def test_modules_beside_specs_do_not_collide(workspace: Workspace, a_csv: Path, tmp_path: Path) -> None:
    (a_csv / "deep" / "er").mkdir(parents=True)
    (a_csv / "deep" / "er" / "json.py").write_text(
        "import json\nfrom dataclasses import dataclass\nfrom . import helpers\n"
        "@dataclass\nclass D:\n    x: int\n"
        "def f(a):\n    return json.loads(helpers.TEXT) | {'x': D(1).x}\n"
    )
    (a_csv / "deep" / "er" / "helpers.py").write_text("TEXT = '{\"y\": 2}'\n")
    before = set(sys.modules)
    context = prepared(workspace, a_csv, "", function={"python": "deep.er.json:f"})
    assert run_python(context, "f", {"a": extract(context, "a")}) == {"x": 1, "y": 2}
    assert not {name for name in sys.modules if name.startswith("_lookbook_spec")}
    assert "helpers" not in set(sys.modules) - before
    del tmp_path


def test_a_changed_module_is_read_again(workspace: Workspace, a_csv: Path) -> None:
    for value in range(5):  # the same size, within a second
        assert run(workspace, a_csv, f"def f(a):\n    return {value}") == value


def test_an_installed_module_is_found(workspace: Workspace, a_csv: Path) -> None:
    context = prepared(workspace, a_csv, "", {}, function={"python": "json:loads"})
    with pytest.raises(LookbookError, match="json:loads has a parameter s"):
        run_python(context, "f", {})
    context = prepared(workspace, a_csv, "", {}, function={"python": "not_there.at_all:f"})
    with pytest.raises(LookbookError, match=r"no module not_there\.at_all.*\n.*not_there/at_all\.py"):
        run_python(context, "f", {})


def test_frames_keep_their_types(workspace: Workspace, tmp_path: Path) -> None:
    (tmp_path / "a.json").write_text(
        '[{"i": 9007199254740993, "b": true, "s": "x"}, {"i": null, "b": null, "s": null}]'
    )
    tasks = {"a": {"source": {"type": "file", "path": "a.json"}}}
    staged = run(workspace, tmp_path, "def f(a):\n    assert a.i[0] == 9007199254740993\n    return a", tasks)
    assert rows(workspace, staged) == [{"i": 9007199254740993, "b": True, "s": "x"}, {}]


def test_columns_of_frames_become_what_tables_have(workspace: Workspace, a_csv: Path) -> None:
    code = """
import datetime, decimal, numpy as np
def f(a):
    return pd.DataFrame({
        "mixed": [1, "x", None], "nested": [{"a": 1, "b": {"c": 2}}, None, {"a": 3}], "list": [[1], [], None],
        "category": pd.Categorical(["p", "q", "p"]), "dec": [decimal.Decimal("1.10"), None, decimal.Decimal("2")],
        "day": [datetime.date(2026, 1, 1)] * 3, "period": pd.period_range("2026-01", periods=3, freq="M"),
        "float": [1.5, float("nan"), 2.5], 7: [1, 2, 3], "z": [1 + 2j] * 3,
    })
"""
    found = rows(workspace, run(workspace, a_csv, code))
    assert [row.get("mixed") for row in found] == ["1", "x", None]
    assert [(row.get("nested__a"), row.get("nested__b__c")) for row in found] == [(1, 2), (None, None), (3, None)]
    assert [row.get("list") for row in found] == ["[1]", "[]", None]
    assert [row["category"] for row in found] == ["p", "q", "p"]
    assert [row.get("dec") for row in found] == [Decimal("1.10"), None, Decimal(2)]
    assert [row["period"] for row in found] == ["2026-01", "2026-02", "2026-03"]
    assert [row.get("float") for row in found] == [1.5, None, 2.5]
    assert [row["7"] for row in found] == [1, 2, 3]


def test_an_index_with_a_name_is_a_column(workspace: Workspace, a_csv: Path) -> None:
    found = rows(workspace, run(workspace, a_csv, "def f(a):\n    return a.groupby('qty').agg(n=('id', 'count'))"))
    assert found == [{"qty": "0", "n": 4}, {"qty": "1", "n": 3}, {"qty": "2", "n": 3}]


@pytest.mark.parametrize("value", ["None", "3", "'x'", "{}", "[]", "[{'a': 1}]", "{'a': {'b': [1.5, True, None]}}"])
def test_small_values_pass_as_they_are(workspace: Workspace, a_csv: Path, value: str) -> None:
    assert run(workspace, a_csv, f"def f(a):\n    return {value}") == eval(value)  # noqa: S307 - of this file


@pytest.mark.parametrize(
    ("value", "message"),
    [
        ("'x' * 2**20", f"{MAX_VALUE + 2} bytes"),
        ("{1, 2}", "set, which is neither"),
        ("float('nan')", "float, which is neither"),
        ("a['id']", "Series, which is neither"),
        ("{'x': a, 'y': 1}", "among them y"),
        ("{'x': a, 'X': a}", "two tables that get one name"),
        ("{'!': a}", "makes no name"),
        ("iter([1])", "yields a int"),
        ("pd.concat([a, a], axis=1)", "two columns"),
        ("a.assign(_line='x')", "_line"),
    ],
)
def test_what_cannot_be_passed_on_is_named(workspace: Workspace, a_csv: Path, value: str, message: str) -> None:
    with pytest.raises(LookbookError, match=f"^code:f .*{message}"):
        run(workspace, a_csv, f"def f(a):\n    return {value}")


def test_a_dict_of_tables_makes_groups(workspace: Workspace, a_csv: Path) -> None:
    code = "def f(a):\n    return {name: part[['id']] for name, part in a.groupby('qty')} | {'Post Created': a[:0]}"
    with pytest.raises(LookbookError, match="'0', which makes no name"):
        run(workspace, a_csv, code)
    code = "def f(a):\n    return {f'Qty {n}': part[['id']] for n, part in a.groupby('qty')} | {'Post Created': a[:0]}"
    staged = run(workspace, a_csv, code)
    assert set(staged.groups) == {"", "qty_0", "qty_1", "qty_2"}
    assert rows(workspace, staged, "qty_1") == [{"id": "1"}, {"id": "4"}, {"id": "7"}]
    (a_csv / "code.py").write_text(HEAD + code)
    assert run(workspace, a_csv, code) == staged


def split(folder: Path) -> dict[str, Any]:
    records = [{"event": "a", "v": 1}, {"event": "b", "w": 2}, {"event": "a", "v": 3}]
    (folder / "e.json").write_text("".join(map(json.dumps, records)))
    return {"e": {"source": {"type": "file", "path": "e.json"}, "split_by": "event"}, "a": CSV}


def test_it_is_called_for_each_group_of_a_split(workspace: Workspace, a_csv: Path) -> None:
    staged = run(workspace, a_csv, "def f(e, a):\n    return e.assign(n=len(a))", split(a_csv))
    assert {group for group in staged.groups if group} == {"a", "b"}
    assert rows(workspace, staged, "a") == [{"event": "a", "v": 1, "n": 10}, {"event": "a", "v": 3, "n": 10}]
    assert rows(workspace, staged, "b") == [{"event": "b", "w": 2, "n": 10}]
    assert run(workspace, a_csv, "def f(e, a):\n    return len(e)", split(a_csv)) == {"a": 2, "b": 1}
    with pytest.raises(LookbookError, match="split already"):
        run(workspace, a_csv, "def f(e, a):\n    return {'x': e}", split(a_csv))


def test_without_rows_it_is_not_called(workspace: Workspace, tmp_path: Path) -> None:
    tasks = {"a": {"source": {"type": "objects", "path": "none/*.csv"}}}
    staged = run(workspace, tmp_path, "def f(a):\n    raise AssertionError", tasks)
    assert (staged.groups[""].rows, staged.groups[""].files) == (0, ())


def test_a_function_streams_in_bounded_batches(
    workspace: Workspace, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("lookbook.tasks.tables.transform.python_tasks.ROWS", 1000)
    (tmp_path / "a.csv").write_text("n\n" + "".join(f"{n}\n" for n in range(10_000)))
    code = """
def f(a: Iterator[pa.RecordBatch]):
    for batch in a:
        assert batch.num_rows <= 1000
        yield batch
"""
    assert [row["n"] for row in rows(workspace, run(workspace, tmp_path, code))] == [str(n) for n in range(10_000)]


def test_batches_of_files_that_differ_have_the_same_columns(
    workspace: Workspace, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("lookbook.tasks.tables.extract.stage_rows.ROWS", 1)
    (tmp_path / "1.json").write_text('{"n": 1}')
    (tmp_path / "2.json").write_text('{"n": 1.5, "m": "x"}')
    tasks = {"a": {"source": {"type": "file", "path": "*.json"}}}
    code = "def f(a: Iterator[pa.RecordBatch]):\n    return sorted({str(b.schema.types) for b in a})"
    assert len(run(workspace, tmp_path, code, tasks)) == 1


def extracting(workspace: Workspace, folder: Path, code: str, states: Any = None, **function: Any) -> Context:
    load = function.pop("load", {})
    return prepared(workspace, folder, code, {}, function=function, later={"load": load_task("f", **load)},
                    states=states, generation=1 if states else 0)  # fmt: skip


def test_without_after_it_extracts(workspace: Workspace, tmp_path: Path) -> None:
    code = "def f(params, logical_date):\n    yield pd.DataFrame({'n': [1, 2]})\n    yield pa.table({'n': [3]})"
    context = extracting(workspace, tmp_path, code)
    staged = run_python(context, "f", {})
    assert isinstance(staged, Staged)
    assert staged.groups[""].folder.startswith("raw/p/f/")
    assert [(row["n"], row["_input"], row["_line"]) for row in rows_of(workspace, staged.groups[""])] == [
        (1, "python://code:f", 1), (2, "python://code:f", 2), (3, "python://code:f", 3),
    ]  # fmt: skip
    (tmp_path / "code.py").write_text("raise AssertionError")
    assert run_python(extracting(workspace, tmp_path, code), "f", {}) == staged


def commit(context: Context) -> dict[str, Any]:
    staged = run_python(context, "f", {})
    assert isinstance(staged, Staged)
    return {"f": json.loads(json.dumps(dict(staged.groups[""].state)))}


def test_what_it_extracts_is_compared_too(workspace: Workspace, tmp_path: Path) -> None:
    code = "def f():\n    return pd.DataFrame({'n': [1, 2]})"
    states = commit(extracting(workspace, tmp_path, code, skip_unchanged=True))
    again = run_python(
        extracting(workspace, tmp_path, code.replace("1, 2", "2, 1"), states, skip_unchanged=True), "f", {}
    )
    other = run_python(
        extracting(workspace, tmp_path, code.replace("1, 2", "1, 3"), states, skip_unchanged=True), "f", {}
    )
    assert [isinstance(one, Staged) and one.unchanged for one in (again, other)] == [True, False]


def test_what_it_extracts_is_incremental_too(workspace: Workspace, tmp_path: Path) -> None:
    code = "def f():\n    return pd.DataFrame({'n': [1, 2]})"
    load = {"incremental": {"cursor": "n"}}
    states = commit(extracting(workspace, tmp_path, code, load=load))
    staged = run_python(extracting(workspace, tmp_path, code.replace("1, 2", "1, 2, 3"), states, load=load), "f", {})
    assert rows(workspace, staged) == [{"n": 3}]


def test_an_extract_and_a_function_share_the_stage_of_their_names(workspace: Workspace, a_csv: Path) -> None:
    staged, _ = run_and_commit(prepared(workspace, a_csv, "def f(a):\n    return a"), "a")
    assert len(rows(workspace, staged)) == 10


def test_code_that_nobody_closes_is_closed(workspace: Workspace, a_csv: Path, capsys: Any) -> None:
    code = "def f(a):\n    try:\n        yield a\n        yield 3\n    finally:\n        print('closed')"
    with pytest.raises(LookbookError):
        run(workspace, a_csv, code)
    assert capsys.readouterr().out == "closed\n"
