"""The lease that keeps two runs of one dataset apart."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import psutil
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import tasks.datasets.lease
from blocks.errors import LookbookError
from blocks.registry import Registry
from blocks.workspace import Workspace
from tasks.datasets.lease import LeaseHeldError, Owner, lease, living_owners, this_process

NAME = "dataset/things"


@pytest.fixture
def books(workspace: Workspace) -> Registry:
    """A registry without leases."""
    return workspace.registry


@pytest.fixture
def other() -> Iterator[psutil.Process]:
    """Another process of this machine, alive."""
    process = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
    try:
        yield psutil.Process(process.pid)
    finally:
        process.kill()
        process.wait()


def held(registry: Registry) -> dict[str, tuple[str, datetime]]:
    """The leases, by name: owner and expiry."""

    async def work(connection: Any) -> dict[str, tuple[str, datetime]]:
        rows = await connection.fetch("SELECT name, owner, expires_at FROM lookbook.leases")
        return {row["name"]: (row["owner"], row["expires_at"]) for row in rows}

    return registry.run(work)


def give(registry: Registry, owner: Owner, seconds: float) -> None:
    """Let `owner` hold the lease; it ends in so many seconds."""

    async def work(connection: Any) -> None:
        ends = datetime.now(UTC) + timedelta(seconds=seconds)
        await connection.execute("INSERT INTO lookbook.leases VALUES ($1, $2, $3)", NAME, str(owner), ends)

    registry.run(work)


def owner_of(process: psutil.Process) -> Owner:
    return Owner(this_process().host, process.pid, process.create_time())


def wait_for(holds: Callable[[], bool], seconds: float = 20) -> None:
    deadline = time.monotonic() + seconds
    pause = threading.Event()
    while not holds():
        assert time.monotonic() < deadline, "it never came"
        pause.wait(0.01)


def test_a_lease_is_held_within_the_block_and_given_back_after_it(books: Registry) -> None:
    with lease(books, NAME):
        owner, ends = held(books)[NAME]
        assert Owner.parse(owner).pid == os.getpid()
        remaining = (ends - datetime.now(UTC)).total_seconds()
        assert tasks.datasets.lease.RENEWAL < remaining <= tasks.datasets.lease.LIFETIME
    assert held(books) == {}


def test_a_lease_is_given_back_after_an_error(books: Registry) -> None:
    with pytest.raises(ValueError, match="broken"), lease(books, NAME):
        raise ValueError("broken")
    assert held(books) == {}
    assert not [thread for thread in threading.enumerate() if thread.name.endswith("(_renew)")]


def test_leases_of_two_datasets_do_not_meet(books: Registry, other: psutil.Process) -> None:
    give(books, owner_of(other), 60)
    with lease(books, "dataset/others"):
        assert set(held(books)) == {NAME, "dataset/others"}
    assert set(held(books)) == {NAME}


def test_a_lease_of_a_living_process_is_refused_and_names_it(books: Registry, other: psutil.Process) -> None:
    give(books, owner_of(other), 60)
    before = held(books)
    with pytest.raises(LookbookError, match="another run is at work on it") as caught, lease(books, NAME):
        pytest.fail("two hold it")
    assert f"process {other.pid} on {this_process().host}" in caught.value.problem
    assert caught.value.problem.startswith(NAME)
    assert held(books) == before, "it stays the other's"


def test_a_lease_of_another_machine_is_refused_until_it_ends(books: Registry) -> None:
    give(books, Owner("elsewhere", 2**22 + 1, 0.0), 60)
    with pytest.raises(LookbookError, match="on elsewhere"), lease(books, NAME):
        pytest.fail("nobody can know that it is dead")


def test_a_lease_that_ran_out_is_taken_over(books: Registry, other: psutil.Process) -> None:
    give(books, owner_of(other), -1)
    with lease(books, NAME):
        assert Owner.parse(held(books)[NAME][0]).pid == os.getpid()


def test_a_lease_of_a_dead_process_is_taken_over_at_once(books: Registry) -> None:
    killed = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
    owner = owner_of(psutil.Process(killed.pid))
    killed.kill()
    killed.wait()
    give(books, owner, 3600)
    with lease(books, NAME):
        assert Owner.parse(held(books)[NAME][0]).pid == os.getpid()
    assert held(books) == {}


def test_a_process_id_that_is_used_again_is_another_process(books: Registry, other: psutil.Process) -> None:
    give(books, Owner(this_process().host, other.pid, other.create_time() - 1000), 3600)
    with lease(books, NAME):
        assert Owner.parse(held(books)[NAME][0]).pid == os.getpid()


def test_a_lease_is_renewed_as_long_as_it_is_held(books: Registry, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tasks.datasets.lease, "RENEWAL", 0.05)
    with lease(books, NAME):
        for _ in range(2):
            _, before = held(books)[NAME]
            wait_for(lambda before=before: held(books)[NAME][1] > before)  # type: ignore[misc]
    assert held(books) == {}


def test_renewal_survives_a_registry_that_is_out_of_reach_for_a_while(
    books: Registry, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tasks.datasets.lease, "RENEWAL", 0.05)
    failed = threading.Event()
    run = Registry.run

    def fail_once(self: Registry, work: Any) -> Any:
        if threading.current_thread() is not threading.main_thread() and not failed.is_set():
            failed.set()
            raise LookbookError("out of reach")
        return run(self, work)

    with lease(books, NAME):
        _, before = held(books)[NAME]
        monkeypatch.setattr(Registry, "run", fail_once)
        wait_for(lambda: failed.is_set() and held(books)[NAME][1] > before)


def test_a_lease_that_another_took_is_not_given_back_for_it(books: Registry, other: psutil.Process) -> None:
    async def forget(connection: Any) -> None:
        await connection.execute("DELETE FROM lookbook.leases")

    with lease(books, NAME):
        books.run(forget)
        give(books, owner_of(other), 60)
    assert held(books)[NAME][0] == str(owner_of(other))


@settings(deadline=None)
@given(
    host=st.text(st.characters(codec="utf-8", exclude_characters="\x00"), max_size=20)
    | st.sampled_from(["fe80::1", "a:1:2.00", ":", "host.example"]),
    pid=st.integers(1, 2**22),
    hundredths=st.integers(0, 10**12),
)
def test_an_owner_is_read_as_it_was_written(host: str, pid: int, hundredths: int) -> None:
    owner = Owner(host, pid, hundredths / 100)
    assert Owner.parse(str(owner)) == owner


def test_this_process_is_alive_also_as_it_was_written() -> None:
    assert not this_process().is_dead()
    assert not Owner.parse(str(this_process())).is_dead()
    assert this_process().pid == os.getpid()


def test_nobody_knows_whether_a_process_of_another_machine_is_dead() -> None:
    assert not Owner("elsewhere", 2**22 + 1, 0.0).is_dead()
    assert Owner(this_process().host, 2**22 + 1, 0.0).is_dead()


def test_two_runs_of_one_process_are_kept_apart(books: Registry) -> None:
    with lease(books, "dataset/things"):
        with pytest.raises(LookbookError, match="another run is at work"), lease(books, "dataset/things"):
            pass
        assert living_owners(books) == {"dataset/things": this_process()}
    assert living_owners(books) == {}


def test_who_has_patience_waits_and_is_told_for_whom(
    books: Registry, other: psutil.Process, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tasks.datasets.lease, "LOOK", 0.02)
    give(books, owner_of(other), 3600)
    told = []

    def end(who: str) -> None:
        told.append(who)
        other.kill()
        other.wait(20)

    with lease(books, NAME, patience=60, waiting=end):
        assert Owner.parse(held(books)[NAME][0]).pid == os.getpid()
    assert len(told) == 1
    assert f"process {other.pid}" in told[0]


def test_patience_has_an_end(books: Registry, other: psutil.Process, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tasks.datasets.lease, "LOOK", 0.01)
    give(books, owner_of(other), 3600)
    told: list[str] = []
    with pytest.raises(LeaseHeldError), lease(books, NAME, patience=0.05, waiting=told.append):
        pytest.fail("two hold it")
    assert len(told) <= 1, "once for each that is waited for"
