"""Serving, without its servers: signals end it once, what others use is left, a worker's processes are found."""

from __future__ import annotations

import os
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from deployments import serving
from deployments.worker_process import MARK, WorkerProcess
from tasks.datasets import lease


@pytest.fixture
def handlers() -> Iterator[None]:
    """The signal handlers of the test run, put back."""
    before = {number: signal.getsignal(number) for number in serving.ENDING_SIGNALS}
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
    monkeypatch.setattr(lease, "living_owners", lambda _: {"dataset/shoes": owner})
    serving._stop_unless_used(stop, tmp_path, said.append)
    assert stopped == []
    assert str(owner.pid) in said[0]
    assert "lookbook stop" in said[0]
    monkeypatch.setattr(lease, "living_owners", lambda _: {})
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
