"""Tables in the lake: what each disposition leaves, in a folder and in a bucket."""

from __future__ import annotations

import itertools
import json
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Any

import duckdb
import pandas as pd
import pyarrow.parquet as pq
import pytest

from lookbook.blocks.errors import LeaseLostError, LookbookError, SwapConflictError
from lookbook.blocks.gcs import GcsLake
from lookbook.blocks.lake import FolderLake, Lake
from lookbook.tasks.tables.lake import commit as lake_commit
from lookbook.tasks.tables.lake.commit import LakeTables
from lookbook.tasks.tables.lake.manifest import (
    NO_VALUE,
    current_key,
    data_key,
    read_current,
    read_manifest,
    require_table,
)
from tests.support.gcp_credentials import AnonymousGcpCredentials
from tests.support.gcs_server import serving_gcs
from tests.support.lake_tables import data_files, in_order, lake_job, lake_rows
from tests.support.leases import holding
from tests.support.sets import sampled

COLUMNS = {"id": "BIGINT", "name": "VARCHAR"}
BY_DAY = {"id": "BIGINT", "day": "DATE", "fare": "DOUBLE"}
MARCH, APRIL = date(2026, 3, 1), date(2026, 4, 1)


@pytest.fixture(params=["folder", "bucket"])
def lake(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Lake]:
    if request.param == "folder":
        # A folder that looks like a partition is none.
        yield FolderLake(root=tmp_path / "day=7" / "lake")
        return
    with serving_gcs("bucket") as server:
        yield GcsLake(bucket="bucket", prefix="lake", credentials=AnonymousGcpCredentials(endpoint=server.url))


@pytest.fixture
def tables(lake: Lake, tmp_path: Path) -> LakeTables:
    return LakeTables(lake, tmp_path / "scratch")


@pytest.fixture
def folder_lake(tmp_path: Path) -> FolderLake:
    return FolderLake(root=tmp_path / "lake")


def numbered(*numbers: int, **more: Any) -> list[dict[str, Any]]:
    return [{"id": number, "name": f"n{number}"} | more for number in numbers]


def test_a_batch_appended_twice_is_there_once(lake: Lake, tables: LakeTables, tmp_path: Path) -> None:
    assert tables.state("trips") is None
    for load_id, rows in (("a", numbered(1, 2)), ("b", numbered(2, 3)), ("a", numbered(1, 2))):
        tables.load(lake_job(tmp_path / "jobs", rows, COLUMNS, load_id))
    assert lake_rows(lake, tmp_path) == in_order(numbered(1, 2, 2, 3))
    tables.load(lake_job(tmp_path / "jobs", numbered(9), COLUMNS, "a"))  # mended: the batch is what it is now
    assert lake_rows(lake, tmp_path) == in_order(numbered(2, 3, 9))
    state = tables.state("trips")
    assert state is not None
    assert (state.rows, list(state.columns)) == (3, ["id", "name", "_load_id", "_loaded_at"])
    assert state.size == sum(len(lake.get(key)) for key in tables.read_table("trips"))


def test_a_batch_that_a_merge_mixed_with_others_is_replaced_too(lake: Lake, tables: LakeTables, tmp_path: Path) -> None:
    tables.load(lake_job(tmp_path / "jobs", numbered(1, 2), COLUMNS, "a"))
    tables.load(
        lake_job(tmp_path / "jobs", numbered(2, name="b"), COLUMNS, "b", write_disposition="merge", primary_key="id")
    )
    assert {file.load_id for file in require_table(lake, "trips").files} == {None}
    tables.load(lake_job(tmp_path / "jobs", numbered(5), COLUMNS, "c"))
    tables.load(lake_job(tmp_path / "jobs", numbered(7), COLUMNS, "a"))
    assert lake_rows(lake, tmp_path) == in_order([*numbered(2, name="b"), *numbered(5, 7)])


@pytest.mark.parametrize("mixed", [False, True])
def test_an_append_takes_the_place_of_what_replays_of_its_rejects_added(
    folder_lake: FolderLake, tmp_path: Path, mixed: bool
) -> None:
    tables = LakeTables(folder_lake, tmp_path / "scratch")
    for load_id, number in (("a", 1), ("a.1", 2), ("ab", 3)):
        assert tables.load(lake_job(tmp_path / "jobs", numbered(number), COLUMNS, load_id)) == 0
    if mixed:  # files of several loads become one
        keys: dict[str, Any] = {"write_disposition": "merge", "primary_key": "id"}
        tables.load(lake_job(tmp_path / "jobs", numbered(1), COLUMNS, "a", **keys))
        tables.load(lake_job(tmp_path / "jobs", numbered(2), COLUMNS, "a.1", **keys))
        tables.load(lake_job(tmp_path / "jobs", numbered(3, 4), COLUMNS, "ab", **keys))
    tables.load(lake_job(tmp_path / "jobs", numbered(9), COLUMNS, "a"))
    assert lake_rows(folder_lake, tmp_path) == in_order(numbered(3, *([4] if mixed else []), 9))


def test_replace_leaves_only_what_it_brings_and_may_change_the_partitions(
    lake: Lake, tables: LakeTables, tmp_path: Path
) -> None:
    tables.load(lake_job(tmp_path / "jobs", numbered(1, 2), COLUMNS, "a"))
    replacing: dict[str, Any] = {"write_disposition": "replace", "partition_by": "name"}
    tables.load(lake_job(tmp_path / "jobs", numbered(3, 4), COLUMNS, "b", **replacing))
    assert lake_rows(lake, tmp_path) == in_order(numbered(3, 4))
    tables.load(lake_job(tmp_path / "jobs", [], COLUMNS, "c", **replacing))
    assert lake_rows(lake, tmp_path) == []
    state = tables.state("trips")
    assert state is not None
    assert (state.rows, state.size, list(state.partitions)) == (0, 0, [])


def test_merge_rewrites_only_the_files_that_hold_its_keys(lake: Lake, tables: LakeTables, tmp_path: Path) -> None:
    rows = [{"id": n, "day": MARCH if n < 5 else APRIL, "fare": 1.0} for n in range(10)]
    merging: dict[str, Any] = {"write_disposition": "merge", "primary_key": "id", "partition_by": "day"}
    tables.load(lake_job(tmp_path / "jobs", rows, BY_DAY, "a", **merging))
    april = [key for key in tables.read_table("trips") if "day=2026-04-01" in key]
    tables.load(lake_job(tmp_path / "jobs", [{"id": 3, "day": MARCH, "fare": 9.0}], BY_DAY, "b", **merging))
    assert [key for key in tables.read_table("trips") if "day=2026-04-01" in key] == april
    assert lake_rows(lake, tmp_path) == in_order([row | {"fare": 9.0 if row["id"] == 3 else 1.0} for row in rows])
    state = tables.state("trips")
    assert state is not None
    assert state.partitions == [{"day": "2026-03-01", "rows": 5}, {"day": "2026-04-01", "rows": 5}]


def test_a_key_that_moves_to_another_partition_leaves_no_second_row(
    lake: Lake, tables: LakeTables, tmp_path: Path
) -> None:
    merging: dict[str, Any] = {"write_disposition": "merge", "primary_key": "id", "partition_by": "day"}
    rows = [{"id": 1, "day": MARCH, "fare": 1.0}, {"id": 2, "day": MARCH, "fare": 2.0}]
    tables.load(lake_job(tmp_path / "jobs", rows, BY_DAY, "a", **merging))
    moved = {"id": 1, "day": None, "fare": 3.0}
    tables.load(lake_job(tmp_path / "jobs", [moved], BY_DAY, "b", **merging))
    assert lake_rows(lake, tmp_path) == in_order([rows[1], moved])
    assert any(f"day={NO_VALUE}/" in key for key in tables.read_table("trips"))


def test_of_rows_with_one_key_the_first_by_dedup_sort_counts_else_the_last(
    lake: Lake, tables: LakeTables, tmp_path: Path
) -> None:
    columns = {"id": "BIGINT", "at": "BIGINT", "name": "VARCHAR"}
    rows = [
        {"id": 1, "at": 2, "name": "second"},
        {"id": 1, "at": 5, "name": "latest"},
        {"id": 1, "at": None, "name": "unknown"},
        {"id": 1, "at": 1, "name": "last line"},
    ]
    merging: dict[str, Any] = {"write_disposition": "merge", "primary_key": "id", "files": 2}
    for sort, winner in (({}, "last line"), ({"at": "desc"}, "latest"), ({"at": "asc", "name": "asc"}, "last line")):
        assert tables.load(lake_job(tmp_path / "jobs", rows, columns, f"l{sort}", dedup_sort=sort, **merging)) == 3
        assert [row["name"] for row in lake_rows(lake, tmp_path)] == [winner]


@pytest.mark.parametrize(("type_", "deleted", "kept"), [("BOOLEAN", True, False), ("VARCHAR", "x", None)])
def test_a_row_marked_as_deleted_takes_its_key_with_it(
    lake: Lake, tables: LakeTables, tmp_path: Path, type_: str, deleted: object, kept: object
) -> None:
    columns = COLUMNS | {"gone": type_}
    merging: dict[str, Any] = {"write_disposition": "merge", "primary_key": "id", "hard_delete": "gone"}
    tables.load(lake_job(tmp_path / "jobs", numbered(1, 2, 3, gone=kept), columns, "a", **merging))
    batch = [*numbered(1, gone=deleted), *numbered(2, gone=kept, name="new"), *numbered(9, gone=deleted)]
    tables.load(lake_job(tmp_path / "jobs", batch, columns, "b", **merging))
    expected = [*numbered(2, gone=kept, name="new"), *numbered(3, gone=kept)]
    assert lake_rows(lake, tmp_path) == in_order(expected)


def test_new_columns_are_null_in_older_rows_and_missing_ones_in_newer(
    lake: Lake, tables: LakeTables, tmp_path: Path
) -> None:
    tables.load(lake_job(tmp_path / "jobs", numbered(1), COLUMNS, "a"))
    tables.load(lake_job(tmp_path / "jobs", [{"id": 2, "price": 2.5}], {"id": "BIGINT", "price": "DOUBLE"}, "b"))
    assert lake_rows(lake, tmp_path) == in_order(
        [{"id": 1, "name": "n1", "price": None}, {"id": 2, "name": None, "price": 2.5}]
    )
    state = tables.state("trips")
    assert state is not None
    assert list(state.columns) == ["id", "name", "price", "_load_id", "_loaded_at"]


@pytest.mark.parametrize(
    ("columns", "settings", "message"),
    [
        ({"id": "VARCHAR"}, {}, "column id is BIGINT, and the rows to load have VARCHAR"),
        (COLUMNS, {"partition_by": "name"}, "partitioned by nothing, and the load says name"),
        (COLUMNS, {"partition_by": "colour", "write_disposition": "replace"}, "no column colour"),
        (COLUMNS, {"partition_by": "_load_id", "write_disposition": "replace"}, "no column _load_id"),
        (COLUMNS, {"primary_key": "colour", "write_disposition": "merge"}, "no column colour, which primary_key"),
    ],
)
def test_what_does_not_fit_the_table_is_refused_and_leaves_it(
    folder_lake: FolderLake, tmp_path: Path, columns: dict[str, str], settings: dict[str, Any], message: str
) -> None:
    tables = LakeTables(folder_lake, tmp_path / "scratch")
    tables.load(lake_job(tmp_path / "jobs", numbered(1), COLUMNS, "a"))
    before = folder_lake.get(current_key("trips"))
    row = {"id": "1" if columns["id"] == "VARCHAR" else 1}
    with pytest.raises(LookbookError, match=message):
        tables.load(lake_job(tmp_path / "jobs", [row], columns, "b", **settings))
    assert folder_lake.get(current_key("trips")) == before


def test_hostile_names_and_types_come_near_no_statement(folder_lake: FolderLake, tmp_path: Path) -> None:
    tables = LakeTables(folder_lake, tmp_path / "scratch")
    job = lake_job(tmp_path / "jobs", numbered(1), COLUMNS)
    with pytest.raises(LookbookError, match="is no name of a table"):
        tables.load(replace(job, table="../x"))
    evil = {name: "BIGINT) FROM x; --" if name == "id" else type_ for name, type_ in job.columns.items()}
    with pytest.raises(LookbookError, match="which DuckDB has not"):
        tables.load(replace(job, columns=evil))
    strange = {'a"b': "BIGINT", "c'd": "VARCHAR"}
    rows = [{'a"b': 1, "c'd": "x'); DROP TABLE y"}]
    tables.load(lake_job(tmp_path / "jobs", rows, strange, "it's", partition_by="c'd"))
    assert lake_rows(folder_lake, tmp_path) == rows
    for _ in range(2):
        tables.load(
            lake_job(
                tmp_path / "jobs",
                rows,
                strange,
                "it's",
                partition_by="c'd",
                write_disposition="merge",
                primary_key='a"b',
            )
        )
    assert lake_rows(folder_lake, tmp_path) == rows


TEXTS = ["a b", "", "x/y=z", "..", NO_VALUE, None, "ü%2F", "01", "NULL", "+", "'", "%5F", "\n", "€" * 20]


def test_any_text_names_a_partition_and_comes_back(lake: Lake, tables: LakeTables, tmp_path: Path) -> None:
    rows = [{"id": number, "name": text} for number, text in enumerate(TEXTS)]
    tables.load(lake_job(tmp_path / "jobs", rows, COLUMNS, partition_by="name"))
    assert lake_rows(lake, tmp_path) == in_order(rows)
    assert len(tables.read_table("trips")) == len(TEXTS)
    with pytest.raises(LookbookError, match="too long to name a folder"):
        tables.load(lake_job(tmp_path / "jobs", [{"id": 1, "name": "€" * 100}], COLUMNS, "b", partition_by="name"))


def test_values_of_all_types_survive_as_names_of_folders(folder_lake: FolderLake, tmp_path: Path) -> None:
    columns = {"d": "DATE", "b": "BOOLEAN", "f": "DOUBLE", "t": "TIMESTAMP WITH TIME ZONE", "i": "BIGINT"}
    moment = datetime(2026, 3, 1, 12, 30, 15, 123456, tzinfo=UTC)
    rows = [
        {"d": MARCH, "b": True, "f": 0.1 + 0.2, "t": moment, "i": -(2**63)},
        {"d": None, "b": None, "f": None, "t": None, "i": None},
        {"d": date(1, 1, 1), "b": False, "f": 1e-300, "t": moment.replace(year=1600), "i": 0},
    ]
    LakeTables(folder_lake, tmp_path / "scratch").load(
        lake_job(tmp_path / "jobs", rows, columns, partition_by=list(columns))
    )
    assert lake_rows(folder_lake, tmp_path) == in_order(rows)


def test_other_programs_read_the_folder_with_right_types_and_no_column_twice(
    folder_lake: FolderLake, tmp_path: Path
) -> None:
    columns = {"id": "BIGINT", "day": "DATE", "zone": "BIGINT", "kind": "VARCHAR"}
    rows = [{"id": n, "day": (MARCH, APRIL)[n % 2], "zone": n % 3, "kind": "ab"[n % 2]} for n in range(60)]
    by = ["day", "zone", "kind"]
    LakeTables(folder_lake, tmp_path / "scratch").load(lake_job(tmp_path / "jobs", rows, columns, partition_by=by))
    folder = folder_lake.uri("tables/trips/data")
    with duckdb.connect() as connection:
        source = f"read_parquet('{folder}/**/*.parquet', hive_partitioning = 1)"
        described = connection.execute(f"DESCRIBE SELECT * FROM {source}").fetchall()
        assert {name: type_ for name, type_, *_ in described if name in columns} == columns
        assert len(described) == len(columns) + 2
        found = connection.sql(f"SELECT {', '.join(columns)} FROM {source}").to_arrow_table().to_pylist()
    assert in_order(found) == in_order(rows)
    arrow = pq.read_table(folder)
    assert sorted(arrow.column_names) == sorted([*columns, "_load_id", "_loaded_at"])
    frame = pd.read_parquet(folder)
    assert len(frame.columns) == len(columns) + 2
    as_text = frame.assign(**{name: frame[name].astype(str) for name in by})
    expected = pd.DataFrame(rows).assign(**{name: [str(row[name]) for row in rows] for name in by})
    pd.testing.assert_frame_equal(
        as_text[list(columns)].sort_values("id", ignore_index=True), expected, check_dtype=False
    )


# Snapshots


def test_a_reader_of_the_former_snapshot_still_finishes_and_older_files_go(
    lake: Lake, tables: LakeTables, tmp_path: Path
) -> None:
    seen = []
    for number in range(4):
        tables.load(lake_job(tmp_path / "jobs", numbered(number), COLUMNS, f"l{number}", write_disposition="replace"))
        seen.append(set(tables.read_table("trips")))
    assert data_files(lake) == seen[2] | seen[3]
    assert len(list(lake.list("tables/trips/snapshots"))) == 2
    assert list(lake.list("tables/trips/writing")) == []


def test_the_former_snapshot_keeps_the_files_that_it_shares_with_older_ones(
    lake: Lake, tables: LakeTables, tmp_path: Path
) -> None:
    for number in range(2):
        tables.load(lake_job(tmp_path / "jobs", numbered(number), COLUMNS, f"l{number}", write_disposition="append"))
    former = set(tables.read_table("trips"))
    tables.load(lake_job(tmp_path / "jobs", numbered(2), COLUMNS, "l2", write_disposition="replace"))
    assert len(former) == 2
    assert former < data_files(lake)


def test_a_load_that_lost_the_race_takes_what_is_there_now(
    lake: Lake, tables: LakeTables, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    merging: dict[str, Any] = {"write_disposition": "merge", "primary_key": "id"}
    tables.load(lake_job(tmp_path / "jobs", numbered(1, 2), COLUMNS, "a", **merging))
    commit, races = lake_commit.commit_change, iter(range(3))

    def beaten(*arguments: Any) -> None:
        if (number := next(races, None)) is not None:
            with monkeypatch.context() as quick:
                quick.setattr(lake_commit, "commit_change", commit)
                other = numbered(2, number + 10, name=f"other {number}")
                tables.load(lake_job(tmp_path / "jobs", other, COLUMNS, f"o{number}", **merging))
        commit(*arguments)

    monkeypatch.setattr(lake_commit, "commit_change", beaten)
    tables.load(lake_job(tmp_path / "jobs", numbered(2, 3, name="mine"), COLUMNS, "mine", **merging))
    expected = [*numbered(1), *numbered(2, 3, name="mine")]
    expected += [{"id": number + 10, "name": f"other {number}"} for number in range(3)]
    assert lake_rows(lake, tmp_path) == in_order(expected)
    current = read_current(lake, "trips")
    assert current is not None
    before = read_manifest(lake, "trips", str(current.manifest.previous))
    assert before is not None
    assert data_files(lake) == {file.key for file in [*current.manifest.files, *before.files]}


def test_a_load_that_lost_the_race_and_its_lease_gives_up(
    lake: Lake, tables: LakeTables, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It read CURRENT, and stood still; the one that took its lease has swapped CURRENT since."""
    tables.load(lake_job(tmp_path / "jobs", numbered(1), COLUMNS, "a"))
    commit, races = lake_commit.commit_change, iter(range(1))

    def overtaken(*arguments: Any) -> None:
        if next(races, None) is not None:
            with holding(2):
                tables.load(lake_job(tmp_path / "jobs", numbered(2), COLUMNS, "b"))
        commit(*arguments)

    monkeypatch.setattr(lake_commit, "commit_change", overtaken)
    with holding(1), pytest.raises(LeaseLostError, match="warehouse: this run stood still"):
        tables.load(lake_job(tmp_path / "jobs", numbered(3), COLUMNS, "b"))
    assert lake_rows(lake, tmp_path) == in_order(numbered(1, 2))
    assert data_files(lake) == {file.key for file in require_table(lake, "trips").files}


def test_fences_are_carried_along_by_who_holds_no_lease(folder_lake: FolderLake, tmp_path: Path) -> None:
    tables = LakeTables(folder_lake, tmp_path / "scratch")

    def load(*numbers: int) -> None:
        tables.load(lake_job(tmp_path / "jobs", numbered(*numbers), COLUMNS, write_disposition="replace"))

    load(1)
    assert set(json.loads(folder_lake.get(current_key("trips")))) == {"snapshot_id", "manifest_sha256"}, "as before"
    with holding(2):
        load(2)
    load(3)
    with holding(1), pytest.raises(LeaseLostError):
        load(4)
    assert lake_rows(folder_lake, tmp_path) == numbered(3)


def test_a_table_that_others_change_all_the_time_is_given_up(
    folder_lake: FolderLake, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def swap(*_: object) -> None:
        raise SwapConflictError("changed")

    monkeypatch.setattr(FolderLake, "swap", swap)
    with pytest.raises(LookbookError, match="other loads changed it 20 times"):
        LakeTables(folder_lake, tmp_path / "scratch").load(lake_job(tmp_path / "jobs", numbered(1), COLUMNS))
    assert data_files(folder_lake) == set()


class KilledError(BaseException):
    """Stands for a SIGKILL."""


STEPS = ["noted", "a file", "all files", "manifest", "settled"]


@pytest.mark.parametrize("step", STEPS)
@pytest.mark.parametrize("disposition", sampled(["append", "replace", "merge"], fast=["merge"]))
def test_killed_before_the_swap_nothing_is_seen_and_the_next_try_counts_right(
    folder_lake: FolderLake, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, step: str, disposition: str
) -> None:
    tables = LakeTables(folder_lake, tmp_path / "scratch")
    settings: dict[str, Any] = {"write_disposition": disposition, "partition_by": "name"}
    settings |= {"primary_key": "id"} if disposition == "merge" else {}
    tables.load(lake_job(tmp_path / "jobs", numbered(1, 2), COLUMNS, "a", **settings))
    job = lake_job(tmp_path / "jobs", numbered(2, 3, 4), COLUMNS, "b", **settings)
    put, settle, written = FolderLake.put, FolderLake.settle, itertools.count(1)

    def dying_put(self: FolderLake, key: str, data: bytes) -> bool:
        kind = key.split("/")[2]
        number = next(written) if kind == "data" else 0
        done = put(self, key, data)
        dead = {"noted": kind == "writing", "a file": number == 2, "manifest": kind == "snapshots"}
        if dead.get(step, False):
            raise KilledError
        return done

    def dying_settle(self: FolderLake) -> None:
        settle(self)
        if step == "settled":
            raise KilledError

    with monkeypatch.context() as killed:
        killed.setattr(lake_commit, "_withdraw", lambda *_: None)
        killed.setattr(FolderLake, "put", dying_put)
        killed.setattr(FolderLake, "settle", dying_settle)
        if step == "all files":
            killed.setattr(lake_commit, "TableManifest", lambda **_: (_ for _ in ()).throw(KilledError))
        with pytest.raises(KilledError):
            tables.load(job)
    assert lake_rows(folder_lake, tmp_path) == in_order(numbered(1, 2))
    for _ in range(2):
        tables.load(job)
    expected = {"append": (1, 2, 2, 3, 4), "replace": (2, 3, 4), "merge": (1, 2, 3, 4)}[disposition]
    assert lake_rows(folder_lake, tmp_path) == in_order(numbered(*expected))
    current = read_current(folder_lake, "trips")
    assert current is not None
    before = read_manifest(folder_lake, "trips", str(current.manifest.previous))
    listed = {file.key for file in [*current.manifest.files, *(before.files if before else [])]}
    assert data_files(folder_lake) == listed, "files of the killed load are gone"
    assert list(folder_lake.list("tables/trips/writing")) == []


def test_killed_behind_the_swap_the_load_is_done(
    folder_lake: FolderLake, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tables = LakeTables(folder_lake, tmp_path / "scratch")

    def dead(*_: object) -> None:
        raise KilledError

    with monkeypatch.context() as killed:
        killed.setattr(lake_commit, "_sweep", dead)
        with pytest.raises(KilledError):
            tables.load(lake_job(tmp_path / "jobs", numbered(1, 2), COLUMNS, "a"))
    assert lake_rows(folder_lake, tmp_path) == in_order(numbered(1, 2))
    tables.load(lake_job(tmp_path / "jobs", numbered(1, 2), COLUMNS, "a"))
    assert lake_rows(folder_lake, tmp_path) == in_order(numbered(1, 2))
    assert list(folder_lake.list("tables/trips/writing")) == []


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda lake: lake.replace(current_key("trips"), b"{}"), "cannot be read"),
        (lambda lake: [lake.remove(i.key) for i in list(lake.list("tables/trips/snapshots"))], "manifest is gone"),
        (
            lambda lake: [lake.replace(i.key, b"{}") for i in list(lake.list("tables/trips/snapshots"))],
            "its checksum differs",
        ),
    ],
)
def test_a_damaged_table_is_named_with_the_way_out(
    folder_lake: FolderLake, tmp_path: Path, damage: Any, message: str
) -> None:
    tables = LakeTables(folder_lake, tmp_path / "scratch")
    tables.load(lake_job(tmp_path / "jobs", numbered(1), COLUMNS))
    damage(folder_lake)
    with pytest.raises(LookbookError, match=rf"lake\.trips: .*{message}"):
        tables.state("trips")


def test_large_rows_are_cut_into_files_of_bounded_size(
    folder_lake: FolderLake, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("lookbook.tasks.tables.lake.files.FILE_ROWS", 2048)
    monkeypatch.setattr("lookbook.tasks.tables.lake.files.BATCH_ROWS", 2048)
    monkeypatch.setattr(lake_commit, "LARGEST", 10)
    rows = numbered(*range(10_000))
    LakeTables(folder_lake, tmp_path / "scratch").load(lake_job(tmp_path / "jobs", rows, COLUMNS))
    assert [file.rows for file in require_table(folder_lake, "trips").files] == [2048] * 4 + [1808]
    assert lake_rows(folder_lake, tmp_path) == in_order(rows)


def test_keys_never_lead_out_of_the_tables_folder() -> None:
    key = data_key("trips", ["a"], ["../../../etc"], "x")
    assert key == "tables/trips/data/a=..%2F..%2F..%2Fetc/x.parquet"
