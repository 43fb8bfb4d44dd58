"""Fifty exports at once by the API, and a worker that is killed among them."""

from __future__ import annotations

from collections import Counter
from concurrent.futures import ThreadPoolExecutor

import pytest

from tests.support.api_command import api_of, submitted
from tests.support.command import lookbook
from tests.support.prefect_processes import FINAL, Server, wait_for

pytestmark = [pytest.mark.integration, pytest.mark.full, pytest.mark.timeout(1500)]

#: A run whose process died is found out sooner, and exports do not wait for each other: a killed worker's places are
#: free only after five minutes.
SOON = """
from datetime import timedelta
from prefect.client.orchestration import get_client
from prefect.client.schemas.actions import DeploymentUpdate
from lookbook.deployments.server import automations
from lookbook.deployments.server.applying import Deployed
with get_client(sync_client=True) as client:
    automations.install(client, Deployed(), timedelta(seconds=100))
    export = client.read_deployment_by_name("export-dataset/local")
    client.update_deployment(export.id, DeploymentUpdate(concurrency_limit=50))
"""

#: One drawing process a run, and a sign of life twice as often as usual.
SPARING = {"LOOKBOOK_THREADS": "1", "PREFECT_FLOWS_HEARTBEAT_FREQUENCY": "30"}


def test_fifty_exports_at_once_all_end_though_a_worker_is_killed_among_them(server_without_workers: Server) -> None:
    server = server_without_workers
    assert server.python(SOON).returncode == 0
    assert (
        lookbook(server.home, "ingest", "sample://20", "--dataset", "many", PREFECT_API_URL=server.url).returncode == 0
    )
    with api_of(server) as client:
        with server.worker(limit=6, **SPARING) as first, ThreadPoolExecutor(50) as pool:
            bodies = [{"dataset": "many", "seed": seed, "format": "csv"} for seed in range(50)]
            addresses = [
                told["links"]["self"] for told in pool.map(lambda body: submitted(client, "exports", body), bodies)
            ]
            wait_for("some run", lambda: states(server)["RUNNING"] + states(server)["COMPLETED"])
            first.kill()
        with server.worker(limit=6, **SPARING):
            wait_for("all have ended", lambda: set(states(server)) <= FINAL, 1200)
        found = Counter(client.get(address).raise_for_status().json()["state"] for address in addresses)
    assert sum(found.values()) == 50
    assert found["completed"] >= 45, "those that the killed worker ran were given back, and done by the other"


def states(server: Server) -> Counter[str]:
    """How many exports are in which state, by one question to Prefect: fifty to the API would take a core."""
    return Counter(run["state_type"] for run in server.runs("export-dataset"))
