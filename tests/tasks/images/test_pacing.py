"""What holds batches back: memory for originals is bounded, and an interrupt stops them without a part."""

from __future__ import annotations

import os
import threading
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from blocks.lake import FolderLake
from tasks.images.batch import process_batch
from tasks.images.items import Item, Locator
from tasks.images.pacing import Budget, StoppedError, check_not_stopped, stoppable
from tasks.images.parquet import manifest_table, to_parquet
from tasks.images.progress import listening
from tests.support.pipeline import SMALL, photo


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
    lake = FolderLake(root=tmp_path / "lake")
    items = []
    for number in range(200):
        path = tmp_path / f"{number}.jpg"
        path.write_bytes(photo(number))
        items.append(Item(path.name, path.name, Locator("file", os.fsencode(path), size=path.stat().st_size)))
    metadata = {"recipe": SMALL.model_dump_json(), "recipe_digest": "r", "dataset": "things"}
    lake.put("batches/b/manifest.parquet", to_parquet(manifest_table(items), metadata))
    advanced = []

    def interrupt(images: int) -> None:
        advanced.append(images)
        with pytest.raises(KeyboardInterrupt), stoppable():
            raise KeyboardInterrupt

    with listening(lambda _: None, interrupt), pytest.raises(StoppedError, match="interrupted"):
        process_batch(lake, "batches/b", 1)
    assert len(list(lake.list("originals"))) < 12, "those that waited for their turn stop as well"
    assert [info.key for info in lake.list("batches")] == ["batches/b/manifest.parquet"]
    with stoppable():
        check_not_stopped()
        assert process_batch(lake, "batches/b", 1).images == 200
