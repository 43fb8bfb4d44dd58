"""What a plan says is what the ingest then does, and a plan leaves no trace in lake and registry."""

from __future__ import annotations

import os
import zipfile
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from lookbook.blocks.gcs import GcsLake
from lookbook.blocks.workspace import Workspace
from lookbook.tasks.datasets import estimate as module
from lookbook.tasks.datasets.estimate import estimate
from lookbook.tasks.datasets.inventory import Request, clear_batches, take_inventory
from lookbook.tasks.datasets.publish import finalize
from lookbook.tasks.images.batch import process_batch
from lookbook.tasks.images.recipe import OutputDefinition, Recipe
from lookbook.tasks.runs.records import end_run, start_run
from tests.support.gcp_credentials import AnonymousGcpCredentials
from tests.support.gcs_server import GcsServer, serving_gcs
from tests.support.pipeline import SMALL, photo, request, row, run, write_collection

MORE = Recipe(outputs=dict(SMALL.outputs) | {"large": OutputDefinition(image_size=48)})


def stored(workspace: Workspace) -> dict[str, bytes]:
    """Every file of the lake."""
    root = Path(workspace.lake.uri("."))
    return {str(path): path.read_bytes() for path in root.rglob("*") if path.is_file()}


def booked(workspace: Workspace) -> dict[str, list[str]]:
    """Every row of the registry."""
    names = workspace.registry.fetch("SELECT tablename FROM pg_tables WHERE schemaname = 'lookbook'")
    return {
        name: sorted(str(tuple(each)) for each in workspace.registry.fetch(f'SELECT * FROM lookbook."{name}"'))
        for (name,) in names
    }


def planned(workspace: Workspace, source: Path, **changes: Any) -> dict[str, Any]:
    """A plan, which leaves lake and registry as they are, byte for byte."""
    before = booked(workspace), stored(workspace)  # to look at the books makes the lake's id
    plan = estimate(request(workspace, source, **changes))
    assert (booked(workspace), stored(workspace)) == before
    return plan


def counts(plan: dict[str, Any]) -> dict[str, int]:
    return {kind: told["count"] for kind, told in plan["images"].items()}


def ingest(asked: Request) -> dict[str, Any]:
    """The main job up to CURRENT."""
    inventory = take_inventory(asked)
    for batch in inventory.batches:
        process_batch(asked.workspace.lake, batch, threads=2)
    summary = finalize(asked, inventory, datetime.now(UTC)).summary
    clear_batches(asked.workspace.lake, asked.dataset)
    return summary


def size(workspace: Workspace) -> int:
    return sum(len(data) for data in stored(workspace).values())


def test_what_is_planned_is_what_then_happens(workspace: Workspace, tmp_path: Path) -> None:
    images = {f"{number:02}.jpg": photo(number) for number in range(30)} | {"copy.jpg": photo(3), "notes.py": b"1"}
    rows = [row(number) for number in (1, 2, 2, 77)]
    source = write_collection(tmp_path / "source", images, rows)

    first = estimate(request(workspace, source))
    assert stored(workspace) == {}, "not even the lake's id"
    assert (first["snapshot"], first["publishes"], first["by"]["of"]) == (None, True, "assumption")
    assert first["rows"] == {"found": 4, "duplicate": 1, "rejected": 0}
    assert first["refused"] == {"images": {}, "catalogue": {}, "ignored": {"not_of_the_catalogue": 1}}
    done = ingest(request(workspace, source))
    assert (first["files"], first["outputs"]) == (done["files"], done["outputs"])
    assert (counts(first)["new"], first["outputs"]["grey"], first["work"]["copies"]) == (31, 30, 1)
    start_run(workspace.registry, "a-run", "things", str(source))
    end_run(workspace.registry, "a-run", done | {"seconds": 62.0}, None)

    same = planned(workspace, source)
    assert (same["publishes"], same["work"]["images"], same["by"]) == (False, 0, {"of": "dataset", "runs": 1})
    assert (same["note"], sum(same["bytes"].values())) == (f"nothing changed: {done['snapshot']} says the same", 0)
    limited = planned(workspace, source, limit=5)
    assert (limited["files"]["beyond_limit"], counts(limited)["gone"]) == (26, 26)
    assert "is fuller" in limited["note"]

    (source / "00.jpg").unlink()
    (source / "01.jpg").write_bytes(photo(101))
    os.utime(source / "02.jpg", ns=(1, 1))
    (source / "03.jpg").rename(source / "moved.jpg")
    more = {"40.jpg": photo(40), "41.jpg": photo(41), "again.jpg": photo(41), "large.jpg": b"x" * 4000}
    write_collection(source, more)
    second = planned(workspace, source, recipe=SMALL)
    assert counts(second) == {"new": 5, "changed": 2, "unchanged": 27, "gone": 2}
    assert second["images"]["gone"]["names"] == ["00.jpg", "03.jpg"]
    assert second["images"]["new"]["bytes"] == sum(map(len, more.values())) + len(photo(3))
    assert (second["holds"]["published"], second["work"]["images"], second["work"]["known_contents"]) == (27, 7, 2)
    before = size(workspace)
    done = ingest(request(workspace, source))
    assert second["files"] == done["files"]
    drawn = {name: count - 1 for name, count in second["outputs"].items()}
    assert drawn == done["outputs"], "but for one that shows when it is drawn that it is no image"
    assert sum(second["bytes"].values()) == pytest.approx(size(workspace) - before, rel=0.05)

    other = planned(workspace, source, recipe=MORE)
    assert counts(other) == {"new": 0, "changed": 0, "unchanged": 34, "gone": 0}
    done = ingest(request(workspace, source, recipe=MORE))
    assert {name: count - 1 for name, count in other["outputs"].items()} == done["outputs"], "as above"
    assert other["bytes"]["originals"] == 4000, "of the one that may be an image by the new rules"
    strict = planned(workspace, source, recipe=MORE.model_copy(update={"max_file_bytes": 3000}))
    assert strict["refused"]["images"] == {"too_large": 1}


def test_of_an_archive_the_listing_tells_what_is_known_and_nothing_is_read(
    workspace: Workspace, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def pack(names: dict[str, int]) -> Path:
        with zipfile.ZipFile(tmp_path / "photos.zip", "w") as archive:
            for name, number in names.items():
                archive.writestr(name, photo(number))
        return tmp_path / "photos.zip"

    monkeypatch.setattr(module, "read_bytes", None)
    source = pack({"1.jpg": 1, "2.jpg": 2, "copy.jpg": 1})
    first = estimate(request(workspace, source))
    assert first["outputs"] == ingest(request(workspace, source))["outputs"] == dict.fromkeys(SMALL.outputs, 2)
    pack({"folder/1.jpg": 1, "folder/2.jpg": 2, "folder/3.jpg": 3})
    second = planned(workspace, source)
    assert counts(second) == {"new": 3, "changed": 0, "unchanged": 0, "gone": 3}
    assert second["outputs"] == ingest(request(workspace, source))["outputs"] == dict.fromkeys(SMALL.outputs, 1)


def test_more_images_than_are_read_stand_for_by_a_sample(
    workspace: Workspace, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "MOST_READ", 4)
    images = {f"{number:02}.jpg": photo(number).ljust(2000 + number, b"\0") for number in range(12)}
    source = write_collection(tmp_path / "source", images)
    ingest(request(workspace, source))
    for path in source.iterdir():
        os.utime(path, ns=(1, 1))
    touched = planned(workspace, source)
    assert (touched["sampled"], touched["outputs"]) == (True, dict.fromkeys(SMALL.outputs, 0))
    assert (touched["work"]["images"], touched["work"]["known_contents"]) == (12, 12)


@pytest.fixture
def server() -> Iterator[GcsServer]:
    with serving_gcs("bucket") as server:
        yield server


def test_in_a_bucket_requests_are_counted_as_the_service_counts_them_and_have_a_price(
    workspace: Workspace, server: GcsServer, tmp_path: Path
) -> None:
    lake = GcsLake(bucket="bucket", prefix="lake", credentials=AnonymousGcpCredentials(endpoint=server.url))
    place = replace(workspace, lake=lake)
    source = write_collection(tmp_path / "source", {f"{number}.jpg": photo(number) for number in range(40)})
    plan = estimate(request(place, source, batch_size=100))
    assert server.calls["objects.insert"] == 0
    server.calls.clear()
    run(request(place, source, batch_size=100))
    asked = {name: sum(server.calls[call] for call in calls) for name, calls in CLASSES.items()}
    assert plan["requests"]["writes"] == pytest.approx(asked["writes"], rel=0.05)
    assert plan["requests"]["writes"] - module.RUN_WRITES <= 4.05 * 40
    assert plan["price"]["requests"] == pytest.approx(plan["requests"]["writes"] * 5e-6, rel=0.1)
    assert (plan["price"]["total"] > 0, estimate(request(workspace, source))["price"]) == (True, None)


#: What Cloud Storage bills as writes and as reads.
CLASSES = {
    "writes": ["objects.insert", "objects.list", "objects.resume"],
    "reads": ["objects.download", "objects.get"],
}
