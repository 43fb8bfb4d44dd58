"""SQL over staged rows: one SELECT, sealed off, of tables as they were staged."""

from __future__ import annotations

import json
from datetime import datetime
from decimal import Decimal
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import pytest

from lookbook.blocks.errors import LookbookError
from lookbook.blocks.workspace import Workspace
from lookbook.tasks.tables.context import Context, Staged
from lookbook.tasks.tables.extract import extract
from lookbook.tasks.tables.transform import run_sql
from tests.support.extracting import context_of, rows_of, values_of

CSV = {"source": {"type": "file", "path": "a.csv"}}


def run(workspace: Workspace, folder: Path, sql: str, tasks: dict[str, Any] | None = None, **more: Any) -> Staged:
    """Do `sql` over these extracts."""
    (folder / "t.sql").write_text(sql)
    tasks = tasks or {"a": CSV}
    context = context_of(workspace, folder, tasks | {"t": {"after": list(tasks), "sql": "t.sql"}}, **more)
    return run_sql(context, "t", {name: extract(context, name) for name in tasks})


@pytest.fixture
def a_csv(tmp_path: Path) -> Path:
    (tmp_path / "a.csv").write_text("id,qty\n" + "".join(f"{n},{n % 3}\n" for n in range(10)))
    return tmp_path


def test_tasks_are_tables(workspace: Workspace, a_csv: Path) -> None:
    (a_csv / "b.json").write_text('[{"id": 1, "tags": ["x"]}, {"id": 2, "name": {"first": "y"}}]')
    tasks = {"a": CSV, "b": {"source": {"type": "file", "path": "b.json"}}}
    sql = "-- first\nSELECT a.id, qty, b.* EXCLUDE (id) FROM a JOIN b ON b.id = a.id::INT ORDER BY ALL;\n-- last"
    staged = run(workspace, a_csv, sql, tasks)
    rows = rows_of(workspace, staged.groups[""])
    assert [(row["id"], row["qty"], row["tags"], row["name__first"]) for row in rows] == [
        ("1", "1", '["x"]', None),
        ("2", "2", None, "y"),
    ]
    assert rows[0]["_input"] == "b.json"
    assert staged.groups[""].inputs == ("a.csv", "b.json")
    assert staged.groups[""].folder.startswith("transformed/p/t/")


def test_the_date_and_params_are_values(workspace: Workspace, a_csv: Path) -> None:
    sql = "SELECT $logical_date AS at, $limit AS n, $names AS names, id FROM a WHERE id::INT < $limit AND $name = 'x'"
    date = datetime(2026, 3, 1, 9, tzinfo=ZoneInfo("Europe/Berlin"))
    params = {"limit": 2, "name": "x", "names": ["a", "b"], "unused": None}
    rows = values_of(workspace, run(workspace, a_csv, sql, params=params, logical_date=date))
    assert rows == [{"at": date, "n": 2, "names": '["a","b"]', "id": str(number)} for number in range(2)]


@pytest.mark.parametrize(
    "sql",
    [
        "", "-- nothing", "SELECT 1; SELECT 2", "DROP TABLE a", "COPY a TO 'x.csv'", "SET threads = 1", "DESCRIBE a",
        "INSERT INTO a VALUES (1)", "ATTACH 'x.db'", "PRAGMA version", "SELECT 1; DROP VIEW a",
    ],
)  # fmt: skip
def test_anything_but_one_select_is_refused(workspace: Workspace, a_csv: Path, sql: str) -> None:
    with pytest.raises(LookbookError, match=r"t\.sql is not one SELECT"):
        run(workspace, a_csv, sql)


def test_a_select_that_writes_over_what_it_reads_is_refused(workspace: Workspace, a_csv: Path) -> None:
    writing = "WITH w AS MATERIALIZED (COPY (FROM a) TO 'x.csv' (FORMAT csv, USE_TMP_FILE false)) SELECT 1 AS one"
    with pytest.raises(LookbookError, match=r"only reads|not one SELECT"):
        run(workspace, a_csv, writing)


@pytest.mark.parametrize(
    ("sql", "message"),
    [
        ("SELECT id,\n  nope\nFROM a", r"t\.sql line 2: .*\"nope\" not found"),
        ("SELECT id\nFROM nope", r"t\.sql line 2: .*Table with name nope does not exist"),
        ("SELECT id\n\nFROM FROM a", r"t\.sql line 3: .*syntax error"),
        ("SELECT\nCAST(id || 'x' AS INT) FROM a", r"t\.sql line 2: .*'0x'"),
        ("SELECT $nope FROM a", r"t\.sql names \$nope.*\n.*\$low, \$logical_date"),
        ("SELECT 'open", r"t\.sql"),
        ("SELECT sum(9223372036854775807::BIGINT) AS s FROM a", r"t\.sql.*out of range"),
    ],
)
def test_errors_name_the_file_and_its_line(workspace: Workspace, a_csv: Path, sql: str, message: str) -> None:
    with pytest.raises(LookbookError, match=message):
        run(workspace, a_csv, sql, params={"low": 1})


def test_a_file_that_is_not_there_is_named(workspace: Workspace, a_csv: Path) -> None:
    context = context_of(workspace, a_csv, {"a": CSV, "t": {"after": ["a"], "sql": "no.sql"}})
    with pytest.raises(LookbookError, match=r"no\.sql cannot be read: No such file"):
        run_sql(context, "t", {"a": extract(context, "a")})


@pytest.mark.parametrize(
    "reading",
    [
        "read_csv('{folder}/secret.csv')", "read_text('{folder}/secret.csv')", "'{folder}/secret.csv'",
        "read_parquet('{lake}/raw/**/*.parquet')", "glob('{folder}/*')", "read_csv('https://example.org/x.csv')",
        "context", "inputs",
    ],
)  # fmt: skip
def test_nothing_but_the_tables_is_in_reach(workspace: Workspace, a_csv: Path, reading: str) -> None:
    (a_csv / "secret.csv").write_text("s\n1\n")
    source = reading.format(folder=a_csv, lake=a_csv / "home" / "lake")
    with pytest.raises(LookbookError, match=r"t\.sql"):
        run(workspace, a_csv, f"SELECT * FROM {source}")


def test_types_that_tables_have_not_become_others(workspace: Workspace, a_csv: Path) -> None:
    sql = """SELECT sum(qty::BIGINT) AS total, list(id ORDER BY id) AS ids, {'a': 1, 'b': [2]} AS s,
        MAP {'k': 1.5} AS m,
        'x'::ENUM ('x', 'y') AS e, '{"a": 1}'::JSON AS j, 'a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11'::UUID AS u,
        1.50::DECIMAL(10, 2) AS d FROM a WHERE id::INT < 2"""
    (row,) = values_of(workspace, run(workspace, a_csv, sql))
    assert row == {
        "total": 1, "ids": '["0","1"]', "s": '{"a":1,"b":[2]}', "m": '{"k":1.5}', "e": "x", "j": '{"a": 1}',
        "u": "a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11", "d": Decimal("1.50"),
    }  # fmt: skip


def test_columns_of_one_name_get_numbers(workspace: Workspace, a_csv: Path) -> None:
    rows = values_of(
        workspace, run(workspace, a_csv, "SELECT x.id, y.id FROM a x JOIN a y USING (id) WHERE x.id = '3'")
    )
    assert rows == [{"id": "3", "id_1": "3"}]


@pytest.mark.parametrize(
    ("sql", "wanted"),
    [
        ("SELECT n::INT AS n, md5(n) AS m FROM a WHERE n::INT % 2 = 0", range(0, 300_000, 2)),
        ("SELECT n::INT AS n, md5(n) AS m, sum(1) OVER () AS s FROM a ORDER BY n::INT DESC", range(299_999, -1, -1)),
    ],
    ids=["as they came", "as it asks for"],
)
def test_the_order_of_rows_stays(
    workspace: Workspace, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, sql: str, wanted: range
) -> None:
    monkeypatch.setattr("lookbook.tasks.tables.staging.FILE_BYTES", 200_000)
    (tmp_path / "a.csv").write_text("n\n" + "".join(f"{n}\n" for n in range(300_000)))
    staged = run(workspace, tmp_path, sql)
    assert len(staged.groups[""].files) > 2
    assert [row["n"] for row in rows_of(workspace, staged.groups[""])] == list(wanted)


def test_it_is_done_once_for_a_batch_and_again_for_other_sql(workspace: Workspace, a_csv: Path) -> None:
    first = run(workspace, a_csv, "SELECT id FROM a")
    assert run(workspace, a_csv, "SELECT id FROM a") == first
    again = run(workspace, a_csv, "SELECT id, qty FROM a")
    assert again.groups[""].folder != first.groups[""].folder
    assert set(values_of(workspace, again)[0]) == {"id", "qty"}


def test_it_is_done_for_each_group_of_a_split(workspace: Workspace, a_csv: Path) -> None:
    records = [{"event": "a", "v": 1}, {"event": "b", "w": 2}, {"event": "a", "v": 3}]
    (a_csv / "e.json").write_text("".join(map(json.dumps, records)))
    tasks = {"e": {"source": {"type": "file", "path": "e.json"}, "split_by": "event"}, "a": CSV}
    staged = run(workspace, a_csv, "SELECT e.*, (SELECT count(*) FROM a) AS n FROM e", tasks)
    assert set(staged.groups) == {"a", "b"}
    assert values_of(workspace, staged, "a") == [{"event": "a", "v": 1, "n": 10}, {"event": "a", "v": 3, "n": 10}]
    assert values_of(workspace, staged, "b") == [{"event": "b", "w": 2, "n": 10}]
    (a_csv / "e.json").write_text("")
    context_again = run(workspace, a_csv, "SELECT e.*, (SELECT count(*) FROM a) AS n FROM e", tasks, generation=1)
    assert dict(context_again.groups) == {}


NOTHING = {"source": {"type": "objects", "path": "none/*.json"}}


@pytest.mark.parametrize(
    ("sql", "rows"),
    [
        ("SELECT id, date_trunc('day', happened) AS day FROM e", []),
        ("SELECT count(*) AS n FROM e", [{"n": 0}]),
        ("SELECT a.id, e.name FROM a LEFT JOIN e ON e.id = a.id WHERE a.id = '1'", [{"id": "1"}]),
        ("SELECT id, x.name FROM a LEFT JOIN e AS x USING (id) WHERE qty = '0' AND id = '3'", [{"id": "3"}]),
        ("SELECT id FROM a WHERE id = '1' UNION ALL BY NAME SELECT id, name FROM e", [{"id": "1"}]),
        ("SELECT * FROM e", []),
    ],
)
def test_a_task_without_rows_has_the_columns_that_are_asked_for(
    workspace: Workspace, a_csv: Path, sql: str, rows: list[Any]
) -> None:
    tasks = {"a": CSV, "e": NOTHING} if "FROM a" in sql else {"e": NOTHING}
    assert values_of(workspace, run(workspace, a_csv, sql, tasks)) == rows


def test_what_is_no_table_is_none(workspace: Workspace, a_csv: Path) -> None:
    (a_csv / "t.sql").write_text("SELECT count(*) AS n FROM a")
    tasks = {"a": CSV, "p": {"python": "x:f"}, "t": {"after": ["a", "p"], "sql": "t.sql"}}
    context: Context = context_of(workspace, a_csv, tasks)
    staged = run_sql(context, "t", {"a": extract(context, "a"), "p": {"value": 1}})
    assert values_of(workspace, staged) == [{"n": 10}]


def test_columns_that_differ_in_case_are_seen_apart(workspace: Workspace, tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text("id,code,Code\n1,a,x\n")
    sql = "SELECT Code_1 AS upper, code_2 AS lower, * FROM a"
    (row,) = values_of(workspace, run(workspace, tmp_path, sql))
    assert row == {"upper": "x", "lower": "a", "id": "1", "code_2": "a", "Code_1": "x"}
    with pytest.raises(LookbookError, match="code_2"):
        run(workspace, tmp_path, "SELECT code FROM a")


def test_columns_of_a_result_that_sql_takes_for_one_keep_their_values(workspace: Workspace, a_csv: Path) -> None:
    sql = 'SELECT 1 AS n, 2 AS "N", [3] AS n FROM a LIMIT 1'
    (row,) = values_of(workspace, run(workspace, a_csv, sql))
    assert list(row.values()) == [1, 2, "[3]"]
