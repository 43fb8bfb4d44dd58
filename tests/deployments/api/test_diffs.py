"""What the API tells of two snapshots: what the command tells, page by page, with images of both sides."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from lookbook.blocks.workspace import Workspace
from lookbook.deployments.api.models import Diff
from lookbook.tasks.datasets.differences import choose_snapshots, compare_snapshots
from lookbook.tasks.datasets.manifest import read_manifest
from tests.support import pipeline
from tests.support.api import Api, problem, running


@pytest.fixture
def things(workspace: Workspace, tmp_path: Path) -> Iterator[Api]:
    """An app over two snapshots of ``things``."""
    pipeline.two_snapshots(workspace, tmp_path / "in")
    with running(workspace) as api:
        yield api


def without_images(items: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return [{name: value for name, value in each.items() if name != "images"} for each in items]


def test_it_tells_what_the_command_tells_with_the_images_of_both_sides(things: Api) -> None:
    answer = things.json("/datasets/things/diff")
    Diff.model_validate(answer)
    lake, scratch = things.workspace.lake, things.workspace.scratch
    before, after = choose_snapshots(lake, "things", None, None)
    found = compare_snapshots(lake, scratch, before, after)
    assert (answer["from"], answer["to"], answer["counts"]) == (before.snapshot_id, after.snapshot_id, found.counts)
    assert without_images(answer["items"]) == list(found.items())
    sides = answer["items"][0]["images"]
    for side, manifest in (("before", before), ("after", after)):
        shown = things.http.get(sides[side]["thumb"] + f"&snapshot={manifest.snapshot_id}")
        assert (shown.status_code, shown.headers["content-type"]) == (200, "image/jpeg")
    assert sides["before"]["original"] != sides["after"]["original"]


def test_pages_fit_together_and_hold_what_is_asked_for(things: Api) -> None:
    whole = things.json("/datasets/things/diff")["items"]
    first = things.json("/datasets/things/diff?limit=1")
    second = things.json(f"/datasets/things/diff?limit=1&cursor={first['next']}")
    assert first["items"] + second["items"] == whole[:2]
    assert things.json("/datasets/things/diff?of=rows")["items"] == [each for each in whole if each["of"] == "rows"]
    assert things.json("/datasets/things/diff?kind=added")["items"] == []
    problem(things.get(f"/datasets/things/diff?of=rows&cursor={first['next']}"), 400, "bad-cursor")
    counted = things.json("/datasets/things/diff?limit=0")
    assert (counted["items"], counted["next"], counted["counts"]["images"]["changed"]) == ([], None, 1)


def test_a_snapshot_does_not_differ_from_itself_and_the_first_has_none_before_it(things: Api) -> None:
    newest, first = (each["id"] for each in things.json("/datasets/things/snapshots")["items"])
    assert things.json(f"/datasets/things/diff?from={newest}")["items"] == []
    problem(things.get(f"/datasets/things/diff?to={first}"), 404, "no-snapshot")
    problem(things.get("/datasets/things/diff?from=nobody"), 404, "no-snapshot")
    assert things.json(f"/datasets/things/diff?from={newest}&to={first}")["why"]["images"] == {"content": 1}


def test_a_damaged_snapshot_is_said_without_where_it_lies(things: Api) -> None:
    first = things.json("/datasets/things/snapshots")["items"][1]["id"]
    manifest = read_manifest(things.workspace.lake, "things", first)
    assert manifest is not None
    things.workspace.lake.replace(manifest.keys("images")[0], b"PAR1")
    document = problem(things.get("/datasets/things/diff"), 500, "damaged")
    assert "parquet" not in document["detail"]
