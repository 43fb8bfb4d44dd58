"""The lease that keeps two runs of one dataset apart."""

from __future__ import annotations

import math
import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from types import SimpleNamespace
from typing import Any

import psutil
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from prefect.exceptions import TerminationSignal

import lookbook.tasks.runs.lease
from lookbook.blocks.errors import LeaseLostError, LookbookError
from lookbook.blocks.registry import Registry, held_counters, unfenced
from lookbook.blocks.workspace import Workspace
from lookbook.tasks.runs.lease import LeaseHeldError, Owner, confirm, lease, living_owners, this_process
from tests.support.leases import overtake

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
    """The leases that are not given back, by name: owner and expiry."""

    async def work(connection: Any) -> dict[str, tuple[str, datetime]]:
        rows = await connection.fetch("SELECT name, owner, expires_at FROM lookbook.leases WHERE owner <> ''")
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
        assert lookbook.tasks.runs.lease.RENEWAL < remaining <= lookbook.tasks.runs.lease.LIFETIME
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
    monkeypatch.setattr(lookbook.tasks.runs.lease, "RENEWAL", 0.05)
    with lease(books, NAME):
        for _ in range(2):
            _, before = held(books)[NAME]
            wait_for(lambda before=before: held(books)[NAME][1] > before)  # type: ignore[misc]
    assert held(books) == {}


def test_renewal_survives_a_registry_that_is_out_of_reach_for_a_while(
    books: Registry, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lookbook.tasks.runs.lease, "RENEWAL", 0.05)
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

    with lease(books, NAME), unfenced():
        books.run(forget)
        give(books, owner_of(other), 60)
    assert held(books)[NAME][0] == str(owner_of(other))


def lose(registry: Registry, new: Owner | None) -> None:
    """Let the lease go to another run, or to nobody: one took it and gave it back."""

    async def work(connection: Any) -> None:
        await connection.execute("DELETE FROM lookbook.leases")

    with unfenced():
        registry.run(work)
        if new is not None:
            give(registry, new, 60)


def take_over(registry: Registry, new: Owner) -> None:
    """Let the lease be another run's."""

    async def work(connection: Any) -> None:
        await connection.execute("UPDATE lookbook.leases SET owner = $2 WHERE name = $1", NAME, str(new))

    with unfenced():
        registry.run(work)


@pytest.mark.parametrize("given_back", [False, True])
def test_who_lost_its_lease_writes_nothing_more_and_takes_it_from_nobody(
    books: Registry, other: psutil.Process, monkeypatch: pytest.MonkeyPatch, given_back: bool
) -> None:
    monkeypatch.setattr(lookbook.tasks.runs.lease, "RENEWAL", 0.01)
    renewed = threading.Event()
    run = Registry.run

    def told(self: Registry, work: Any) -> Any:
        try:
            return run(self, work)
        finally:
            if threading.current_thread() is not threading.main_thread():
                renewed.set()

    async def write(connection: Any) -> None:
        await connection.execute("INSERT INTO lookbook.watches VALUES ('written')")

    monkeypatch.setattr(Registry, "run", told)
    with lease(books, NAME):
        lose(books, None if given_back else owner_of(other))
        renewed.clear()
        assert renewed.wait(60)
        with pytest.raises(LeaseLostError, match=f"^{NAME}: this run stood still"):
            books.run(write)
    left = {name: owner for name, (owner, _) in held(books).items()}
    assert left == ({} if given_back else {NAME: str(owner_of(other))})


def test_a_lease_that_ran_out_and_that_nobody_took_is_still_held(books: Registry) -> None:
    async def expire(connection: Any) -> None:
        await connection.execute("UPDATE lookbook.leases SET expires_at = now() - interval '1 hour'")

    with lease(books, NAME):
        books.run(expire)
        confirm(books)
    assert held(books) == {}


def counter(registry: Registry) -> int:
    """The counter of this run once it holds the lease."""
    with lease(registry, NAME):
        return held_counters()[NAME]


def test_each_owner_has_a_higher_counter_than_those_before_it(books: Registry) -> None:
    first, counters = counter(books), list[int]()
    with lease(books, NAME):
        taken = held_counters()[NAME]
        overtake(books, lambda: counters.append(counter(books)))
    assert first < taken < counters[0] < counter(books)


def test_counters_grow_also_where_the_clock_was_set_back_or_the_registry_is_made_anew(books: Registry) -> None:
    async def set_back(connection: Any) -> None:
        await connection.execute("UPDATE lookbook.leases SET counter = counter + 1000000000")

    async def lose_all(connection: Any) -> None:
        await connection.execute("DELETE FROM lookbook.leases")

    first = counter(books)
    books.run(set_back)
    assert counter(books) == first + 1_000_000_001
    books.run(lose_all)
    assert counter(books) > first


def test_a_lease_that_was_given_back_is_free_whatever_the_clock_says(books: Registry) -> None:
    async def ends(connection: Any) -> datetime:
        found: datetime = await connection.fetchval("SELECT expires_at FROM lookbook.leases")
        return found

    with lease(books, NAME):
        pass
    assert books.run(ends) == datetime.fromtimestamp(0, UTC)


def test_a_lease_within_one_that_was_lost_is_given_back(books: Registry, other: psutil.Process) -> None:
    with lease(books, NAME), lease(books, "inner"):
        take_over(books, owner_of(other))
        with pytest.raises(LeaseLostError):
            confirm(books)
    assert set(held(books)) == {NAME}


def test_nobody_takes_a_lease_before_the_transaction_of_its_owner_has_ended(
    books: Registry, other: psutil.Process
) -> None:
    order: list[str] = []

    async def take(connection: Any) -> None:
        await connection.execute("UPDATE lookbook.leases SET owner = $1", str(owner_of(other)))
        order.append("taken")

    async def slow(connection: Any) -> None:
        thread.start()
        waits = "wait_event_type = 'Lock' AND query LIKE 'UPDATE lookbook.leases%'"
        looking = f"SELECT count(*) FROM pg_stat_activity WHERE {waits}"
        while thread.is_alive() and not await connection.fetchval(looking):
            await connection.execute("SELECT pg_stat_clear_snapshot()")
        order.append("committed")

    thread = threading.Thread(target=books.run, args=(take,))
    with lease(books, NAME):
        books.run(slow)
        thread.join()
    assert order == ["committed", "taken"]


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
    monkeypatch.setattr(lookbook.tasks.runs.lease, "LOOK", 0.02)
    give(books, owner_of(other), 3600)
    told = []

    def end(who: str) -> None:
        told.append(who)
        other.kill()
        other.wait(20)

    with lease(books, NAME, max_wait=60, waiting=end):
        assert Owner.parse(held(books)[NAME][0]).pid == os.getpid()
    assert len(told) == 1
    assert f"process {other.pid}" in told[0]


def test_the_first_looks_follow_each_other_sooner(
    books: Registry, other: psutil.Process, monkeypatch: pytest.MonkeyPatch
) -> None:
    pauses: list[float] = []

    def sleep(pause: float) -> None:
        pauses.append(pause)
        if len(pauses) == 7:
            other.kill()
            other.wait(20)

    monkeypatch.setattr(lookbook.tasks.runs.lease, "time", SimpleNamespace(monotonic=lambda: 0.0, sleep=sleep))
    give(books, owner_of(other), 3600)
    with lease(books, NAME, max_wait=60):
        assert pauses == [0.1, 0.2, 0.4, 0.8, 1.6, 3.0, 3.0]


def test_patience_has_an_end(books: Registry, other: psutil.Process, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lookbook.tasks.runs.lease, "LOOK", 0.01)
    give(books, owner_of(other), 3600)
    told: list[str] = []
    with pytest.raises(LeaseHeldError), lease(books, NAME, max_wait=0.05, waiting=told.append):
        pytest.fail("two hold it")
    assert len(told) <= 1, "once for each that is waited for"


class Faulty:
    """`Registry.run` where some calls fail, and a clock that each pause lets go on."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, fails: Callable[[float], bool], pause: float) -> None:
        self.now, self.pause, self.fails, self.run = 1000.0, pause, fails, Registry.run
        self.ends: Callable[[float], object] = lambda _: None
        faulty = self

        def run(registry: Registry, work: Any) -> Any:
            if faulty.fails(faulty.now - 1000.0) and threading.current_thread() is threading.main_thread():
                raise LookbookError("The registry cannot be reached.")
            return faulty.run(registry, work)

        clock = SimpleNamespace(monotonic=lambda: faulty.now, sleep=faulty.sleep)
        monkeypatch.setattr(lookbook.tasks.runs.lease, "time", clock)
        monkeypatch.setattr(Registry, "run", run)

    def sleep(self, _: float) -> None:
        self.now += self.pause
        self.ends(self.now - 1000.0)


def test_who_waits_without_end_outwaits_a_holder_that_lives_for_hours(
    books: Registry, other: psutil.Process, monkeypatch: pytest.MonkeyPatch
) -> None:
    give(books, owner_of(other), 3600)
    faulty = Faulty(monkeypatch, lambda _: False, pause=3600)

    def end(seconds: float) -> None:
        if seconds >= 20 * 3600:
            other.kill()
            other.wait(20)

    faulty.ends = end
    with lease(books, NAME, max_wait=math.inf):
        assert faulty.now >= 20 * 3600


def test_who_waits_also_waits_for_a_registry_that_is_out_of_reach_for_some_minutes(
    books: Registry, other: psutil.Process, monkeypatch: pytest.MonkeyPatch
) -> None:
    give(books, owner_of(other), 3600)
    faulty = Faulty(monkeypatch, lambda seconds: 60 <= seconds % 600 < 300, pause=60)

    def end(seconds: float) -> None:
        if seconds >= 1500:
            other.kill()
            other.wait(20)

    faulty.ends = end
    told: list[str] = []
    with lease(books, NAME, max_wait=math.inf, waiting=told.append):
        assert Owner.parse(held(books)[NAME][0]).pid == os.getpid()
    assert [line.startswith("The registry") for line in told] == [number % 2 == 1 for number in range(len(told))]
    assert len(told) >= 4


@pytest.mark.parametrize("first", [0, 60])
def test_a_registry_that_stays_out_of_reach_is_told_at_the_first_look_or_after_some_minutes(
    books: Registry, other: psutil.Process, monkeypatch: pytest.MonkeyPatch, first: float
) -> None:
    give(books, owner_of(other), 3600)
    faulty = Faulty(monkeypatch, lambda seconds: seconds >= first, pause=60)
    with pytest.raises(LookbookError, match="cannot be reached"), lease(books, NAME, max_wait=math.inf):
        pytest.fail("nobody knows who holds it")
    assert faulty.now - 1000.0 == (300 if first else 0)


def test_who_waits_without_end_can_be_stopped(
    books: Registry, other: psutil.Process, monkeypatch: pytest.MonkeyPatch
) -> None:
    give(books, owner_of(other), 3600)

    def stop(_: float) -> None:
        raise TerminationSignal(signal=15)

    Faulty(monkeypatch, lambda _: False, pause=3).ends = stop
    with pytest.raises(TerminationSignal), lease(books, NAME, max_wait=math.inf):
        pytest.fail("two hold it")
    assert held(books)[NAME][0] == str(owner_of(other))
