"""The main flow around its tasks: each snapshot is announced, by the next run where its own was killed before."""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from uuid import UUID, uuid4

import pytest
from prefect.exceptions import CancelledRun

import lookbook.flows.endings
import lookbook.flows.ingest
from lookbook.blocks.errors import LeaseLostError, LookbookError, OutOfReachError
from lookbook.blocks.lake import Lake
from lookbook.blocks.registry import Registry, unfenced
from lookbook.blocks.warehouse import StarModel
from lookbook.blocks.workspace import Workspace
from lookbook.tasks.datasets import follow, publish
from lookbook.tasks.datasets.manifest import read_published, require_published
from lookbook.tasks.datasets.report.page import render_report
from lookbook.tasks.datasets.schemas import load_models
from lookbook.tasks.images.batch import process_batch
from lookbook.tasks.images.tombstones import add_tombstones
from lookbook.tasks.runs.lease import living_owners
from tests.support.leases import overtake, overtaken
from tests.support.pipeline import SMALL, photo, row, write_collection
from tests.support.sets import sampled


class Announcements:
    """In the place of Prefect's API: the snapshots that were announced, and whether the lease was held then.

    Attributes:
        fault: raised in place of taking the event.
    """

    def __init__(self, workspace: Workspace) -> None:
        self.workspace = workspace
        self.sent: list[tuple[str, bool]] = []
        self.fault: BaseException | None = None

    def take(self, dataset: str, workspace: str, snapshot: str, related: Sequence[str]) -> None:
        assert (dataset, workspace, len(related)) == ("things", "local", 1)
        if self.fault is not None:
            raise self.fault
        self.sent.append((snapshot, "dataset/things" in living_owners(self.workspace.registry)))


class FlowRun:
    """In the place of Prefect's: each run asks for its id, and is another one."""

    @property
    def id(self) -> UUID:
        return uuid4()


@pytest.fixture
def announcements(workspace: Workspace, monkeypatch: pytest.MonkeyPatch) -> Announcements:
    """The flow without a server: its tasks are called as functions."""

    def draw(lake: Lake, name: str, batches: Sequence[str], executor: str) -> None:  # noqa: ARG001
        for batch in batches:
            process_batch(lake, batch, threads=1)

    found = Announcements(workspace)
    module = lookbook.flows.ingest
    for task in ("index_in_registry", "load_warehouse", "announce_published"):
        monkeypatch.setattr(module, task, getattr(module, task).fn)
    replaced: dict[str, Any] = {
        "announce_snapshot": found.take,
        "create_markdown_artifact": lambda *_, **__: None,
        "create_table_artifact": lambda *_, **__: None,
        "draw": draw,
        "get_run_logger": lambda: logging.getLogger("tests"),
        "load_workspace": lambda _: workspace,
        "runtime": SimpleNamespace(flow_run=FlowRun()),
    }
    for name, function in replaced.items():
        monkeypatch.setattr(module, name, function)
    monkeypatch.setattr(lookbook.flows.endings, "get_run_logger", replaced["get_run_logger"])
    return found


@pytest.fixture
def source(tmp_path: Path) -> Path:
    return write_collection(tmp_path / "source", {"1.jpg": photo(1), "2.jpg": photo(2)})


def ingest(source: Path) -> dict[str, Any]:
    return lookbook.flows.ingest.ingest.fn(str(source), "things", recipe=SMALL)


def test_a_snapshot_is_announced_once_and_after_the_lease_was_given_back(
    announcements: Announcements, source: Path
) -> None:
    first = ingest(source)["snapshot"]
    assert announcements.sent == [(first, False)]
    assert ingest(source)["published"] is False
    assert announcements.sent == [(first, False)]
    write_collection(source, {"3.jpg": photo(3)})
    second = ingest(source)["snapshot"]
    assert announcements.sent == [(first, False), (second, False)]


def test_a_run_that_lost_its_lease_while_it_stood_still_publishes_nothing(
    announcements: Announcements, workspace: Workspace, source: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    others = list[dict[str, Any]]()

    async def expire(connection: Any) -> None:
        await connection.execute("UPDATE lookbook.leases SET expires_at = now() - interval '1 second'")

    def stand_still(*given: Any) -> str:
        monkeypatch.setattr(publish, "render_report", render_report)
        with unfenced():
            workspace.registry.run(expire)
            others.append(ingest(source))
        return render_report(*given)

    monkeypatch.setattr(publish, "render_report", stand_still)
    with pytest.raises(LeaseLostError, match="dataset/things: this run stood still"):
        ingest(source)
    (other,) = others
    assert require_published(workspace.lake, "things").manifest.snapshot_id == other["snapshot"]
    assert workspace.warehouse.current_snapshots() == {"things": other["snapshot"]}
    assert announcements.sent == [(other["snapshot"], False)]


def forget_runs(workspace: Workspace) -> None:
    workspace.registry.execute("DELETE FROM lookbook.runs")


@pytest.mark.usefixtures("announcements")
def test_a_run_with_the_inputs_of_before_looks_at_nothing_again_and_says_what_a_whole_run_says(
    workspace: Workspace, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    names = {"1.jpg": photo(1), "2.jpg": photo(2), "copy.jpg": photo(2), "notes.txt": b"litter"}
    source = write_collection(tmp_path / "source", names, [row(1), row(2), row(7)])
    made = ingest(source)
    forget_runs(workspace)
    whole = ingest(source)
    with monkeypatch.context() as patch:
        patch.setattr(lookbook.flows.ingest, "take_inventory", lambda *_: pytest.fail("it looked at the images again"))
        short = ingest(source)
    assert (made["published"], made["images"]["loaded"], whole["images"]["unchanged"]) == (True, 2, 2)
    assert len(short["inputs"]) == 64
    for summary in (whole, short):
        for name in ("seconds", "images_per_second"):
            del summary[name]
    assert short == whole
    for name in ("files", "images", "rows", "matched_by", "outputs"):
        assert list(short[name]) == list(whole[name]), "as people read them"


def rewrite_in_place(source: Path, old: bytes, new: bytes) -> None:
    """Change a catalogue, and leave its size and its time as they were."""
    path = source / "styles.csv"
    before = path.stat()
    path.write_bytes(path.read_bytes().replace(old, new))
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))
    assert (path.stat().st_size, path.stat().st_mtime_ns) == (before.st_size, before.st_mtime_ns)


def damage_a_table(workspace: Workspace) -> None:
    (key,) = require_published(workspace.lake, "things").manifest.keys("rejects")
    workspace.lake.replace(key, b"no table")


@pytest.mark.parametrize(
    ("change", "publishes"),
    [
        (lambda _, source: rewrite_in_place(source, b"Thing 1", b"Thing X"), True),
        (lambda _, source: write_collection(source, {"2.jpg": photo(3)}), True),
        (lambda _, source: (source / "2.jpg").unlink(), True),
        (lambda _, source: write_collection(source, {"styles/1.json": b'{"brandName": "Ours"}'}), True),
        (lambda workspace, _: damage_a_table(workspace), True),
        (lambda workspace, _: add_tombstones(workspace.lake, "things", [("image", "2.jpg")]), True),
        (lambda _, source: os.utime(source / "2.jpg", ns=(1, 1)), False),
    ],
    ids=["catalogue", "image", "fewer", "style", "damage", "forgotten", "time"],
)
@pytest.mark.usefixtures("announcements")
def test_a_run_looks_again_where_anything_may_be_another(
    workspace: Workspace, tmp_path: Path, *, change: Callable[[Workspace, Path], object], publishes: bool
) -> None:
    source = write_collection(tmp_path / "source", {"1.jpg": photo(1), "2.jpg": photo(2)}, [row(1), row(2)])
    ingest(source)
    assert ingest(source)["published"] is False
    change(workspace, source)
    assert ingest(source)["published"] is publishes
    assert ingest(source)["published"] is False


@pytest.mark.usefixtures("announcements")
def test_a_stricter_limit_for_rejects_fails_a_run_of_the_same_source(tmp_path: Path) -> None:
    source = write_collection(tmp_path / "source", {"1.jpg": photo(1), "2.jpg": b"no image"})
    loose = lookbook.flows.ingest.ingest.fn
    assert loose(str(source), "things", recipe=SMALL, reject_limit=0.6)["published"]
    with pytest.raises(LookbookError, match="rejected"):
        loose(str(source), "things", recipe=SMALL, reject_limit=0.1)


@pytest.mark.usefixtures("announcements")
def test_a_run_that_is_overtaken_between_the_question_and_current_publishes_nothing(
    workspace: Workspace, source: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    others = list[dict[str, Any]]()
    monkeypatch.setattr(publish, "confirm", overtaken(lambda: others.append(ingest(source))))
    with pytest.raises(LeaseLostError, match="dataset/things: this run stood still"):
        ingest(source)
    (other,) = others
    assert require_published(workspace.lake, "things").manifest.snapshot_id == other["snapshot"]
    assert workspace.warehouse.current_snapshots() == {"things": other["snapshot"]}
    assert ingest(source)["published"] is False, "nothing changed"


def test_a_run_that_is_overtaken_while_it_loads_makes_no_older_snapshot_current(
    announcements: Announcements, workspace: Workspace, source: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    others = list[dict[str, Any]]()

    def change() -> None:
        write_collection(source, {"3.jpg": photo(3)})
        others.append(ingest(source))

    def stand_still() -> list[StarModel]:
        monkeypatch.setattr(follow, "load_models", load_models)
        overtake(workspace.registry, change)
        return load_models()

    monkeypatch.setattr(follow, "load_models", stand_still)
    with pytest.raises(LeaseLostError, match="this run stood still"):
        ingest(source)
    (other,) = others
    assert workspace.warehouse.current_snapshots() == {"things": other["snapshot"]}
    assert ingest(source)["published"] is False
    assert workspace.warehouse.current_snapshots() == {"things": other["snapshot"]}
    assert [snapshot for snapshot, _ in announcements.sent][-1] == other["snapshot"]


def test_a_registry_that_is_out_of_reach_at_the_commit_publishes_nothing(
    announcements: Announcements, workspace: Workspace, source: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object) -> None:
        raise OutOfReachError("The registry cannot be reached.")

    def cut_off(*given: Any) -> str:
        monkeypatch.setattr(Registry, "run", fail)
        return render_report(*given)

    with monkeypatch.context() as patch:
        patch.setattr(publish, "render_report", cut_off)
        with pytest.raises(OutOfReachError):
            ingest(source)
    assert read_published(workspace.lake, "things") is None
    assert announcements.sent == []


@pytest.mark.parametrize(
    "killed_at", sampled(["index_in_registry", "load_warehouse", "announce_snapshot"], fast=["load_warehouse"])
)
def test_a_run_killed_between_current_and_the_event_is_made_up_for_once_by_the_next(
    announcements: Announcements, source: Path, monkeypatch: pytest.MonkeyPatch, killed_at: str
) -> None:
    def kill(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(lookbook.flows.ingest, killed_at, kill)
        with pytest.raises(KeyboardInterrupt):
            ingest(source)
    published = require_published(announcements.workspace.lake, "things").manifest.snapshot_id
    assert announcements.sent == []
    for _ in range(2):
        assert ingest(source)["published"] is False
    assert [snapshot for snapshot, _ in announcements.sent] == [published]


def test_an_event_that_was_not_taken_fails_the_run_and_is_sent_by_the_next(
    announcements: Announcements, source: Path
) -> None:
    announcements.fault = LookbookError("Prefect's API did not take it.")
    with pytest.raises(LookbookError, match="did not take"):
        ingest(source)
    announcements.fault = None
    ingest(source)
    assert len(announcements.sent) == 1


def test_an_event_that_was_not_taken_is_tried_again_unless_the_run_is_to_end() -> None:
    task: Any = lookbook.flows.ingest.announce_published
    for error, again in ((LookbookError("not taken"), True), (OSError(), True), (CancelledRun(), False)):
        state: Any = SimpleNamespace(result=lambda error=error, **_: error)
        assert task.retry_condition_fn(task, None, state) is again
    assert task.retries == lookbook.flows.ingest.load_warehouse.retries == 2
