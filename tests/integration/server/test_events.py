"""Events: a new object under a watched folder becomes a published snapshot, and what follows it is started."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest

from lookbook.blocks.embedded import prefect_server
from lookbook.blocks.embedded.prefect_server import free_port
from lookbook.blocks.lake import FolderLake
from lookbook.tasks.datasets.manifest import list_snapshots, read_table, require_published
from tests.integration.conftest import VERIFICATION
from tests.support.command import COMMAND
from tests.support.pipeline import photo, row, write_collection
from tests.support.prefect_processes import HANG, Server, wait_for

pytestmark = pytest.mark.integration


@pytest.fixture
def verification(prefect: Server) -> Iterator[None]:
    """What is published is verified while the test runs."""
    prefect.switch(VERIFICATION, on=True)
    yield
    prefect.switch(VERIFICATION, on=False)


def look(server: Server, source: Path, dataset: str) -> str:
    """Run ``watch`` until a look was taken: the schedule's own look may be under way, and another is not started."""

    def taken() -> str | None:
        run_id = server.start_run("watch/local", source=str(source), dataset=dataset)
        return run_id if server.finished(run_id)["state_type"] != "CANCELLED" else None

    return wait_for("a look that is taken", taken)


def said(server: Server, run_id: str, words: str) -> None:
    """See that a run logs these words: what it logs last arrives after its state."""
    wait_for(f"{words} in the log of {run_id}", lambda: words in server.logs(run_id))


def events(server: Server, name: str, dataset: str) -> list[dict[str, Any]]:
    """The events of this name whose payload names the dataset."""
    return [event for event in server.events(name) if event["payload"].get("dataset") == dataset]


def run_of(server: Server, flow: str, dataset: str) -> dict[str, Any]:
    """The first run of a flow for this dataset, once it is there."""

    def find() -> dict[str, Any] | None:
        return next((run for run in server.runs(flow) if run["parameters"].get("dataset") == dataset), None)

    return wait_for(f"a run of {flow} for {dataset}", find)


@pytest.mark.usefixtures("verification")
def test_a_new_object_in_a_watched_folder_is_ingested_and_what_is_published_is_verified(
    prefect: Server, tmp_path: Path
) -> None:
    inbox = tmp_path / "inbox with space ü"
    write_collection(inbox, {"images/1.jpg": photo(1), "images/2.jpg": photo(2)}, [row(1), row(2)])
    changing = look(prefect, inbox, "watched")
    said(prefect, changing, "is changing")
    assert events(prefect, "lookbook.source.changed", "watched") == []

    announcing = look(prefect, inbox, "watched")
    assert prefect.run(announcing)["state_type"] == "COMPLETED"
    (event,) = wait_for("the event", lambda: events(prefect, "lookbook.source.changed", "watched"))
    assert event["resource"]["prefect.resource.id"] == "lookbook.source.watched"
    assert event["payload"] == {"source": str(inbox), "dataset": "watched", "workspace": "local"}
    assert announcing in str(event["related"]), "the UI shows it with the run"

    ingest = run_of(prefect, "ingest", "watched")
    assert ingest["parameters"]["source"] == str(inbox)
    assert ingest["deployment_id"] == prefect.deployment("ingest/local")["id"]
    assert prefect.finished(ingest["id"])["state_type"] == "COMPLETED", prefect.logs(ingest["id"])
    (published,) = wait_for("the event", lambda: events(prefect, "lookbook.snapshot.published", "watched"))

    verify = run_of(prefect, "verify", "watched")
    assert prefect.finished(verify["id"])["state_type"] == "COMPLETED", prefect.logs(verify["id"])
    said(prefect, verify["id"], f"watched: {published['payload']['snapshot']}")


@pytest.mark.full
@pytest.mark.usefixtures("verification")
def test_what_differs_fails_the_verification_and_stands_in_its_artifact(prefect: Server) -> None:
    ingested = prefect.finished(prefect.start_run("ingest/local", source="sample://30", dataset="differs"))
    assert ingested["state_type"] == "COMPLETED"
    followed = run_of(prefect, "verify", "differs")
    assert prefect.finished(followed["id"])["state_type"] == "COMPLETED"
    lake = FolderLake(root=prefect.home / "lake")
    outputs = read_table(lake, require_published(lake, "differs").manifest, "outputs")
    lost = lake.root / outputs.column("object_key")[0].as_py()
    lost.unlink()
    try:
        done = prefect.finished(prefect.start_run("verify/local"))
        assert done["state_type"] == "FAILED", "all datasets are verified where none is named"
        assert lost.name in done["state"]["message"]
        assert "Traceback" not in done["state"]["message"]
        rows = prefect.post(
            "/artifacts/filter", {"artifacts": {"key": {"any_": ["all-datasets-differences"]}}, "sort": "CREATED_DESC"}
        )
        assert lost.name in rows[0]["data"]
    finally:
        mended = prefect.finished(prefect.start_run("verify/local", repair=True))
    assert mended["state_type"] == "COMPLETED", prefect.logs(mended["id"])
    assert lost.exists()


@contextmanager
def receiving(server: Server, config: Path) -> Iterator[str]:
    """The command ``lookbook receive`` while the block runs; its address."""
    port = free_port()
    command = [*COMMAND, "receive", str(config)]
    with config.with_suffix(".log").open("wb") as log:
        process = subprocess.Popen(
            [*command, "--port", str(port)], env=server.environment(), stdout=log, stderr=log, cwd=server.home
        )
    try:
        url = f"http://127.0.0.1:{port}/"
        wait_for("the receiver answers", lambda: prefect_server.answers(url.rstrip("/")))
        yield url
    finally:
        process.terminate()
        process.wait(60)


def test_a_message_about_a_bucket_starts_the_ingest_of_its_source(prefect: Server, tmp_path: Path) -> None:
    source = write_collection(tmp_path / "mounted", {"1.jpg": photo(1), "2.jpg": photo(2)})
    config = tmp_path / "receiver.yaml"
    watched = {"bucket": "my-photos", "dataset": "bucket", "source": str(source)}
    config.write_text(json.dumps({"watched": [watched], "quiet_seconds": 1}))
    attributes = {"bucketId": "my-photos", "objectId": "1.jpg", "eventType": "OBJECT_FINALIZE"}
    with receiving(prefect, config) as url:
        answer = httpx.post(url, json={"message": {"attributes": attributes, "messageId": "1"}}, timeout=60)
        assert answer.status_code == 204
        wait_for("the event", lambda: events(prefect, "lookbook.source.changed", "bucket"))
    assert "announced a change" in config.with_suffix(".log").read_text()
    ingest = run_of(prefect, "ingest", "bucket")
    assert ingest["parameters"]["source"] == str(source)
    assert prefect.finished(ingest["id"])["state_type"] == "COMPLETED", prefect.logs(ingest["id"])


@pytest.mark.full
def test_two_processes_of_one_run_give_one_snapshot_and_one_event(prefect: Server) -> None:
    run_id = prefect.start_run("ingest/docker", source="sample://30", dataset="doubled")  # no worker takes it
    command = [sys.executable, "-m", "prefect.engine"]
    environment = prefect.environment(PREFECT__FLOW_RUN_ID=run_id)
    both = [subprocess.Popen(command, env=environment, cwd=prefect.home, stderr=subprocess.DEVNULL) for _ in range(2)]
    for process in both:
        process.wait(HANG)
    assert prefect.run(run_id)["state_type"] == "COMPLETED", prefect.logs(run_id)
    lake = FolderLake(root=prefect.home / "lake")
    assert [each.dataset for each in list_snapshots(lake, "doubled")] == ["doubled"]
    wait_for("the event", lambda: events(prefect, "lookbook.snapshot.published", "doubled"))
    assert len(events(prefect, "lookbook.snapshot.published", "doubled")) == 1
