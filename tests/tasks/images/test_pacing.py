"""What holds batches back: memory for originals is bounded, and an interrupt stops them without a part."""

from __future__ import annotations

import os
import signal
import threading
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lookbook.blocks.lake import FolderLake
from lookbook.tasks.images.batch import process_batch
from lookbook.tasks.images.items import Item, Locator
from lookbook.tasks.images.locators import read_bytes
from lookbook.tasks.images.pacing import IN_A_ROW, Budget, Lookahead, StoppedError, check_not_stopped, pause, stoppable
from lookbook.tasks.images.parquet import manifest_table, to_parquet
from lookbook.tasks.images.renderers import Renderers
from lookbook.tasks.runs.progress import listening
from tests.support.pipeline import SMALL, photo


def lake_with_batch(folder: Path, images: int) -> FolderLake:
    """A lake that holds the manifest of a batch ``batches/b``."""
    lake = FolderLake(root=folder / "lake")
    items = []
    for number in range(images):
        path = folder / f"{number}.jpg"
        path.write_bytes(photo(number))
        items.append(Item(path.name, path.name, Locator("file", os.fsencode(path), size=path.stat().st_size)))
    metadata = {"recipe": SMALL.model_dump_json(), "recipe_digest": "r", "dataset": "things"}
    lake.put("batches/b/manifest.parquet", to_parquet(manifest_table(items), metadata))
    return lake


@settings(max_examples=20, deadline=None)
@given(st.lists(st.integers(0, 150), min_size=1, max_size=40))
def test_never_more_is_taken_than_there_is_but_by_one_alone(sizes: list[int]) -> None:
    budget, lock = Budget(100), threading.Lock()
    held: list[int] = []
    seen: list[list[int]] = []

    def take(size: int) -> None:
        with budget.taken(size):
            with lock:
                held.append(size)
                seen.append(list(held))
            with lock:
                held.remove(size)

    threads = [threading.Thread(target=take, args=(size,)) for size in sizes]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
        assert not thread.is_alive()
    assert len(seen) == len(sizes)
    assert all(sum(now) <= 100 or sum(1 for size in now if size) == 1 for now in seen)


def test_an_interrupt_stops_a_batch_that_is_under_way_and_the_next_run_does_it(tmp_path: Path) -> None:
    lake = lake_with_batch(tmp_path, 200)
    advanced = []

    def interrupt(images: int) -> None:
        advanced.append(images)
        with pytest.raises(KeyboardInterrupt), stoppable():
            raise KeyboardInterrupt

    with listening(lambda _: None, interrupt), pytest.raises(StoppedError, match="interrupted"):
        process_batch(lake, "batches/b", 1)
    assert len(list(lake.list("originals"))) < 100, "those that waited for their turn stop as well"
    assert [info.key for info in lake.list("batches")] == ["batches/b/manifest.parquet"]
    with stoppable():
        check_not_stopped()
        assert process_batch(lake, "batches/b", 1).images == 200


def leave(error: BaseException) -> None:
    """Leave an inner block by `error`."""
    with pytest.raises(type(error)), stoppable():
        raise error


def test_a_fault_of_one_batch_stops_no_other() -> None:
    with stoppable():
        leave(OSError("broken"))
        check_not_stopped()


def test_an_interrupt_of_one_batch_stops_all_until_the_next_run() -> None:
    with stoppable():
        leave(KeyboardInterrupt())
        with stoppable(), pytest.raises(StoppedError):
            check_not_stopped()
        with pytest.raises(StoppedError):
            pause(3600)
    with stoppable():
        pause(0)


def test_a_fault_that_ends_the_run_stops_what_is_left_of_it() -> None:
    leave(OSError("broken"))
    with pytest.raises(StoppedError):
        check_not_stopped()
    with stoppable():
        check_not_stopped()


def test_a_batch_of_its_own_process_stops_when_that_is_ended(tmp_path: Path) -> None:
    lake = lake_with_batch(tmp_path, 200)
    main = threading.main_thread().ident
    assert main is not None
    first = threading.Event()

    def end(_: int) -> None:
        if not first.is_set():
            first.set()
            signal.pthread_kill(main, signal.SIGINT)

    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        with listening(lambda _: None, end), pytest.raises(KeyboardInterrupt):
            process_batch(lake, "batches/b", 1)
    finally:
        signal.signal(signal.SIGINT, before)
    assert len(list(lake.list("originals"))) < 60
    assert [info.key for info in lake.list("batches")] == ["batches/b/manifest.parquet"]


@given(st.lists(st.sampled_from(["starved", *["crowded"] * 9]), max_size=60))
def test_how_many_are_ahead_stays_within_its_bounds_and_follows_what_is_said(said: list[str]) -> None:
    ahead, expected, in_a_row = Lookahead(3, 10), 3, 0
    for word in said:
        getattr(ahead, word)()
        in_a_row = 0 if word == "starved" else in_a_row + 1
        if word == "starved":
            expected = min(10, expected + 1)
        elif in_a_row % IN_A_ROW == 0:
            expected = max(3, expected - 1)
        assert ahead.allowed == expected


def test_one_who_waits_goes_on_when_one_more_is_allowed_or_one_is_done() -> None:
    ahead = Lookahead(1, 2)
    entered = [threading.Event() for _ in range(3)]
    leave = threading.Event()

    def enter(number: int) -> None:
        with ahead.place():
            entered[number].set()
            leave.wait(30)

    threads = [threading.Thread(target=enter, args=(number,)) for number in range(3)]
    threads[0].start()
    assert entered[0].wait(30)
    threads[1].start()
    assert not entered[1].wait(0.05)
    ahead.starved()
    assert entered[1].wait(30)
    threads[2].start()
    assert not entered[2].wait(0.05)
    leave.set()
    assert entered[2].wait(30)
    for thread in threads:
        thread.join(30)


def test_a_store_that_answers_late_makes_more_images_go_ahead(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    lake = lake_with_batch(tmp_path, 60)
    late = threading.Event()

    def read_late(locator: Locator) -> bytes:
        late.wait(0.05)
        return read_bytes(locator)

    pool = Renderers(1)
    monkeypatch.setattr("lookbook.tasks.images.batch.shared", lambda _: pool)
    monkeypatch.setattr("lookbook.tasks.images.batch.read_bytes", read_late)
    process_batch(lake, "batches/b", 1)
    pool.close()
    assert pool.ahead.allowed > 8
