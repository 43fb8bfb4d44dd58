"""The snapshots that the API holds: nothing is kept of names that nothing has."""

from __future__ import annotations

import gc
import tracemalloc
from pathlib import Path

import pytest

from blocks.lake import FolderLake
from deployments.api.problems import Problem
from deployments.api.snapshots import Snapshots


def test_made_up_names_of_datasets_take_no_memory(tmp_path: Path) -> None:
    snapshots = Snapshots(FolderLake(root=tmp_path), 4, 2**30)

    def ask(first: int, last: int) -> None:
        for number in range(first, last):
            with pytest.raises(Problem):
                snapshots.current(f"made-up-{number}")

    ask(0, 100)
    tracemalloc.start()
    try:
        before, _ = tracemalloc.get_traced_memory()
        ask(100, 2100)
        gc.collect()
        after, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert after - before < 50_000
