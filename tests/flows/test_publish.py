"""The flows around checks: a run that they refuse is recorded; a publication by hand is followed and announced."""

from __future__ import annotations

import logging
import uuid
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

import lookbook.flows.ingest
import lookbook.flows.publish
from lookbook.blocks.errors import UsageError
from lookbook.blocks.workspace import Workspace
from lookbook.tasks.datasets.candidates import candidate_ids
from lookbook.tasks.datasets.checks import Check, Checks, set_checks
from lookbook.tasks.datasets.publish import FailedChecksError
from lookbook.tasks.datasets.verify import verify
from lookbook.tasks.runs.records import list_runs
from tests.flows.test_ingest import Announcements, announcements, ingest, source  # noqa: F401 - fixtures
from tests.flows.test_restore import held
from tests.support.pipeline import photo, write_collection


@pytest.fixture
def publish(
    announcements: Announcements,  # noqa: ARG001, F811
    monkeypatch: pytest.MonkeyPatch,
) -> Callable[..., dict[str, Any]]:
    """The flow; its tasks are called as functions."""
    module = lookbook.flows.publish
    names = ("index_in_registry", "load_warehouse", "announce_published", "load_workspace", "get_run_logger")
    replaced: dict[str, Any] = {name: getattr(lookbook.flows.ingest, name) for name in names}
    replaced |= {"create_markdown_artifact": lambda *_, **__: None}
    for name, function in replaced.items():
        monkeypatch.setattr(module, name, function)

    def run(*given: str) -> dict[str, Any]:
        monkeypatch.setattr(module, "runtime", SimpleNamespace(flow_run=SimpleNamespace(id=uuid.uuid4())))
        return module.publish.fn(*given)

    return run


def test_a_run_that_checks_refuse_is_recorded_and_what_it_made_is_published_by_hand(
    announcements: Announcements,  # noqa: F811
    workspace: Workspace,
    source: Path,  # noqa: F811
    publish: Callable[..., dict[str, Any]],
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    first = ingest(source)["snapshot"]
    found = Check(name="few", sql="SELECT count(*) AS n FROM images HAVING count(*) > 2", says="Two images.")
    warns = Check(name="any", sql="SELECT key FROM images", level="warn")
    set_checks(workspace.lake, "things", Checks(checks=[found, warns]))
    write_collection(source, {"3.jpg": photo(3)})
    with caplog.at_level(logging.WARNING), pytest.raises(FailedChecksError, match=r"few \(1 row: Two images\)"):
        ingest(source)
    assert "The check any (3 rows) warned" in caplog.text
    (candidate,) = candidate_ids(workspace.lake, "things")
    last = list_runs(workspace.registry, "things")[0]
    assert (last["status"], last["published"], last["snapshot_id"]) == ("failed", False, candidate)
    assert last["error"].startswith("things: 1 check failed: few")
    assert [each["outcome"] for each in last["summary"]["checks"]] == ["failed", "warned"]
    assert (held(workspace), announcements.sent) == ({first}, [(first, False)])

    def kill(*_: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as context:
        context.setattr(lookbook.flows.publish, "load_warehouse", kill)
        with pytest.raises(KeyboardInterrupt):
            publish("things", candidate)
    assert publish("things", candidate)["note"] == f"nothing to do: {candidate} is current already"
    assert held(workspace) == {candidate}, "the second run did what the first had left"
    assert announcements.sent[-1] == (candidate, True)
    assert verify(workspace, "things").differences == []

    write_collection(source, {"4.jpg": photo(4)})
    with pytest.raises(FailedChecksError):
        ingest(source)
    summary = publish("things")
    assert (summary["published"], summary["overridden"], summary["note"]) == (True, ["few"], "")
    assert held(workspace) == {summary["snapshot"]}
    assert announcements.sent[-1] == (summary["snapshot"], False), "after the lease was given back"
    assert list(workspace.lake.list("batches/things")) == []
    last = list_runs(workspace.registry, "things")[0]
    assert (last["source"], last["status"], last["published"]) == ("publish:candidate", "completed", True)
    with pytest.raises(UsageError, match="there is no candidate to be published"):
        publish("things")
