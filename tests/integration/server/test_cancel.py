"""A run that is cancelled takes its batches along, soon, and nothing half done is published."""

from __future__ import annotations

import signal
import subprocess
import time

import pytest

from lookbook.blocks.lake import FolderLake
from lookbook.tasks.datasets.manifest import read_published
from tests.support.command import COMMAND, lookbook_json
from tests.support.pipeline import write_slow_collection
from tests.support.prefect_processes import FINAL, Server, wait_for

pytestmark = [pytest.mark.integration, pytest.mark.full]

#: Long enough to be ended in the middle.
BATCH_SIZE = 45
#: Seconds. Half a minute is promised, and 3 to 20 are seen; a busy machine gets three times that.
SOON = 90


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> str:
    return str(write_slow_collection(tmp_path_factory.mktemp("slow") / "source", 4 * BATCH_SIZE))


def drawing(prefect: Server, run_id: str, at_least: int) -> bool:
    """Whether so many batches of a run are under way."""
    return [child["state_type"] for child in prefect.children(run_id)].count("RUNNING") >= at_least


def assert_all_end_soon(prefect: Server, run_id: str, asked: float) -> None:
    def ended() -> bool:
        return all(child["state_type"] in FINAL for child in prefect.children(run_id))

    wait_for("all batches end", ended, SOON - (time.monotonic() - asked))


def assert_not_published(prefect: Server, dataset: str) -> None:
    assert read_published(FolderLake(root=prefect.home / "lake"), dataset) is None
    assert lookbook_json(prefect.home, "runs", dataset)[0]["status"] == "failed"


@pytest.mark.parametrize("executor", ["threads", "pool"])
def test_cancelling_from_the_ui_ends_all_batches_and_the_next_run_goes_on(
    prefect: Server, source: str, executor: str
) -> None:
    dataset = f"cut-{executor}"
    given = {"source": source, "dataset": dataset, "batch_size": BATCH_SIZE, "executor": executor}
    run_id = prefect.start_run("ingest/local", **given)
    wait_for("two batches run", lambda: drawing(prefect, run_id, 2))
    prefect.cancel(run_id)
    assert_all_end_soon(prefect, run_id, time.monotonic())
    assert prefect.finished(run_id)["state_type"] == "CANCELLED"
    assert "CANCELLED" in {child["state_type"] for child in prefect.children(run_id)}
    assert_not_published(prefect, dataset)

    again = prefect.start_run("ingest/local", **given)
    assert prefect.finished(again)["state_type"] == "COMPLETED", prefect.logs(again)
    published = read_published(FolderLake(root=prefect.home / "lake"), dataset)
    assert published is not None
    assert published.manifest.summary["images"]["loaded"] == 4 * BATCH_SIZE


def test_ctrl_c_ends_the_runs_of_a_command(prefect: Server, source: str) -> None:
    arguments = ("ingest", source, "--dataset", "stopped", "--batch-size", str(BATCH_SIZE))
    process = subprocess.Popen(
        [*COMMAND, *arguments, "--executor", "pool"], env=prefect.environment(), stderr=subprocess.PIPE
    )
    try:
        run_id = wait_for("the run", lambda: parent_of(prefect, "stopped"))
        wait_for("two batches run", lambda: drawing(prefect, run_id, 2))
        process.send_signal(signal.SIGINT)
        asked = time.monotonic()
        said = process.communicate(timeout=SOON)[1].decode()
    finally:
        process.kill()
        process.wait()
    assert process.returncode == 130
    assert said.startswith("Interrupted. Nothing half done was published")
    assert_all_end_soon(prefect, run_id, asked)
    assert_not_published(prefect, "stopped")
    summary = lookbook_json(prefect.home, *arguments)
    assert summary["published"] is True
    assert summary["images"]["loaded"] == 4 * BATCH_SIZE
    assert lookbook_json(prefect.home, "verify", "stopped")["differences"] == []


def parent_of(prefect: Server, dataset: str) -> str | None:
    found = [run["id"] for run in prefect.runs("ingest") if run["parameters"]["dataset"] == dataset]
    return found[-1] if found else None
