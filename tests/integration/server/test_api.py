"""Exports by the API and by deployment, with a real Prefect server and worker: to a finished archive, or cancelled."""

from __future__ import annotations

import io
import zipfile
from pathlib import Path
from typing import Any

import pytest

from tests.support.api_command import api_of, ended, submitted
from tests.support.command import lookbook_json
from tests.support.exports import digests
from tests.support.prefect_processes import Server, wait_for

pytestmark = pytest.mark.integration


def test_from_an_ingest_to_an_archive(prefect: Server, tmp_path: Path) -> None:
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

        figures = client.get("/metrics").text
        assert 'lookbook_runs_ended_total{flow="export-dataset",state="completed"}' in figures
        assert 'lookbook_run_seconds_count{flow="ingest"} 1.0' in figures


@pytest.mark.full
def test_an_export_is_cancelled_while_it_runs(prefect: Server) -> None:
    lookbook_json(prefect.home, "ingest", "sample://30", "--dataset", "cut-short")
    with api_of(prefect) as client:
        many = {"dataset": "cut-short", "recipe": "train-224", "copies": 100, "augment": "all"}
        long = submitted(client, "exports", many)
        wait_for("it runs", lambda: client.get(long["links"]["self"]).json()["state"] == "running")
        assert client.delete(long["links"]["self"]).status_code == 202
        assert ended(client, long["links"]["self"])["state"] == "cancelled"
        assert client.get(long["links"]["self"] + "/archive").status_code == 410


@pytest.mark.full
def test_command_and_deployment_give_the_same_bytes_and_an_event(prefect: Server, tmp_path: Path) -> None:
    lookbook_json(prefect.home, "ingest", "sample://60", "--dataset", "by-two-ways")
    asked: dict[str, Any] = {"where": ["year>=2010"], "recipe": "square-32", "format": "parquet", "split": "0.9,0.1"}
    run = prefect.start_run("export-dataset/local", dataset="by-two-ways", **asked)
    assert prefect.finished(run)["state_type"] == "COMPLETED"
    options = ["--where", "year>=2010", "--recipe", "square-32", "--format", "parquet", "--split", "0.9,0.1"]
    summary = lookbook_json(prefect.home, "export", "by-two-ways", *options)
    assert summary["answered"] is True
    folder = lookbook_json(prefect.home, "export", "by-two-ways", *options, "--out", str(tmp_path / "out"))
    assert folder["export"] == summary["export"]
    assert digests(Path(summary["uri"]) / "files") == digests(tmp_path / "out")
    events = wait_for("the event is there", lambda: prefect.events("lookbook.export.finished"))
    assert events[0]["payload"]["export"] == summary["export"]
