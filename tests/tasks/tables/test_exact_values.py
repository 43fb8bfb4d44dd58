"""From source to table nothing changes in silence: no column has another one's values, no number is another number."""

from __future__ import annotations

import json
from dataclasses import replace
from datetime import UTC, date, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from lookbook.blocks.errors import LookbookError
from lookbook.blocks.workspace import Workspace
from lookbook.tasks.tables.context import Context, Staged
from lookbook.tasks.tables.extract import extract
from lookbook.tasks.tables.load import LoadResult, load, open_rejects, replay
from lookbook.tasks.tables.steps import outcome_of
from lookbook.tasks.tables.transform import run_python, run_sql
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
    settings: dict[str, Any] = {"fields": {"n": "bigint"}, "schema_contract": "discard_row", "reject_limit": 1}
    loaded(context(workspace, inputs, {"a.json": json.dumps(rows)}, **settings))
    expected = [{"n": 1, "user_id": "a", "userid": "b"}, {"n": 2, "user_id": None, "userid": "c"}]
    assert table_rows(workspace, "warehouse") == expected
    (reject,) = open_rejects(workspace.registry, "p")
    assert json.loads(reject["raw"]) == {"n": "x", "userId": "d", "userid": "e"}


def test_one_spelling_in_several_files_is_one_column(workspace: Workspace, inputs: Path) -> None:
    files = {"a.csv": "Fee,x\n1,\n", "b.csv": "x,Fee\ny,2\n"}
    assert imported(workspace, inputs, files) == [{"fee": 1, "x": None}, {"fee": 2, "x": "y"}]


BEYOND = 2**53 + 1
LONG = [20250000000000000001, 20250000000000000002]


@pytest.mark.parametrize("place", ["warehouse", "registry", "lake"])
@pytest.mark.parametrize("keys", [LONG, ["1.1", "1.10"], ["2", "2.00"], ["12E5", "1200000"], [BEYOND, BEYOND - 1, 1.5]])
def test_keys_that_are_two_texts_are_two_rows(workspace: Workspace, inputs: Path, place: str, keys: list[Any]) -> None:
    content = "order_no,v\n" + "".join(f"{key},x\n" for key in keys)
    settings: dict[str, Any] = {"write_disposition": "merge", "primary_key": "order_no", "target": place}
    result = loaded(context(workspace, inputs, {"a.csv": content}, **settings))
    assert (result.rows, result.superseded) == (len(keys), 0)


@pytest.mark.parametrize(
    ("name", "key", "rows"),
    [
        ("long-ids-as-key.csv", "order_no", 2),
        ("beyond-double.csv", "id", 3),
        ("ids-that-look-like-numbers.csv", "sku", 2),
    ],
)
def test_the_reported_ids_stay_as_they_stand(workspace: Workspace, name: str, key: str, rows: int) -> None:
    folder = case(name)
    found = imported(workspace, folder, name, write_disposition="merge", primary_key=key)
    header, *lines = (folder / name).read_text().split()
    ids = [place for place, column in enumerate(header.split(",")) if column not in ("amount", "v")]
    columns = header.split(",")
    assert {tuple(str(row[columns[place]]) for place in ids) for row in found} == {
        tuple(line.split(",")[place] for place in ids) for line in lines
    }
    assert len(found) == rows


@pytest.mark.parametrize(
    ("column", "kind"),
    [
        (["1.50", "2"], "DOUBLE"),
        (["1.0", "2.25", "1e-05"], "DOUBLE"),
        (["1.10", "1.1"], "VARCHAR"),
        (["1.5", "9007199254740993"], "VARCHAR"),
        (["12E5", "77"], "VARCHAR"),
    ],
)
def test_delimited_text_is_a_number_where_it_is_written_back_as_it_stands(
    workspace: Workspace, inputs: Path, column: list[str], kind: str
) -> None:
    run = context(workspace, inputs, {"a.csv": "v\n" + "\n".join(column)})
    assert loaded(run).columns["v"] == kind


@pytest.mark.parametrize("place", ["warehouse", "registry"])
def test_integers_beyond_a_double_stay_apart_beside_fractions_of_another_file(
    workspace: Workspace, inputs: Path, place: str
) -> None:
    files = {"a.json": f'{{"id": {BEYOND}}}{{"id": {BEYOND - 1}}}', "b.json": '{"id": 1.5}', "c.json": '{"id": 2}'}
    found = imported(workspace, inputs, files, place)
    assert sorted(row["id"] for row in found) == ["1.5", "2.0", str(BEYOND - 1), str(BEYOND)]


def test_integers_that_a_double_holds_are_numbers_beside_fractions(workspace: Workspace, inputs: Path) -> None:
    files = {"a.json": f'{{"v": {BEYOND - 1}}}{{"v": null}}', "b.json": '{"v": 1.5}', "c.json": '{"v": null}'}
    found = [row["v"] for row in imported(workspace, inputs, files)]
    assert sorted(value for value in found if value is not None) == [1.5, 2.0**53]


@pytest.mark.parametrize("place", ["warehouse", "registry"])
@pytest.mark.parametrize("kind", ["csv", "jsonl"])
def test_declared_decimals_are_exact_from_json_as_from_csv(
    workspace: Workspace, inputs: Path, place: str, kind: str
) -> None:
    numbers = ["12345678901234567.89", "1.123456789012345678", "1.1", "7", "1e-05"]
    lines = [f'{{"d": {number}}}' for number in numbers] if kind == "jsonl" else ["d", *numbers]
    files = {f"a.{kind}": "\n".join(lines)}
    found = imported(workspace, inputs, files, place, fields={"d": "decimal(38, 18)"})
    assert sorted(row["d"] for row in found) == sorted(map(Decimal, numbers))


def test_the_reported_decimals_are_exact_or_text(workspace: Workspace) -> None:
    numbers = {Decimal("12345678901234567.89"), Decimal("1.123456789012345678")}
    found = {Decimal(row["d"]) for row in imported(workspace, case("decimals.jsonl"), "decimals.jsonl")}
    assert found == numbers | {Decimal("1e400")}


def test_decimals_of_json_are_decimals_where_all_fit(workspace: Workspace, inputs: Path) -> None:
    run = context(workspace, inputs, {"a.json": '{"d": 1.123456789012345678}{"d": 1.5}{"d": 7}'})
    assert loaded(run).columns["d"] == "DECIMAL(19, 18)"
    assert {row["d"] for row in table_rows(workspace, "warehouse")} == {
        Decimal("1.123456789012345678"),
        Decimal("1.5"),
        7,
    }


def test_floats_and_decimals_of_several_files_are_text(workspace: Workspace, inputs: Path) -> None:
    files = {"a.json": '{"d": 1.5}', "b.json": '{"d": 12345678901234567.89}'}
    assert [row["d"] for row in imported(workspace, inputs, files)] == ["1.5", "12345678901234567.89"]


TEXTS = {"sku": "10001", "version": "1.10", "flag": "true", "day": "2025-01-01", "at": "2025-01-01T10:00:00Z"}


@pytest.mark.parametrize("kind", ["json", "jsonl", "parquet"])
@pytest.mark.parametrize("place", ["warehouse", "registry"])
def test_texts_of_a_source_that_has_types_stay_texts(workspace: Workspace, inputs: Path, kind: str, place: str) -> None:
    if kind == "parquet":
        pq.write_table(pa.Table.from_pylist([TEXTS]), inputs / "a.parquet")
    else:
        (inputs / f"a.{kind}").write_text(json.dumps(TEXTS))
    assert imported(workspace, inputs, "*", place) == [TEXTS]


def test_the_reported_texts_stay_texts(workspace: Workspace) -> None:
    folder = case("typed-texts.jsonl")
    lines = (folder / "typed-texts.jsonl").read_text().splitlines()
    assert imported(workspace, folder, "typed-texts.jsonl") == [json.loads(line) for line in lines]


def test_a_text_of_json_is_not_guessed_because_a_file_beside_it_is_delimited(
    workspace: Workspace, inputs: Path
) -> None:
    files = {"a.csv": "sku,n\n10001,1\n", "b.json": '{"sku": "1.10", "n": 2}'}
    assert imported(workspace, inputs, files) == [{"sku": "10001", "n": 1}, {"sku": "1.10", "n": 2}]


@pytest.mark.parametrize(
    ("sql", "row"),
    [
        ("SELECT id AS number, trim(day) AS day FROM a", {"number": 7, "day": date(2025, 1, 1)}),
        ("SELECT a.id, day, version FROM a, b", {"id": 7, "day": date(2025, 1, 1), "version": "1.10"}),
        ("SELECT a.id || '' AS made, version FROM a, b", {"made": "7", "version": "1.10"}),
        ("SELECT version FROM b", {"version": "1.10"}),
    ],
)
def test_texts_of_a_select_are_guessed_where_they_were_delimited(
    workspace: Workspace, inputs: Path, sql: str, row: dict[str, Any]
) -> None:
    (inputs / "a.csv").write_text("id,day\n7,2025-01-01\n")
    (inputs / "b.json").write_text('{"version": "1.10"}')
    (inputs / "t.sql").write_text(sql)
    names = [name for name, file in {"a": "a.csv", "b": "b.json"}.items() if f" {name}" in sql.partition("FROM")[2]]
    tasks: dict[str, Any] = {name: {"source": {"type": "file", "path": f"{name}.*"}} for name in names}
    tasks |= {"t": {"after": names, "sql": "t.sql"}, "load": {"after": ["t"], "table": "prices"}}
    run = context_of(workspace, inputs, tasks)
    load(run, "load", [run_sql(run, "t", {name: extract(run, name) for name in names})])
    assert table_rows(workspace, "warehouse") == [row]


FUNCTIONS = """
def same(a):
    return a

def made():
    import pandas
    return pandas.DataFrame({"version": ["1.10"]})
"""


@pytest.mark.parametrize(
    ("function", "files", "row"),
    [
        ("same", {"a.csv": "version\n1.5\n"}, {"version": 1.5}),
        ("same", {"a.json": '{"version": "1.5"}'}, {"version": "1.5"}),
        ("made", {}, {"version": "1.10"}),
    ],
)
def test_texts_of_a_function_are_guessed_where_they_were_delimited(
    workspace: Workspace, inputs: Path, function: str, files: dict[str, str], row: dict[str, Any]
) -> None:
    for name, content in ({"exact_functions.py": FUNCTIONS} | files).items():
        (inputs / name).write_text(content)
    tasks: dict[str, Any] = {"a": {"source": {"type": "file", "path": "a.*"}}} if files else {}
    tasks["f"] = {"after": list(tasks), "python": f"exact_functions:{function}"}
    run = context_of(workspace, inputs, tasks | {"load": {"after": ["f"], "table": "prices"}})
    staged = run_python(run, "f", {name: extract(run, name) for name in tasks if name != "f"})
    assert isinstance(staged, Staged)
    load(run, "load", [staged])
    assert table_rows(workspace, "warehouse") == [row]


@pytest.mark.parametrize(("name", "value"), [("a.csv", 7), ("a.jsonl", "7")])
def test_a_replay_guesses_as_the_load_would_have(workspace: Workspace, inputs: Path, name: str, value: Any) -> None:
    content = "id,v\n,7\n" if name == "a.csv" else '{"id": null, "v": "7"}\n'
    settings: dict[str, Any] = {"fields": {"id": {"type": "bigint", "nullable": False}}, "reject_limit": 1}
    assert loaded(context(workspace, inputs, {name: content}, **settings)).rejected == 1
    replay(context(workspace, inputs, "*", fields={"id": "bigint"}))
    assert table_rows(workspace, "warehouse") == [{"id": None, "v": value}]


def test_history_sees_a_digit_that_no_double_has(workspace: Workspace, inputs: Path) -> None:
    settings: dict[str, Any] = {"write_disposition": "merge", "strategy": "scd2", "fields": {"d": "decimal(38, 18)"}}
    for number in ("1.123456789012345678", "1.123456789012345679"):
        run = context(workspace, inputs, {"a.csv": f"d\n{number}\n"}, **settings)
        result = loaded(replace(run, generation=int(number[-1])))
    assert result.rows == 2


NUL = {"id": 1, "t": "a\0b", "j": [{"k": "c\0d"}], "slash": ["\\u0000"]}


@pytest.mark.parametrize("fields", [{}, {"j": "json", "slash": "json"}])
def test_a_nul_that_postgresql_cannot_hold_is_counted_and_told(
    workspace: Workspace, inputs: Path, fields: dict[str, str]
) -> None:
    files = {"a.jsonl": json.dumps(NUL) + '\n{"id": 2, "t": "ok"}'}
    run = context(workspace, inputs, files, target="registry", fields=fields)
    staged = extract(run, "extract")
    results = load(run, "load", [staged])
    assert results[0].replaced == ({"t": 1, "j": 1} if fields else {"t": 1})
    told = outcome_of(run, "load", {"extract": staged}, results, 0.0)
    assert "prices.t: NUL became U+FFFD (values: 1)" in told.line
    assert table_rows(workspace, "registry")[0]["t"] == "a\ufffdb"


def test_the_reported_nul_is_counted(workspace: Workspace) -> None:
    run = context(workspace, case("nul.jsonl"), "nul.jsonl", target="registry")
    assert loaded(run).replaced == {"t": 1}


def test_values_that_the_contract_discards_are_told(workspace: Workspace, inputs: Path) -> None:
    fields, contract = {"n": "bigint"}, "discard_value"
    run = context(workspace, inputs, {"a.csv": "n\nx\n1\n"}, fields=fields, schema_contract=contract)
    staged = extract(run, "extract")
    told = outcome_of(run, "load", {"extract": staged}, load(run, "load", [staged]), 0.0)
    assert "prices.n: discarded by the contract (values: 1)" in told.line


@pytest.mark.parametrize(
    ("content", "csv", "rows"),
    [
        ("sep=;\nid;size\n1;10,5\n2;9\n", {"decimal": ","}, [{"id": 1, "size": 10.5}, {"id": 2, "size": 9.0}]),
        ('"sep=,"\r\nid,size\r\n1,2;3\r\n', {}, [{"id": 1, "size": "2;3"}]),
        ("Extract\n\nid,price\n1,2.50\n", {"skip": 1}, [{"id": 1, "price": 2.5}]),
        ("a;b,c\nsep=|\nid|v\n1|x;y\n", {"skip": 1}, [{"id": 1, "v": "x;y"}]),
        ("id;n\n1;10,5\n2;1.5\n", {"decimal": ","}, [{"id": 1, "n": "10,5"}, {"id": 2, "n": "1.5"}]),
        ("id;n\n1;1.234,5\n", {"decimal": ","}, [{"id": 1, "n": "1.234,5"}]),
        (
            "1,5;2\n1,25;3\n",
            {"decimal": ",", "header": False},
            [{"column_1": v, "column_2": n} for v, n in ((1.25, 3), (1.5, 2))],
        ),
    ],
)
def test_what_stands_before_a_table_and_how_its_numbers_are_written(
    workspace: Workspace, inputs: Path, content: str, csv: dict[str, Any], rows: list[dict[str, Any]]
) -> None:
    assert imported(workspace, inputs, {"a.csv": content}, csv=csv) == rows


def test_numbers_with_a_decimal_comma_are_exact_decimals(workspace: Workspace, inputs: Path) -> None:
    files = {"a.csv": "d\n12345678901234567,89\n1,5\n"}
    found = imported(workspace, inputs, files, csv={"decimal": ",", "delimiter": ";"}, fields={"d": "decimal(38, 2)"})
    assert [row["d"] for row in found] == [Decimal("1.50"), Decimal("12345678901234567.89")]


def test_lines_are_counted_from_the_first_of_the_file(workspace: Workspace, inputs: Path) -> None:
    run = context(workspace, inputs, {"a.csv": "title\nsep=,\na,b\n1\n"}, csv={"skip": 1}, reject_limit=1)
    assert loaded(run).rejected == 1
    assert [reject["line"] for reject in open_rejects(workspace.registry, "p")] == [4]


def test_the_reported_sheets_are_tables(workspace: Workspace) -> None:
    folder = case("excel-sep.csv")
    assert imported(workspace, folder, "excel-sep.csv", csv={"decimal": ","}) == [
        {"id": 1, "size": 10.5},
        {"id": 2, "size": 9.0},
    ]
    title: dict[str, Any] = {"csv": {"skip": 2}, "write_disposition": "replace"}
    assert loaded(context(workspace, folder, "title-line.csv", **title | {"table": "titled"})).rows == 2
    assert table_rows(workspace, "warehouse", "titled") == [{"id": 1, "price": 2.5}, {"id": 2, "price": 3.0}]


@pytest.mark.parametrize(
    ("nanoseconds", "value"),
    [
        (1_672_531_200_123_456_000, datetime(2023, 1, 1, 0, 0, 0, 123456, UTC)),
        (1_672_531_200_123_456_789, "2023-01-01 00:00:00.123456789Z"),
    ],
)
def test_times_of_parquet_lose_no_nanosecond(
    workspace: Workspace, inputs: Path, nanoseconds: int, value: datetime | str
) -> None:
    pq.write_table(pa.table({"at": pa.array([nanoseconds], pa.timestamp("ns", "UTC"))}), inputs / "a.parquet")
    assert imported(workspace, inputs, "*") == [{"at": value}]
