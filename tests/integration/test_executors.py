"""Threads, a work pool and a Dask cluster: the same bytes, and a worker that dies costs only time."""

from __future__ import annotations

import hashlib
import json
import re
import subprocess
from collections import Counter
from pathlib import Path

import pytest

from lookbook.blocks.lake import FolderLake
from lookbook.blocks.settings import this_host
from lookbook.tasks.datasets.manifest import require_published
from tests.support.command import COMMAND, lookbook_json
from tests.support.homes import remove_home
from tests.support.pipeline import photo, write_collection, write_slow_collection
from tests.support.prefect_processes import Server, wait_for

pytestmark = [pytest.mark.integration, pytest.mark.full]

SLOW = {"LOOKBOOK_THREADS": "1"}
#: A batch whose machine died is found out sooner than after the five minutes of a deployed server.
SOON = """
from datetime import timedelta
from prefect.client.orchestration import get_client
from prefect.client.schemas.actions import DeploymentUpdate
from lookbook.deployments.server.applying import Deployed
from lookbook.deployments.server.automations import install
with get_client(sync_client=True) as client:
    install(client, Deployed(), timedelta(seconds=100))
    batch = client.read_deployment_by_name("process-batch/local")
    beats = {"env": {"PREFECT_FLOWS_HEARTBEAT_FREQUENCY": "30"}}
    client.update_deployment(batch.id, DeploymentUpdate(job_variables=beats))
"""


@pytest.fixture
def prefect(server_without_workers: Server) -> Server:
    """Each test starts its own workers."""
    return server_without_workers


def objects(home: Path) -> dict[str, str]:
    """The checksum of each original and output in a home's lake, by its key."""
    lake = home / "lake"
    paths = [path for kind in ("originals", "derived", "rejected") for path in (lake / kind).rglob("*")]
    return {
        str(path.relative_to(lake)): hashlib.sha256(path.read_bytes()).hexdigest() for path in paths if path.is_file()
    }


def digest(home: Path, dataset: str) -> str:
    return require_published(FolderLake(root=home / "lake"), dataset).manifest.digest


def said_of_batches(prefect: Server, run_id: str) -> list[str]:
    """What the batches of a run logged in the end: counts, process, machine."""
    runs = [run_id, *(child["id"] for child in prefect.children(run_id))]  # those in its process log as its own
    lines = [line for run in runs for line in prefect.logs(run).splitlines()]
    return [line for line in lines if "outputs; process" in line]


def all_said(prefect: Server, run_id: str, batches: int) -> list[str]:
    """The same, once all batches did: a log may arrive after its run has ended."""

    def look() -> list[str] | None:
        said = said_of_batches(prefect, run_id)
        return said if len(said) == batches else None

    return wait_for(f"{batches} batches said what they did", look)


def workers_of(prefect: Server, run_id: str) -> set[str]:
    """The names of the workers that took the batches of a run; only their events tell."""
    children = [f"prefect.flow-run.{child['id']}" for child in prefect.children(run_id)]
    wanted = {"event": {"name": ["prefect.worker.submitted-flow-run"]}, "any_resource": {"id": children}}
    events = prefect.post("/events/filter", {"filter": wanted, "limit": 50})["events"]
    return {event["resource"]["prefect.resource.name"] for event in events}


def newest_run(prefect: Server, dataset: str) -> str | None:
    found = [run["id"] for run in prefect.runs("ingest") if run["parameters"]["dataset"] == dataset]
    return found[-1] if found else None


def running(prefect: Server, run_id: str, count: int) -> bool:
    return [child["state_type"] for child in prefect.children(run_id)].count("RUNNING") >= count


def test_all_executors_make_the_same_bytes(prefect: Server, tmp_path: Path) -> None:
    homes = {"threads": tmp_path / "threads", "dask": tmp_path / "dask", "pool": prefect.home}
    arguments = ("ingest", "sample://60", "--dataset", "same", "--batch-size", "15")
    processes = {}
    try:
        with prefect.worker(limit=2) as one, prefect.worker(limit=2) as other:
            for executor, home in homes.items():
                home.mkdir(exist_ok=True)
                summary = lookbook_json(home, *arguments, "--executor", executor, **prefect.access)
                assert summary["published"] is True
                said = all_said(prefect, newest_run(prefect, "same") or "", 4)
                processes[executor] = {re.findall(r"process (\d+) on", line)[0] for line in said}
            pooled = newest_run(prefect, "same") or ""
            wait_for("both workers took batches", lambda: workers_of(prefect, pooled) == {one.name, other.name})
        found = {executor: (digest(home, "same"), objects(home)) for executor, home in homes.items()}
        assert found["threads"][1]
        # The pool's home is that of the server, in which other tests left theirs.
        pooled_objects = {key: found["pool"][1].get(key, "") for key in found["threads"][1]}
        found["pool"] = (found["pool"][0], pooled_objects)
        assert found["pool"] == found["threads"]
        assert found["dask"] == found["threads"]
        assert len(processes["threads"]) == 1
        assert len(processes["dask"]) == 2
        assert len(processes["pool"]) == 4, "each has a process of its own"
    finally:
        for executor in ("threads", "dask"):
            remove_home(homes[executor])


def all_heard(prefect: Server, run_id: str) -> bool:
    """Whether all batches under way gave a sign of life: one that never did is waited for longer."""
    alive = [child["id"] for child in prefect.children(run_id) if child["state_type"] == "RUNNING"]
    wanted = {"event": {"name": ["prefect.flow-run.heartbeat"]}}
    ids = [{"any_resource": {"id": [f"prefect.flow-run.{child}"]}} for child in alive]
    return all(prefect.post("/events/filter", {"filter": wanted | one, "limit": 1})["events"] for one in ids)


def test_workers_that_die_cost_only_time(prefect: Server, tmp_path: Path) -> None:
    """One with all that it started, as a machine that loses its power; of another only the worker itself."""
    assert prefect.python(SOON).returncode == 0
    source = str(write_slow_collection(tmp_path / "source", 300))
    arguments = ("ingest", source, "--dataset", "hurt", "--batch-size", "60", "--json")
    command = [*COMMAND, *arguments, "--executor", "pool"]
    with (
        prefect.worker(limit=1, **SLOW) as machine,
        prefect.worker(limit=1, **SLOW) as alone,
        subprocess.Popen(command, env=prefect.environment(), stdout=subprocess.PIPE) as ingest,
    ):
        try:
            run_id = wait_for("the run", lambda: newest_run(prefect, "hurt"))
            wait_for("both workers have batches", lambda: running(prefect, run_id, 2))
            wait_for("their first heartbeats", lambda: all_heard(prefect, run_id))
            machine.kill()
            alone.process.kill()
            with prefect.worker(limit=1, **SLOW):
                printed = ingest.communicate(timeout=400)[0]
        finally:
            ingest.kill()
    assert ingest.returncode == 0, printed
    summary = json.loads(printed)
    assert summary["published"] is True
    assert summary["images"]["loaded"] == 300
    assert lookbook_json(prefect.home, "verify", "hurt")["differences"] == []
    ends = Counter(child["state_type"] for child in prefect.children(run_id))
    assert ends["COMPLETED"] == 5
    assert 1 <= ends["CRASHED"] <= 2, "the one is done again; the other's run may outlive its worker"
    assert len(ends) == 2


#: Another process namespace, and an empty folder in the place of the source.
ELSEWHERE = ("unshare", "--pid", "--fork", "--kill-child", "--mount-proc", "sh", "-c")
HIDDEN = 'mount -t tmpfs none "$0" && exec "$@"'


def test_a_source_that_workers_cannot_reach_is_landed(prefect: Server, tmp_path: Path) -> None:
    if subprocess.run([*ELSEWHERE, "true"], capture_output=True, check=False).returncode:
        pytest.skip("needs the right to make namespaces: unshare --pid --mount-proc")
    images = {f"{number}.jpg": photo(number) for number in range(12)}
    source = write_collection(tmp_path / "source", images | {"torn.jpg": b"no image"})
    arguments = ("ingest", str(source), "--dataset", "far", "--batch-size", "5", "--reject-limit", "1")
    with prefect.worker(limit=2, within=(*ELSEWHERE, HIDDEN, str(source))) as worker:
        summary = lookbook_json(prefect.home, *arguments, "--executor", "pool")
        worker.kill()
    assert (summary["images"]["loaded"], summary["images"]["rejected"]) == (12, 1)
    run_id = newest_run(prefect, "far") or ""
    wait_for("the run says it", lambda: "Workers can't reach the source" in prefect.logs(run_id))
    assert this_host() not in "".join(wait_for("batches say where", lambda: said_of_batches(prefect, run_id)))
    assert not list((prefect.home / "lake" / "batches" / "far").rglob("*.*")), "what was landed goes with the batches"
    near = tmp_path / "near"
    try:
        lookbook_json(near, *arguments, **prefect.access)
        assert digest(prefect.home, "far") == digest(near, "far")
    finally:
        remove_home(near)
