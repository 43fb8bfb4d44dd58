"""When a watched source is announced: once for each change, and never in the middle of a copy."""

from __future__ import annotations

import os
from itertools import pairwise
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lookbook.blocks.errors import LookbookError, UsageError
from lookbook.blocks.workspace import Workspace
from lookbook.tasks.datasets.watching import NOTHING, Watch, decide, look, read_watch, write_watch
from tests.support.pipeline import photo, write_collection

A, B = "a" * 64, "b" * 64


@pytest.mark.parametrize(
    ("seen", "announced", "now", "announce"),
    [
        pytest.param(None, None, NOTHING, False, id="nothing there yet"),
        pytest.param(NOTHING, None, NOTHING, False, id="still nothing there"),
        pytest.param(None, None, A, False, id="seen for the first time: it may be a copy in progress"),
        pytest.param(NOTHING, None, A, False, id="something has come"),
        pytest.param(A, None, A, True, id="it has come to rest"),
        pytest.param(A, A, A, False, id="announced already"),
        pytest.param(A, A, B, False, id="changed, once"),
        pytest.param(B, A, B, True, id="changed, and at rest"),
        pytest.param(B, B, A, False, id="changed back, once"),
        pytest.param(A, B, A, True, id="changed back, and at rest"),
        pytest.param(B, A, A, False, id="changed back before it was announced"),
        pytest.param(A, A, NOTHING, False, id="emptied"),
        pytest.param(NOTHING, A, NOTHING, False, id="empty at rest is not ingested"),
        pytest.param(NOTHING, A, A, False, id="filled again with the same"),
    ],
)
def test_what_is_announced(seen: str | None, announced: str | None, now: str, announce: bool) -> None:
    told, after = decide(Watch(seen, announced), now)
    assert told is announce
    assert after == Watch(now, now if announce else announced)


@given(st.lists(st.sampled_from([NOTHING, A, B, "c"]), max_size=30))
def test_every_state_that_rests_is_announced_once_until_another_is(looks: list[str]) -> None:
    watch, told = Watch(), []
    for number, now in enumerate(looks):
        announce, watch = decide(watch, now)
        if announce:
            assert looks[number - 1] == now != NOTHING
            told.append(now)
        elif number and looks[number - 1] == now != NOTHING:
            assert told[-1] == now, "at rest and not announced: only what is known already"
    assert all(first != second for first, second in pairwise(told))


@given(st.lists(st.sampled_from([A, B]), min_size=2, max_size=10))
def test_a_note_that_was_lost_is_made_up_by_the_next_look(looks: list[str]) -> None:
    watch = Watch()
    for now in looks:
        announce, after = decide(watch, now)
        if announce:  # killed before the note was written
            assert decide(watch, now) == (True, after)
        watch = after


def test_a_source_that_is_not_there_or_holds_no_image_is_nothing(tmp_path: Path) -> None:
    assert look(str(tmp_path / "later"), tmp_path / "scratch") == NOTHING
    assert look(f"file://{tmp_path}/later.zip", tmp_path / "scratch") == NOTHING
    folder = tmp_path / "inbox"
    folder.mkdir()
    assert look(str(folder), tmp_path / "scratch") == NOTHING
    (folder / "styles.csv").write_text("id\n1\n")
    assert look(str(folder), tmp_path / "scratch") == NOTHING, "rows without images are not ingested"


def test_a_digest_follows_names_sizes_and_times(tmp_path: Path) -> None:
    folder = write_collection(tmp_path / "inbox", {"a.jpg": photo(1), "b/c.jpg": photo(2)})
    digests = [look(str(folder), tmp_path / "scratch")]
    assert look(f"file://{folder}", tmp_path / "scratch") == digests[0]
    (folder / "d.jpg").write_bytes(photo(3))
    digests.append(look(str(folder), tmp_path / "scratch"))
    (folder / "d.jpg").rename(folder / "e.jpg")
    digests.append(look(str(folder), tmp_path / "scratch"))
    os.utime(folder / "e.jpg", ns=(1, 1))
    digests.append(look(str(folder), tmp_path / "scratch"))
    (folder / "styles.csv").write_text("id\n1\n")
    digests.append(look(str(folder), tmp_path / "scratch"))
    assert len(set(digests)) == len(digests)
    assert NOTHING not in digests


def test_no_image_is_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = write_collection(tmp_path / "inbox", {"a.jpg": photo(1)})
    opened: list[object] = []
    monkeypatch.setattr(Path, "open", lambda *found, **_: opened.append(found))
    monkeypatch.setattr("builtins.open", lambda *found, **_: opened.append(found))
    assert look(str(folder), tmp_path / "scratch") != NOTHING
    assert opened == []


def test_an_archive_that_is_still_copied_is_no_fault(tmp_path: Path) -> None:
    archive = tmp_path / "photos.zip"
    archive.write_bytes(b"PK\x03\x04 the rest is under way")
    first = look(str(archive), tmp_path / "scratch")
    archive.write_bytes(archive.read_bytes() + b"and more")
    assert NOTHING not in {first, look(str(archive), tmp_path / "scratch")}
    assert look(str(archive), tmp_path / "scratch") != first


def test_a_source_that_cannot_be_meant_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="not known"):
        look("ftp://host/photos", tmp_path)


def test_a_folder_that_cannot_be_listed_is_a_fault(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(_: object) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr("lookbook.tasks.datasets.sources.local.os.scandir", refuse)
    with pytest.raises(LookbookError, match="cannot be read"):
        look(str(tmp_path), tmp_path / "scratch")


def test_watches_are_remembered_by_source_and_dataset(workspace: Workspace) -> None:
    registry, long = workspace.registry, "/" + "ü" * 4000
    assert read_watch(registry, long, "one") == Watch()
    write_watch(registry, long, "one", Watch(A, None))
    write_watch(registry, long, "two", Watch(B, B))
    write_watch(registry, long + "x", "one", Watch(NOTHING, A))
    assert read_watch(registry, long, "one") == Watch(A, None)
    write_watch(registry, long, "one", Watch(B, A))
    assert read_watch(registry, long, "one") == Watch(B, A)
    assert read_watch(registry, long, "two") == Watch(B, B)
    assert read_watch(registry, long + "x", "one") == Watch(NOTHING, A)
