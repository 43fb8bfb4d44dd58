"""The flow around a restore: recorded, leased, followed by registry and warehouse, announced; also where killed."""

from __future__ import annotations

import logging
import uuid
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from unittest.mock import patch

import pytest

import lookbook.flows.ingest
import lookbook.flows.restore
from lookbook.blocks.errors import LeaseLostError, UsageError
from lookbook.blocks.workspace import Workspace
from lookbook.tasks.datasets import restore as module
from lookbook.tasks.datasets.manifest import require_published
from lookbook.tasks.datasets.verify import verify
from lookbook.tasks.runs.lease import LeaseHeldError, lease
from lookbook.tasks.runs.records import list_runs
from tests.flows.test_ingest import Announcements, announcements, ingest, source  # noqa: F401 - fixtures
from tests.support.leases import overtaken
from tests.support.pipeline import photo, write_collection
from tests.support.sets import sampled


@pytest.fixture
def first(announcements: Announcements, source: Path, monkeypatch: pytest.MonkeyPatch) -> str:  # noqa: F811
    """The first of two snapshots; the flow's tasks are called as functions."""
    replaced: dict[str, Callable[..., Any]] = {
        name: getattr(lookbook.flows.ingest, name)
        for name in ("index_in_registry", "load_warehouse", "announce_published", "load_workspace")
    }
    replaced |= {"create_markdown_artifact": lambda *_, **__: None}
    replaced |= {"get_run_logger": lambda: logging.getLogger("tests")}
    for name, function in replaced.items():
        monkeypatch.setattr(lookbook.flows.restore, name, function)
    snapshot = str(ingest(source)["snapshot"])
    write_collection(source, {"3.jpg": photo(3)})
    ingest(source)
    announcements.sent.clear()
    return snapshot


def restore(snapshot: str) -> dict[str, Any]:
    run = SimpleNamespace(flow_run=SimpleNamespace(id=uuid.uuid4()))
    with patch.object(lookbook.flows.restore, "runtime", run):
        return lookbook.flows.restore.restore.fn("things", snapshot)


def held(workspace: Workspace) -> set[str]:
    """What readers of lake, registry and warehouse see."""
    current = require_published(workspace.lake, "things").manifest.snapshot_id
    indexed = workspace.registry.fetchval("SELECT snapshot_id FROM current_snapshots WHERE dataset = 'things'")
    return {current, indexed, workspace.warehouse.current_snapshots()["things"]}


def test_a_restore_is_recorded_followed_and_announced_once(
    announcements: Announcements,  # noqa: F811
    workspace: Workspace,
    first: str,
) -> None:
    summary = restore(first)
    assert (summary["published"], summary["restored_from"], summary["note"]) == (True, first, "")
    assert held(workspace) == {summary["snapshot"]}
    assert announcements.sent == [(summary["snapshot"], False)], "after the lease was given back"
    assert verify(workspace, "things").differences == []
    last = list_runs(workspace.registry, "things")[0]
    assert (last["source"], last["status"], last["published"]) == (f"restore:{first}", "completed", True)
    again = restore(first)
    assert (again["published"], again["snapshot"]) == (False, summary["snapshot"])
    assert "nothing to do" in again["note"]
    assert len(announcements.sent) == 1


def test_a_restore_that_is_refused_is_recorded_and_changes_nothing(workspace: Workspace, first: str) -> None:
    before = held(workspace)
    with pytest.raises(UsageError, match="no snapshot v1"):
        restore("v1")
    last = list_runs(workspace.registry, "things")[0]
    assert (last["source"], last["status"]) == ("restore:v1", "failed")
    assert "there is no snapshot v1" in last["error"]
    assert held(workspace) == before
    assert first not in before


def test_the_lease_decides_between_a_restore_and_another_run(workspace: Workspace, first: str) -> None:
    before = held(workspace)
    with lease(workspace.registry, "dataset/things"), pytest.raises(LeaseHeldError, match="another run is at work"):
        restore(first)
    assert held(workspace) == before


def test_of_two_restores_the_one_that_stood_still_publishes_nothing(
    announcements: Announcements,  # noqa: F811
    workspace: Workspace,
    first: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    others = list[dict[str, Any]]()
    monkeypatch.setattr(module, "confirm", overtaken(lambda: others.append(restore(first))))
    with pytest.raises(LeaseLostError, match="dataset/things: this run stood still"):
        restore(first)
    (other,) = others
    assert held(workspace) == {other["snapshot"]}
    assert announcements.sent == [(other["snapshot"], False)]
    assert len(workspace.lake.folders("datasets/things/snapshots")) == 4, "the loser's files are there still"
    assert restore(first)["published"] is False
    unlisted = {info.key.split("/")[3] for info in workspace.lake.list("datasets/things/snapshots")}
    assert len(unlisted) == 3, "and are swept by the next run"


@pytest.mark.parametrize(
    "killed_at", sampled(["commit", "index_in_registry", "load_warehouse", "announce_snapshot"], fast=["commit"])
)
@pytest.mark.parametrize("by", sampled(["restore", "ingest"], fast=["ingest"]))
def test_what_a_killed_restore_left_undone_is_done_by_the_next_command(
    announcements: Announcements,  # noqa: F811
    workspace: Workspace,
    source: Path,  # noqa: F811
    first: str,
    monkeypatch: pytest.MonkeyPatch,
    killed_at: str,
    by: str,
) -> None:
    def kill(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    places = {"commit": module, "announce_snapshot": lookbook.flows.ingest}
    with monkeypatch.context() as context:
        context.setattr(places.get(killed_at, lookbook.flows.restore), killed_at, kill)
        with pytest.raises(KeyboardInterrupt):
            restore(first)
    assert announcements.sent == []
    summary = restore(first) if by == "restore" else ingest(source)
    assert summary["published"] is (killed_at == "commit") or by == "ingest"
    assert held(workspace) == {summary["snapshot"]}
    assert verify(workspace, "things").differences == []
    if summary["published"]:
        assert announcements.sent[-1] == (summary["snapshot"], False)
    assert list(workspace.lake.list("datasets/things/writing")) == []
