"""The whole job on a cloud that misbehaves: Kaggle → bucket → PostgreSQL → BigQuery, killed once, books balanced."""

from __future__ import annotations

import subprocess
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.support import debian_postgres
from tests.support.command import COMMAND, lookbook_json
from tests.support.google_cloud import Cloud, running_cloud
from tests.support.homes import remove_home
from tests.support.prefect_processes import wait_for

pytestmark = [pytest.mark.integration, pytest.mark.full, pytest.mark.real_data]

INGEST = ("ingest", "kaggle://ann/fashion", "--dataset", "fashion", "--workspace", "cloud", "--batch-size", "125")


@pytest.fixture(scope="module")
def cloud(tmp_path_factory: pytest.TempPathFactory, real_archive: Path) -> Iterator[Cloud]:
    if debian_postgres.programs() is None:
        pytest.skip("no PostgreSQL in /usr/lib/postgresql: apt-get install postgresql")
    with zipfile.ZipFile(real_archive) as archive:
        files = {info.filename: archive.read(info) for info in archive.infolist() if not info.is_dir()}
    home = tmp_path_factory.mktemp("cloud") / "home"
    try:
        with running_cloud(home, files) as cloud:
            yield cloud
    finally:
        remove_home(home)


def asked(cloud: Cloud, *arguments: str) -> Any:
    return lookbook_json(cloud.prefect.home, *arguments, **cloud.settings)


def killed_halfway(cloud: Cloud) -> None:
    """Start the run, and end it with SIGKILL when half of the outputs are there."""
    command = [*COMMAND, *INGEST]
    with subprocess.Popen(
        command, env=cloud.prefect.environment(**cloud.settings), stdout=subprocess.DEVNULL, stderr=subprocess.PIPE
    ) as process:
        try:
            wait_for(
                "a batch is done",
                lambda: process.poll() is not None or len(cloud.keys("lake/batches/*/part.parquet")) >= 2,
                240,
            )
            ended = process.poll()
        finally:
            process.kill()
        assert ended is None, process.stderr and process.stderr.read().decode()


def test_a_thousand_images_with_faults_and_killed_once(cloud: Cloud) -> None:
    cloud.misbehave()
    killed_halfway(cloud)
    assert not cloud.keys("lake/datasets/*/CURRENT")
    summary = asked(cloud, *INGEST)
    assert summary["published"] is True
    assert summary["images"] == summary["images"] | {"found": 1000, "loaded": 999, "duplicate": 1, "rejected": 0}
    assert summary["rows"]["matched"] == 1000
    assert asked(cloud, "verify", "fashion", "--workspace", "cloud")["differences"] == []
    assert_nothing_twice(cloud)
    assert_each_route_failed(cloud)
    again = asked(cloud, *INGEST)
    assert (again["published"], again["images"]["unchanged"]) == (False, 999)


def assert_nothing_twice(cloud: Cloud) -> None:
    originals = cloud.keys("lake/originals/*")
    assert len(originals) == len({Path(name).stem for name in originals}) == 999
    assert len(cloud.keys("lake/derived/*")) == 3 * 999
    with cloud.gcs.store.lock:
        objects = cloud.gcs.store.buckets["pictures"]
        assert {objects[name].metageneration for name in originals} == {1}
    counts = asked(
        cloud,
        "query",
        "SELECT COUNT(*) AS images, COUNT(DISTINCT key) AS keys,"
        " (SELECT COUNT(*) FROM warehouse.outputs) AS outputs,"
        " (SELECT COUNT(DISTINCT CONCAT(sha256, output)) FROM warehouse.outputs) AS distinct_outputs,"
        " (SELECT COUNT(*) FROM warehouse.fact_product) AS products FROM warehouse.images",
        "--workspace",
        "cloud",
    )
    assert counts == [{"images": 1000, "keys": 1000, "outputs": 2997, "distinct_outputs": 2997, "products": 1000}]


def assert_each_route_failed(cloud: Cloud) -> None:
    """Whatever was asked of a server failed at the least once, and was asked again."""
    for name, server in cloud.servers.items():
        called = {route for route, calls in server.calls.items() if calls}
        assert called, name
        assert called == {route for route in called if server.fired[route]}, name
