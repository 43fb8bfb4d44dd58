"""Operations as code: runs whose process died, failures that somebody hears of, and deploying twice."""

from __future__ import annotations

import http.server
import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from tests.support.prefect_processes import Server, wait_for

pytestmark = [pytest.mark.integration, pytest.mark.full]

SECRET = "tr0mbone-secret"  # noqa: S105 - not one of anybody
INSTALL = """
from datetime import timedelta
from prefect.client.orchestration import get_client
from lookbook.deployments.server.automations import HEARTBEAT_SILENCE, install
from lookbook.deployments.server.applying import Deployed
done = Deployed()
with get_client(sync_client=True) as client:
    install(client, done, {silence})
print(done)
"""
SAVE_BLOCK = """
from prefect.blocks.notifications import CustomWebhookNotificationBlock
CustomWebhookNotificationBlock(
    name="failures", url={url!r}, json_data={{"title": "{{{{subject}}}}", "text": "{{{{body}}}}"}},
    headers={{"X-Token": "{{{{token}}}}"}}, secrets={{"token": {secret!r}}},
).save("lookbook-failures", overwrite=True)
"""


@pytest.fixture
def server(server_without_workers: Server) -> Server:
    """One on which runs without a heartbeat may crash soon."""
    return server_without_workers


def automations(server: Server) -> dict[str, dict[str, Any]]:
    return {found["name"]: found for found in server.post("/automations/filter", {"limit": 200})}


def install(server: Server, silence: str = "HEARTBEAT_SILENCE") -> str:
    done = server.python(INSTALL.format(silence=silence))
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_installing_twice_changes_nothing_and_what_was_changed_by_hand_is_set_back(server: Server) -> None:
    before = automations(server)
    assert set(before) == {
        "lookbook: source changed → ingest",
        "lookbook: snapshot published → verify",
        "lookbook: no heartbeat → crashed",
        "lookbook: started and no heartbeat → crashed",
        "lookbook: cancelling without an end → cancelled",
        "lookbook: claimed and never started → once more",
        "lookbook: ingest crashed → once more",
        "lookbook: export crashed → once more",
        "lookbook: pipeline crashed → once more",
    }
    assert "made=[], changed=[]" in install(server)
    assert automations(server) == before, "not even the time of change"

    again, crashed = before["lookbook: ingest crashed → once more"], before["lookbook: no heartbeat → crashed"]
    content = {name: again[name] for name in ("name", "description", "enabled", "trigger")}
    server.put(f"/automations/{again['id']}", content | {"actions": [{"type": "do-nothing"}]})
    server.patch(f"/automations/{crashed['id']}", {"enabled": False})
    said = install(server)
    assert "made=[], changed=['automation lookbook: ingest crashed → once more']" in said
    after = automations(server)
    assert {name: found["id"] for name, found in after.items()} == {name: found["id"] for name, found in before.items()}
    assert after[again["name"]]["actions"] == again["actions"]
    assert after[crashed["name"]]["enabled"] is False, "what is switched off stays off"
    server.patch(f"/automations/{crashed['id']}", {"enabled": True})


def test_a_run_whose_machine_died_crashes_and_is_started_once_more(server: Server) -> None:
    install(server, "timedelta(seconds=45)")
    run_id = server.start_run(
        "ingest/local",
        {"env": {"PREFECT_FLOWS_HEARTBEAT_FREQUENCY": "30"}},
        source="sample://500",
        dataset="zombie",
    )
    with server.worker() as worker:

        def beats() -> bool:
            found = server.events("prefect.flow-run.heartbeat")
            return any(event["resource"]["prefect.resource.id"].endswith(run_id) for event in found)

        wait_for("a first heartbeat", beats)
        worker.kill()
    assert server.run(run_id)["state_type"] == "RUNNING", "nobody knows yet"

    def states() -> list[str]:
        rows = server.get(f"/flow_run_states/?flow_run_id={run_id}")
        return [row["name"] for row in sorted(rows, key=lambda row: row["timestamp"])]

    wait_for("it is started once more", lambda: states()[-1] == "AwaitingRetry")
    assert "Crashed" in states()
    install(server)  # from here on a slow machine is no dead one
    with server.worker():
        done = server.finished(run_id)
    assert done["state_type"] == "COMPLETED", server.logs(run_id)
    assert done["run_count"] == 2


def test_a_run_whose_machine_died_before_the_first_heartbeat_crashes_too(server: Server) -> None:
    """There is no process at all here: a run is said to run, as the last word of one that died a moment later."""
    install(server, "timedelta(seconds=20)")
    run_id = server.start_run("verify/local", dataset="nobody")
    for state in ("PENDING", "RUNNING"):
        server.post(f"/flow_runs/{run_id}/set_state", {"state": {"type": state}, "force": True})
    found = server.finished(run_id)
    assert (found["state_type"], found["state"]["message"]) == (
        "CRASHED",
        "Its process died before its first heartbeat.",
    )
    install(server)


@contextmanager
def listener() -> Iterator[tuple[str, list[dict[str, Any]]]]:
    """A loopback server that takes notifications: its URL, and what it got."""
    got: list[dict[str, Any]] = []

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            got.append({"token": self.headers["X-Token"], **json.loads(body)})
            self.send_response(200)
            self.end_headers()

        def log_message(self, *_: object) -> None: ...

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield f"http://127.0.0.1:{server.server_port}/hook", got
    finally:
        server.shutdown()
        server.server_close()


def test_somebody_hears_of_a_failed_run_and_the_secret_stays_in_the_block(server: Server) -> None:
    assert "save a notification block named lookbook-failures" in install(server)
    with listener() as (url, got), server.worker():
        saved = server.python(SAVE_BLOCK.format(url=url, secret=SECRET))
        assert saved.returncode == 0, saved.stderr
        assert "lookbook: run failed → notify" in install(server)
        assert "notes=[]" in install(server)
        run_id = server.start_run("verify/local", dataset="nobody")
        assert server.finished(run_id)["state_type"] == "FAILED"
        wait_for("a notification", lambda: got)
        (told,) = got
        assert told["token"] == SECRET
        assert "Failed" in told["title"]
        assert run_id in told["text"], "a link to the run"
        assert "nobody" in told["text"], "and why"
    assert SECRET not in json.dumps(server.events())
    assert SECRET not in server.logs(run_id)
    assert SECRET not in Path(server.home / "prefect" / "server.log").read_text()

    (block,) = server.post("/block_documents/filter", {"block_documents": {"name": {"any_": ["lookbook-failures"]}}})
    server.delete(f"/block_documents/{block['id']}")
    assert "which is gone" in install(server)
    assert not any("notify" in name for name in automations(server))


def start_at_once(server: Server, count: int) -> list[str]:
    """Start so many exports by one request, whose parameters are not checked anew for each."""
    path = f"/deployments/{server.deployment('export-dataset/local')['id']}/create_flow_run/bulk"
    export = {"parameters": {"dataset": "nobody"}, "enforce_parameter_schema": False}
    return [made["flow_run_id"] for made in server.post(path, [export] * count)["results"]]


def test_two_hundred_and_fifty_waiting_exports_hold_up_nothing_else(server: Server) -> None:
    """Whatever comes last is begun before most of them were even tried: by order of time each would have been."""
    exports = {run for count in (100, 100, 50) for run in start_at_once(server, count)}
    others = [
        server.start_run("verify/local", dataset="nobody"),
        server.start_run("watch/local"),
        server.start_run("import-table/local", source="nowhere.csv", table="none"),
    ]
    with server.worker(limit=8):
        wait_for("all else has begun", lambda: all(server.run(run)["start_time"] for run in others))
        tried = [run for run in server.runs("export-dataset") if run["state_name"] not in {"Scheduled", "Late"}]
    assert len(exports) == 250
    assert len(tried) < 100
