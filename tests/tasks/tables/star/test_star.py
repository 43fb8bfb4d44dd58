"""A task with models: checked before it runs, built in the order of dependencies, under the warehouse's lease."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import duckdb
import pytest

from lookbook.blocks.errors import LeaseLostError, UsageError
from lookbook.blocks.models import BuiltModel, ModelTestsFailedError
from lookbook.blocks.workspace import Workspace
from lookbook.tasks.runs.lease import living_owners
from lookbook.tasks.tables.context import Context
from lookbook.tasks.tables.spec.pipeline import Pipeline
from lookbook.tasks.tables.spec.problems import SpecError
from lookbook.tasks.tables.spec.reading import read_spec
from lookbook.tasks.tables.star import ModelResult, build, check_models
from tests.support.leases import overtake
from tests.support.pipeline_runs import context
from tests.support.stars import STAR, ZONES, trips

EXTRACT = {"source": {"type": "file", "path": "x.csv"}}


def task(**more: dict[str, Any]) -> dict[str, Any]:
    """The star as a spec says it, in an order that is not that of dependencies."""
    models = {
        model.name: {
            "sql": f"models/{model.name}.sql",
            "key": list(model.key),
            "surrogate_key": model.surrogate_key,
            "partition_by": model.partition_by,
            "tests": {
                "unique": [list(names) for names in model.unique],
                "not_null": list(model.not_null),
                "accepted_values": {name: list(values) for name, values in model.accepted_values.items()},
                "relationships": [{"column": r.column, "to": r.to, "field": r.field} for r in model.references],
            },
        }
        for model in reversed(STAR)
    }
    return {"models": {name: model | more.get(name, {}) for name, model in models.items()}}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """The folder of a spec with the star's SQL files."""
    (tmp_path / "models").mkdir()
    for model in STAR:
        (tmp_path / "models" / f"{model.name}.sql").write_text(f"-- {model.name}\n{model.sql};\n", encoding="utf-8")
    return tmp_path


def star(workspace: Workspace, folder: Path, **more: dict[str, Any]) -> Context:
    """A run, over tables that are loaded."""
    with duckdb.connect(str(workspace.warehouse.path)) as connection:  # type: ignore[attr-defined]
        connection.execute("CREATE SCHEMA IF NOT EXISTS feeds")
        for name, frame in (("zones", ZONES), ("trips", trips())):
            connection.register("frame", frame)
            connection.execute(f"CREATE OR REPLACE TABLE feeds.{name} AS SELECT * FROM frame")
            if name == "trips":
                connection.execute("ALTER TABLE feeds.trips ALTER day TYPE DATE")
    return context(workspace, folder, {"star": task(**more)})


def pipeline(tasks: dict[str, Any]) -> Pipeline:
    return Pipeline.model_validate({"name": "rides", "tasks": tasks})


def problems(folder: Path, models: dict[str, Any], sql: dict[str, str]) -> list[str]:
    """What is wrong with these models, given as SQL by file."""
    for name, text in sql.items():
        (folder / name).write_text(text, encoding="utf-8")
    whole = pipeline({"star": {"models": {name: {"key": "id"} | model for name, model in models.items()}}})
    return check_models(folder, whole.tasks["star"], whole)  # type: ignore[arg-type]


def test_models_are_built_in_the_order_of_dependencies_and_name_what_they_are_made_of(
    workspace: Workspace, folder: Path
) -> None:
    built = build(star(workspace, folder), "star")
    assert [one.name for one in built][-1] == "fact_trip"
    fact = built[-1]
    assert isinstance(fact, ModelResult)
    assert fact.inputs == ("feeds.trips", "feeds.zones")
    assert fact.rows == workspace.warehouse.query("SELECT count(*) AS n FROM feeds.fact_trip")["n"][0].as_py()
    assert next(one for one in built if one.name == "dim_zone").inputs == ("feeds.zones",)
    assert build(star(workspace, folder), "star") == built


def test_a_test_that_fails_names_model_test_rows_examples_and_sql(workspace: Workspace, folder: Path) -> None:
    build(star(workspace, folder), "star")
    before = workspace.warehouse.query("SELECT * FROM feeds.dim_vendor ORDER BY ALL")
    broken = star(workspace, folder, dim_vendor={"tests": {"accepted_values": {"vendor": ["green"]}}})
    with pytest.raises(ModelTestsFailedError) as failed:
        build(broken, "star")
    message = failed.value.problem
    assert message.startswith("dim_vendor: accepted_values(vendor) fails for 1 row, such as yellow. See them: WITH")
    assert workspace.warehouse.query(message.partition("See them: ")[2])["example"].to_pylist() == ["yellow"]
    assert workspace.warehouse.query("SELECT * FROM feeds.dim_vendor ORDER BY ALL") == before


def test_who_builds_holds_the_warehouses_lease(
    workspace: Workspace, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    held: list[set[str]] = []
    made = star(workspace, folder)

    def look(*_: object) -> list[BuiltModel]:
        held.append(set(living_owners(workspace.registry)))
        return []

    monkeypatch.setattr(type(workspace.warehouse), "build_feed_models", look)
    build(made, "star")
    assert held == [{"warehouse"}]
    assert living_owners(workspace.registry) == {}


def test_a_run_that_is_overtaken_while_it_builds_puts_no_model_in_place(
    workspace: Workspace, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    late, warehouse = star(workspace, folder), type(workspace.warehouse)
    (folder / "other.sql").write_text("SELECT 1 AS id", encoding="utf-8")
    other = context(workspace, folder, {"star": {"models": {"other": {"sql": "other.sql", "key": "id"}}}})
    build_models = warehouse.build_feed_models

    def stand_still(*given: Any) -> list[BuiltModel]:
        monkeypatch.setattr(warehouse, "build_feed_models", build_models)
        overtake(workspace.registry, lambda: build(other, "star"))
        return build_models(*given)

    monkeypatch.setattr(warehouse, "build_feed_models", stand_still)
    with pytest.raises(LeaseLostError, match="warehouse: this run stood still"):
        build(late, "star")
    assert set(workspace.warehouse.tables()) == {"feeds.other", "feeds.trips", "feeds.zones"}


def test_a_whole_star_has_no_problems(folder: Path) -> None:
    whole = pipeline({"extract": EXTRACT, "load": {"after": ["extract"], "table": "trips"}, "star": task()} | {})
    assert check_models(folder, whole.tasks["star"], whole) == []  # type: ignore[arg-type]


def test_models_that_read_each_other_are_told(folder: Path) -> None:
    sql = {"a.sql": "SELECT id FROM b", "b.sql": "SELECT id FROM c", "c.sql": "SELECT id FROM a"}
    models = {name[0]: {"sql": name} for name in sql}
    (told,) = problems(folder, models, sql)
    assert told.startswith("models: these read each other: ")
    assert "a → " in told
    assert problems(folder, {"a": {"sql": "a.sql"}}, {"a.sql": "SELECT id FROM a"}) == [
        "models: these read each other: a → a"
    ]


@pytest.mark.parametrize(
    ("sql", "told"),
    [
        ("SELECT id FROM nowhere", "it reads nowhere, which is no model of this task"),
        ("SELECT id FROM staging.images", "it reads staging.images; a model reads"),
        ("SELECT id FROM other.feeds.x", "it reads other.feeds.x; a model reads"),
        ("SELECT id FROM feeds.other", "it reads feeds.other, which this task makes: write other"),
        ("SELECT 1 AS id FROM 'x.csv'", "it reads x.csv"),
        ("SELECT id FROM read_csv('x.csv')", "it reads READ_CSV('x.csv'): only tables are read, no files"),
        ("SELECT 1 AS id; SELECT 2 AS id", "it is 2 statements where one SELECT is asked for"),
        ("", "it is 0 statements where one SELECT is asked for"),
        ("DELETE FROM feeds.x", "it is no SELECT but DELETE"),
        ("WITH x AS (DELETE FROM feeds.x RETURNING id) SELECT id FROM x", "it is no SELECT but DELETE"),
        ("COPY feeds.x TO 'x.csv'", "it is no SELECT but COPY"),
        ("SELEC id FROM feeds.x", "it is no S"),
        ("SELECT id,, x FROM (feeds.x", "line 1"),
        ("SELECT 1 AS id, 2 AS ID", "two columns are called id"),
        ("SELECT 1 AS x", "key names id, but its SELECT gives x"),
    ],
)
def test_a_select_that_cannot_be_is_told(folder: Path, sql: str, told: str) -> None:
    models = {"m": {"sql": "m.sql"}, "other": {"sql": "other.sql"}}
    found = problems(folder, models, {"m.sql": sql, "other.sql": "SELECT 1 AS id"})
    assert len(found) == 1
    assert found[0].startswith("models.m: ")
    assert any(part in found[0] for part in told.split("|"))


def test_names_of_common_table_expressions_are_its_own(folder: Path) -> None:
    sql = {
        "m.sql": "WITH x AS (SELECT id FROM feeds.t), other AS (SELECT id FROM other)"
        " SELECT x.id FROM x JOIN other USING (id)",
        "other.sql": "WITH RECURSIVE r AS (SELECT 1 AS id UNION ALL SELECT id + 1 FROM r WHERE id < 5)"
        " SELECT id FROM r",
    }
    assert problems(folder, {"m": {"sql": "m.sql"}, "other": {"sql": "other.sql"}}, sql) == []


def test_files_that_cannot_be_read_are_told(folder: Path) -> None:
    (folder / "latin.sql").write_bytes(b"SELECT '\xfc' AS id")
    found = problems(folder, {"gone": {"sql": "gone.sql"}, "latin": {"sql": "latin.sql"}}, {})
    assert found == [
        "models.gone: gone.sql: the file cannot be read: No such file or directory",
        "models.latin: latin.sql: the file is no UTF-8",
    ]


def test_a_test_of_an_unknown_table_is_told(folder: Path) -> None:
    model = {"sql": "m.sql", "tests": {"relationships": [{"column": "id", "to": "nowhere", "field": "id"}]}}
    (told,) = problems(folder, {"m": model}, {"m.sql": "SELECT id FROM feeds.t"})
    assert told.startswith("models.m: tests.relationships names nowhere, which is no model of this task")


@pytest.mark.parametrize("table", ["fact_trip", "{event}", "fact_{event}"])
def test_a_name_that_a_load_uses_is_told(workspace: Workspace, folder: Path, table: str) -> None:
    tasks = {"extract": EXTRACT, "load": {"after": ["extract"], "table": table}, "star": task()}
    whole = pipeline(tasks)
    found = check_models(folder, whole.tasks["star"], whole)  # type: ignore[arg-type]
    assert "models.fact_trip: tasks.load loads the table fact_trip; give the model another name" in found
    with pytest.raises(UsageError, match=r"rides: tasks\.star\.models\.fact_trip: tasks\.load loads"):
        build(context(workspace, folder, tasks), "star")
    elsewhere = pipeline(tasks | {"load": {"after": ["extract"], "table": table, "target": "registry"}})
    assert check_models(folder, elsewhere.tasks["star"], elsewhere) == []  # type: ignore[arg-type]


def test_a_name_that_another_task_makes_is_told(folder: Path) -> None:
    whole = pipeline(
        {"star": task(), "again": {"models": {"dim_zone": {"sql": "models/dim_zone.sql", "key": "zone_id"}}}}
    )
    found = check_models(folder, whole.tasks["star"], whole)  # type: ignore[arg-type]
    assert found == ["models.dim_zone: tasks.again makes it, too; give one of both another name"]


def test_reading_a_spec_tells_problems_of_models_and_graphs_with_their_lines(folder: Path) -> None:
    (folder / "a.sql").write_text("SELECT id FROM b", encoding="utf-8")
    (folder / "b.sql").write_text("SELECT id FROM a", encoding="utf-8")
    lines = [
        "name: rides",
        "tasks:",
        "  star:",
        "    models:",
        "      a: {sql: a.sql, key: id}",
        "      b: {sql: b.sql, key: id}",
        "  graph:",
        "    type: graph",
        "    entities: {zone: {table: feeds.zones, key: id}, trip: {table: feeds.trips, key: id}}",
        "    path: [zone, trip]",
    ]
    (folder / "rides.yaml").write_text("\n".join(lines), encoding="utf-8")
    with pytest.raises(SpecError) as told:
        read_spec(folder / "rides.yaml")
    found = {(one.line, one.message.partition(":")[0]) for one in told.value.problems}
    assert (4, "these read each other") in found
    assert (10, "no link and no mention leads from zone to trip") in found
