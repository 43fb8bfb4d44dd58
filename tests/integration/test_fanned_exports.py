"""Exports and verifications by a work pool: the bytes of threads; a run that is cancelled takes its batches along."""

from __future__ import annotations

import time
from pathlib import Path

import pytest

from lookbook.blocks.lake import FolderLake
from tests.support.command import lookbook_json
from tests.support.exports import digests
from tests.support.pipeline import write_slow_collection
from tests.support.prefect_processes import FINAL, Server, wait_for

pytestmark = [pytest.mark.integration, pytest.mark.full]

ASKED = ("--recipe", "train-96", "--copies", "2", "--format", "webdataset", "--shard-size", "20", "--batch-size", "40")


@pytest.fixture
def prefect(server_without_workers: Server) -> Server:
    return server_without_workers


def finished(lake: FolderLake) -> set[str]:
    """The manifests of finished exports."""
    return {info.key for info in lake.list("exports") if info.key.endswith("/manifest.json")}


def test_a_work_pool_exports_the_bytes_of_threads_and_verifies_them(prefect: Server, tmp_path: Path) -> None:
    lookbook_json(prefect.home, "ingest", "sample://60", "--dataset", "fanned")
    here = lookbook_json(prefect.home, "export", "fanned", *ASKED, "--out", str(tmp_path / "threads"))
    assert len(prefect.children(prefect.runs("export-dataset")[-1]["id"])) == 3, "batches by threads are runs, too"
    with prefect.worker(limit=2):
        pooled = ("export", "fanned", *ASKED, "--executor", "pool", "--out", str(tmp_path / "pool"))
        there = lookbook_json(prefect.home, *pooled)
        verified = lookbook_json(prefect.home, "verify", "fanned", "--all", "--executor", "pool")
    assert digests(tmp_path / "pool") == digests(tmp_path / "threads")
    assert [there[name] for name in ("export", "images", "bytes")] == [
        here[name] for name in ("export", "images", "bytes")
    ]
    children = prefect.children(prefect.runs("export-dataset")[-1]["id"])
    assert [child["state_type"] for child in children] == ["COMPLETED"] * 3
    assert all(child["deployment_id"] for child in children), "each has a process of its own"
    assert (verified["differences"], verified["objects"] > 150) == ([], True)
    # Another one follows the snapshot, by threads.
    (fanned,) = (run for run in prefect.runs("verify") if run["parameters"].get("executor") == "pool")
    assert {child["state_type"] for child in prefect.children(fanned["id"])} == {"COMPLETED"}


def test_a_cancelled_export_ends_its_batches_and_the_next_one_goes_on(prefect: Server, tmp_path: Path) -> None:
    source = write_slow_collection(tmp_path / "source", 120)
    lookbook_json(prefect.home, "ingest", str(source), "--dataset", "cut")
    lake = FolderLake(root=prefect.home / "lake")
    before = finished(lake)
    given = {"dataset": "cut", "recipe": "square-1024", "format": "webdataset", "shard_size": 20, "batch_size": 20}
    with prefect.worker(limit=3, LOOKBOOK_THREADS="1"):
        run_id = prefect.start_run("export-dataset/local", **given, executor="pool")

        def under_way() -> bool:
            return [child["state_type"] for child in prefect.children(run_id)].count("RUNNING") >= 2

        wait_for("two batches run", under_way)
        prefect.cancel(run_id)
        asked = time.monotonic()

        def ended() -> bool:
            return all(child["state_type"] in FINAL for child in prefect.children(run_id))

        wait_for("all batches end", ended, 90 - (time.monotonic() - asked))
        assert prefect.finished(run_id)["state_type"] == "CANCELLED"
        assert finished(lake) == before
        again = prefect.start_run("export-dataset/local", **given, executor="pool")
        assert prefect.finished(again)["state_type"] == "COMPLETED", prefect.logs(again)
    assert len(finished(lake) - before) == 1
