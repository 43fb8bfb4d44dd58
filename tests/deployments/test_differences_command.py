"""The command diff, called in this process: what people read, what programs read, and the page."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Browser

from lookbook.blocks.errors import LookbookError, UsageError
from lookbook.blocks.workspace import Workspace
from lookbook.deployments.command import differences as command
from lookbook.deployments.command.differences import diff
from lookbook.deployments.server import environment
from lookbook.tasks.datasets.differences import choose_snapshots, compare_snapshots
from lookbook.tasks.datasets.manifest import list_snapshots
from lookbook.tasks.datasets.report.differences import render_differences
from tests.support import pipeline
from tests.support.browser import picture
from tests.support.reports import Page

HOSTILE = '"><script>alert(1)</script><img src=x onerror=alert(2)>\u202e'
NAME = "<img src=x onerror=alert(3)>&.jpg"


@pytest.fixture
def two(workspace: Workspace, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Workspace:
    """Two snapshots with hostile names and values; the command finds them."""
    pipeline.two_snapshots(workspace, tmp_path / "in", NAME, HOSTILE)
    monkeypatch.setattr(environment, "prepare", lambda *_, **__: None)
    monkeypatch.setattr("lookbook.blocks.workspace.load_workspace", lambda _: workspace)
    return workspace


def lines_of(capsys: pytest.CaptureFixture[str]) -> list[str]:
    return capsys.readouterr().out.splitlines()


def test_people_read_the_counts_first_then_what_changed(two: Workspace, capsys: pytest.CaptureFixture[str]) -> None:
    new, old = (each.snapshot_id for each in list_snapshots(two.lake, "things"))
    diff("things")
    lines = lines_of(capsys)
    assert lines[0] == f"things  {old} → {new}"
    assert re.sub(" +", " ", lines[1]) == (
        " images 3 before 3 after 2 unchanged 0 added 0 removed 1 changed (1 new bytes)"
    )
    assert lines[2].startswith("  catalogue rows")
    assert lines[3] == "images, changed"
    assert lines[4].startswith(f"  {NAME}  new bytes  sha256: ")
    assert "other values  productDisplayName: Thing 2 → " in lines[-1]
    assert "\\u202e" in lines[-1], "nothing reaches the terminal that it would obey"


def test_of_many_the_first_are_told_and_json_has_all(
    two: Workspace, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(command, "FIRST", 2)
    source = pipeline.write_collection(tmp_path / "in", {f"more/{n}.jpg": pipeline.photo(n) for n in range(20, 25)})
    pipeline.run(pipeline.request(two, source))
    diff("things")
    assert "  … and 3 more: --json tells all" in lines_of(capsys)
    diff("things", json=True)
    told: dict[str, Any] = json.loads(capsys.readouterr().out)
    assert told["counts"]["images"]["added"] == 5
    assert [each["key"] for each in told["items"] if each["kind"] == "added"] == [
        f"more/{n}.jpg" for n in range(20, 25)
    ]


def test_a_snapshot_that_is_not_there_is_a_wrong_usage_that_names_those_that_are(two: Workspace) -> None:
    with pytest.raises(UsageError) as caught:
        diff("things", "none")
    assert all(each.snapshot_id in caught.value.way_out for each in list_snapshots(two.lake, "things"))


def test_a_dataset_with_one_snapshot_has_nothing_to_compare(
    two: Workspace, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    pipeline.run(pipeline.request(two, tmp_path / "in", dataset="single"))
    with pytest.raises(LookbookError, match="no snapshot before") as caught:
        diff("single")
    assert "name two snapshots" in caught.value.way_out
    only = list_snapshots(two.lake, "single")[0].snapshot_id
    diff("single", only)
    assert len(lines_of(capsys)) == 3, "compared with itself: nothing but counts"


@pytest.mark.usefixtures("two")
def test_the_page_shows_before_and_after_and_is_inert(tmp_path: Path) -> None:
    diff("things", html=tmp_path / "diff.html")
    text = (tmp_path / "diff.html").read_text(encoding="utf-8")
    page = Page(text)
    assert not page.open
    pictures = page.all("img", "src")
    assert len(set(pictures)) == len(pictures) == 3, "of an image before and after; once of a row with other values"
    assert all(each.startswith("data:image/") for each in pictures)
    assert "default-src 'none'" in page.all("meta", "content")[0]
    assert not [name for _, found in page.elements for name in found if name.startswith("on")]
    assert "script" not in page.texts
    assert NAME in page.body
    assert "alert(1)" in page.body
    assert "\u202e" not in text
    assert "3 found = 2 unchanged + 1 changed + 0 removed ✓ balanced" in page.body
    assert set(re.findall(r'href="([^"]*)"', text)) == {"#images", "#rows", "#links", "#rejects", "#making"}


def test_an_object_that_is_gone_leaves_its_place_and_says_so(two: Workspace) -> None:
    before, after = choose_snapshots(two.lake, "things", None, None)
    found = compare_snapshots(two.lake, two.scratch, before, after)
    (item,) = found.items(("images",))
    for row in found.outputs_of(0, [item["before"]["sha256"]]).to_pylist():
        two.lake.remove(row["object_key"])
    page = Page(render_differences(found, before, after, two.lake.get))
    assert len(page.all("img", "src")) == 2
    assert 'its object is gone: see "lookbook verify"' in page.body


@pytest.mark.full
@pytest.mark.usefixtures("two")
def test_the_page_looks_right_in_a_browser(tmp_path: Path, browser: Browser) -> None:
    diff("things", html=tmp_path / "diff.html")
    asked: list[str] = []
    with browser.new_page(viewport={"width": 1280, "height": 1400}) as page:
        page.on("request", lambda request: asked.append(request.url))
        page.goto((tmp_path / "diff.html").as_uri())
        sizes = page.evaluate("[...document.images].map((image) => image.naturalWidth)")
        picture(page, tmp_path, "diff-html")
    assert all(sizes)
    assert all(url.startswith(("file:", "data:")) for url in asked)
