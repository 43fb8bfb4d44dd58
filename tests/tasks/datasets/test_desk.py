"""The desk: tables beyond memory, and answers that are put side by side."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lookbook.blocks.errors import LookbookError
from lookbook.tasks.datasets.desk import Desk, side_by_side

SIZES = st.lists(st.integers(1, 7), max_size=6)


def cut(count: int, sizes: list[int]) -> list[pa.Table]:
    """The numbers below `count`, in tables of these sizes, and what is left in one."""
    tables, start = [], 0
    for size in [*sizes, count]:
        stop = min(count, start + size)
        if stop > start:
            tables.append(pa.table({"n": list(range(start, stop))}))
        start = stop
    return tables


@settings(deadline=None)
@given(st.integers(0, 20), SIZES, SIZES)
def test_answers_side_by_side_keep_their_rows_together_however_they_are_cut(
    count: int, first: list[int], second: list[int]
) -> None:
    pairs = list(side_by_side(cut(count, first), cut(count, second)))
    assert [table.equals(other) for table, other in pairs] == [True] * len(pairs)
    assert sum(len(table) for table, _ in pairs) == count


def test_what_does_not_fit_into_memory_is_sorted_all_the_same_and_saved(tmp_path: Path) -> None:
    desk = Desk(tmp_path)
    desk.run("SET memory_limit = '120MB'")
    desk.run("CREATE TABLE big AS SELECT hash(n) AS key, repeat('x', 200) AS text FROM range(800_000) t(n)")
    schema = pa.schema([("key", pa.uint64()), ("text", pa.string())])
    saved = desk.save("sorted", schema, desk.stream("FROM big ORDER BY key"))
    keys = pq.read_table(saved, columns=["key"]).column("key").to_pylist()
    assert (len(keys), keys) == (800_000, sorted(keys))


def test_what_can_neither_be_sorted_in_memory_nor_on_disk_gets_more_memory(tmp_path: Path) -> None:
    desk = Desk(tmp_path)
    desk.run("SET memory_limit = '20MB'")
    desk.run("SET max_temp_directory_size = '0MB'")
    desk.run("CREATE TABLE big AS SELECT hash(n) AS key, repeat('x', 200) AS text FROM range(300_000) t(n)")
    assert desk.value("SELECT count(*) FROM big") == 300_000


def test_a_desk_leaves_nothing_behind(tmp_path: Path) -> None:
    desk = Desk(tmp_path)
    desk.save("empty", pa.schema([("n", pa.int64())]), [])
    assert list(desk.folder.iterdir())
    del desk
    assert list(tmp_path.iterdir()) == []


def test_a_full_disk_is_said_so(tmp_path: Path) -> None:
    if os.geteuid() != 0:
        pytest.skip("mounting a small file system needs root")
    small = tmp_path / "small"
    small.mkdir()
    if subprocess.run(["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", str(small)], check=False).returncode:
        pytest.skip("this machine lets nobody mount a tmpfs")
    try:
        desk, schema = Desk(small), pa.schema([("n", pa.int64())])
        with pytest.raises(LookbookError, match=f"do not fit into .*{small}"):
            desk.save("big", schema, desk.stream("SELECT (hash(n) >> 1)::BIGINT AS n FROM range(1_000_000) t(n)"))
        del desk
    finally:
        subprocess.run(["umount", "-l", str(small)], check=True)
