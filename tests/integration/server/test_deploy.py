"""Deploying to a real server: what is missing is made, what is there stays, and it says which is which."""

from __future__ import annotations

import http.server
import json
import subprocess
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import yaml
from prefect.client.orchestration import get_client
from prefect.settings import temporary_settings

from lookbook.deployments.server import deploying
from lookbook.deployments.server.applying import Deployed
from lookbook.deployments.server.deploying import POOLS, deployment_names, environment
from lookbook.deployments.shipped import prefect_file
from tests.support.command import lookbook
from tests.support.prefect_processes import Server, deploy, wait_for

pytestmark = pytest.mark.integration

#: What the server notes by itself while nothing changes.
NOTED = {"updated", "updated_by", "last_polled", "status", "active_slots"}


def lasting(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: lasting(part) for key, part in value.items() if key not in NOTED}
    return [lasting(part) for part in value] if isinstance(value, list) else value


def by_id(items: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return sorted(items, key=lambda item: str(item["id"]))


def everything(server: Server) -> dict[str, Any]:
    """All that the API says of what a deploy makes, with the ids."""
    kinds = ("work_pools", "deployments", "block_types", "block_schemas", "block_documents", "automations", "flows")
    found = {kind: by_id(server.post(f"/{kind}/filter")) for kind in kinds}
    for deployment in found["deployments"]:
        deployment["schedules"] = by_id(deployment["schedules"])
    result: dict[str, Any] = lasting(found)
    return result


def test_first_all_is_made_and_a_second_time_nothing_changes(prefect: Server) -> None:
    first = prefect.made
    assert {f"work pool {name}" for name in POOLS} | set(deployment_names()) <= set(first["made"])
    assert first["changed"] == first["left"] == []

    before = everything(prefect)
    again = deploy(prefect)
    assert again["server"] == prefect.url
    assert again["made"] == again["changed"] == []
    assert set(again["left"]) >= set(first["made"])
    assert everything(prefect) == before


def test_workers_need_nothing_of_the_machine_that_deployed(prefect: Server) -> None:
    for name in deployment_names():
        deployment = prefect.deployment(name)
        assert deployment["path"] is None
        assert deployment["storage_document_id"] is None
        assert deployment["pull_steps"] in (None, [])
        assert deployment["enforce_parameter_schema"] is True


@dataclass(frozen=True)
class Mended:
    """What one deploy made of a server on which much was changed by hand.

    Attributes:
        refused: a deploy before, while a pool of another kind had our name.
        done: what the deploy said.
        template: of the pool that a user edited.
        trigger: an automation of ours that a user switched off and emptied, as it was before.
    """

    refused: subprocess.CompletedProcess[str]
    done: dict[str, Any]
    template: dict[str, Any]
    trigger: dict[str, Any]


def triggers(server: Server) -> list[dict[str, Any]]:
    wanted = {"automations": {"name": {"any_": ["lookbook: source changed → ingest"]}}}
    found: list[dict[str, Any]] = server.post("/automations/filter", wanted)
    return found


@pytest.fixture(scope="module")
def mended(prefect: Server) -> Iterator[Mended]:
    """A deploy takes twenty seconds of a processor: the changes of several tests are made before the same one."""
    server = prefect
    ingest = server.deployment("ingest/local")
    own = {"schedule": {"cron": "0 6 * * 1", "timezone": "UTC"}, "parameters": {"source": "/photos", "dataset": "a"}}
    (schedule,) = server.post(f"/deployments/{ingest['id']}/schedules", [own])
    server.patch(
        f"/deployments/{ingest['id']}", {"description": "Ours no longer.", "entrypoint": "flows.ingest.ingest"}
    )
    template = server.get("/work_pools/lookbook-docker")["base_job_template"]
    template["variables"]["properties"]["mem_limit"]["default"] = "8g"
    server.patch("/work_pools/lookbook-docker", {"base_job_template": template})
    gc = server.deployment("gc/local")
    (nightly,) = gc["schedules"]
    assert nightly["active"] is False, "what it removes is gone: somebody has to want it"
    server.patch(f"/deployments/{gc['id']}/schedules/{nightly['id']}", {"active": True})

    (before,) = triggers(server)
    content = {name: before[name] for name in ("name", "description", "trigger")}
    server.put(f"/automations/{before['id']}", content | {"enabled": False, "actions": [{"type": "do-nothing"}]})
    owner = f"prefect.deployment.{ingest['id']}"
    server.post("/automations/", content | {"actions": before["actions"], "owner_resource": owner})  # `prefect deploy`

    server.delete("/work_pools/lookbook-cloud-run")
    server.post("/work_pools/", {"name": "lookbook-cloud-run", "type": "process", "base_job_template": {}})
    refused = lookbook(server.home, "deploy", **server.environment())
    server.delete("/work_pools/lookbook-cloud-run")

    yield Mended(refused, deploy(server), template, before)

    server.delete(f"/deployments/{ingest['id']}/schedules/{schedule['id']}")
    server.switch(before["name"], on=True)


@pytest.mark.full
def test_what_a_user_changed_is_mended_where_it_is_ours_and_kept_where_it_is_theirs(
    prefect: Server, mended: Mended
) -> None:
    server, done = prefect, mended.done
    assert "ingest/local" in done["changed"]
    assert server.deployment("ingest/local")["description"] != "Ours no longer."
    assert server.deployment("ingest/local")["entrypoint"] == "lookbook.flows.ingest.ingest", "it had a name of before"
    assert [s["schedule"]["cron"] for s in server.deployment("ingest/local")["schedules"]] == ["0 6 * * 1"]
    assert [s["active"] for s in server.deployment("gc/local")["schedules"]] == [True]
    assert "work pool lookbook-cloud-run" in done["made"]
    assert server.get("/work_pools/lookbook-docker")["base_job_template"] == mended.template
    assert any("lookbook-docker" in note for note in done["notes"])


@pytest.mark.full
def test_a_trigger_keeps_its_id_stays_off_and_is_not_doubled_by_who_deployed_without_us(
    prefect: Server, mended: Mended
) -> None:
    before = mended.trigger
    assert f"automation {before['name']}" in mended.done["changed"]
    (after,) = triggers(prefect)
    assert (after["id"], after["actions"], after["enabled"]) == (before["id"], before["actions"], False)


@pytest.mark.full
def test_a_pool_of_another_kind_under_our_name_is_named(mended: Mended) -> None:
    assert mended.refused.returncode == 1
    assert "The work pool lookbook-cloud-run is of the type process" in mended.refused.stderr


@pytest.mark.full
def test_a_schedule_that_is_taken_out_is_gone_and_deploying_again_doubles_no_tick(
    prefect: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    hourly = {"slug": "hourly", "cron": "0 * * * *", "timezone": "UTC"}
    file = yaml.safe_load(prefect_file().read_text(encoding="utf-8"))
    (entry,) = [entry for entry in file["deployments"] if entry["entrypoint"].endswith(".verify")]
    file["deployments"] = [entry]
    monkeypatch.setattr(deploying, "prefect_file", lambda: tmp_path / "prefect.yaml")
    for name, value in prefect.access.items():
        monkeypatch.setenv(name, value)

    def deployed(schedules: list[dict[str, Any]]) -> set[str]:
        entry["schedules"] = schedules
        (tmp_path / "prefect.yaml").write_text(yaml.safe_dump(file), encoding="utf-8")
        with temporary_settings(prefect.settings), get_client(sync_client=True) as client:
            deploying.deploy_file(client, Deployed(), environment())
        return {schedule["slug"] for schedule in prefect.deployment("verify/local")["schedules"]}

    def ticks() -> list[str]:
        runs = prefect.runs("verify", state={"type": {"any_": ["SCHEDULED"]}})
        return [run["expected_start_time"] for run in runs if run["auto_scheduled"]]

    ours = entry["schedules"]
    names = {schedule["slug"] for schedule in ours}
    for _ in range(3):
        assert deployed([*ours, hourly]) == {*names, "hourly"}
    wait_for("the scheduler has planned", lambda: any(":30:" not in tick for tick in ticks()))
    assert len(ticks()) == len(set(ticks()))
    assert deployed(ours) == names
    assert not any(":30:" not in tick for tick in ticks()), "what it had planned is gone, too"


@contextmanager
def pretended(answer: Callable[[str], tuple[int, str]]) -> Iterator[str]:
    """A server that gives these answers, by path; yields the URL of its API."""

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            status, text = answer(self.path)
            self.send_response(status)
            self.send_header("Content-Type", "application/json")
            self.end_headers()
            self.wfile.write(text.encode())

        def log_message(self, *_: object) -> None: ...

    listener = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=listener.serve_forever, daemon=True).start()
    try:
        yield f"http://127.0.0.1:{listener.server_port}/api"
    finally:
        listener.shutdown()
        listener.server_close()


def test_a_server_that_is_too_old_is_named(tmp_path: Path) -> None:
    with pretended(lambda path: (200, json.dumps("3.4.1" if "version" in path else True))) as url:
        done = lookbook(tmp_path / "home", "deploy", PREFECT_API_URL=url)
    assert done.returncode == 1
    assert f"server at {url}" in done.stderr
    assert "3.4.1" in done.stderr
    assert "3.8 or newer" in done.stderr


def test_a_server_that_refuses_is_named_with_the_way_in(tmp_path: Path) -> None:
    def answer(path: str) -> tuple[int, str]:
        return (200, "true") if "health" in path else (401, '{"detail": "who are you?"}')

    with pretended(answer) as url:
        done = lookbook(tmp_path / "home", "deploy", PREFECT_API_URL=url)
    assert done.returncode == 1
    assert "refused GET /api/admin/version: 401" in done.stderr
    assert "PREFECT_API_AUTH_STRING" in done.stderr
    assert "Traceback" not in done.stderr


def test_a_server_that_does_not_answer_is_named(tmp_path: Path) -> None:
    done = lookbook(tmp_path / "home", "deploy", PREFECT_API_URL="http://127.0.0.1:9/api")
    assert done.returncode == 1
    assert "No Prefect API answers at http://127.0.0.1:9/api" in done.stderr
