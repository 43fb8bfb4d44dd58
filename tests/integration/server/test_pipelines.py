"""Pipelines on a real server with a real worker: deployed from a folder, and started by all that starts one."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from textwrap import dedent
from typing import Any

import pytest

from tests.support.command import lookbook, lookbook_json
from tests.support.loopback import LoopbackServer, Request, Response, Route, serving
from tests.support.prefect_processes import Server, wait_for

pytestmark = pytest.mark.integration

ROWS = "sku,price\n001,1.5\n002,2.5\n"
SPECS = {
    "waiting": """
        on: {arrival: "in/*.csv"}
        tasks:
          extract: {source: {type: objects, path: "in/*.csv"}}
          load: {after: [extract], table: waiting, write_disposition: append}
        """,
    "ticking": """
        schedule: {every: 15s, active: false}
        tasks:
          extract: {source: {type: file, path: ticking.csv}, skip_unchanged: true}
          load: {after: [extract], table: ticking, write_disposition: replace}
        """,
    "daily": """
        schedule: {cron: "0 9 * * *", timezone: Europe/Berlin, active: false}
        tasks:
          extract: {source: {type: file, path: "daily/{date}.csv"}}
          load: {after: [extract], table: daily, write_disposition: append}
        """,
    "failing": """
        notify: [feeds-hook]
        tasks:
          extract: {source: {type: sql, connector: gone, table: secrets}}
          load: {after: [extract], table: failing}
        """,
}


@dataclass
class Feeds:
    """A server, a folder of specs, and what stands for other people's services.

    Attributes:
        heard: what was posted to the hook.
    """

    server: Server
    folder: Path
    loopback: LoopbackServer
    heard: list[bytes]
    answering: threading.Event

    def command(self, *arguments: str) -> Any:
        """A command that succeeds, as JSON."""
        return lookbook_json(self.server.home, *arguments, **self.environment)

    @property
    def environment(self) -> dict[str, str]:
        return {"PREFECT_API_URL": self.server.url, "LOOKBOOK_PIPELINES": str(self.folder)}

    def deploy(self, *arguments: str) -> Any:
        return self.command("pipeline", "deploy", *arguments)

    def run(self, name: str, **parameters: Any) -> dict[str, Any]:
        """Run a deployment to its end."""
        return self.server.finished(self.server.start_run(f"pipeline/{name}", **parameters))

    def rows(self, table: str) -> int:
        (row,) = self.command("query", f"SELECT count(*) AS n FROM feeds.{table}")
        return int(row["n"])


@pytest.fixture(scope="module")
def feeds(prefect: Server) -> Iterator[Feeds]:
    with deployed(prefect) as feeds:
        yield feeds


@contextmanager
def deployed(server: Server) -> Iterator[Feeds]:
    """These specs, beside those that are shipped, on a server."""
    folder = server.pipelines
    heard: list[bytes] = []
    answering = threading.Event()

    def hear(request: Request) -> Response:
        heard.append(request.body)
        return Response()

    def serve(_: Request) -> Response:
        answering.wait(60)
        return Response(body=ROWS.encode(), headers={"Content-Type": "text/csv"})

    with serving(Route("hook", "POST", "/hook", hear), Route("slow", "GET", "/slow.csv", serve)) as loopback:
        slow = f'tasks: {{extract: {{source: {{type: http, url: "{loopback.url}/slow.csv", allow_private: true}}}}, '
        slow += "load: {after: [extract], table: slow, write_disposition: append}}"
        for name, text in (SPECS | {"slow": slow}).items():
            write(folder / f"{name}.yaml", f"name: {name}\n{dedent(text)}")
        write(folder / "ticking.csv", ROWS)
        found = Feeds(server, folder, loopback, heard, answering)
        made = found.deploy()
        assert set(made["made"]) >= {f"pipeline/{name}" for name in [*SPECS, "slow"]}
        assert made["broken"] == []
        server.rest("watch-files/waiting")
        try:
            yield found
        finally:
            for name in (*SPECS, "slow"):
                (folder / f"{name}.yaml").unlink()
            found.deploy("--prune")


def write(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8")


@pytest.mark.full
def test_a_new_file_is_all_that_a_new_feed_needs_and_what_stands_there_stays(feeds: Feeds) -> None:
    server, daily = feeds.server, feeds.server.deployment("pipeline/daily")
    (schedule,) = daily["schedules"]
    assert (schedule["active"], schedule["slug"], schedule["schedule"]["cron"]) == (False, "spec", "0 9 * * *")
    assert server.deployment("watch-files/waiting")["parameters"] == {"starts": "pipeline/waiting"}
    place = f"/deployments/{daily['id']}/schedules/{schedule['id']}"
    server.patch(place, {"active": True})
    waiting, ticking = ((feeds.folder / f"{name}.yaml").read_text(encoding="utf-8") for name in ("waiting", "ticking"))
    write(feeds.folder / "added.yaml", waiting.replace("waiting", "added"))
    write(feeds.folder / "broken.yaml", "name: broken\ntask: {}\n")
    write(feeds.folder / "ticking.yaml", ticking + "on: {event: shop.opened}\n")
    try:
        done = lookbook(server.home, "pipeline", "deploy", "--json", **feeds.environment)
        told = json.loads(done.stdout)
        rule = "automation lookbook: event → pipeline/ticking"
        arrivals = "automation lookbook: files arrived → pipeline/added"
        assert set(told["made"]) == {"pipeline/added", "watch-files/added", arrivals, rule}
        assert (told["changed"], told["removed"]) == ([], [])
        assert (done.returncode, told["broken"]) == (1, ["pipeline/broken"])
        assert any("broken.yaml:2:1: task: no such key; did you mean tasks?" in note for note in told["notes"])
        assert server.deployment("pipeline/daily")["schedules"][0]["active"] is True, "as it was switched in the UI"
    finally:
        server.patch(place, {"active": False})
        write(feeds.folder / "ticking.yaml", ticking)
        (feeds.folder / "added.yaml").unlink()
        (feeds.folder / "broken.yaml").unlink()
    told = feeds.deploy()
    assert told["changed"] == [f"{rule}, which is gone"], "the spec says so no more"
    assert any("pipeline/added has no spec" in note for note in told["notes"])
    assert {"pipeline/added", "watch-files/added"} <= set(feeds.deploy("--prune")["removed"])
    assert not [one for one in server.post("/automations/filter") if "added" in one["name"]]


def test_files_that_arrive_are_taken_once_and_a_run_without_new_ones_is_skipped_visibly(feeds: Feeds) -> None:
    server = feeds.server
    write(feeds.folder / "in/1.csv", ROWS)

    def started() -> dict[str, Any] | None:
        look = server.finished(server.start_run("watch-files/waiting"))
        assert look["state_type"] in {"COMPLETED", "CANCELLED"}
        return next((run for run in server.runs("pipeline") if run["name"].startswith("pipeline-waiting")), None)

    run = server.finished(wait_for("the run that the file starts", started)["id"])
    assert run["state_type"] == "COMPLETED", server.logs(run["id"])
    assert feeds.rows("waiting") == 2
    (event,) = [one for one in server.events("lookbook.table.loaded") if one["payload"]["table"] == "waiting"]
    assert event["payload"]["loaded"] == 2
    assert run["id"] in str(event["related"])
    keys = {
        one["key"] for one in server.post("/artifacts/filter", {"artifacts": {"flow_run_id": {"any_": [run["id"]]}}})
    }
    assert keys == {"pipeline-waiting-report", "pipeline-waiting-tasks", "pipeline-waiting-tables"}

    second = feeds.run("waiting")
    assert (second["state_type"], second["state"]["name"]) == ("COMPLETED", "Skipped")
    assert second["state"]["message"] == "Nothing new: extract brought what is loaded already."
    assert feeds.rows("waiting") == 2


@pytest.mark.full
def test_a_tick_of_the_schedule_is_the_date_of_its_run(feeds: Feeds) -> None:
    server = feeds.server
    deployment = server.deployment("pipeline/ticking")
    place = f"/deployments/{deployment['id']}/schedules/{deployment['schedules'][0]['id']}"
    server.patch(place, {"active": True})
    try:

        def ticked() -> dict[str, Any] | None:
            runs = server.runs("pipeline", deployment_id={"any_": [deployment["id"]]})
            return next((run for run in runs if run["state_type"] == "COMPLETED"), None)

        run = wait_for("a run by the schedule", ticked)
    finally:
        server.patch(place, {"active": False})
    assert run["auto_scheduled"] is True
    tick = run["expected_start_time"][:16]
    assert run["name"] == f"pipeline-ticking-{tick}+00:00"
    (row,) = [one for one in feeds.command("pipeline", "list") if one["pipeline"] == "ticking"]
    assert row["status"] in {"completed", "skipped"}


@pytest.mark.full
def test_a_failed_run_tells_whom_the_spec_names_with_a_link_and_no_secret(feeds: Feeds) -> None:
    server = feeds.server
    code = (
        "from prefect.blocks.notifications import CustomWebhookNotificationBlock as Hook;"
        f"Hook(name='hook', url='{feeds.loopback.url}/hook', json_data={{'text': '{{{{subject}}}} {{{{body}}}}'}})"
        ".save('feeds-hook', overwrite=True)"
    )
    saved = server.python(code)
    assert saved.returncode == 0, saved.stderr
    run = feeds.run("failing")
    assert run["state_type"] == "FAILED"
    assert "gone" in run["state"]["message"]
    assert "Traceback" not in run["state"]["message"]
    (said,) = [body.decode() for body in feeds.heard]
    assert run["name"] in said
    assert run["id"] in said, "the link"


@pytest.mark.full
def test_a_backfill_runs_each_date_once_stops_at_the_first_failure_and_goes_on_from_there(feeds: Feeds) -> None:
    for day in (1, 3):
        write(feeds.folder / f"daily/2026-03-0{day}.csv", ROWS)
    asked = ("pipeline", "backfill", "daily", "--from", "2026-03-01", "--to", "2026-03-03")
    broken = lookbook(feeds.server.home, *asked, **feeds.environment)
    assert broken.returncode == 1
    assert "daily for 2026-03-02T09:00:00+01:00" in broken.stderr
    assert "1 of 3 dates are done; the same command goes on with this one" in broken.stderr
    write(feeds.folder / "daily/2026-03-02.csv", ROWS)
    done = feeds.command(*asked)
    assert [run["date"][:10] for run in done["runs"]] == ["2026-03-02", "2026-03-03"]
    assert done["done_before"] == 1
    assert feeds.rows("daily") == 6
    assert feeds.command(*asked)["runs"] == []


@pytest.mark.full
def test_a_run_whose_machine_dies_is_done_by_the_next_one_and_nothing_is_doubled(
    server_without_workers: Server,
) -> None:
    server = server_without_workers
    with deployed(server) as feeds:
        assert server.deployment("pipeline/slow")["concurrency_options"]["collision_strategy"] == "ENQUEUE"
        with server.worker(name="dying") as worker:
            lost = server.start_run("pipeline/slow")
            wait_for("the source is asked", lambda: feeds.loopback.calls["slow"] > 0)
            worker.kill()
        feeds.answering.set()
        done = feeds.command("pipeline", "run", "slow")
        assert (done["status"], feeds.rows("slow")) == ("completed", 2)
        assert feeds.command("pipeline", "run", "slow")["status"] == "completed"
        assert feeds.rows("slow") == 2, "the same date is the same batch"
        server.post(f"/flow_runs/{lost}/set_state", {"state": {"type": "CRASHED"}, "force": True})
