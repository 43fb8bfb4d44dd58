"""The rejects of a run that published nothing: noted where they can be read, and shown with pictures."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from lookbook.blocks.errors import LookbookError
from lookbook.blocks.workspace import Workspace
from lookbook.tasks.datasets import unpublished
from lookbook.tasks.datasets.inventory import Inventory
from lookbook.tasks.datasets.manifest import read_published, require_published
from lookbook.tasks.datasets.report.data import ReportTable
from lookbook.tasks.datasets.report.page import render_unpublished
from lookbook.tasks.datasets.schemas import REJECTS_SCHEMA
from lookbook.tasks.datasets.unpublished import UnpublishedRun, read_unpublished, report_key
from lookbook.tasks.images.parquet import from_parquet, to_parquet
from lookbook.tasks.runs.lease import lease
from tests.support.desks import shared_desk
from tests.support.pictures import encoded, natural
from tests.support.pipeline import photo, request, run, write_collection
from tests.support.reports import Page, reject_row, table

PAGE = b"<html>not found</html>"
CUT = encoded(natural(200, 160), "JPEG", quality=95)[:-4000]


def last(place: Workspace) -> tuple[UnpublishedRun, dict[str, str]] | None:
    """The last run that published nothing, and the rule of each reject."""
    published = read_published(place.lake, "things")
    found = read_unpublished(place, "things", published.manifest.snapshot_id if published else None)
    return found and (found[0], {row["locator"]: row["rule"] for row in found[1].to_pylist()})


@pytest.fixture
def bad(tmp_path: Path) -> Path:
    """Three images, of which two are refused, a row that is none, and a note."""
    files = {"1.jpg": photo(1), "2.jpg": PAGE, "3.jpg": CUT, "notes.txt": b"hello"}
    source = write_collection(tmp_path / "source", files)
    (source / "styles.csv").write_text("id,gender,year\n1,Men,2012\n2,Men\n", encoding="utf-8")
    return source


ALL = {"2.jpg": "not_an_image", "3.jpg": "truncated", "styles.csv:3": "ragged_row", "notes.txt": "not_an_image"}


def refuse(place: Workspace, source: Path, **options: Any) -> LookbookError:
    with pytest.raises(LookbookError) as caught:
        run(request(place, source, **{"reject_limit": 0.1} | options))
    return caught.value


def test_what_a_run_refused_that_published_nothing_is_read_and_its_error_says_how(
    workspace: Workspace, bad: Path
) -> None:
    error = refuse(workspace, bad)
    assert '"lookbook rejects things" lists what was rejected' in error.way_out.splitlines()[-1]
    found = last(workspace)
    assert found is not None
    assert found[1] == ALL
    assert (found[0].run_id, found[0].source, found[0].has_report) == ("a-run", str(bad), True)
    assert re.match(r"Nothing was published by the last run \(a-run, begun 20.*\): 2 of 3 images", found[0].told)


def test_its_report_shows_what_can_be_seen_of_the_rejected_files(workspace: Workspace, bad: Path) -> None:
    refuse(workspace, bad)
    text = workspace.lake.get(report_key("things")).decode()
    rows = {name: part for part in text.split("<tr>") for name in ALL if f'class="code">{name}' in part}
    assert set(rows) == {"2.jpg", "3.jpg", "styles.csv:3"}
    assert 'src="data:image/jpeg;base64,' in rows["3.jpg"], "cut off, but the rest is there"
    assert "<img" not in rows["2.jpg"]
    assert "It is a web page." in rows["2.jpg"]
    body = Page(text).body
    assert "Nothing was published by the last run (a-run" in body
    assert "notes.txt" in body


def test_the_next_run_that_publishes_or_finds_no_change_ends_it(workspace: Workspace, bad: Path) -> None:
    for _ in range(2):
        refuse(workspace, bad)
        assert last(workspace) is not None
        run(request(workspace, bad))
        assert last(workspace) is None
        assert not [info.key for info in workspace.lake.list("datasets/things/unpublished")]


def test_a_note_that_a_killed_run_did_not_take_away_hides_no_newer_snapshot(workspace: Workspace, bad: Path) -> None:
    refuse(workspace, bad)
    (note,) = [info.key for info in workspace.lake.list("datasets/things/unpublished") if info.key.endswith("parquet")]
    held = workspace.lake.get(note)
    run(request(workspace, bad))
    workspace.lake.replace(note, held)
    assert last(workspace) is None


def test_a_snapshot_that_stands_keeps_its_own_and_a_failed_run_of_it_is_told(workspace: Workspace, bad: Path) -> None:
    run(request(workspace, bad))
    (bad / "4.jpg").write_bytes(b"GIF no more")
    refuse(workspace, bad)
    found = last(workspace)
    assert found is not None
    assert found[1].keys() == {*ALL, "4.jpg"}, "also what earlier runs had found out"
    assert require_published(workspace.lake, "things").manifest.summary["images"]["found"] == 3


def test_a_source_without_images_says_what_its_files_are(workspace: Workspace, tmp_path: Path) -> None:
    source = write_collection(tmp_path / "in", {"a.psd": b"8BPS" + bytes(40), "b": PAGE, "c.zip": b"PK"})
    assert "no image among its 3 files" in refuse(workspace, source).problem
    found = last(workspace)
    assert found is not None
    assert found[1] == {"a.psd": "unsupported", "b": "not_an_image", "c.zip": "damaged_archive"}


def lose_a_row(place: Workspace) -> Callable[[Inventory], None]:
    """Take the row of a good image out of a part."""

    def lose(inventory: Inventory) -> None:
        for batch in inventory.batches:
            part, metadata = from_parquet(place.lake.get(f"{batch}/part.parquet"))
            kept = part.filter([status != "ok" for status in part.column("status").to_pylist()])
            place.lake.replace(f"{batch}/part.parquet", to_parquet(kept, metadata))

    return lose


def test_books_that_do_not_balance_lose_no_reject(workspace: Workspace, bad: Path) -> None:
    with pytest.raises(LookbookError, match="do not balance"):
        run(request(workspace, bad), between=lose_a_row(workspace))
    found = last(workspace)
    assert found is not None
    assert found[1] == ALL


def test_a_run_that_is_killed_after_its_batches_is_told_of_once_it_is_no_more(workspace: Workspace, bad: Path) -> None:
    def kill(_: Inventory) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run(request(workspace, bad), between=kill)
    found = last(workspace)
    assert found is not None
    assert found[1] == ALL
    assert found[0].told.endswith("It broke off.")
    with lease(workspace.registry, "dataset/things", 0, print):
        assert last(workspace) is None, "as long as it is at work it has not ended"


def test_a_limited_run_that_leaves_a_fuller_snapshot_is_told(workspace: Workspace, bad: Path) -> None:
    run(request(workspace, bad))
    (bad / "0.jpg").write_bytes(PAGE)
    assert run(request(workspace, bad, limit=2))["published"] is False
    found = last(workspace)
    assert found is not None
    assert "is fuller" in found[0].told
    assert "0.jpg" in found[1]


def test_a_note_that_cannot_be_written_hides_no_error(
    workspace: Workspace, bad: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object) -> str:
        raise RuntimeError("no page")

    monkeypatch.setattr(unpublished, "render_unpublished", fail)
    assert "images (66.7%) were rejected" in refuse(workspace, bad).problem
    found = last(workspace)
    assert found is not None
    assert (found[1], found[0].has_report) == (ALL, False)


def test_the_page_is_inert_whatever_the_source_is_called() -> None:
    hostile = '"><script>alert(1)</script><img src=x onerror=alert(2)>'
    rows = [reject_row(1, locator=hostile, message=hostile), reject_row(2, raw="rejected/odd.bin")]
    rejects = table(rows, REJECTS_SCHEMA)
    text = render_unpublished(
        hostile, {"Source": hostile}, hostile, ReportTable(shared_desk(), rejects), lambda _: b"no image"
    )
    assert "<script" not in text.lower()
    assert "<img src=x" not in text
    assert "default-src 'none'" in text
