"""Tables in the lake: Parquet files in folders by partition, with one object that says which of them are the table."""

from __future__ import annotations

import tempfile
from pathlib import Path

from lookbook.blocks.errors import LookbookError, SwapConflictError
from lookbook.blocks.lake import Lake
from lookbook.tasks.runs.catalogue import TableState
from lookbook.tasks.tables.lake_changes import plan_change
from lookbook.tasks.tables.lake_commit import commit_change
from lookbook.tasks.tables.lake_manifest import CurrentSnapshot, read_current, read_table, table_folder
from lookbook.tasks.tables.load.job import LoadJob

#: So often a load begins anew because another one of the same table was quicker.
TRIES = 20


class LakeTables:
    """The place ``lake`` of loads; see `lookbook.tasks.tables.load.job.Destination`.

    Args:
        lake: where the tables lie, under ``tables/``.
        scratch: a folder of this machine, for new files before they are sent and for copies out of a bucket.
    """

    place = "lake"

    def __init__(self, lake: Lake, scratch: Path) -> None:
        self._lake, self._scratch = lake, scratch

    def state(self, table: str) -> TableState | None:
        """See `Destination.state`."""
        found = read_current(self._lake, table)
        if found is None:
            return None
        manifest = found.manifest
        return TableState(manifest.columns, manifest.rows, manifest.size, manifest.partitions())

    def read_table(self, table: str) -> list[str]:
        """Return the keys of the files that are the table now.

        Raises:
            LookbookError: there is no such table.
        """
        return read_table(self._lake, table)

    def load(self, job: LoadJob) -> int:
        """See `Destination.load`.

        Append puts files beside those that are there, in place of those of the same load; replace puts files in place
        of all; merge writes those files anew that hold a key of the job. Readers see all of it once CURRENT is swapped.

        Returns:
            How many rows gave way to another of the job with the same key.

        Raises:
            LookbookError: the job does not fit the table, or other loads of it were quicker many times in a row.
        """
        table_folder(job.table)
        for _ in range(TRIES):
            current = read_current(self._lake, job.table)
            try:
                return self._try(job, current)
            except SwapConflictError:
                continue  # what stands there now may hold other keys: the files are made anew
        raise LookbookError(
            f"lake.{job.table}: other loads changed it {TRIES} times while this one wrote its files.",
            "Run again when they have ended, or load the table from one pipeline only.",
        )

    def _try(self, job: LoadJob, current: CurrentSnapshot | None) -> int:
        before = current.manifest if current else None
        self._scratch.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=self._scratch, prefix="table-") as folder:
            change = plan_change(
                job, before, lambda file: self._lake.local_copy(file.key, Path(folder, "copies")), Path(folder)
            )
            if change.added or not change.leaves(before):
                commit_change(self._lake, job, current, change)
            return change.superseded
