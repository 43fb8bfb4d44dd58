"""A load task: which rows go into which table, and what the books say."""

from __future__ import annotations

import multiprocessing
import threading
from typing import Any

import asyncpg
import numpy as np
import pyarrow as pa
import pytest

from lookbook.blocks.errors import LeaseLostError, LookbookError, OutOfReachError
from lookbook.blocks.registry import Registry, unfenced
from lookbook.blocks.workspace import Workspace
from lookbook.tasks.runs.lease import lease
from lookbook.tasks.tables.context import Staged
from lookbook.tasks.tables.load import load, loading, open_rejects, writing
from lookbook.tasks.tables.load.books import write_books
from lookbook.tasks.tables.load.prepare import column_name, column_names
from lookbook.tasks.tables.load.writing import destination, prepare_rows
from lookbook.tasks.tables.orchestrations import import_pipeline
from lookbook.tasks.tables.spec.pipeline import ImportSettings, Pipeline
from lookbook.tasks.tables.spec.values import Target
from tests.support.feeds import Row, context, load_rows, stage, table_rows
from tests.support.lake_tables import lake_rows
from tests.support.leases import overtake, overtaken


def test_each_group_has_a_table(workspace: Workspace) -> None:
    run = context(workspace, table="web_{event}")
    groups = {group: stage(run, [{"id": number}], group) for number, group in enumerate(("post_created", "followed"))}
    results = load(run, "load", [Staged(groups)])
    assert [(result.table, result.rows) for result in results] == [("web_post_created", 1), ("web_followed", 1)]
    assert table_rows(workspace, "warehouse", "web_followed") == [{"id": 1}]


TARGETS: tuple[Target, ...] = ("warehouse", "registry", "lake")


@pytest.mark.parametrize("target", TARGETS)
def test_a_run_that_lost_its_lease_changes_no_table(
    workspace: Workspace, monkeypatch: pytest.MonkeyPatch, target: Target
) -> None:
    async def lose(connection: asyncpg.Connection[asyncpg.Record]) -> None:
        await connection.execute("DELETE FROM lookbook.leases")

    def stand_still(*given: Any, **more: Any) -> Any:
        prepared = prepare_rows(*given, **more)
        with unfenced():
            workspace.registry.run(lose)
        return prepared

    run = context(workspace, target=target)
    load_rows(run, [{"id": 1}])
    staged = Staged({"": stage(run, [{"id": 2}])})
    monkeypatch.setattr(loading, "prepare_rows", stand_still)
    with lease(workspace.registry, "pipeline/late"), pytest.raises(LeaseLostError):
        load(run, "load", [staged])
    standing = destination(workspace, target).state("prices")
    assert standing is not None
    assert standing.rows == 1


def shown(workspace: Workspace, target: Target) -> list[Row]:
    return lake_rows(workspace.lake, workspace.scratch, "prices") if target == "lake" else table_rows(workspace, target)


@pytest.mark.parametrize("target", TARGETS)
def test_a_run_that_is_overtaken_between_the_question_and_the_commit_changes_no_table(
    workspace: Workspace, monkeypatch: pytest.MonkeyPatch, target: Target
) -> None:
    run = context(workspace, target=target)
    load_rows(run, [{"id": 1}])
    late, quick = (Staged({"": stage(run, [{"id": number}], str(number))}) for number in (2, 3))

    def loaded(staged: Staged) -> None:
        with lease(workspace.registry, "pipeline/feed"):
            load(run, "load", [staged])

    monkeypatch.setattr(writing, "confirm", overtaken(lambda: loaded(quick)))
    with pytest.raises(LeaseLostError, match="this run stood still"):
        loaded(late)
    assert shown(workspace, target) == [{"id": 3}]
    loaded(late)  # run again, it counts
    assert shown(workspace, target) == [{"id": 2}]


@pytest.mark.parametrize("target", TARGETS)
def test_a_registry_that_is_out_of_reach_at_the_commit_keeps_every_table_as_it_is(
    workspace: Workspace, monkeypatch: pytest.MonkeyPatch, target: Target
) -> None:
    def cut_off(*given: Any, **more: Any) -> Any:
        prepared = prepare_rows(*given, **more)
        cut.setattr(Registry, "run", fail)
        return prepared

    def fail(*_: object) -> None:
        raise OutOfReachError("The registry cannot be reached.")

    run = context(workspace, target=target)
    load_rows(run, [{"id": 1}])
    late = Staged({"": stage(run, [{"id": 2}], "late")})
    with monkeypatch.context() as cut:
        cut.setattr(loading, "prepare_rows", cut_off)
        with pytest.raises(OutOfReachError), lease(workspace.registry, "pipeline/feed"):
            load(run, "load", [late])
    assert shown(workspace, target) == [{"id": 1}]


def test_groups_go_into_one_table_whose_name_has_no_event(workspace: Workspace) -> None:
    run = context(workspace)
    groups = {group: stage(run, [{"id": number}], group) for number, group in enumerate(("a", "b"))}
    (result,) = load(run, "load", [Staged(groups)])
    assert (result.rows_in, result.rows) == (2, 2)


def test_several_inputs_are_put_one_behind_the_other(workspace: Workspace) -> None:
    run = context(workspace, write_disposition="merge", primary_key="id")
    inputs = [Staged({"": stage(run, [{"id": 1, "from": name}], name)}) for name in ("first", "second")]
    (result,) = load(run, "load", inputs)
    assert (result.rows_in, result.superseded) == (2, 1)
    assert table_rows(workspace, "warehouse") == [{"id": 1, "from": "second"}]


def test_of_many_rows_with_one_key_the_last_wins(workspace: Workspace) -> None:
    """As many as threads take part in: each would write its own as they come."""
    run = context(workspace, write_disposition="merge", primary_key="id")
    parts = np.split(np.arange(800_000), 4)
    tables = [pa.table({"id": np.ones_like(part), "place": part}) for part in parts]
    load(run, "load", [Staged({"": stage(run, table, str(number))}) for number, table in enumerate(tables)])
    assert table_rows(workspace, "warehouse") == [{"id": 1, "place": 799_999}]


@pytest.mark.parametrize("place", ["warehouse", "registry"])
def test_of_rows_with_one_key_the_last_one_counts_over_many_inputs(workspace: Workspace, place: str) -> None:
    run = context(workspace, target=place, write_disposition="merge", primary_key="id")
    numbers = range(12)  # each key stands in two inputs, one behind the other
    inputs = [stage(run, [{"id": n, "from": n}, {"id": n + 1, "from": n}], f"part{n}") for n in numbers]
    load(run, "load", [Staged({"": each}) for each in inputs])
    found = {row["id"]: row["from"] for row in table_rows(workspace, place)}
    assert found == {number: min(number, 11) for number in range(13)}


@pytest.mark.parametrize("groups", [[""], ["Post Created"], ["x" * 64]])
def test_a_group_that_makes_no_name_of_a_table(workspace: Workspace, groups: list[str]) -> None:
    run = context(workspace, table="{event}")
    with pytest.raises(LookbookError, match=r"not split|no name of a table"):
        load(run, "load", [Staged({group: stage(run, [{"id": 1}]) for group in groups})])


def test_columns_that_would_get_one_name(workspace: Workspace) -> None:
    with pytest.raises(LookbookError, match="'unit_price' would get the name unit_price, as 'unitPrice' does"):
        load_rows(context(workspace), [{"unitPrice": 1, "unit_price": 2}])


def test_a_column_that_is_named_as_a_tag(workspace: Workspace) -> None:
    with pytest.raises(LookbookError, match="which every row carries for its load"):
        load_rows(context(workspace), [{"_load_id": 1}])


@pytest.mark.parametrize(
    ("raw", "name"),
    [("productDisplayName", "product_display_name"), ("user__id", "user__id"), ("User Name", "user_name")],
)
def test_names_are_dlts(raw: str, name: str) -> None:
    assert column_name(raw) == name
    assert column_names([raw]) == {raw: name}


def test_files_of_one_batch_may_differ(workspace: Workspace) -> None:
    run = context(workspace)
    stages = [
        stage(run, rows, str(number))
        for number, rows in enumerate(([{"id": "1"}], [{"id": 2, "size": 1.5}], [{"size": "x"}]))
    ]
    (result,) = load(run, "load", [Staged({one.folder: one for one in stages})])
    assert result.rows == 3
    assert table_rows(workspace, "warehouse") == [
        {"id": 1, "size": None},
        {"id": 2, "size": "1.5"},
        {"id": None, "size": "x"},
    ]


def test_the_registry_knows_each_load(workspace: Workspace) -> None:
    for _ in range(2):
        result = load_rows(context(workspace), [{"id": 1}, {"id": 2}])

    async def work(connection: asyncpg.Connection[asyncpg.Record]) -> list[Any]:
        return [dict(row) for row in await connection.fetch("SELECT * FROM lookbook.feed_loads")]

    (row,) = workspace.registry.run(work)
    assert (row["load_id"], row["place"], row["table_name"]) == (result.load_id, "warehouse", "prices")
    assert (row["rows"], row["rejected"], row["inputs"], row["run_id"]) == (2, 0, '["rows.csv"]', "run-1")


def test_a_load_whose_counts_do_not_add_up_fails(workspace: Workspace, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("lookbook.tasks.tables.load.prepare._write_rejects", lambda *_: 1)
    with pytest.raises(LookbookError, match="the books do not balance"):
        load_rows(context(workspace, fields={"x": {"type": "text", "nullable": False}}), [{"sku": "a"}, {"sku": "b"}])
    monkeypatch.undo()
    monkeypatch.setattr(
        "lookbook.tasks.tables.load.duckdb_tables._files", lambda _: "(SELECT * FROM range(0) AS t(price))"
    )
    with pytest.raises(LookbookError, match="1 rows were to be written, and the database took 0"):
        load_rows(context(workspace), [{"price": 1}])


def test_no_file_is_left_in_scratch(workspace: Workspace, place: str) -> None:
    load_rows(context(workspace, target=place), [{"id": 1}])
    with pytest.raises(LookbookError):
        load_rows(context(workspace, day=2, target=place, schema_contract="freeze"), [{"id": "x"}])
    assert [path.name for path in workspace.scratch.rglob("*") if path.is_file()] == [".writable"]


def test_two_loads_into_one_warehouse_wait_for_each_other(workspace: Workspace, place: str) -> None:
    """Threads of one process; processes are kept apart by the same lease."""
    runs = [context(workspace, day=day, target=place) for day in range(1, 5)]
    threads = [threading.Thread(target=load_rows, args=(run, [{"id": 1}])) for run in runs]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(table_rows(workspace, place)) == len(runs)


@pytest.mark.full
def test_dlt_leaves_nothing_behind_and_calls_nobody(tmp_path: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is used for its words alone: no pipeline, so neither folders nor telemetry."""
    context = multiprocessing.get_context("spawn")
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    child = context.Process(target=_words)
    child.start()
    child.join(120)
    assert child.exitcode == 0
    assert list(tmp_path.iterdir()) == []


def _words() -> None:
    import socket  # noqa: PLC0415

    def refuse(*_: object) -> None:
        raise AssertionError("it calls somebody")

    socket.socket.connect = refuse  # type: ignore[method-assign]
    from lookbook.tasks.tables.load.statements import destination_type  # noqa: PLC0415

    assert column_name("aB") == "a_b"
    assert destination_type("postgres", "BLOB") == "bytea"
    assert destination_type("duckdb", "DECIMAL(10, 2)").replace(" ", "") == "DECIMAL(10,2)"


STRICT: dict[str, Any] = {"schema_contract": "discard_row", "fields": {"price": "bigint"}}
PRICES = [{"price": "1"}, {"price": "dear"}, {"price": "2"}]


def books(workspace: Workspace) -> tuple[list[Any], list[Any]]:
    async def work(connection: asyncpg.Connection[asyncpg.Record]) -> list[Any]:
        return [dict(row) for row in await connection.fetch("SELECT * FROM lookbook.feed_loads")]

    return workspace.registry.run(work), open_rejects(workspace.registry, "feed")


def test_a_run_that_is_overtaken_before_its_books_writes_no_rejects_to_the_lake(
    workspace: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    def take_over() -> None:
        with lease(workspace.registry, "pipeline/feed"):
            pass

    def stand_still(*given: Any, **more: Any) -> None:
        overtake(workspace.registry, take_over)
        write_books(*given, **more)

    run = context(workspace, **STRICT, reject_limit=0.5)
    with monkeypatch.context() as late:
        late.setattr(loading, "write_books", stand_still)
        with lease(workspace.registry, "pipeline/feed"), pytest.raises(LeaseLostError):
            load_rows(run, PRICES)
    assert (books(workspace), list(workspace.lake.list("rejects/"))) == (([], []), [])
    load_rows(run, PRICES)
    assert len(list(workspace.lake.list("rejects/"))) == len(books(workspace)[1]) == 1


@pytest.mark.parametrize("disposition", ["append", "replace"])
def test_a_load_of_which_too_many_rows_are_rejected_fails_and_all_stays(
    workspace: Workspace, place: str, disposition: str
) -> None:
    settings = STRICT | {"target": place, "write_disposition": disposition}
    load_rows(context(workspace, **settings), PRICES)
    before = books(workspace), table_rows(workspace, place)
    for limit in (0.3, 0):
        with pytest.raises(LookbookError) as raised:
            load_rows(context(workspace, 2, **settings, reject_limit=limit), PRICES)
        assert str(raised.value).startswith(
            "prices: 1 of 3 rows (33.3%) were rejected: 1 data_type (rows.csv line 3: price: dear is no bigint); "
            f"reject_limit is {limit:g}. Nothing was loaded"
        )
    assert (books(workspace), table_rows(workspace, place)) == before
    assert load_rows(context(workspace, 2, **settings, reject_limit=0.34), PRICES).rejected == 1


def test_a_load_fails_by_default_where_more_than_a_tenth_is_rejected() -> None:
    load_task = Pipeline.model_validate(
        {
            "name": "p",
            "tasks": {"e": {"source": {"type": "file", "path": "a.csv"}}, "l": {"after": ["e"], "table": "t"}},
        }
    )
    imported = import_pipeline(ImportSettings(source="a.csv", table="t"))
    own = import_pipeline(ImportSettings(source="a.csv", table="t", reject_limit=0.5))
    limits = [spec.tasks[name].reject_limit for spec, name in ((load_task, "l"), (imported, "load"), (own, "load"))]  # type: ignore[union-attr]
    assert limits == [0.1, 0.1, 0.5]


def test_rows_that_an_extract_could_not_read_count_among_all_that_it_read(workspace: Workspace) -> None:
    unreadable = [{"rule": "ragged_row", "message": "2 fields", "raw": "a", "_input": "rows.csv", "_line": 1}] * 2
    rows = [{"id": number} for number in range(6)]
    for limit, fails in ((0.2, True), (0.25, False)):
        run = context(workspace, reject_limit=limit)
        read = stage(run, rows, rejects=unreadable)
        aggregated = stage(run, rows[:1], "aggregated")
        if fails:
            with pytest.raises(LookbookError, match=r"2 of 8 rows \(25.0%\) were rejected: 2 ragged_row"):
                load(run, "load", [Staged({"": aggregated})], [Staged({"": read})])
        else:
            (result,) = load(run, "load", [Staged({"": aggregated})], [Staged({"": read})])
            assert (result.rows_loaded, result.rejected) == (1, 2)


def test_rows_of_no_event_count_among_those_of_all_events(workspace: Workspace) -> None:
    run = context(workspace, table="web_{event}", reject_limit=0.1)
    unknown = [{"rule": "no_group", "message": "no event", "raw": "{}", "_input": "rows.csv", "_line": 1}]
    group = stage(run, [{"id": 1}], "opened")
    extracted = Staged({"": stage(run, pa.table({}), rejects=unknown), "opened": group})
    with pytest.raises(LookbookError, match=r"web_\{event\}: 1 of 2 rows"):
        load(run, "load", [Staged({"opened": group})], [extracted])
    assert books(workspace) == ([], [])


def wide(columns: int) -> pa.Table:
    """50 rows: numbers, texts and dates, column by column."""
    kinds = ([str(row) for row in range(50)], [f"x{row}" for row in range(50)], ["2026-01-31"] * 50)
    return pa.table({f"c{number}": kinds[number % 3] for number in range(columns)})


@pytest.mark.full
@pytest.mark.timeout(300)
@pytest.mark.parametrize("target", ["warehouse", "lake"])  # PostgreSQL takes 1,600 columns
def test_the_widest_table_loads_whole_and_is_merged_into(workspace: Workspace, target: str) -> None:
    rows = wide(1999).append_column("id", pa.array(range(50)))
    settings = {"target": target, "write_disposition": "merge", "primary_key": "id", "schema_contract": "discard_row"}
    result = load_rows(context(workspace, 1, **settings), rows)
    assert (result.rows, result.rejected, len(result.columns)) == (50, 0, 2002)
    assert list(result.columns.values())[:3] == ["BIGINT", "VARCHAR", "DATE"]
    worse = rows.set_column(0, "c0", pa.array(["x"] * 25 + ["7"] * 25))
    result = load_rows(context(workspace, 2, **settings), worse)
    assert (result.rows, result.rows_loaded, result.rejected) == (50, 25, 25)


def test_a_table_that_is_too_wide_is_refused_with_the_bound(workspace: Workspace) -> None:
    with pytest.raises(LookbookError, match="prices: the rows have 2001 columns, and a load takes 2000"):
        load_rows(context(workspace), wide(2001))
