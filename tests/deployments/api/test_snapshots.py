"""The snapshots that the API holds: nothing is kept of names that nothing has."""

from __future__ import annotations

import gc
import tracemalloc
from pathlib import Path

import pytest

from lookbook.blocks.lake import FolderLake
from lookbook.deployments.api import snapshots as module
from lookbook.deployments.api.problems import Problem
from lookbook.deployments.api.snapshots import Snapshots


def test_made_up_names_of_datasets_take_no_memory(tmp_path: Path) -> None:
    snapshots = Snapshots(FolderLake(root=tmp_path), 4, 2**30)

    def ask(first: int, last: int) -> None:
        for number in range(first, last):
            with pytest.raises(Problem):
                snapshots.current(f"made-up-{number}")

    def held() -> int:
        gc.collect()
        # Of this module alone: other threads of the process take memory, too.
        taken = tracemalloc.take_snapshot().filter_traces([tracemalloc.Filter(True, module.__file__)])
        return sum(each.size for each in taken.statistics("filename"))

    tracemalloc.start()
    try:
        ask(0, 100)
        before = held()
        ask(100, 2100)
        after = held()
    finally:
        tracemalloc.stop()
    assert after - before < 50_000
