"""Renames: the whole dataset is there under the new name before the old one goes, wherever the run is killed."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from lookbook.blocks.errors import LookbookError, UsageError
from lookbook.blocks.lake import FolderLake
from lookbook.blocks.workspace import Workspace
from lookbook.flows.rename import rename_all
from lookbook.tasks.datasets import follow
from lookbook.tasks.datasets.candidates import Candidate, candidate_key
from lookbook.tasks.datasets.checks import Check, Checks, read_checks, set_checks
from lookbook.tasks.datasets.gc import reading
from lookbook.tasks.datasets.manifest import (
    Manifest,
    file_faults,
    list_datasets,
    list_snapshots,
    read_manifest,
    read_published,
    require_published,
    snapshot_folder,
)
from lookbook.tasks.datasets.rename import renaming_key
from lookbook.tasks.datasets.tags import find_snapshot, set_tag
from lookbook.tasks.runs.lease import LeaseHeldError, lease
from lookbook.tasks.runs.records import end_run, list_runs, start_run
from tests.support.lives import draw, keys, listed, publish
from tests.support.sets import sampled

STEPS = ["note", "snapshot", "others", "current", "follow", "manifests", "files", "books", "end"]


class KilledError(BaseException):
    """Ends a run as a kill does: nothing of it catches this."""


@pytest.fixture(autouse=True)
def no_power_cuts(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without waiting for the disk."""
    monkeypatch.setattr(FolderLake, "settle", lambda _: None)


def rename(place: Workspace, old: str, new: str, step: Callable[[str], object] = lambda _: None) -> None:
    """What the flow does, in its own leases."""

    def books() -> None:
        follow.index(place, require_published(place.lake, new).manifest)

    with lease(place.registry, f"dataset/{new}"):
        rename_all(place, old, new, follow=books, step=step)


def lived(place: Workspace) -> list[str]:
    """A dataset with three snapshots, a tag, and one that was removed; returns their ids, the newest first."""
    ids = [publish(place, "things", [f"{n}", f"{n + 1}"]) for n in range(3)]
    set_tag(place.lake, "things", "v1", ids[0])
    return ids[::-1]


def same_but_for_the_name(one: Manifest, other: Manifest) -> bool:
    own = {"dataset", "files", "summary"}
    return one.model_dump(exclude=own) == other.model_dump(exclude=own)


def test_all_of_a_dataset_goes_along_and_nothing_is_left_of_the_old_name(workspace: Workspace) -> None:
    lake, registry = workspace.lake, workspace.registry
    ids = lived(workspace)
    before = list_snapshots(lake, "things")
    set_checks(lake, "things", Checks(checks=[Check(name="some", sql="SELECT 1 FROM images WHERE false")]))
    candidate = before[0].model_copy(update={"snapshot_id": "20261101T000000000Z-00000000", "files": []})
    lake.put(f"{candidate.folder}/manifest.json", candidate.model_dump_json().encode())
    note = Candidate(created_at=candidate.created_at, manifest_sha256="of the old name", failed=["some"])
    lake.put(candidate_key("things", candidate.snapshot_id), note.model_dump_json().encode())
    lake.put("datasets/things/predictions/0/1.parquet", b"of a model")
    draw(lake, "things", ["left off"])
    start_run(registry, "a-run", "things", "here")
    end_run(registry, "a-run", {}, None)
    objects = {key for key in keys(lake) if key.startswith(("originals/", "derived/"))}

    rename(workspace, "things", "wares")
    assert list_datasets(lake) == ["wares"]
    after = list_snapshots(lake, "wares")
    assert [one.snapshot_id for one in after] == ids
    assert all(map(same_but_for_the_name, before, after))
    assert all(file_faults(lake, one) == [] for one in after)
    assert b"was called things" in lake.get(f"{after[0].folder}/report.html")
    assert find_snapshot(lake, "wares", "v1").snapshot_id == ids[2]
    assert [check.name for check in read_checks(lake, "wares")] == ["some"]
    moved = read_manifest(lake, "wares", candidate.snapshot_id)
    assert moved is not None
    kept = Candidate.model_validate_json(lake.get(candidate_key("wares", candidate.snapshot_id)))
    assert kept.manifest_sha256 != note.manifest_sha256
    assert lake.get("datasets/wares/predictions/0/1.parquet") == b"of a model"
    assert not [key for key in keys(lake) if "/things" in key]
    assert {key for key in keys(lake) if key.startswith(("originals/", "derived/"))} == objects
    assert [run["run_id"] for run in list_runs(registry, "wares")] == ["a-run"]
    assert list_runs(registry, "things") == []
    publish(workspace, "wares", ["7"])
    assert len(list_snapshots(lake, "wares")) == 4


@pytest.mark.parametrize("at", sampled(STEPS, fast=["others", "follow", "files"]))
def test_killed_at_any_step_readers_find_one_of_both_and_the_same_command_finishes_it(
    workspace: Workspace, at: str
) -> None:
    lake, ids = workspace.lake, lived(workspace)

    def kill(step: str) -> None:
        if step == at:
            raise KilledError

    with pytest.raises(KilledError):
        rename(workspace, "things", "wares", kill)
    found = read_published(lake, "wares") or require_published(lake, "things")
    assert found.manifest.snapshot_id == ids[0]
    assert file_faults(lake, found.manifest) == []
    rename(workspace, "things", "wares")
    assert list_datasets(lake) == ["wares"]
    assert keys(lake) == listed(workspace)


def test_a_name_that_is_taken_and_a_dataset_at_work_are_refused(workspace: Workspace) -> None:
    lake = workspace.lake
    first = lived(workspace)[0]
    publish(workspace, "others", ["1"])
    there = keys(lake)
    for old, new, why in [
        ("things", "others", "others: there is a dataset of this name"),
        ("nobody", "wares", "no such dataset"),
    ]:
        with pytest.raises(LookbookError, match=why):
            rename(workspace, old, new)
    with pytest.raises(UsageError, match="has this name already"):
        rename_all(workspace, "things", "things")
    with lease(workspace.registry, "dataset/things"), pytest.raises(LeaseHeldError):
        rename(workspace, "things", "wares")
    with reading(workspace, "things", None, "a run"), pytest.raises(LookbookError, match=f"an export reads .*{first}"):
        rename(workspace, "things", "wares")
    assert keys(lake) == there


def test_where_the_old_name_went_on_after_a_kill_nothing_is_removed(workspace: Workspace) -> None:
    lake = workspace.lake
    lived(workspace)

    def kill(step: str) -> None:
        if step == "follow":
            raise KilledError

    with pytest.raises(KilledError):
        rename(workspace, "things", "wares", kill)
    newest = publish(workspace, "things", ["new"])
    there = keys(lake)
    with pytest.raises(LookbookError, match=f"{newest} is not in wares"):
        rename(workspace, "things", "wares")
    assert keys(lake) == there
    assert lake.get(renaming_key("wares"))
    assert read_manifest(lake, "things", newest) is not None
    assert lake.list(snapshot_folder("things", newest))
