"""The main job into a bucket: the same dataset as in a folder, by as few requests as can be."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import pytest

from lookbook.blocks.errors import SwapConflictError
from lookbook.blocks.gcs import GcsLake
from lookbook.blocks.workspace import Workspace
from lookbook.tasks.datasets.checks import Check, Checks, set_checks
from lookbook.tasks.datasets.inventory import clear_batches, take_inventory
from lookbook.tasks.datasets.manifest import read_table, require_published
from lookbook.tasks.datasets.publish import FailedChecksError, finalize, publish_candidate
from lookbook.tasks.images.batch import process_batch
from tests.support.gcp_credentials import AnonymousGcpCredentials
from tests.support.gcs_server import GcsServer, serving_gcs
from tests.support.loopback import Fault
from tests.support.pipeline import photo, request, row, write_collection
from tests.support.sets import sampled


@pytest.fixture
def server() -> Iterator[GcsServer]:
    with serving_gcs("bucket") as server:
        yield server


@pytest.fixture
def elsewhere(workspace: Workspace, server: GcsServer) -> Workspace:
    lake = GcsLake(bucket="bucket", prefix="lake", credentials=AnonymousGcpCredentials(endpoint=server.url))
    return replace(workspace, lake=lake)


@pytest.fixture
def source(tmp_path: Path) -> Path:
    files = {f"images/{number}.jpg": photo(number) for number in range(1, 9)}
    files |= {"images/9.jpg": photo(1), "images/10.jpg": b"<html>not found</html>"}
    return write_collection(tmp_path / "source", files, [row(number) for number in (1, 2, 4, 9, 10, 99, 2)])


def ingest(workspace: Workspace, source: Path) -> dict[str, object]:
    """The main job up to CURRENT."""
    asked = request(workspace, source)
    inventory = take_inventory(asked)
    for batch in inventory.batches:
        process_batch(workspace.lake, batch, threads=2)
    return finalize(asked, inventory, datetime.now(UTC)).summary


def test_a_bucket_gives_the_dataset_that_a_folder_gives(
    workspace: Workspace, elsewhere: Workspace, source: Path
) -> None:
    ingest(workspace, source)
    ingest(elsewhere, source)
    folder, bucket = (require_published(place.lake, "things").manifest for place in (workspace, elsewhere))
    assert folder.digest == bucket.digest
    for place, manifest in ((workspace, folder), (elsewhere, bucket)):
        outputs = read_table(place.lake, manifest, "outputs").to_pylist()
        assert len(outputs) == 24
        assert all(len(place.lake.get(one["object_key"])) == one["bytes"] for one in outputs)
    objects = [{info.key for info in place.lake.list("derived")} for place in (workspace, elsewhere)]
    assert objects[0] == objects[1]


def test_an_image_is_one_write_for_itself_and_one_for_each_output(
    elsewhere: Workspace, server: GcsServer, source: Path
) -> None:
    inventory = take_inventory(request(elsewhere, source, batch_size=100))
    server.calls.clear()
    process_batch(elsewhere.lake, inventory.batches[0], threads=2)
    contents, rejects, outputs, the_part = 8, 1, 3, 1
    assert server.calls["objects.insert"] == contents * (1 + outputs) + rejects + the_part
    looks = ("the manifest", "whether there is a part", "what was last removed", "what was forgotten")
    assert server.calls["objects.download"] == len(looks)
    assert set(server.calls) == {"objects.insert", "objects.download"}


def test_a_second_run_writes_no_object(elsewhere: Workspace, server: GcsServer, source: Path) -> None:
    ingest(elsewhere, source)
    clear_batches(elsewhere.lake, "things")
    server.calls.clear()
    ingest(elsewhere, source)
    assert server.calls["objects.insert"] == 0


@pytest.mark.parametrize(
    "fault",
    sampled(
        [{"status": 429}, {"status": 503}, {"cut": True}, {"cut": True, "cut_after": 1}],
        fast=[{"cut": True, "cut_after": 1}],
    ),
)
def test_with_faults_in_a_fifth_of_all_requests_the_dataset_is_the_same(
    workspace: Workspace, elsewhere: Workspace, server: GcsServer, source: Path, fault: dict[str, object]
) -> None:
    ingest(workspace, source)
    server.inject(Fault(share=0.2, **fault))  # type: ignore[arg-type]
    ingest(elsewhere, source)
    folder, bucket = (require_published(place.lake, "things").manifest for place in (workspace, elsewhere))
    assert folder.digest == bucket.digest
    assert server.fired["objects.insert"] > 0


def test_of_two_runs_that_publish_at_once_one_is_told(elsewhere: Workspace, source: Path) -> None:
    asked = request(elsewhere, source)
    surveys = [take_inventory(asked), take_inventory(asked)]
    for batch in surveys[0].batches + surveys[1].batches:
        process_batch(elsewhere.lake, batch, threads=2)

    def published(number: int) -> bool:
        try:
            finalize(asked, surveys[number], datetime.now(UTC))
        except SwapConflictError:
            return False
        return True

    with ThreadPoolExecutor(2) as pool:
        assert sorted(pool.map(published, range(2))) == [False, True]


def test_batches_that_are_published_leave_the_bucket(elsewhere: Workspace, server: GcsServer, source: Path) -> None:
    ingest(elsewhere, source)
    clear_batches(elsewhere.lake, "things")
    assert not [name for name in server.store.buckets["bucket"] if "/batches/" in name]


def test_checks_hold_in_a_bucket_too_and_compare_with_the_former_snapshot(elsewhere: Workspace, source: Path) -> None:
    shrinks = "SELECT 1 WHERE (SELECT count(*) FROM images) < (SELECT count(*) FROM former_images)"
    set_checks(elsewhere.lake, "things", Checks(checks=[Check(name="no-fewer-images", level="stop", sql=shrinks)]))
    first = ingest(elsewhere, source)["snapshot"]
    (source / "images" / "1.jpg").unlink()
    with pytest.raises(FailedChecksError, match="no-fewer-images"):
        ingest(elsewhere, source)
    assert require_published(elsewhere.lake, "things").manifest.snapshot_id == first
    publish_candidate(elsewhere, "things", None)
    assert require_published(elsewhere.lake, "things").manifest.snapshot_id != first
