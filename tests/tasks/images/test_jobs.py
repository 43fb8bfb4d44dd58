"""Batches of exports, predictions and verifications in a lake: there until they are read, and gone with their run."""

from __future__ import annotations

from pathlib import Path

import pyarrow as pa
import pytest

from lookbook.blocks.errors import LookbookError
from lookbook.blocks.lake import FolderLake
from lookbook.tasks.images import jobs
from lookbook.tasks.images.jobs import open_job

ROWS = pa.table({"number": [1, 2]})


@pytest.fixture
def lake(tmp_path: Path) -> FolderLake:
    return FolderLake(root=tmp_path)


def test_a_batch_says_what_to_do_with_its_rows_and_what_was_done(lake: FolderLake) -> None:
    with open_job(lake) as job:
        batch = job.add("counting", ROWS, {"by": "hand"})
        assert jobs.kind_of(lake, batch) == "counting"
        rows, told = jobs.read_batch(lake, batch)
        assert (rows.equals(ROWS), told["by"]) == (True, "hand")
        assert jobs.read_part(lake, batch) is None
        jobs.finish_batch(lake, batch, ROWS, {"images": 2})
        part, counts = jobs.require_part(lake, batch)
        assert (part.equals(ROWS), counts) == (True, {"images": 2})


def test_two_jobs_have_nothing_in_common(lake: FolderLake) -> None:
    with open_job(lake) as one, open_job(lake) as other:
        assert one.add("counting", ROWS, {}) != other.add("counting", ROWS, {})


@pytest.mark.parametrize("fault", [None, OSError("x"), KeyboardInterrupt()])
def test_a_job_leaves_nothing_however_its_run_ends(lake: FolderLake, fault: BaseException | None) -> None:
    def run() -> None:
        with open_job(lake) as job:
            jobs.finish_batch(lake, job.add("counting", ROWS, {}), ROWS, {})
            if fault is not None:
                raise fault

    if fault is None:
        run()
    else:
        with pytest.raises(type(fault)):
            run()
    assert list(lake.list("work")) == []


def test_a_batch_that_is_not_here_and_a_part_that_is_cut_off_are_named(lake: FolderLake) -> None:
    with pytest.raises(LookbookError, match="work/1/000000: no such batch in this worker's lake"):
        jobs.read_batch(lake, "work/1/000000")
    with open_job(lake) as job:
        batch = job.add("counting", ROWS, {})
        jobs.finish_batch(lake, batch, ROWS, {})
        key = f"{batch}/part.parquet"
        lake.replace(key, lake.get(key)[:-9])
        assert jobs.read_part(lake, batch) is None, "it is done again"
        with pytest.raises(LookbookError, match=f"{batch}: its part is missing or damaged"):
            jobs.require_part(lake, batch)
