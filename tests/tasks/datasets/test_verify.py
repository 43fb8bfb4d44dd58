"""Verifying beside a run that publishes: what differs meanwhile is not held against the dataset."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import ExitStack
from datetime import UTC, datetime
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

import lookbook.tasks.datasets.verify
import lookbook.tasks.runs.lease
from lookbook.blocks.errors import LookbookError
from lookbook.blocks.workspace import Workspace
from lookbook.tasks.datasets import follow
from lookbook.tasks.datasets.follow import registry_differences
from lookbook.tasks.datasets.inventory import take_inventory
from lookbook.tasks.datasets.manifest import read_table, require_published
from lookbook.tasks.datasets.publish import finalize
from lookbook.tasks.datasets.verify import do_batch, verify, verify_or_repair
from lookbook.tasks.exports.export import prepare
from lookbook.tasks.exports.finished import list_files
from lookbook.tasks.exports.places import export_to_lake
from lookbook.tasks.exports.request import read_request
from lookbook.tasks.images.batch import process_batch
from lookbook.tasks.runs.lease import lease
from tests.support.pipeline import photo, request, run, write_collection

NAME = "dataset/things"


@pytest.fixture
def source(tmp_path: Path) -> Path:
    return write_collection(tmp_path / "source", {"1.jpg": photo(1)})


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    """No second passes in these tests."""
    found = Clock()
    for module in (lookbook.tasks.runs.lease, lookbook.tasks.datasets.verify):
        monkeypatch.setattr(module, "time", SimpleNamespace(monotonic=lambda: found.now, sleep=found.sleep))
    return found


class Clock:
    """Each pause lets it go on by a minute.

    Attributes:
        paused: called at each pause.
    """

    def __init__(self) -> None:
        self.now = 1000.0
        self.pauses = 0
        self.paused: Callable[[int], object] = lambda _: None

    def sleep(self, _: float) -> None:
        self.now += 60
        self.pauses += 1
        self.paused(self.pauses)


def publish_without_followers(workspace: Workspace, source: Path) -> None:
    """A new snapshot that registry and warehouse have not seen."""
    write_collection(source, {"2.jpg": photo(2)})
    asked = request(workspace, source)
    inventory = take_inventory(asked)
    for batch in inventory.batches:
        process_batch(workspace.lake, batch, threads=1)
    finalize(asked, inventory, datetime.now(UTC))


def lines(workspace: Workspace, max_wait: float, told: list[str]) -> list[str]:
    found, _ = verify_or_repair(workspace, "things", mend=False, max_wait=max_wait, waiting=told.append)
    return [difference.line for difference in found.differences]


def test_a_run_that_is_publishing_is_waited_for_and_what_it_published_is_verified(
    workspace: Workspace, source: Path, clock: Clock
) -> None:
    run(request(workspace, source))
    publish_without_followers(workspace, source)
    told: list[str] = []
    with ExitStack() as publishing:
        publishing.enter_context(lease(workspace.registry, NAME))

        def end(pauses: int) -> None:
            if pauses == 3:
                follow.catch_up(workspace, "things")
                publishing.close()

        clock.paused = end
        assert lines(workspace, 300, told) == []
    assert (clock.pauses, len(told)) == (3, 1)


def test_a_run_that_ended_while_it_was_verified_counts_too(
    workspace: Workspace, source: Path, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    run(request(workspace, source))
    publish_without_followers(workspace, source)
    publishing = ExitStack()
    publishing.enter_context(lease(workspace.registry, NAME))

    def end_meanwhile(*given: Any) -> list[str]:
        found = registry_differences(*given)
        if found:
            follow.catch_up(workspace, "things")
            publishing.close()
        return found

    monkeypatch.setattr(lookbook.tasks.datasets.verify, "registry_differences", end_meanwhile)
    assert lines(workspace, 300, []) == []
    assert clock.pauses == 0


def test_what_registry_and_warehouse_lack_counts_in_the_end_also_beside_a_run(
    workspace: Workspace, source: Path, clock: Clock
) -> None:
    run(request(workspace, source))
    publish_without_followers(workspace, source)
    assert len(lines(workspace, 300, [])) == 2, "nobody is at work"
    assert clock.pauses == 0
    with lease(workspace.registry, "dataset/others"):
        assert len(lines(workspace, 300, [])) == 2, "others do not count"
    assert clock.pauses == 0
    with lease(workspace.registry, NAME):
        assert len(lines(workspace, 300, [])) == 2
    assert clock.pauses == 5


def test_what_the_lake_lacks_counts_at_once_also_beside_a_run(workspace: Workspace, source: Path, clock: Clock) -> None:
    run(request(workspace, source))
    lost = next(workspace.lake.list("derived")).key
    workspace.lake.remove(lost)
    with lease(workspace.registry, NAME):
        (line,) = lines(workspace, 300, [])
    assert lost in line
    assert clock.pauses == 0


def test_mending_takes_the_lease_and_says_what_it_did(workspace: Workspace, tmp_path: Path) -> None:
    run(request(workspace, write_collection(tmp_path / "source", {"1.jpg": photo(1)})))
    lost = next(workspace.lake.list("derived")).key
    workspace.lake.remove(lost)
    found, repairs = verify_or_repair(workspace, "things", mend=False)
    assert [lost in difference.line for difference in found.differences] == [True]
    assert repairs == []
    with lease(workspace.registry, "dataset/things"), pytest.raises(LookbookError, match="at work"):
        verify_or_repair(workspace, "things", mend=True)
    found, (repair,) = verify_or_repair(workspace, "things", mend=True)
    assert (found.differences, repair.endswith(": mended")) == ([], True)
    assert workspace.lake.get(lost)


def test_an_original_comes_back_only_with_the_bytes_that_it_had(workspace: Workspace, tmp_path: Path) -> None:
    source = write_collection(tmp_path / "source", {"1.jpg": photo(1)})
    run(request(workspace, source))
    lost = next(workspace.lake.list("originals")).key
    workspace.lake.remove(lost)
    write_collection(source, {"1.jpg": photo(2)})
    found, (repair,) = verify_or_repair(workspace, "things", mend=True)
    assert [lost in difference.line for difference in found.differences] == [True]
    assert "does not hold 1.jpg as it was" in repair
    write_collection(source, {"1.jpg": photo(1)})
    found, _ = verify_or_repair(workspace, "things", mend=True)
    assert found.differences == []
    assert workspace.lake.get(lost) == photo(1)


def everything(workspace: Workspace) -> list[str]:
    found, _ = verify_or_repair(workspace, "things", mend=False, everything=list_files)
    return [difference.line for difference in found.differences]


def test_older_snapshots_and_exports_are_read_where_all_is_asked_for(workspace: Workspace, source: Path) -> None:
    lake = workspace.lake
    run(request(workspace, source))
    older = require_published(lake, "things").manifest
    (source / "1.jpg").unlink()
    write_collection(source, {"2.jpg": photo(2)})
    run(request(workspace, source))
    export = export_to_lake(lake, prepare(lake, read_request({"dataset": "things"})))
    assert everything(workspace) == []

    original = read_table(lake, older, "images")["original_key"][0].as_py()
    good = lake.get(original)
    lake.replace(original, bytes(len(good)))
    lake.remove(f"{older.folder}/report.html")
    file = next(info for info in lake.list(f"exports/{export.id}/files") if info.key.endswith(".jpg"))
    lake.replace(file.key, bytes(file.size))
    lake.replace(f"exports/{'0' * 32}/manifest.json", b"[]")
    assert lines(workspace, 0, []) == []
    assert sorted(everything(workspace)) == sorted(
        [
            f"lake: {original} is damaged: its checksum differs from the manifest's",
            f"lake: {older.folder}/report.html is missing",
            f"lake: {file.key} is damaged: its checksum differs from the manifest's",
            f"lake: exports/{'0' * 32}/manifest.json is damaged: it cannot be read",
        ]
    )
    write_collection(source, {"1.jpg": photo(1)})
    _, repairs = verify_or_repair(workspace, "things", mend=True, everything=list_files)
    assert lake.get(original) == good
    assert any(line.endswith("not mended: ask for the export again; it is made anew") for line in repairs)

    (shared,) = require_published(lake, "things").manifest.keys("image_links")
    assert older.keys("image_links") == [shared]
    lake.replace(shared, b"x")
    assert sum(shared in line for line in everything(workspace)) == 1

    lake.remove(f"{older.folder}/manifest.json")
    assert f"lake: {older.folder}/manifest.json is missing or damaged: no older snapshot is found" in everything(
        workspace
    )


@pytest.mark.parametrize("size", [1, 3])
def test_objects_read_in_batches_by_anybody_in_any_order_give_the_same_differences(
    workspace: Workspace, source: Path, size: int
) -> None:
    write_collection(source, {f"{number}.jpg": photo(number) for number in range(5)})
    run(request(workspace, source))
    lake, manifest = workspace.lake, require_published(workspace.lake, "things").manifest
    drawn = read_table(lake, manifest, "outputs").to_pylist()
    kept = read_table(lake, manifest, "images")["original_key"].to_pylist()
    lake.remove(kept[1])
    lake.replace(drawn[2]["object_key"], b"other bytes")
    lake.remove(drawn[-1]["object_key"])
    whole = verify(workspace, "things")
    assert len(whole.differences) == 3
    sizes: list[int] = []

    def backwards(batches: Sequence[str], done: Callable[[str], object]) -> None:
        for batch in reversed(batches):
            sizes.append(do_batch(lake, batch)["objects"])
            assert do_batch(lake, batch)["objects"] == sizes[-1], "done twice it is the same"
            done(batch)

    found = verify(workspace, "things", do=backwards, batch_size=size)
    assert [each.line for each in found.differences] == [each.line for each in whole.differences]
    assert found.objects == whole.objects
    assert max(sizes) == size
    assert sum(sizes) == len(set(kept)) + len(drawn)
    assert list(lake.list("work")) == []
    _, repairs = verify_or_repair(workspace, "things", mend=True, do=backwards, batch_size=size)
    assert [line.rpartition(": ")[2] for line in repairs] == ["mended"] * 3
    assert verify(workspace, "things").differences == []
