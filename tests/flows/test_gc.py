"""Clean-up: what may go, and when; killed at any step, beside runs, readers and people who tag, nothing needed goes."""

from __future__ import annotations

import os
import random
import re
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from lookbook.blocks.errors import LeaseLostError, LookbookError, UsageError
from lookbook.blocks.gcs import GcsLake
from lookbook.blocks.lake import FolderLake, Lake
from lookbook.blocks.registry import unfenced
from lookbook.blocks.workspace import Workspace
from lookbook.flows.gc import Work, remove, survey
from lookbook.flows.remove import remove_all
from lookbook.tasks.datasets import follow
from lookbook.tasks.datasets.candidates import candidate_key
from lookbook.tasks.datasets.differences import choose_snapshots
from lookbook.tasks.datasets.gc import datasets_of, end_removal, reading
from lookbook.tasks.datasets.manifest import (
    list_datasets,
    list_snapshots,
    read_manifest,
    require_published,
    snapshot_folder,
    writing_key,
)
from lookbook.tasks.datasets.tags import find_snapshot, read_tags, remove_tag, set_tag
from lookbook.tasks.runs import lease as leases
from lookbook.tasks.runs.lease import Hold, KeptApartError, LeaseHeldError, lease, this_process
from lookbook.tasks.runs.records import list_runs, start_run
from lookbook.tasks.runs.removal import GRACE, Rule, age, old_scratch
from tests.support.gcp_credentials import AnonymousGcpCredentials
from tests.support.gcs_server import serving_gcs
from tests.support.leases import overtake
from tests.support.lives import draw, keys, keys_of_parts, listed, objects_of, publish, restore
from tests.support.sets import sampled

ROOT = Path(__file__).parents[2]
NOW = timedelta(0)


@pytest.fixture(autouse=True)
def no_power_cuts(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without waiting for the disk: each of the many swaps would."""
    monkeypatch.setattr(FolderLake, "settle", lambda _: None)


def work(place: Workspace, keep: int = 1, older_than: timedelta = NOW, grace: timedelta = NOW, **changes: Any) -> Work:
    """A clean-up that waits for nothing: what was current a moment ago may go."""
    return Work(place, Rule(keep, older_than, grace), **changes)


def piece(lake: Lake, snapshot_id: str, table: str) -> str:
    """The one file of a table."""
    manifest = read_manifest(lake, "things", snapshot_id)
    assert manifest is not None
    (key,) = manifest.keys(table)
    return key


def ids(place: Workspace, dataset: str = "things") -> list[str]:
    return [one.snapshot_id for one in list_snapshots(place.lake, dataset)]


def test_what_is_new_tagged_read_or_to_be_looked_at_stays_and_all_else_goes(workspace: Workspace) -> None:
    lake = workspace.lake
    first, second, third, fourth, fifth = (publish(workspace, "things", [f"{n}", f"{n + 1}"]) for n in range(5))
    publish(workspace, "others", ["1", "x"])
    set_tag(lake, "things", "v2", second)
    candidate = "20261101T000000000Z-00000000"
    for key in (candidate_key("things", candidate), f"{snapshot_folder('things', candidate)}/images.parquet"):
        lake.put(key, lake.get(piece(lake, first, "images")))
    draw(lake, "things", ["left off"])
    there = keys(lake)

    assert remove(work(workspace, older_than=timedelta(days=1)))["objects"] == 0, "all is younger"
    assert [one["snapshot"] for one in survey(work(workspace, 4))["snapshots"]] == [first, candidate]
    assert survey(work(workspace, grace=GRACE))["snapshots"][0]["snapshot"] == candidate, "just now it was current"
    with reading(workspace, "things", third, "a run"):
        found = survey(work(workspace))
        assert [one["snapshot"] for one in found["snapshots"]] == [fourth, first, candidate]
        assert "exports and predictions stay: an export is at work" in found["left"]
        assert keys(lake) == there, "a survey changes nothing"
        done = remove(work(workspace))
    assert done["snapshots"] == found["snapshots"]
    assert done["kinds"] == found["kinds"]
    assert ids(workspace) == [fifth, third, second]
    remove(work(workspace))
    assert ids(workspace) == [fifth, second]
    assert keys(lake) == listed(workspace)
    assert objects_of("0")[0] not in keys(lake)
    assert objects_of("x")[0] in keys(lake)

    assert [one.snapshot_id for one in choose_snapshots(lake, "things", None, None)] == [second, fifth]
    with pytest.raises(UsageError, match="no snapshot"):
        find_snapshot(lake, "things", third)
    restore(workspace, "things", "v2")
    assert ids(workspace)[1:] == [fifth, second]
    remove_tag(lake, "things", "v2")
    remove(work(workspace))
    assert len(ids(workspace)) == 1
    assert keys(lake) == listed(workspace)
    with pytest.raises(LookbookError, match="no snapshot before"):
        choose_snapshots(lake, "things", None, None)


def test_what_runs_leave_goes_once_it_is_old_and_nobody_is_at_work_on_it(workspace: Workspace) -> None:
    lake, hour = workspace.lake, timedelta(hours=1)
    publish(workspace, "things", ["0"])
    digest = require_published(lake, "things").manifest.digest
    told = {f"exports/{n * 32}/files/export.json": f'{{"snapshot": "{digest}"}}'.encode() for n in "ab"}
    manifest = b'{"dataset": "things", "books": {}, "files_sha256": ""}'
    told |= {f"exports/{n * 32}/manifest.json": manifest for n in "ab"}
    told |= {f"exports/{'c' * 32}/parts/000000.parquet": b"left off", "exports/notes.txt": b"somebody else's"}
    told |= {"raw/taxi/trips/1/manifest.json": b"{}", "transformed/zones/z/1/0.parquet": b"", ".tmp/0": b"cut off"}
    told |= {"datasets/things/predictions/0/1.parquet": b"", "datasets/things/predictions/0/2.parquet": b""}
    told |= {"work/killed/000000/manifest.parquet": b"", "work/living/000000/part.parquet": b""}
    for key, data in told.items():
        lake.put(key, data)
    names = ("unpacked-0123456789abcdef.tar", "kaggle/o/d/1/whole/a.zip", "query-abcdef01/x", "mine.txt")
    scratch = {name: workspace.scratch / name for name in names}
    for path in scratch.values():
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"12345")
    young = {f"exports/{'b' * 32}/manifest.json", "datasets/things/predictions/0/2.parquet"}
    young |= {"work/living/000000/part.parquet"}
    aged = [Path(lake.uri(key)) for key in told.keys() - young]
    for path in (*aged, *scratch.values(), *(scratch[name].parent for name in names[:3])):
        os.utime(path, (time.time() - 200_000,) * 2)

    with lease(workspace.registry, "pipeline/taxi"):
        found = survey(work(workspace, older_than=hour))
        assert "scratch stays: pipeline/taxi is at work on this machine" in found["left"]
        done = remove(work(workspace, older_than=hour))
    assert done["kinds"] == found["kinds"]
    assert {row["kind"]: row["objects"] for row in done["kinds"] if row["objects"]} == {
        "batches": 1,
        "exports": 3,
        "stages": 1,
        "writes": 1,
    }
    there = {info.key for top in ("exports", "raw", "transformed", ".tmp") for info in lake.list(top)}
    assert [info.key for info in lake.list("work")] == ["work/living/000000/part.parquet"]
    assert there == {key for key in told if "b" * 32 in key} | {"exports/notes.txt", "raw/taxi/trips/1/manifest.json"}
    done = remove(work(workspace, older_than=hour))
    amounts = {row["kind"]: (row["objects"], row["bytes"]) for row in done["kinds"] if row["objects"]}
    assert amounts == {"stages": (1, 2), "scratch": (3, 15)}
    assert [name for name, path in scratch.items() if path.exists()] == ["mine.txt"]
    assert listed(workspace) <= keys(lake)


def test_all_that_the_code_makes_in_scratch_is_known_to_the_clean_up_by_its_name(tmp_path: Path) -> None:
    """A desk holds the tables of a run: where that is killed, nobody else removes them."""
    making = re.compile(r"""(?:scratch_folder\([^)"]*|prefix=)"([a-z]+-)\"""")
    paths = (path for top in ("tasks", "flows") for path in (ROOT / top).rglob("*.py"))
    code = "".join(path.read_text(encoding="utf-8") for path in paths)
    made = {tempfile.mkdtemp(dir=tmp_path, prefix=prefix) for prefix in making.findall(code)}
    assert len(made) > 12
    told = [path for path, _ in old_scratch(tmp_path, Rule(1, NOW, NOW, datetime.now(UTC) + timedelta(hours=1)))]
    assert {str(path) for path in told} == made


def test_what_is_damaged_says_nothing_and_so_nothing_it_may_need_goes(workspace: Workspace) -> None:
    lake = workspace.lake
    first, second, _ = (publish(workspace, "things", [f"{n}"]) for n in range(3))
    publish(workspace, "others", ["x"])
    publish(workspace, "others", ["y"])
    manifest = lake.get(f"{snapshot_folder('things', second)}/manifest.json")
    lake.remove(f"{snapshot_folder('things', second)}/manifest.json")
    done = remove(work(workspace))
    assert [one["dataset"] for one in done["snapshots"]] == ["others"]
    assert f"things: the manifest of {second} is missing or damaged" in done["left"][0]
    assert objects_of("0")[0] in keys(lake)
    lake.put(f"{snapshot_folder('things', second)}/manifest.json", manifest)
    damaged = piece(lake, first, "outputs")
    lake.replace(damaged, b"damaged")
    done = remove(work(workspace, 3))
    assert f"{damaged} is damaged" in done["left"][0]
    assert objects_of("0")[0] in keys(lake)
    remove(work(workspace))
    assert keys(lake) == listed(workspace), "the damaged one is gone"


def test_objects_stay_while_a_run_is_at_work_and_a_run_does_not_begin_while_they_go(
    workspace: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(leases, "SWEEP_WAIT", 0.0)
    registry, lake = workspace.registry, workspace.lake
    for names in (["0"], ["1"]):
        publish(workspace, "things", names)
    publish(workspace, "others", ["x"])
    with lease(registry, "dataset/others"):
        done = remove(work(workspace))
    assert len(ids(workspace)) == 1, "of another dataset"
    assert objects_of("0")[0] in keys(lake)
    assert any("originals and outputs stay" in why and "dataset/others is held" in why for why in done["left"])

    refused = list[str]()

    def begin(step: str) -> None:
        if step == "more objects":
            with unfenced(), pytest.raises(KeptApartError, match="objects of the lake are being removed") as caught:
                publish(workspace, "others", ["0"])
            refused.append(caught.value.way_out)

    remove(work(workspace, step=begin))
    assert refused == ["Wait for it, and run the command again."]
    assert keys(lake) == listed(workspace)
    publish(workspace, "others", ["0"])
    assert objects_of("0")[0] in keys(lake)


def test_a_run_that_was_silent_while_objects_went_publishes_nothing(workspace: Workspace) -> None:
    publish(workspace, "things", ["0"])

    def stands_still(step: str) -> None:
        if step == "written":
            overtake(workspace.registry, lambda: remove(work(workspace)))

    with pytest.raises(LeaseLostError, match="dataset/others"):
        publish(workspace, "others", ["0"], stands_still)
    with pytest.raises(LookbookError, match="no such dataset"):
        ids(workspace, "others")


def test_who_lost_its_lease_while_it_removes_stops(workspace: Workspace, monkeypatch: pytest.MonkeyPatch) -> None:
    """It looks at a clock before each object, and asks again where its last answer is old."""
    publish(workspace, "things", [f"{n}" for n in range(9)])
    publish(workspace, "things", ["x"])
    clock, gone = [0.0], list[str]()
    monkeypatch.setattr(leases, "_clock", lambda: clock[0])
    removing = FolderLake.remove

    def sleepily(lake: FolderLake, key: str) -> None:
        removing(lake, key)
        gone.extend([key] if key.startswith("originals/") else [])
        if len(gone) == 2 and not clock[0]:  # many are to go before it would ask again
            clock[0] = 2 * leases.FRESH  # the machine slept, and meanwhile a run has begun
            overtake(workspace.registry, lambda: publish(workspace, "things", [f"{n}" for n in range(9)]))

    monkeypatch.setattr(FolderLake, "remove", sleepily)
    monkeypatch.setattr("lookbook.tasks.runs.removal.REMOVING_THREADS", 1)
    with pytest.raises(LeaseLostError, match="gc/objects"):
        remove(work(workspace))
    monkeypatch.undo()
    missing = listed(workspace) - keys(workspace.lake)
    assert missing == set()


def test_a_batch_that_outlived_its_run_and_a_sweep_is_not_relied_upon(workspace: Workspace) -> None:
    lake, young = workspace.lake, timedelta(hours=1)
    draw(lake, "things", ["kept"])
    draw(lake, "things", ["0"], lambda _: remove(work(workspace, older_than=young)))
    assert objects_of("0")[0] not in keys(lake), "no part told of it when the objects went"
    assert keys_of_parts(lake, "things") == ["kept"]

    def killed(step: str) -> None:
        if step == "objects":  # a worker begins, and finds an object that goes in the next moment; then gc is killed
            draw(lake, "things", ["0"])
        elif step == "swept":
            raise Killed

    lake.put(objects_of("0")[0], b"0")
    with pytest.raises(Killed):
        remove(work(workspace, older_than=young, step=killed))
    assert objects_of("0")[0] not in keys(lake)
    publish(workspace, "things", ["0", "kept"])
    assert listed(workspace) <= keys(lake)


def test_a_snapshot_that_is_tagged_or_read_in_the_last_moment_stays(workspace: Workspace) -> None:
    lake, registry, reader = workspace.lake, workspace.registry, str(this_process())
    first, second, third, last = (publish(workspace, "things", [f"{n}"]) for n in range(4))

    def meanwhile(step: str) -> None:
        if step == "mark":
            set_tag(lake, "things", "v1", first)
            leases._take(registry, f"reading/things/{second}/a run", reader)
        elif step == "snapshot":
            with pytest.raises(UsageError, match="no snapshot"):
                set_tag(lake, "things", "late", third)

    remove(work(workspace, step=meanwhile))
    assert ids(workspace) == [last, second, first]
    assert listed(workspace) <= keys(lake)
    assert "late" not in read_tags(lake, "things")


class Killed(BaseException):
    """A run was killed at a step."""


def killer(random: random.Random, steps: int) -> Callable[[str], None]:
    """Kill at one of so many steps, or not at all."""
    left = [random.randrange(2 * steps)]

    def step(_: str) -> None:
        left[0] -= 1
        if left[0] == 0:
            raise Killed

    return step


@pytest.fixture
def in_a_bucket(workspace: Workspace) -> Iterator[Workspace]:
    """A workspace whose lake is a bucket."""
    with serving_gcs("bucket") as server:
        credentials = AnonymousGcpCredentials(endpoint=server.url)
        yield replace(workspace, lake=GcsLake(bucket="bucket", prefix="lake", credentials=credentials))


@pytest.mark.full
def test_in_a_bucket_as_well(in_a_bucket: Workspace) -> None:
    live(in_a_bucket, 1)


@pytest.mark.parametrize("seed", sampled(range(30), fast=[0]))
def test_after_any_history_the_lake_holds_what_its_manifests_list(workspace: Workspace, seed: int) -> None:
    live(workspace, seed)


def live(workspace: Workspace, seed: int) -> None:
    """Live through a history of two datasets, with kills, and look at what is there after each step and at the end."""
    chosen, lake = random.Random(seed), workspace.lake  # noqa: S311 - no secret
    for _ in range(12):
        dataset = chosen.choice(["one", "two"])
        names = [f"{n}" for n in range(8) if chosen.random() < 0.4] or ["0"]
        what = chosen.choice(["publish", "publish", "gc", "gc", "tag", "untag", "restore"])
        published = ids(workspace, dataset) if lake.read_version(f"datasets/{dataset}/CURRENT") else []
        tags = sorted(read_tags(lake, dataset))
        try:
            if what == "publish" or not published:
                publish(workspace, dataset, names, killer(chosen, 4))
            elif what == "gc":
                remove(work(workspace, chosen.randint(1, 3), step=killer(chosen, 12)))
            elif what == "tag":
                set_tag(lake, dataset, chosen.choice(["a", "b"]), chosen.choice(published), move=True)
            elif what == "untag" and tags:
                remove_tag(lake, dataset, chosen.choice(tags))
            elif what == "restore":
                restore(workspace, dataset, chosen.choice(published))
        except Killed:
            pass
        assert listed(workspace) <= keys(lake), "nothing that is needed is gone"
    for dataset in ("one", "two"):
        publish(workspace, dataset, ["last", dataset])
    remove(work(workspace, 2))
    assert keys(lake) == listed(workspace)


@pytest.mark.parametrize("steps", sampled(range(9), fast=[4]))
def test_a_removed_dataset_is_gone_and_one_whose_removal_was_killed_is_removed_by_the_next(
    workspace: Workspace, steps: int
) -> None:
    lake, registry, left = workspace.lake, workspace.registry, [steps]
    for names in (["0", "1"], ["1", "2"]):
        publish(workspace, "things", names)
    set_tag(lake, "things", "v1")
    publish(workspace, "others", ["2"])
    draw(lake, "things", ["left off"])
    for dataset in ("things", "others"):
        follow.index(workspace, require_published(lake, dataset).manifest)
    lake.put(f"exports/{'0' * 32}/manifest.json", b'{"dataset": "things", "books": {}, "files_sha256": ""}')
    lake.put(f"exports/{'0' * 32}/files/export.json", b'{"snapshot": "another"}')

    def step(_: str) -> None:
        left[0] -= 1
        if left[0] < 0:
            raise Killed

    with pytest.raises(Killed):
        remove_all(Work(workspace, Rule(1, age("9999w")), "things", step))
    assert objects_of("2")[0] in keys(lake)
    if "things" in datasets_of(lake):
        remove_all(Work(workspace, Rule(1, age("9999w")), "things"))
    remove(work(workspace))
    assert keys(lake) == listed(workspace)
    assert list_datasets(lake) == ["others"]
    for table in ("assets", "snapshots", "current_snapshots", "loads"):
        assert registry.fetchval(f"SELECT count(*) FROM {table} WHERE dataset = 'things'") == 0
    assert registry.fetchval("SELECT count(*) FROM assets") == 1
    with pytest.raises(LookbookError, match="things: no such dataset"):
        remove_all(Work(workspace, Rule(1, age("9999w")), "things"))
    with lease(registry, "dataset/others"), pytest.raises(LeaseHeldError):
        remove_all(Work(workspace, Rule(1, age("9999w")), "others"))
    with reading(workspace, "others", None, "a run"), pytest.raises(LookbookError, match="an export reads it"):
        remove_all(Work(workspace, Rule(1, age("9999w")), "others"))


@pytest.mark.parametrize(
    "at", sampled(["current", "manifests", "files", "batches", "books", "note"], fast=["manifests"])
)
def test_the_name_of_a_dataset_whose_removal_was_killed_is_used_again_for_another_one(
    workspace: Workspace, at: str
) -> None:
    lake, registry = workspace.lake, workspace.registry
    first = publish(workspace, "things", ["0"])
    set_tag(lake, "things", "v1")
    publish(workspace, "things", ["1"])
    follow.index(workspace, require_published(lake, "things").manifest)
    start_run(registry, "a run", "things", "here")

    def step(what: str) -> None:
        if what == at:
            raise Killed

    with pytest.raises(Killed):
        remove_all(Work(workspace, Rule(1, age("9999w")), "things", step))
    with lease(registry, "dataset/things"):
        assert end_removal(workspace, "things", Hold(registry, "dataset/things")) is (at != "current")
        assert not end_removal(workspace, "things", Hold(registry, "dataset/things"))
    assert [run["run_id"] for run in list_runs(registry, "things")] == ([] if at == "note" else ["a run"])
    assert registry.fetchval("SELECT count(*) FROM assets") == (at == "current")
    last = publish(workspace, "things", ["2"])
    remove(work(workspace))
    assert ids(workspace) == ([last, first] if at == "current" else [last])
    assert keys(lake) == listed(workspace)


@pytest.mark.parametrize("at", ["part", "written"])
def test_of_a_first_snapshot_that_was_never_published_nothing_stays(workspace: Workspace, at: str) -> None:
    lake = workspace.lake

    def killed(step: str) -> None:
        if step == at:
            raise Killed

    with pytest.raises(Killed):
        publish(workspace, "things", ["0"], killed)
    lake.put(writing_key("things", "20261101T000000000Z-00000000"), b"")  # killed before it wrote anything else
    remove(work(workspace))
    assert writing_key("things", "20261101T000000000Z-00000000") in keys(lake), "it may be at work still"
    rule = Rule(1, NOW, NOW, datetime.now(UTC) + timedelta(days=2))
    found = survey(Work(workspace, rule))
    assert remove(Work(workspace, rule))["kinds"] == found["kinds"]
    assert keys(lake) == set()


def test_an_age_is_a_number_with_a_unit() -> None:
    assert [age(text) for text in ("0s", "90m", "12h", "30d", "2w")] == [
        timedelta(),
        timedelta(minutes=90),
        timedelta(hours=12),
        timedelta(days=30),
        timedelta(days=14),
    ]
    with pytest.raises(UsageError, match="'1y' is no age"):
        age("1y")
