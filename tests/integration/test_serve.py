"""`lookbook serve` as a user starts it: all is up, one Ctrl-C later nothing is left."""

from __future__ import annotations

import json
import os
import signal
import socket
import sqlite3
import subprocess
from collections.abc import Iterator
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import psutil
import pytest

from lookbook.blocks.embedded import postgres, prefect_server
from lookbook.deployments.server.deploying import deployment_names, job_template
from tests.support import debian_postgres
from tests.support.command import COMMAND, environment, lookbook
from tests.support.homes import remove_home
from tests.support.prefect_processes import Server, wait_for

pytestmark = [pytest.mark.integration, pytest.mark.full]


@dataclass
class Serving:
    """A `lookbook serve` that is up.

    Attributes:
        process: of the command.
        told: what it said about itself with --json.
        server: the Prefect server that it uses.
    """

    process: subprocess.Popen[str]
    told: dict[str, str]
    server: Server

    def worker(self) -> psutil.Process:
        """Its worker."""
        children = psutil.Process(self.process.pid).children()
        return next(child for child in children if "worker" in child.cmdline())

    def end(self, number: signal.Signals = signal.SIGINT) -> str:
        """Send a signal, wait for its end, which has to be a good one; returns what it said."""
        self.process.send_signal(number)
        _, said = self.process.communicate(timeout=120)
        assert self.process.returncode == 0, said
        return said


def processes_of(home: Path) -> list[str]:
    """All that runs for a home, by whatever way it was started."""
    own = (str(home), str(postgres.data_folder(home)))
    found = []
    for process in psutil.process_iter():
        try:
            if process.status() == psutil.STATUS_ZOMBIE or process.pid == os.getpid():
                continue
            lines = " ".join(process.cmdline())
            variables = process.environ()
            ours = {variables.get("LOOKBOOK_HOME"), variables.get("PREFECT_HOME")} & {str(home), str(home / "prefect")}
            if ours or any(place in lines for place in own):
                found.append(f"{process.pid} {lines[:200]}")
        except (psutil.Error, OSError):
            continue
    return found


@contextmanager
def started(home: Path, *options: str, **more: str) -> Iterator[subprocess.Popen[str]]:
    """Start it; whatever a test leaves of it is ended."""
    process = subprocess.Popen(
        [*COMMAND, "serve", "--json", *options],
        env=environment(home, **more),
        cwd=home.parent,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    try:
        yield process
    finally:
        if process.poll() is None:
            process.terminate()
            process.communicate(timeout=120)


@contextmanager
def serving(home: Path, *options: str, **more: str) -> Iterator[Serving]:
    """Start it and wait until it says that it is up."""
    with started(home, *options, **more) as process:
        assert process.stdout is not None
        text = ""
        while not text.endswith("}\n") and (line := process.stdout.readline()):
            text += line
        if not text:
            raise AssertionError(process.communicate()[1])
        told = json.loads(text)
        yield Serving(process, told, Server(home, told["api"]))


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A home that is not there yet for the first test; the others find its databases, and start in half of the time."""
    folder = tmp_path_factory.mktemp("serve") / "home"
    yield folder
    remove_home(folder)


@pytest.fixture
def own_home(tmp_path: Path) -> Iterator[Path]:
    """A home that is not there yet."""
    yield tmp_path / "home"
    remove_home(tmp_path / "home")


def online_workers(server: Server) -> list[str]:
    """The workers that the server hears of."""
    workers = server.post("/work_pools/lookbook/workers/filter")
    return [worker["name"] for worker in workers if worker["status"] == "ONLINE"]


def listeners(process: psutil.Process) -> set[str]:
    """The addresses on which a process listens."""
    return {c.laddr.ip for c in process.net_connections("inet") if c.status == psutil.CONN_LISTEN}


def test_all_is_up_a_dead_worker_is_replaced_and_ctrl_c_leaves_nothing_and_no_run_in_the_air(home: Path) -> None:
    with serving(home) as up:
        server = up.server
        assert_all_is_up(up, home)
        first = up.worker()
        first.kill()
        other = wait_for("another worker", lambda: next_worker(up, first.pid))
        wait_for("it listens", lambda: listeners(other))

        run = server.start_run("ingest/local", source="sample://2000", dataset="cut-short")
        wait_for("the run runs", lambda: server.run(run)["state_type"] == "RUNNING")
        said = up.end()
    assert "ended with code -9; another one starts" in said
    assert processes_of(home) == []
    assert prefect_server.running(home) is None
    assert postgres.running(home) is None
    assert_run_ended(home, run)


def assert_all_is_up(up: Serving, home: Path) -> None:
    server = up.server
    assert httpx.get(up.told["ui"], timeout=30).is_success
    for name in deployment_names():
        assert server.deployment(name)["paused"] is False
    assert Path(up.told["inbox"]).is_dir()
    ready = httpx.get(f"{up.told['service']}/ready", timeout=30)
    assert ready.json()["parts"] == {"lake": True, "registry": True, "prefect": True}
    assert httpx.get(f"{up.told['service']}/api/v1/datasets", timeout=30).json() == {"items": []}
    assert_local_workspace_saved(server, home)
    assert server.get("/work_pools/lookbook")["base_job_template"] == job_template("process", at_once=True)
    assert len(online_workers(server)) == 1
    for process in psutil.Process(up.process.pid).children():
        assert listeners(process) == {"127.0.0.1"}
    second = lookbook(home, "serve")
    assert second.returncode == 1
    assert f"lookbook serve runs already for {home}, at {up.told['ui']}" in second.stderr


def next_worker(up: Serving, before: int) -> psutil.Process | None:
    with suppress(StopIteration, psutil.Error):  # the dead one is still listed, or none is there yet
        worker = up.worker()
        if worker.pid != before:
            return worker
    return None


def assert_local_workspace_saved(server: Server, home: Path) -> None:
    block: dict[str, Any] = server.get("/block_types/slug/lookbook-workspace/block_documents/name/local")
    assert block["data"]["scratch"] == str(home / "scratch")
    assert block["data"]["lake"]["root"] == str(home / "lake")


def assert_run_ended(home: Path, run: str) -> None:
    """A run that was cut short says so: none is left Running, where it would hold a place under the limit."""
    with closing(sqlite3.connect(home / "prefect" / "prefect.db")) as database:
        (state,) = database.execute("SELECT state_type, state_name FROM flow_run WHERE id = ?", [run]).fetchall()
    # The automation that gives a crashed ingest back may still get to it before the server ends.
    assert state in {("CRASHED", "Crashed"), ("SCHEDULED", "AwaitingRetry")}


def taken_run(server: Server, worker: str, state: str) -> str:
    """A run that a worker had taken, and that nobody runs."""
    run = server.start_run("process-batch/docker", workspace="local", batch="none")
    server.patch(f"/flow_runs/{run}/labels", {"prefect.worker.name": worker})
    server.post(f"/flow_runs/{run}/set_state", {"state": {"type": state}, "force": True})
    return run


@pytest.fixture
def before(home: Path) -> Iterator[str]:
    """The URL of a server of the home that ran before."""
    home.mkdir(exist_ok=True)
    yield prefect_server.start(home)
    prefect_server.stop(home)


def test_a_server_that_ran_before_is_used_and_left_running_with_no_run_left_in_the_air(home: Path, before: str) -> None:
    with serving(home) as up:
        assert up.told["api"] == before
        worker = online_workers(up.server)[0]
        begun, taken = taken_run(up.server, worker, "RUNNING"), taken_run(up.server, worker, "PENDING")
        cancelling, elsewhere = taken_run(up.server, worker, "CANCELLING"), taken_run(up.server, "another", "RUNNING")
        up.end(signal.SIGTERM)
    assert prefect_server.running(home) == before
    states = [Server(home, before).run(run)["state_type"] for run in (begun, taken, cancelling, elsewhere)]
    assert states == ["CRASHED", "SCHEDULED", "CANCELLED", "RUNNING"]
    assert len(processes_of(home)) == 1
    refused = lookbook(home, "serve", "--port", str(prefect_server.free_port()))
    assert refused.returncode == 2
    assert f"the server at {before} is used" in refused.stderr


def test_its_server_can_live_on_a_postgresql_by_url(own_home: Path) -> None:
    if debian_postgres.programs() is None:
        pytest.skip("no PostgreSQL in /usr/lib/postgresql: apt-get install postgresql")
    port = prefect_server.free_port()
    with debian_postgres.cluster("prefect") as address:
        url = f"postgresql+asyncpg://{address}/prefect"
        with serving(own_home, "--port", str(port), PREFECT_SERVER_DATABASE_CONNECTION_URL=url) as up:
            assert up.told["api"] == f"http://127.0.0.1:{port}/api"
            assert len(online_workers(up.server)) == 1
            assert up.server.deployment("ingest/local")["enforce_parameter_schema"] is True
            # Flows have no business with the server's database.
            assert "PREFECT_SERVER_DATABASE_CONNECTION_URL" not in up.worker().environ()
            up.end()
        assert not list(own_home.rglob("prefect.db"))
    assert processes_of(own_home) == []


def test_ctrl_c_while_it_starts_leaves_nothing_either(home: Path) -> None:
    with started(home) as process:
        wait_for("its server starts", (home / "prefect" / "server.json").exists)
        process.send_signal(signal.SIGINT)
        _, said = process.communicate(timeout=120)
    assert process.returncode == 0, said
    assert "Traceback" not in said
    assert processes_of(home) == []


def test_a_port_that_is_taken_is_a_wrong_option(home: Path) -> None:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen()
        port = listener.getsockname()[1]
        done = lookbook(home, "serve", "--port", str(port))
    assert done.returncode == 2
    assert f"--port {port}: another program listens there." in done.stderr
    assert processes_of(home) == []
