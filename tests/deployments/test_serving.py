"""Serving, without its servers: signals end it once, what others use is left, a worker's processes are found."""

from __future__ import annotations

import os
import signal
import subprocess
import time
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import httpx
import psutil
import pytest
from prefect.client import orchestration

from lookbook.blocks.embedded import prefect_server
from lookbook.deployments.server import deploying, processes, serving
from lookbook.deployments.server.applying import Deployed
from lookbook.deployments.server.processes import CHECK_INTERVAL, FAILED_CHECKS, MARK, ApiProcess, WorkerProcess
from lookbook.tasks.runs import lease


@pytest.fixture
def handlers() -> Iterator[None]:
    """The signal handlers of the test run, put back."""
    before = {number: signal.getsignal(number) for number in serving.ENDING_SIGNALS}
    for number in before:
        signal.signal(number, signal.SIG_DFL)  # in the background a shell has SIGINT ignored
    yield
    for number, handler in before.items():
        signal.signal(number, handler)


@pytest.mark.usefixtures("handlers")
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_the_first_signal_ends_it_and_the_others_cannot_interrupt_the_ending(number: signal.Signals) -> None:
    with pytest.raises(serving.Ended), serving._ended_by_signals():
        signal.raise_signal(number)
    signal.raise_signal(signal.SIGINT)
    signal.raise_signal(signal.SIGTERM)


@pytest.mark.usefixtures("handlers")
def test_what_is_ignored_from_the_start_stays_ignored() -> None:
    signal.signal(signal.SIGHUP, signal.SIG_IGN)
    with serving._ended_by_signals():
        signal.raise_signal(signal.SIGHUP)


def test_servers_that_a_run_of_another_command_uses_are_left(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    owner = lease.this_process()
    stopped: list[Path] = []

    def stop(home: Path) -> bool:
        stopped.append(home)
        return True

    said: list[str] = []
    monkeypatch.setattr(lease, "living_owners", lambda _, **__: {"dataset/shoes": owner})
    serving._stop_unless_used(stop, tmp_path, said.append)
    assert stopped == []
    assert str(owner.pid) in said[0]
    assert "lookbook stop" in said[0]
    monkeypatch.setattr(lease, "living_owners", lambda _, **__: {})
    serving._stop_unless_used(stop, tmp_path, said.append)
    assert stopped == [tmp_path]


def test_a_workers_processes_are_found_even_when_it_is_lost(tmp_path: Path) -> None:
    worker = WorkerProcess("lookbook", tmp_path / "home", tmp_path / "log")
    other = WorkerProcess("lookbook", tmp_path / "another", tmp_path / "log")
    child = subprocess.Popen(["sleep", "600"], env=os.environ | {MARK: worker.name})
    try:
        assert worker.family() == [psutil.Process(child.pid)]
        assert other.family() == []
    finally:
        child.kill()
        child.wait()
    assert worker.family() == []


def test_a_worker_knows_no_password_of_the_servers_database(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("PREFECT_SERVER_DATABASE_CONNECTION_URL", "PREFECT_API_DATABASE_CONNECTION_URL"):
        monkeypatch.setenv(name, "postgresql+asyncpg://me:hush@host/prefect")
    worker = WorkerProcess("lookbook", tmp_path, tmp_path / "log")
    assert "hush" not in " ".join(worker._environment.values())
    assert worker._environment["LOOKBOOK_HOME"] == str(tmp_path)


class FakeServer:
    """What `WorkerProcess` asks of a server's flow runs: pages of two, in the order of the ids."""

    def __init__(self, states: dict[str, str], worker: str) -> None:
        self.states, self.worker = states, worker

    def __enter__(self) -> FakeServer:
        return self

    def __exit__(self, *_: object) -> None:
        return None

    def request(self, _: str, path: str, json: dict[str, Any], **more: Any) -> httpx.Response:
        if path != "/flow_runs/filter":
            self.states[more["path_params"]["id"]] = json["state"]["type"]
            return httpx.Response(200)
        asked = json["flow_runs"]
        labels = {"prefect.worker.name": self.worker}
        found = [
            {"id": run, "state_type": state, "labels": {} if run == "of-another" else labels}
            for run, state in self.states.items()
            if state in asked["state"]["type"]["any_"] and run not in asked["id"]["not_any_"]
        ]
        return httpx.Response(200, json=found[:2])


def test_all_that_a_worker_had_taken_is_settled_and_what_was_cancelled_does_not_come_back(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    worker = WorkerProcess("lookbook", tmp_path / "home", tmp_path / "log")
    running = {f"run-{number}": "RUNNING" for number in range(5)}
    others = {"of-another": "RUNNING", "cancelled": "CANCELLING", "taken": "PENDING", "done": "COMPLETED"}
    server = FakeServer(others | running, worker.name)
    monkeypatch.setattr(orchestration, "get_client", lambda **_: server)
    worker.stop()
    settled = {"of-another": "RUNNING", "cancelled": "CANCELLED", "taken": "SCHEDULED", "done": "COMPLETED"}
    assert server.states == settled | dict.fromkeys(running, "CRASHED")


def test_a_worker_hangs_when_it_fails_its_checks_in_a_row(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    answers = [False] * (FAILED_CHECKS - 1) + [True] + [False] * FAILED_CHECKS
    given = iter(answers)
    clock = iter(range(0, 10_000, CHECK_INTERVAL))
    monkeypatch.setattr(processes, "time", SimpleNamespace(monotonic=lambda: next(clock)))
    worker = WorkerProcess("lookbook", tmp_path, tmp_path / "log")
    monkeypatch.setattr(worker, "is_healthy", lambda: next(given))
    assert [worker.hangs() for _ in answers] == [False] * (len(answers) - 1) + [True]


def test_a_worker_is_asked_for_its_health_no_more_often_than_due(tmp_path: Path) -> None:
    worker = WorkerProcess("lookbook", tmp_path, tmp_path / "log")  # nothing listens: each check would fail
    assert not any(worker.hangs() for _ in range(100))


class HangingWorker:
    """A worker that hangs until it is stopped; with the second one somebody ends it all."""

    label = "the worker"

    def __init__(self) -> None:
        self.calls: list[str] = []

    def exit_code(self) -> int | None:
        return None

    def hangs(self) -> bool:
        return True

    def stop(self) -> None:
        self.calls.append("stop")

    def start(self) -> None:
        self.calls.append("start")
        if self.calls.count("start") > 1:
            raise serving.Ended


def test_a_worker_that_hangs_is_stopped_and_started_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(time, "sleep", lambda _: None)
    worker, said = HangingWorker(), list[str]()
    with pytest.raises(serving.Ended):
        serving._watch([worker], tmp_path, own=False, say=said.append)
    assert worker.calls == ["stop", "start"] * 2
    assert "does not answer" in said[0]


@pytest.mark.parametrize("own", [True, False])
def test_only_the_homes_own_server_gets_what_holds_on_this_machine_alone(
    own: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    api, saved, at_once = "http://127.0.0.1:4200/api", list[Path](), list[bool]()

    def deployed(**options: bool) -> Deployed:
        at_once.append(options["at_once"])
        return Deployed()

    monkeypatch.setattr(serving, "_start_registry", lambda *_: None)
    monkeypatch.setattr(serving, "_start_server", lambda *_, **__: api)
    monkeypatch.setattr(deploying, "deploy", deployed)
    monkeypatch.setattr(prefect_server, "running", lambda _: api if own else None)
    monkeypatch.setattr(serving, "save_local_workspace", saved.append)
    monkeypatch.setattr(WorkerProcess, "start", lambda _: None)
    monkeypatch.setattr(WorkerProcess, "stop", lambda _: None)
    monkeypatch.setattr(ApiProcess, "start", lambda _: None)
    monkeypatch.setattr(ApiProcess, "stop", lambda _: None)
    monkeypatch.setenv("LOOKBOOK_HOME", "another")
    with ExitStack() as ending:
        serving._start(tmp_path, None, False, ending, lambda _: None)
    assert saved == ([tmp_path] if own else [])
    assert at_once == [own]
