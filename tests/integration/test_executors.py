"""Threads, a work pool and a Dask cluster: the same bytes, and a worker that dies costs only time."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from blocks.lake import FolderLake
from tasks.datasets.manifest import require_published
from tests.support.command import lookbook_json
from tests.support.homes import remove_home
from tests.support.prefect_processes import Server, deploy, start_server

pytestmark = [pytest.mark.integration, pytest.mark.timeout(600)]


@pytest.fixture(scope="module")
def prefect(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A server with the deployments of this checkout."""
    home = tmp_path_factory.mktemp("executors") / "home"
    server = start_server(home)
    try:
        deploy(server)
        yield server
    finally:
        remove_home(home)


def objects(home: Path) -> dict[str, str]:
    """The checksum of each original and output in a home's lake, by its key."""
    lake = home / "lake"
    paths = [path for kind in ("originals", "derived", "rejected") for path in (lake / kind).rglob("*")]
    return {
        str(path.relative_to(lake)): hashlib.sha256(path.read_bytes()).hexdigest() for path in paths if path.is_file()
    }


def digest(home: Path, dataset: str) -> str:
    return require_published(FolderLake(root=home / "lake"), dataset).manifest.digest


def batch_runs(prefect: Server, parent: str) -> list[str]:
    """What the batches of a run logged in the end: counts, process, machine."""
    said = [prefect.logs(child["id"]) for child in prefect.children(parent)]
    return [line for text in said for line in text.splitlines() if "outputs; process" in line]


def newest_run(prefect: Server, flow: str = "ingest") -> str:
    return str(prefect.runs(flow)[-1]["id"])


def test_all_executors_make_the_same_bytes(prefect: Server, tmp_path: Path) -> None:
    homes = {"threads": tmp_path / "threads", "dask": tmp_path / "dask", "pool": prefect.home}
    arguments = ("ingest", "sample://60", "--dataset", "same", "--batch-size", "10")
    processes = {}
    try:
        with prefect.worker(limit=2), prefect.worker(limit=2):
            for executor, home in homes.items():
                home.mkdir(exist_ok=True)
                summary = lookbook_json(home, *arguments, "--executor", executor, PREFECT_API_URL=prefect.url)
                assert summary["published"] is True
                said = batch_runs(prefect, newest_run(prefect))
                assert len(said) >= 5, said
                processes[executor] = {re.findall(r"process (\d+) on", line)[0] for line in said}
        found = {executor: (digest(home, "same"), objects(home)) for executor, home in homes.items()}
        assert found["threads"][1]
        assert found["pool"] == found["threads"]
        assert found["dask"] == found["threads"]
        assert len(processes["threads"]) == 1
        assert len(processes["dask"]) == 2
        assert len(processes["pool"]) >= 5, "each has a process of its own"
    finally:
        for executor in ("threads", "dask"):
            remove_home(homes[executor])
