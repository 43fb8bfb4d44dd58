"""Specs that are read, and each fault with its file, line and path."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from lookbook.blocks.errors import LookbookError, UsageError
from lookbook.blocks.settings import read_settings
from lookbook.tasks.tables.spec.problems import SpecError
from lookbook.tasks.tables.spec.reading import find_spec, read_spec, specs
from tests.support.pipelines import problems, write_spec

GOOD = """
    x-often: &often {retries: 3, retry_delay: 10s}
    on: {arrival: "prices/*.csv"}
    params: {shop: north}
    config: conf.yaml
    tasks:
      extract: {<<: *often, source: {type: file, path: "prices/{year}-{shop}.csv"}, skip_unchanged: true}
      clean: {after: [extract], sql: sql/clean.sql}
      fix: {after: [clean], python: "functions:fix"}
      load: {after: [fix], table: prices, write_disposition: merge, primary_key: sku, schema_contract: freeze}
"""
FILES = {
    "sql__clean_sql": "WITH mine AS (SELECT * FROM extract) SELECT *, $shop, $logical_date FROM MINE",
    "functions_py": "def fix(clean, *, params, config, wide=False): return clean",
    "conf_yaml": "a: 1",
}


def write(folder: Path, text: str, **files: str) -> Path:
    return write_spec(folder, "feed", text, **FILES | files)


def test_a_spec_is_read_with_what_it_names(tmp_path: Path) -> None:
    spec = read_spec(write(tmp_path, GOOD))
    assert spec.in_order() == ["extract", "clean", "fix", "load"]
    assert spec.tasks["extract"].retries == 3, "merge keys work"
    assert spec.on is not None, "on is a key, and not the truth value of YAML 1.1"
    assert specs(tmp_path).keys() == {"conf", "feed"}


def test_all_shipped_specs_are_right() -> None:
    found = specs(read_settings().pipelines)
    assert {"taxi", "events", "mentions", "prices"} <= found.keys()
    for path in found.values():
        assert problems(path) == []
        assert path.read_text(encoding="utf-8").startswith("# yaml-language-server: $schema=schema.json\n")


#: What replaces what in the good spec, and all that is then wrong with it.
FAULTS = [
    ("tasks:", "taks:", ["tasks: it is missing", "taks: no such key; did you mean tasks?"]),
    ("retries: 3", "retries: -1", ["tasks.extract.retries: Input should be greater than or equal to 0"]),
    ("primary_key: sku", "primary_kee: sku", [
        "tasks.load.primary_kee: no such key; did you mean primary_key?",
    ]),
    (", primary_key: sku", "", ["tasks.load: write_disposition merge needs a primary_key"]),
    ("type: file", "type: files", [
        "tasks.extract.source: Input tag 'files' found using 'type' does not match any of the expected "
        "tags: 'file', 'objects', 'http', 'sql'",
    ]),
    ("path:", "pth:", [
        "tasks.extract.source.path: it is missing",
        "tasks.extract.source.pth: no such key; did you mean path?",
    ]),
    ("after: [fix]", "after: [fax]", ["tasks.load.after: there is no task fax; there are extract, clean, fix, load"]),
    ("after: [extract]", "after: [fix]", ["tasks: these wait for each other: clean → fix → clean"]),
    ("after: [fix], table", "table", ["tasks.load: it names no task in after to take rows from"]),
    ("sql: sql/clean.sql", "sql: sql/gone.sql", ["tasks.clean.sql: there is no file sql/gone.sql beside the spec"]),
    ("sql: sql/clean.sql", "sql: ../clean.sql", ["tasks.clean.sql: a path beside the spec, without .., is asked for"]),
    ("sql: sql/clean.sql", "sqll: sql/clean.sql", [
        "tasks.clean: a task has one of source, sql, python, table, models, or type: graph",
    ]),
    ("functions:fix", "function:fix", [
        "tasks.fix.python: there is no module function beside the spec, and none is installed",
    ]),
    ("functions:fix", "functions:fox", ["tasks.fix.python: functions.py defines no function fox; did you mean fix?"]),
    ("{year}", "{yaer}", ["tasks.extract.source.path: nothing is known of {yaer}; did you mean year?"]),
    ("config: conf.yaml", "config: gone.yaml", ["config: there is no file gone.yaml beside the spec"]),
    ("params: {shop: north}", "params: [shop]", ["params: a mapping is asked for"]),
    ('on: {arrival: "prices/*.csv"}', "on: {arival: x}", ["on.arival: no such key; did you mean arrival?"]),
    ("after: [fix]", "after: fix", ["tasks.load.after: a list is asked for"]),
]  # fmt: skip


@pytest.mark.parametrize(("right", "wrong", "expected"), FAULTS)
def test_each_fault_has_its_line_its_path_and_a_word_of_help(
    tmp_path: Path, right: str, wrong: str, expected: list[str]
) -> None:
    assert right in GOOD
    found = problems(write(tmp_path, GOOD.replace(right, wrong)))
    without_place = [line.split(": ", 1)[1] for line in found]
    assert without_place == expected
    for line in found:
        number = int(line.split(":")[1])
        text = (tmp_path / "feed.yaml").read_text(encoding="utf-8").splitlines()[number - 1]
        last = line.split(": ")[1].rpartition(".")[2]
        assert last in text or "missing" in line, f"{line} does not point to {last}"


def test_all_faults_of_a_file_come_at_once(tmp_path: Path) -> None:
    text = GOOD.replace("retries: 3", "retries: many").replace("sku", "3").replace("arrival", "arival")
    assert len(problems(write(tmp_path, text))) == 3
    text = GOOD.replace("functions:fix", "functions:fox").replace("{year}", "{y}").replace("conf.yaml", "gone.yaml")
    assert len(problems(write(tmp_path, text))) == 3


@pytest.mark.parametrize(
    ("sql", "expected"),
    [
        ("SELECT * FROM", "1:13: tasks.clean.sql: this is no SQL: Expected table name"),
        ("SELECT * FROM extract; SELECT 1", "one SELECT is asked for"),
        ("DROP TABLE extract", "one SELECT is asked for"),
        ("COPY extract TO 'x'", "one SELECT is asked for"),
        ("", "one SELECT is asked for"),
        (
            "SELECT *\nFROM extrakt",
            "2:6: tasks.clean.sql: the table extrakt is no task in after; did you mean extract?",
        ),
        ("SELECT * FROM feeds.prices", "the table feeds.prices is no task in after"),
        ("SELECT * FROM 'prices.csv'", "is no task in after"),
        ("SELECT * FROM extract WHERE shop = $shops", "nothing is known of $shops; did you mean shop?"),
    ],
)
def test_sql_is_one_select_over_the_tasks_before(tmp_path: Path, sql: str, expected: str) -> None:
    (found,) = problems(write(tmp_path, GOOD, sql__clean_sql=sql))
    assert found.startswith("sql/clean.sql:"), "it names the SQL's own file and line"
    assert expected in found


@pytest.mark.parametrize(
    "sql",
    [
        "SELECT * FROM extract UNION ALL SELECT * FROM Extract",
        "WITH a AS (SELECT 1), b AS (SELECT * FROM a) SELECT * FROM b, extract",
        "FROM extract",
        "SELECT unnest([1, 2]) FROM range(3), extract",
        "SELECT * FROM extract AS e JOIN (SELECT 1 AS x) AS s ON e.a = s.x",
    ],
)
def test_what_sql_defines_itself_is_no_unknown_table(tmp_path: Path, sql: str) -> None:
    assert problems(write(tmp_path, GOOD, sql__clean_sql=sql)) == []


@pytest.mark.parametrize(
    ("code", "expected"),
    [
        ("def fix(other): ...", "fix takes no clean, which stands in after; it takes other"),
        ("def fix(clean, param): ...", "nothing is given to fix as param; did you mean params?"),
        ("async def fix(clean): ...", "fix is async"),
        ("def fix(clean, /): ...", "fix is called by names"),
        ("def fix(clean:\n", "functions.py line 1 is no Python"),
        ("fix = 1", "functions.py defines no function fix"),
        ("def fix(clean, *, config=None, **more): ...", ""),
        ("def fix(**more): ...", ""),
        ("import sys; sys.exit('imported')\ndef fix(clean): ...", ""),
        ("from elsewhere import fix", ""),
        ("import functools\nfix = functools.partial(print, 1)", ""),
        ("import functools\n@functools.cache\ndef fix(*anything): ...", ""),
    ],
)
def test_a_function_takes_the_tasks_before_it_and_is_not_imported(tmp_path: Path, code: str, expected: str) -> None:
    found = problems(write(tmp_path, GOOD, functions_py=code))
    assert (expected in found[0]) if expected else (found == [])
    assert "functions" not in sys.modules


def test_an_installed_module_is_found_without_importing_its_package(tmp_path: Path) -> None:
    text = GOOD.replace("functions:fix", "this:fix").replace("functions:fix", "antigravity:fix")
    (found,) = problems(write(tmp_path, text))
    assert "this.py defines no function fix" in found
    assert "this" not in sys.modules


def test_a_spec_has_the_name_of_its_file(tmp_path: Path) -> None:
    path = write(tmp_path, GOOD)
    moved = path.rename(tmp_path / "other.yaml")
    assert problems(moved) == ["other.yaml:1:1: name: the file of feed is named feed.yaml, not other.yaml"]


@pytest.mark.parametrize("text", ["- a", "text", "3"])
def test_a_file_that_is_no_mapping_is_named(tmp_path: Path, text: str) -> None:
    path = tmp_path / "feed.yaml"
    path.write_text(text, encoding="utf-8")
    (found,) = problems(path)
    assert found.startswith("feed.yaml:1:1: a mapping is asked for")


def test_a_pipeline_that_is_not_there_is_named_with_the_next_best(tmp_path: Path) -> None:
    write(tmp_path, GOOD)
    assert find_spec(tmp_path, "feed") == tmp_path / "feed.yaml"
    with pytest.raises(UsageError, match="did you mean feed"):
        find_spec(tmp_path, "fed")
    with pytest.raises(LookbookError, match="cannot be read"):
        specs(tmp_path / "gone")
    with pytest.raises(LookbookError, match="cannot be read") as caught:
        read_spec(tmp_path / "gone.yaml")
    assert not isinstance(caught.value, SpecError)


def test_event_stands_for_what_was_split(tmp_path: Path) -> None:
    text = GOOD.replace("table: prices", 'table: "{event}"')
    assert problems(write(tmp_path, text)) == [], "a function may return a table for each event"
    text = text.replace("after: [fix]", "after: [clean]")
    (found,) = problems(write(tmp_path, text))
    assert "no extract has split_by" in found
    assert problems(write(tmp_path, text.replace("skip_unchanged: true", "split_by: kind"))) == []


def test_entities_of_a_graph_are_tasks_before_it_or_loaded_tables(tmp_path: Path) -> None:
    graph = "      graph: {after: [load], type: graph, entities: {a: {table: TABLE, key: k}}}\n"
    for table, wrong in (("load", 0), ("feeds.prices", 0), ("clean", 1), ("other.prices", 1)):
        assert len(problems(write(tmp_path, GOOD + graph.replace("TABLE", table)))) == wrong, table


def test_models_and_graphs_are_checked_by_the_parts_that_make_them(tmp_path: Path) -> None:
    models = "      star: {after: [load], models: {dim: {sql: sql/dim.sql, key: sku}}}\n"
    graph = "      graph: {after: [load], type: graph, entities: {a: {table: feeds.prices, key: k}}, path: [a, a]}\n"
    (found,) = problems(write(tmp_path, GOOD + models, sql__dim_sql="SELECT sku FROM prices"))
    assert ": tasks.star.models.dim: it reads prices, which is no model of this task" in found
    (found,) = problems(write(tmp_path, GOOD + models, sql__dim_sql="SELECT * FROM"))
    assert ": tasks.star.models.dim: sql/dim.sql: " in found
    assert problems(write(tmp_path, GOOD + models, sql__dim_sql="SELECT sku FROM feeds.prices")) == []
    found, *_ = problems(write(tmp_path, GOOD + graph))
    assert ": tasks.graph.path: an entity stands there twice" in found


def test_loads_stand_in_after_for_order_only(tmp_path: Path) -> None:
    later = '      later: {after: [AFTER, load], python: "functions:later"}\n'
    code = FILES["functions_py"] + "\ndef later(clean=None): ..."
    for after, wrong in (("clean", 0), ("fix", 1)):
        assert len(problems(write(tmp_path, GOOD + later.replace("AFTER", after), functions_py=code))) == wrong
    (found,) = problems(write(tmp_path, GOOD + "      more: {after: [load], table: more}\n"))
    assert "tasks.more: it names no task in after to take rows from" in found
    (found,) = problems(
        write(
            tmp_path,
            GOOD.replace("after: [clean]", "after: [clean, load]").replace("after: [fix]", "after: [clean]"),
            sql__clean_sql="SELECT * FROM load",
        )
    )
    assert "the table load is no task in after" in found
