"""Rejects judged again: only those that are named are read, and what became good is published as by an ingest."""

from __future__ import annotations

import os
import uuid
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

import lookbook.flows.ingest
import lookbook.flows.replay
from lookbook.blocks.errors import UsageError
from lookbook.blocks.workspace import Workspace
from lookbook.tasks.datasets.manifest import require_published
from lookbook.tasks.datasets.replay import Replay, SourceGoneError, replay_request
from lookbook.tasks.datasets.verify import verify
from lookbook.tasks.images import batch
from lookbook.tasks.images.locators import read_bytes
from lookbook.tasks.images.recipe import Recipe
from lookbook.tasks.runs.records import list_runs
from tests.flows.test_ingest import Announcements, announcements  # noqa: F401 - a fixture
from tests.support.pipeline import SMALL, photo, write_collection

STRICT = SMALL.model_copy(update={"min_image_size": 20})
PAGE = b"<html>not found</html>"


class Runtime:
    """In the place of Prefect's: each run has an id of its own."""

    @property
    def flow_run(self) -> SimpleNamespace:
        return SimpleNamespace(id=uuid.uuid4())


@pytest.fixture
def replay(
    announcements: Announcements,  # noqa: F811
    monkeypatch: pytest.MonkeyPatch,
) -> Any:
    """The flow, called as a function."""
    announcements.sent.clear()
    for name in ("load_workspace", "get_run_logger"):
        monkeypatch.setattr(lookbook.flows.replay, name, getattr(lookbook.flows.ingest, name))
    monkeypatch.setattr(lookbook.flows.ingest, "runtime", Runtime())
    return lookbook.flows.replay.replay.fn


@pytest.fixture
def read(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The names of the images whose bytes were read, in order."""
    names = list[str]()

    def reading(locator: Any) -> bytes:
        names.append(Path(os.fsdecode(locator.path)).name)
        return read_bytes(locator)

    monkeypatch.setattr(batch, "read_bytes", reading)
    return names


def ingest(source: Path, recipe: Recipe, **more: Any) -> dict[str, Any]:
    return lookbook.flows.ingest.ingest.fn(str(source), "things", recipe=recipe, reject_limit=1.0, **more)


def test_rejects_whose_rule_is_lifted_become_loaded_and_nothing_else_is_read(
    replay: Any,
    announcements: Announcements,  # noqa: F811
    workspace: Workspace,
    tmp_path: Path,
    read: list[str],
) -> None:
    page = PAGE.ljust(len(photo(4)))
    images = {"1.jpg": photo(1), "2.jpg": photo(2), "3.jpg": photo(3, (12, 12)), "4.jpg": page, "5.jpg": photo(5)}
    source = write_collection(tmp_path / "source", images)
    ingest(source, STRICT, limit=4)
    assert sorted(read) == ["1.jpg", "2.jpg", "3.jpg", "4.jpg"]
    first = require_published(workspace.lake, "things").manifest
    read.clear()

    with pytest.raises(UsageError, match="refused by the rule timeout") as unknown:
        replay("things", ["timeout", "too_small"])
    assert unknown.value.way_out == "It has 1 not_an_image, 1 too_small."
    same = replay("things")
    assert (same["published"], same["replayed"]["rejected"], same["snapshot"]) == (False, 2, first.snapshot_id)
    assert "nothing changed" in same["note"]
    assert sorted(read) == ["3.jpg", "4.jpg"], "all rejects, and only those"
    replay("things")
    assert sorted(read[2:]) == ["3.jpg", "4.jpg"], "what the last replay found out is not believed either"
    read.clear()
    with pytest.raises(UsageError, match="does more than lift limits"):
        replay("things", recipe=STRICT.model_copy(update={"min_image_size": 21}))

    lifted = replay("things", ["too_small"], recipe=SMALL)
    assert lifted["replayed"] == {"judged": 1, "loaded": 1, "duplicate": 0, "rejected": 0, "gone": 0}
    assert (read, lifted["published"]) == (["3.jpg"], True)
    assert lifted["images"] == {"found": 4, "loaded": 1, "unchanged": 2, "duplicate": 0, "rejected": 1}, "by the limit"
    second = require_published(workspace.lake, "things").manifest
    assert (second.recipe, second.options) == (SMALL, first.options)
    assert announcements.sent[-1] == (second.snapshot_id, False)
    read.clear()
    assert ingest(source, SMALL, limit=4)["published"] is False
    assert read == [], "what was judged before counts for the next ingest"

    source.rename(tmp_path / "elsewhere")
    with pytest.raises(SourceGoneError, match="is gone"):
        replay("things")
    assert list_runs(workspace.registry, "things")[0]["status"] == "failed"
    assert require_published(workspace.lake, "things").manifest == second
    (tmp_path / "elsewhere").rename(source)

    before = require_published(workspace.lake, "things").manifest.model_copy(update={"options": None})
    asked = replay_request(workspace, Replay(before), None)
    assert (next(iter(asked.recipe.outputs)), asked.limit) == ("standard", 4), "as the snapshot's tables show it"

    # As after an upgrade of the decoder: the image can be read now, and nothing of the file tells it.
    times = (source / "4.jpg").stat()
    (source / "4.jpg").write_bytes(photo(4))
    os.utime(source / "4.jpg", ns=(times.st_atime_ns, times.st_mtime_ns))
    assert ingest(source, SMALL, limit=4)["published"] is False
    again = replay("things", ["not_an_image"])
    assert (again["published"], again["replayed"]["loaded"], read) == (True, 1, ["4.jpg"])
    assert verify(workspace, "things").differences == []
    assert "nothing to do" in replay("things")["note"]
    last = list_runs(workspace.registry, "things")[0]
    assert (last["source"], last["snapshot_id"]) == ("replay:not_an_image", again["snapshot"])
    assert last["summary"]["replayed"] == again["replayed"], "the API tells it from here"
