"""Checks before publication: what passes is published, what fails is a candidate; killed anywhere, nothing stays."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from pydantic import ValidationError

from lookbook.blocks.errors import LeaseLostError, LookbookError, UsageError
from lookbook.blocks.lake import FolderLake, Lake
from lookbook.blocks.workspace import Workspace
from lookbook.tasks.datasets import checks as module
from lookbook.tasks.datasets import follow
from lookbook.tasks.datasets.candidates import candidate_ids
from lookbook.tasks.datasets.checks import Check, Checks, read_checks, run_checks, set_checks
from lookbook.tasks.datasets.differences import choose_snapshots, compare_snapshots
from lookbook.tasks.datasets.manifest import (
    TABLES,
    DamagedSnapshotError,
    list_snapshots,
    read_manifest,
    require_published,
)
from lookbook.tasks.datasets.publish import FailedChecksError, publish_candidate, sweep_unfinished
from lookbook.tasks.datasets.restore import restore_snapshot
from lookbook.tasks.datasets.tags import find_snapshot, set_tag
from lookbook.tasks.datasets.unpublished import read_unpublished
from lookbook.tasks.datasets.verify import verify
from tests.support.leases import holding
from tests.support.pipeline import photo, request, row, run, write_collection
from tests.support.sets import sampled
from tests.tasks.datasets.test_restore import publish_alone

LOST = """
SELECT b.gender, b.n AS former, coalesce(a.n, 0) AS now
FROM (SELECT gender, count(*) AS n FROM former_products GROUP BY ALL) AS b
LEFT JOIN (SELECT gender, count(*) AS n FROM products GROUP BY ALL) AS a USING (gender)
WHERE coalesce(a.n, 0) < 0.95 * b.n
"""


def hold(place: Workspace, *checks: tuple[str, str, str]) -> None:
    """Set checks: name, level, SQL."""
    made = [Check.model_validate({"name": name, "level": level, "sql": sql}) for name, level, sql in checks]
    set_checks(place.lake, "things", Checks(checks=made))


@pytest.fixture
def source(tmp_path: Path) -> Path:
    return write_collection(tmp_path / "source", {f"{n}.jpg": photo(n) for n in (1, 2, 3)}, [row(n) for n in (1, 2, 3)])


def written(table: pa.Table, path: Path) -> list[Path]:
    pq.write_table(table, path)
    return [path]


def current(place: Workspace) -> str:
    return require_published(place.lake, "things").manifest.snapshot_id


def keys(lake: Lake) -> set[str]:
    return {info.key for info in lake.list("datasets/things") if not info.key.endswith(".lock")}


def refused(place: Workspace, source: Path) -> FailedChecksError:
    with pytest.raises(FailedChecksError) as fault:
        run(request(place, source))
    return fault.value


def fewer(source: Path, *left: int) -> None:
    """Leave only some products, and their images."""
    write_collection(source, {}, [row(n) for n in left])
    for n in {1, 2, 3}.difference(left):
        (source / f"{n}.jpg").unlink(missing_ok=True)


def test_from_a_first_snapshot_to_a_candidate_that_is_published_by_hand(workspace: Workspace, source: Path) -> None:
    lake = workspace.lake
    hold(workspace, ("lost", "stop", LOST), ("small", "warn", "SELECT key FROM images WHERE width < 100 ORDER BY key"))
    first = run(request(workspace, source))
    assert [(each["name"], each["outcome"], each["rows"]) for each in first["checks"]] == [
        ("lost", "passed", 0),
        ("small", "warned", 3),
    ], "there is no former snapshot to lose products of"
    assert first["checks"][1]["first"] == [{"key": f"{n}.jpg"} for n in (1, 2, 3)]
    assert run(request(workspace, source))["checks"] == [], "nothing is to be published"

    fewer(source, 1)
    write_collection(source, {"4.jpg": photo(4)})
    error = refused(workspace, source)
    (candidate,) = candidate_ids(lake, "things")
    assert error.problem == "things: 1 check failed: lost (1 row). Nothing was published."
    assert f"kept as the candidate {candidate}: mend the source and ingest it again, or publish it" in str(error)
    assert (error.finished.summary["snapshot"], error.finished.summary["published"]) == (candidate, False)
    assert current(workspace) == first["snapshot"]
    assert [each.snapshot_id for each in list_snapshots(lake, "things")] == [first["snapshot"]]
    assert read_unpublished(workspace, "things", first["snapshot"]) is None, "it refused no image or row"
    note = json.loads(lake.get(f"datasets/things/candidates/{candidate}"))
    assert (note["failed"], "created_at" in note) == (["lost"], True)

    manifest = find_snapshot(lake, "things", candidate)
    found = compare_snapshots(lake, workspace.scratch, *choose_snapshots(lake, "things", None, candidate))
    assert (found.counts["rows"]["removed"], found.counts["images"]["added"]) == (2, 1)
    report = lake.get(f"{manifest.folder}/report.html").decode()
    assert "1 check failed, so the ingest did not publish this snapshot" in report
    assert "gender: Women, former: 3, now: 1" in report
    with pytest.raises(UsageError, match="is a candidate"):
        set_tag(lake, "things", "v1", candidate)
    with pytest.raises(UsageError, match="is a candidate"):
        restore_snapshot(workspace, "things", candidate, manifest.created_at)

    again = refused(workspace, source)
    assert again.finished.summary["snapshot"] == candidate, "what says the same has the same id"
    assert sum(again.finished.summary["outputs"].values()) == 0, "nothing is drawn twice"

    with pytest.raises(UsageError, match="no candidate 20200101"):
        publish_candidate(workspace, "things", "20200101T000000000Z-00000000")
    summary, note = publish_candidate(workspace, "things", None)
    assert (summary["snapshot"], summary["overridden"], summary["published"], note) == (candidate, ["lost"], True, "")
    assert [each.snapshot_id for each in list_snapshots(lake, "things")] == [candidate, first["snapshot"]]
    assert require_published(lake, "things").manifest.summary["checks"][0]["outcome"] == "failed", "it is remembered"
    assert candidate_ids(lake, "things") == []
    assert publish_candidate(workspace, "things", candidate)[1] == f"nothing to do: {candidate} is current already"
    follow.catch_up(workspace, "things")
    assert verify(workspace, "things").differences == []
    assert run(request(workspace, source))["published"] is False
    restored = restore_snapshot(workspace, "things", first["snapshot"], manifest.created_at)
    assert (restored.published, restored.summary["checks"]) == (True, []), "a restore runs no checks"


def test_a_candidate_gives_way_to_the_next_run_that_publishes_or_makes_another(
    workspace: Workspace, source: Path
) -> None:
    first = publish_alone(workspace, source)
    hold(workspace, ("lost", "stop", LOST))
    fewer(source, 1, 2)
    one = refused(workspace, source).finished.summary["snapshot"]
    fewer(source, 1)
    two = refused(workspace, source).finished.summary["snapshot"]
    assert candidate_ids(workspace.lake, "things") == [two]
    assert not [key for key in keys(workspace.lake) if one in key]
    set_checks(workspace.lake, "things", None)
    assert read_checks(workspace.lake, "things") == []
    write_collection(source, {}, [row(1), row(9)])
    assert run(request(workspace, source))["published"]
    assert not [key for key in keys(workspace.lake) if "candidates" in key or "writing" in key or two in key]
    assert first in {each.snapshot_id for each in list_snapshots(workspace.lake, "things")}


def test_a_candidate_is_refused_once_another_snapshot_is_current_or_a_file_of_it_is_damaged(
    workspace: Workspace, source: Path
) -> None:
    first = publish_alone(workspace, source)
    write_collection(source, {"4.jpg": photo(4)})
    second = publish_alone(workspace, source)
    hold(workspace, ("none", "stop", "SELECT 1"))
    fewer(source, 1)
    candidate = refused(workspace, source).finished.summary["snapshot"]
    made = read_manifest(workspace.lake, "things", candidate)
    assert made is not None
    (key,) = made.keys("images")
    data = workspace.lake.get(key)
    workspace.lake.replace(key, bytes([data[0] ^ 1, *data[1:]]))
    with pytest.raises(DamagedSnapshotError, match=f"{key} is damaged"):
        publish_candidate(workspace, "things", candidate)
    workspace.lake.replace(key, data)
    restored = restore_snapshot(
        workspace, "things", first, require_published(workspace.lake, "things").manifest.created_at
    )
    with pytest.raises(
        LookbookError, match=f"was checked against {second}, and {restored.summary['snapshot']}"
    ) as fault:
        publish_candidate(workspace, "things", None)
    assert fault.value.way_out.startswith("Ingest the source again")
    assert current(workspace) == restored.summary["snapshot"]


def test_a_first_snapshot_that_fails_is_a_candidate_that_can_be_looked_at_and_published(
    workspace: Workspace, source: Path
) -> None:
    hold(workspace, ("brand", "stop", "SELECT * FROM products WHERE gender = 'Women'"))
    candidate = refused(workspace, source).finished.summary["snapshot"]
    assert find_snapshot(workspace.lake, "things", candidate).previous is None
    fewer(source, 1)
    refused(workspace, source)
    assert len(candidate_ids(workspace.lake, "things")) == 2, "as what is unfinished, it waits for a first snapshot"
    assert publish_candidate(workspace, "things", candidate)[0]["snapshot"] == candidate == current(workspace)
    assert candidate_ids(workspace.lake, "things") == []


def test_a_check_that_cannot_be_run_fails_whatever_its_level(
    workspace: Workspace, source: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = publish_alone(workspace, source)
    monkeypatch.setattr(module, "SECONDS", 0.3)
    hold(
        workspace,
        ("typo", "warn", "SELECT brnd FROM products"),
        ("endless", "warn", "SELECT sum(a.range * b.range) FROM range(10000000) AS a, range(10000000) AS b"),
        ("raises", "stop", "SELECT * FROM products WHERE CAST(gender AS INTEGER) = 1"),
        ("file", "warn", "SELECT 1 FROM images WHERE (SELECT count(*) FROM former_images) < 0"),
    )
    write_collection(source, {"4.jpg": photo(4)})
    results = {each["name"]: each for each in refused(workspace, source).finished.summary["checks"]}
    assert [each["outcome"] for each in results.values()] == ["failed", "failed", "failed", "passed"]
    assert 'Referenced column "brnd" not found' in results["typo"]["error"]
    assert results["endless"]["error"] == "it took longer than 0.3 seconds"
    assert "Could not convert string 'Women'" in results["raises"]["error"]
    former = require_published(workspace.lake, "things").manifest
    (key,) = former.keys("images")
    workspace.lake.remove(key)
    tables = dict.fromkeys(TABLES, written(pa.table({"key": ["a"]}), source.parent / "new.parquet"))
    (damaged,) = run_checks(workspace, read_checks(workspace.lake, "things")[3:], tables, former)
    assert (damaged["outcome"], damaged["error"]) == ("failed", f"{key} is missing.")
    assert current(workspace) == first


def test_a_column_that_the_former_snapshot_lacks_is_null_there(workspace: Workspace, source: Path) -> None:
    publish_alone(workspace, source)
    former = require_published(workspace.lake, "things").manifest
    new = pa.table({"product_key": ["1"], "brand": ["Acme"]})
    check = Check(name="a", sql="SELECT count(*) AS n, count(brand) AS brands FROM Former_Products;")
    (result,) = run_checks(
        workspace, [check], dict.fromkeys(TABLES, written(new, source.parent / "new.parquet")), former
    )
    assert result["first"] == [{"n": 3, "brands": 0}]


@pytest.mark.parametrize(
    ("sql", "why"),
    [
        ("SELECT *\nFROM images WHER x = 1 1", "line 2"),
        ("SELECT", "line 1"),
        ("SELECT 1; SELECT 2", "2 statements"),
        ("COPY images TO 'x'", "no SELECT but COPY"),
        ("SELECT * FROM read_csv('x.csv')", "only tables are read"),
        ("SELECT * FROM 'x.parquet'", r"it reads x\.parquet; there are images"),
        ("SELECT * FROM feeds.trips", r"it reads feeds\.trips; there are images"),
        ("(" * 3000 + "SELECT 1" + ")" * 3000, "it cannot be read"),
    ],
)
def test_sql_that_is_no_select_over_the_two_snapshots_is_refused(sql: str, why: str) -> None:
    with pytest.raises(ValidationError, match=why):
        Check(name="a", sql=sql)


def test_checks_that_cannot_be_read_let_nothing_pass(workspace: Workspace, source: Path) -> None:
    hold(workspace, ("none", "stop", "SELECT 1"))
    workspace.lake.replace("datasets/things/checks.json", b"{}")
    with pytest.raises(LookbookError, match=r"its checks in .* cannot be read"):
        run(request(workspace, source))
    assert [key for key in keys(workspace.lake) if "/snapshots/" in key or key.endswith("CURRENT")] == []


class Killed(BaseException):
    """In the place of SIGKILL."""


STEPS = ["put note", "put manifest.json", "put candidate", "noted", "put old note", "removed old", "swap", "swapped"]


def kill_at(patch: pytest.MonkeyPatch, step: str, old: str) -> None:
    """Have the process die at a step: from there on it writes nothing. `old` is a candidate that is to be removed."""
    put, remove, swap = FolderLake.put, FolderLake.remove, FolderLake.swap
    dead: list[str] = []

    def at(name: str) -> None:
        if dead or name == step:
            dead.append(name)
            raise Killed

    def dying_put(self: FolderLake, key: str, data: bytes) -> bool:
        kind = "candidate" if "/candidates/" in key else "note" if "/writing/" in key else key.rpartition("/")[2]
        at(f"put {'old ' if old in key else ''}{kind}")
        done = put(self, key, data)
        at("noted" if kind == "candidate" else "")
        return done

    def dying_remove(self: FolderLake, key: str) -> None:
        remove(self, key)
        at("removed old" if f"/candidates/{old}" in key else "")

    def dying_swap(self: FolderLake, *given: Any) -> None:
        at("swap")
        swap(self, *given)
        at("swapped")

    for name, dying in (("put", dying_put), ("remove", dying_remove), ("swap", dying_swap)):
        patch.setattr(FolderLake, name, dying)


@pytest.mark.parametrize("step", sampled(STEPS, fast=["noted", "removed old", "swapped"]))
def test_killed_at_any_step_there_is_one_candidate_or_none_and_nothing_is_stranded(
    workspace: Workspace, source: Path, monkeypatch: pytest.MonkeyPatch, step: str
) -> None:
    lake, published, publishing = workspace.lake, publish_alone(workspace, source), step.startswith("swap")
    hold(workspace, ("lost", "stop", LOST))
    fewer(source, 1, 2)
    old = refused(workspace, source).finished.summary["snapshot"]
    fewer(source, 1)
    with monkeypatch.context() as patch:
        kill_at(patch, step, old)
        with pytest.raises(Killed):
            publish_candidate(workspace, "things", old) if publishing else run(request(workspace, source))
    assert current(workspace) == (old if step == "swapped" else published)
    sweep_unfinished(lake, "things")
    candidates = candidate_ids(lake, "things")
    assert len(candidates) == (step != "swapped")
    left = {key.split("/")[3] for key in keys(lake) if "/snapshots/" in key}
    assert left == {published, current(workspace), *candidates}
    assert [key for key in keys(lake) if "/writing/" in key] == []
    if not publishing:
        made = refused(workspace, source).finished.summary
        assert (candidate_ids(lake, "things"), sum(made["outputs"].values())) == ([made["snapshot"]], 0)


def test_a_publication_that_stands_still_right_before_its_swap_cannot_publish_what_was_removed(
    workspace: Workspace, source: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = publish_alone(workspace, source)
    hold(workspace, ("lost", "stop", LOST))
    fewer(source, 1, 2)
    refused(workspace, source)
    fewer(source, 1)
    swap = FolderLake.swap

    def stand_still(self: FolderLake, *given: Any) -> None:
        monkeypatch.setattr(FolderLake, "swap", swap)
        with holding(2, "dataset/things"):
            refused(workspace, source)
        self.swap(*given)

    monkeypatch.setattr(FolderLake, "swap", stand_still)
    with holding(1, "dataset/things"), pytest.raises(LeaseLostError):
        publish_candidate(workspace, "things", None)
    assert current(workspace) == first
    assert len(candidate_ids(workspace.lake, "things")) == 1
