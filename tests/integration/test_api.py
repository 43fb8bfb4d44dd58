"""The API with a real Prefect server and worker: from a request to a finished archive, cancelled, killed, at once."""

from __future__ import annotations

import io
import zipfile
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx
import pytest

from deployments.api.runs import FINAL
from tests.support.api_command import api_of, ended, submitted
from tests.support.command import lookbook, lookbook_json
from tests.support.prefect_processes import Server, wait_for

pytestmark = [pytest.mark.integration, pytest.mark.timeout(1500)]

#: Put before `lookbook.heartbeat`: a run whose process died is found out in seconds, not in minutes.
SOON = """
from datetime import timedelta
from deployments import automations
automations.HEARTBEAT_SILENCE = timedelta(seconds=100)
from deployments.deploying import deploy
deploy()
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
        twice = [submitted(client, "exports", body, **{"Idempotency-Key": "one"}) for _ in range(2)]
        assert twice[0]["id"] == twice[1]["id"]
        export = ended(client, twice[0]["links"]["self"])
        assert export["state"] == "completed", export
        assert len(prefect.runs("export-dataset")) == 1
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


def test_fifty_exports_at_once_all_end_though_a_worker_is_killed_among_them(server_without_workers: Server) -> None:
    server = server_without_workers
    assert server.python("-c", SOON).returncode == 0
    assert (
        lookbook(server.home, "ingest", "sample://20", "--dataset", "many", PREFECT_API_URL=server.url).returncode == 0
    )
    with api_of(server) as client:
        with server.worker(PREFECT_FLOWS_HEARTBEAT_FREQUENCY="30") as first, ThreadPoolExecutor(50) as pool:
            bodies = [{"dataset": "many", "seed": seed, "format": "csv"} for seed in range(50)]
            addresses = [
                told["links"]["self"] for told in pool.map(lambda body: submitted(client, "exports", body), bodies)
            ]
            wait_for(
                "some run", lambda: states(client, addresses)["running"] or states(client, addresses)["completed"], 180
            )
            first.kill()
        with server.worker(PREFECT_FLOWS_HEARTBEAT_FREQUENCY="30"):
            wait_for("all have ended", lambda: set(states(client, addresses)) <= FINAL, 1200)
        found = states(client, addresses)
    assert sum(found.values()) == 50
    assert found["completed"] >= 45, "those that the killed worker ran were given back, and done by the other"


def states(client: httpx.Client, addresses: list[str]) -> Counter[str]:
    """How many exports are in which state."""
    return Counter(client.get(address).raise_for_status().json()["state"] for address in addresses)
