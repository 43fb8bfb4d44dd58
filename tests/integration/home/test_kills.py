"""Killed at any moment and run again: nothing twice, nothing lost, no finished batch done again."""

from __future__ import annotations

import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from lookbook.blocks.lake import FolderLake
from lookbook.tasks.datasets.manifest import read_published
from lookbook.tasks.images.parquet import from_parquet
from tests.support.command import COMMAND, environment, lookbook, lookbook_json

pytestmark = pytest.mark.integration

#: The real command, in a process that ends itself with SIGKILL before or after CURRENT is swapped.
DIES_AT_CURRENT = """
import os, signal, sys
from lookbook.blocks.settings import read_settings
from lookbook.deployments.server import environment as prefect_environment
prefect_environment.prepare_server(read_settings().home, debug=False)  # before anything imports Prefect
from lookbook.blocks.lake import FolderLake
moment = sys.argv.pop(1)
swap = FolderLake.swap
def dying_swap(self, *arguments):
    if moment == "after":
        swap(self, *arguments)
    os.kill(os.getpid(), signal.SIGKILL)
FolderLake.swap = dying_swap
from lookbook.deployments.command.cli import main
main()
"""


def wait_until(holds: Callable[[], bool], process: subprocess.Popen[bytes], seconds: float = 120) -> None:
    deadline = time.monotonic() + seconds
    while not holds():
        assert process.poll() is None, "the command ended before it could be killed"
        assert time.monotonic() < deadline, "the moment never came"
        time.sleep(0.005)


@pytest.fixture(scope="module")
def home(shared_home: Path) -> Path:
    """The shared home, with its servers running: the killed runs don't start them."""
    lookbook_json(shared_home, "ingest", "sample://20", "--dataset", "warm-up")
    return shared_home


def parts(home: Path, dataset: str) -> dict[Path, int]:
    """The finished batches of a dataset, with the number of images whose outputs each drew."""
    found = (home / "lake" / "batches" / dataset).glob("*/part.parquet")
    return {
        path: sum(bool(d) for d in from_parquet(path.read_bytes())[0].column("drawn").to_pylist()) for path in found
    }


def assert_whole(home: Path, dataset: str, images: int) -> None:
    assert lookbook_json(home, "verify", dataset)["differences"] == []
    counts = lookbook_json(
        home,
        "query",
        "SELECT (SELECT count(*) FROM warehouse.images WHERE dataset = t.d) AS images,"
        " (SELECT count(DISTINCT key) FROM warehouse.images WHERE dataset = t.d) AS keys,"
        " (SELECT count(*) FROM warehouse.outputs WHERE dataset = t.d) AS outputs,"
        " (SELECT count(DISTINCT sha256 || output) FROM warehouse.outputs WHERE dataset = t.d) AS distinct_outputs"
        f" FROM (SELECT '{dataset}' AS d) t",
    )[0]
    assert counts["images"] == counts["keys"] == images
    assert counts["outputs"] == counts["distinct_outputs"] > 0


@pytest.mark.full
def test_killed_in_a_batch_and_right_before_and_after_current(home: Path) -> None:
    """One dataset, killed three times on its way."""
    arguments = ["ingest", "sample://240", "--dataset", "killed", "--batch-size", "60"]
    derived = home / "lake" / "derived"
    process = subprocess.Popen([*COMMAND, *arguments], env=environment(home), cwd=home.parent)
    try:
        wait_until(lambda: bool(parts(home, "killed")), process)
        drawn = sum(1 for _ in derived.rglob("*.jpg"))
        wait_until(lambda: sum(1 for _ in derived.rglob("*.jpg")) > drawn + 10, process)
    finally:
        process.send_signal(signal.SIGKILL)
        process.wait()
    finished = {path: path.stat().st_mtime_ns for path in parts(home, "killed")}
    assert 0 < len(finished) < 4
    assert read_published(FolderLake(root=home / "lake"), "killed") is None

    kill_at_current(home, "before", *arguments)
    assert read_published(FolderLake(root=home / "lake"), "killed") is None
    drawn = sum(parts(home, "killed").values())
    assert {path: path.stat().st_mtime_ns for path in finished} == finished, "no finished batch was done again"

    kill_at_current(home, "after", *arguments)
    published = read_published(FolderLake(root=home / "lake"), "killed")
    assert published is not None
    assert published.manifest.summary["images"]["found"] == 240
    assert published.manifest.summary["images"]["loaded"] == drawn, "each was drawn once"
    assert sum(published.manifest.summary["outputs"].values()) == 0, "all batches were finished before"
    lagging = lookbook(home, "verify", "killed")
    assert lagging.returncode == 1
    assert len(lagging.stdout.splitlines()) == 2, "registry and warehouse lag behind, one line each"

    summary = lookbook_json(home, *arguments)
    assert (summary["published"], summary["snapshot"]) == (False, published.manifest.snapshot_id)
    assert summary["images"]["unchanged"] == drawn
    assert_whole(home, "killed", 240)
    assert [run["status"] for run in lookbook_json(home, "runs", "killed")] == ["completed", *["killed"] * 3]


def kill_at_current(home: Path, moment: str, *arguments: str) -> None:
    done = subprocess.run(
        [sys.executable, "-c", DIES_AT_CURRENT, moment, *arguments],
        env=environment(home),
        cwd=home.parent,
        check=False,
        capture_output=True,
    )
    assert done.returncode == -signal.SIGKILL, done.stderr.decode()


@pytest.mark.full
def test_killed_right_after_current_and_repaired(home: Path) -> None:
    kill_at_current(home, "after", "ingest", "sample://40", "--dataset", "mended")
    assert lookbook(home, "verify", "mended", "--repair").returncode == 0
    assert_whole(home, "mended", 40)


@pytest.mark.full
def test_interrupted_it_says_so_and_the_next_run_goes_on(home: Path) -> None:
    arguments = ["ingest", "sample://240", "--dataset", "interrupted", "--batch-size", "60"]
    process = subprocess.Popen([*COMMAND, *arguments], env=environment(home), cwd=home.parent, stderr=subprocess.PIPE)
    try:
        wait_until(lambda: bool(parts(home, "interrupted")), process)
        process.send_signal(signal.SIGINT)
        said = process.communicate(timeout=60)[1].decode()
    finally:
        process.kill()
        process.wait()
    assert process.returncode == 130
    assert said == "Interrupted. Nothing half done was published; the same command goes on from here.\n"
    finished = parts(home, "interrupted")
    summary = lookbook_json(home, *arguments)
    assert summary["outputs"]["standard"] == summary["images"]["loaded"] - sum(finished.values())
    assert [run["error"] for run in lookbook_json(home, "runs", "interrupted")] == [None, "interrupted"]


@pytest.mark.full
def test_two_runs_of_one_dataset_are_kept_apart(home: Path) -> None:
    arguments = ["ingest", "sample://240", "--dataset", "contested", "--batch-size", "60"]
    first = subprocess.Popen([*COMMAND, *arguments], env=environment(home), cwd=home.parent, stdout=subprocess.DEVNULL)
    try:
        wait_until((home / "lake" / "batches" / "contested").exists, first)
        first.send_signal(signal.SIGSTOP)  # it holds its lease, and can't end before it was asked for
        second = lookbook(home, *arguments)
        assert second.returncode == 1
        assert "another run is at work on it" in second.stderr
        assert str(first.pid) in second.stderr
        stop = lookbook(home, "stop")
        assert stop.returncode == 1
        assert f"a run is at work on it (process {first.pid}" in stop.stderr
        first.send_signal(signal.SIGCONT)
        assert first.wait(timeout=120) == 0
    finally:
        first.kill()
        first.wait()
    assert_whole(home, "contested", 240)
