"""Proof by force: what it looks at tells of each fault; and a few of the thousand histories of `make chaos`."""

from __future__ import annotations

from pathlib import Path

import pytest

from benchmarks.chaos import live_through, shared_out
from lookbook.blocks.workspace import Workspace
from lookbook.tasks.datasets.manifest import require_published
from tests.support.chaos import Reader, chain, lost, stranded, there
from tests.support.lives import objects_of, publish


def test_what_is_lost_stranded_or_half_there_is_told(workspace: Workspace) -> None:
    lake, root = workspace.lake, workspace.scratch.parent / "lake"
    first, second = publish(workspace, "things", ["a"]), publish(workspace, "things", ["a", "b"])
    assert [one["snapshot_id"] for one in chain(root, "things")] == [second, first]
    assert (lost(root), stranded(root), Reader(root).look()) == ([], [], [])

    lake.put("originals/00/00.jpg", b"")
    assert stranded(root) == ["originals/00/00.jpg is there, and nothing lists it"]
    lake.remove("originals/00/00.jpg")
    (table,) = require_published(lake, "things").manifest.keys("images")
    for name, key in {"an output": objects_of("b")[1], "a table": table}.items():
        data = lake.get(key)
        lake.remove(key)
        assert any(key in fault for fault in lost(root)), name
        assert Reader(root).look() == [f"a reader of things sees no {key}"]
        lake.put(key, data)
    for key in (objects_of("a")[0], f"datasets/things/snapshots/{first}/report.html"):
        data = lake.get(key)
        lake.replace(key, b"?" * len(data))
        assert [key in fault for fault in lost(root)] == [True]
        lake.replace(key, data)
    lake.remove(f"datasets/things/snapshots/{first}/manifest.json")
    assert f"the manifest of {first} is gone" in lost(root)[0]
    assert len(there(root)) > 10


@pytest.mark.full
def test_whatever_is_killed_the_lake_ends_with_what_its_manifests_list(tmp_path: Path) -> None:
    found = shared_out(live_through, tmp_path, range(6))
    assert found.faults == {}
    assert found.counts["runs"] == 6
    assert found.counts["kill"] > 2
