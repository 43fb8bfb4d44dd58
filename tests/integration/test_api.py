"""The API with a real Prefect server and worker: from a request to a finished archive, cancelled, killed, at once."""

from __future__ import annotations

import io
import zipfile
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx
import pytest

from deployments.api.runs import FINAL
from tests.support.api_command import api_of, ended, submitted
from tests.support.command import lookbook, lookbook_json
from tests.support.prefect_processes import Server, wait_for

pytestmark = [pytest.mark.integration, pytest.mark.timeout(1500)]

#: A run whose process died is found out sooner, and exports do not wait for each other: a killed worker's places are
#: free only after five minutes.
SOON = """
from datetime import timedelta
from prefect.client.orchestration import get_client
from prefect.client.schemas.actions import DeploymentUpdate
from deployments import automations
from deployments.deploying import deploy
from deployments.deploying import Deployed
deploy()
with get_client(sync_client=True) as client:
    automations.install(client, Deployed(), timedelta(seconds=100))
    export = client.read_deployment_by_name("export-dataset/local")
    client.update_deployment(export.id, DeploymentUpdate(concurrency_limit=50))
"""


def test_from_an_ingest_to_an_archive_and_a_cancelled_export(prefect: Server, tmp_path: Path) -> None:
    with api_of(prefect) as client:
        ingest = submitted(client, "ingests", {"source": "sample://30", "dataset": "by-api"})
        done = ended(client, ingest["links"]["self"])
        assert (done["state"], done["summary"]["images"]["found"]) == ("completed", 30), done
        assert client.get(done["links"]["dataset"]).json()["images"] == 30

        body = {
            "dataset": "by-api",
            "where": ["gender=Women"],
            "recipe": "square-64",
            "split": {"train": 0.5, "test": 0.5},
        }
        before = len(prefect.runs("export-dataset"))
        twice = [submitted(client, "exports", body, **{"Idempotency-Key": "one"}) for _ in range(2)]
        assert twice[0]["id"] == twice[1]["id"]
        export = ended(client, twice[0]["links"]["self"])
        assert export["state"] == "completed", export
        assert len(prefect.runs("export-dataset")) == before + 1
        archive = zipfile.ZipFile(io.BytesIO(client.get(export["links"]["archive"]).content))
        assert archive.testzip() is None
        assert sum(name.endswith(".jpg") for name in archive.namelist()) == export["counts"]["exported"] + 1
        # The same request by the command: the same export, answered from the lake that both share.
        command = ["export", "by-api", "--where", "gender=Women", "--recipe", "square-64", "--split", "0.5,0.5"]
        same = lookbook_json(prefect.home, *command, PREFECT_API_URL=prefect.url)
        assert (same["export"], same["answered"]) == (export["export_id"], True)
        # And into a folder, where it is made anew: the bytes that the deployment made for the API.
        into = lookbook_json(prefect.home, *command, "--out", str(tmp_path / "out"), PREFECT_API_URL=prefect.url)
        assert into["answered"] is False
        for name in archive.namelist():
            assert archive.read(name) == (tmp_path / "out" / name.partition("/")[2]).read_bytes(), name
        assert client.get(export["links"]["metadata"]).text.count("\n") == export["counts"]["exported"] + 1

        many = body | {"recipe": "train-224", "copies": 100, "augment": "all", "where": []}
        long = submitted(client, "exports", many)
        wait_for("it runs", lambda: client.get(long["links"]["self"]).json()["state"] == "running", 120)
        assert client.delete(long["links"]["self"]).status_code == 202
        assert ended(client, long["links"]["self"])["state"] == "cancelled"
        assert client.get(long["links"]["self"] + "/archive").status_code == 410

        figures = client.get("/metrics").text
        assert 'lookbook_runs_ended_total{flow="export-dataset",state="completed"}' in figures
        assert 'lookbook_run_seconds_count{flow="ingest"} 1.0' in figures


@pytest.fixture
def impatient(server_without_workers: Server) -> Iterator[Server]:
    """A server that finds dead runs soon, and is as it was for the tests behind."""
    assert server_without_workers.python("-c", SOON).returncode == 0
    yield server_without_workers
    restored = server_without_workers.python("-c", "from deployments.deploying import deploy; deploy()")
    assert restored.returncode == 0


@pytest.mark.full
def test_fifty_exports_at_once_all_end_though_a_worker_is_killed_among_them(impatient: Server) -> None:
    server = impatient
    assert (
        lookbook(server.home, "ingest", "sample://20", "--dataset", "many", PREFECT_API_URL=server.url).returncode == 0
    )
    with api_of(server) as client:
        with server.worker(limit=6, PREFECT_FLOWS_HEARTBEAT_FREQUENCY="30") as first, ThreadPoolExecutor(50) as pool:
            bodies = [{"dataset": "many", "seed": seed, "format": "csv"} for seed in range(50)]
            addresses = [
                told["links"]["self"] for told in pool.map(lambda body: submitted(client, "exports", body), bodies)
            ]
            wait_for(
                "some run", lambda: states(client, addresses)["running"] or states(client, addresses)["completed"], 180
            )
            first.kill()
        with server.worker(limit=6, PREFECT_FLOWS_HEARTBEAT_FREQUENCY="30"):
            wait_for("all have ended", lambda: set(states(client, addresses)) <= FINAL, 1200)
        found = states(client, addresses)
    assert sum(found.values()) == 50
    assert found["completed"] >= 45, "those that the killed worker ran were given back, and done by the other"


def states(client: httpx.Client, addresses: list[str]) -> Counter[str]:
    """How many exports are in which state."""
    return Counter(client.get(address).raise_for_status().json()["state"] for address in addresses)
