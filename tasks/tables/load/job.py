"""What a load hands to the place where a table lives, what such a place can do, and the counts of one write."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Protocol

from lookbook.blocks.errors import LookbookError
from lookbook.blocks.sql_types import INSTANT, TEXT
from lookbook.blocks.warehouse import FEEDS_SCHEMA
from lookbook.tasks.runs.catalogue import TableState
from lookbook.tasks.tables.spec.tasks import LoadSettings

#: What every row of a pipeline's table carries: which load brought it, and when (UTC).
LOAD_ID, LOADED_AT = "_load_id", "_loaded_at"
TAG_COLUMNS = {LOAD_ID: TEXT, LOADED_AT: INSTANT}


@dataclass(frozen=True)
class LoadJob:
    """Rows that fit their table, to be written by one load.

    A load that is done twice changes nothing the second time: `load_id` names the batch, not the try.

    Attributes:
        table: its name.
        columns: of `files`, each with its type in DuckDB's words; `TAG_COLUMNS` are the last ones.
        files: Parquet files of this machine, all with exactly these columns. May be none: a replace by no rows.
        rows: in all files.
        load_id: stands in every row.
        loaded_at: stands in every row, with a zone.
        settings: disposition, keys and so on.
        schema: where the table lies; a place may put in another.
    """

    table: str
    columns: Mapping[str, str]
    files: Sequence[Path]
    rows: int
    load_id: str
    loaded_at: datetime
    settings: LoadSettings
    schema: str = FEEDS_SCHEMA


class Destination(Protocol):
    """A place with tables.

    Attributes:
        place: ``warehouse``, ``registry`` or ``lake``.
    """

    place: str

    def state(self, table: str) -> TableState | None:
        """Return the table as it stands; None where there is none."""

    def load(self, job: LoadJob) -> int | None:
        """Write the rows: all of them or none, and readers see the table before or after.

        Columns of the job that the table lacks are added to it; columns of the table that the job lacks are null.
        An append replaces the rows of its load_id, and those of replays of its rejects, whose ids are ``load_id.…``.

        Returns:
            How many rows gave way to another of the batch with the same key; None: the place does not count them.

        Raises:
            LeaseLostError: another run has taken a lease that is held here, and written.
            LookbookError: the place refuses; what stood there before still stands.
        """


def check_written(job: LoadJob, written: int, wanted: int, *, fewer: bool = False) -> None:
    """Raise LookbookError, so that the transaction is given up, where a database took another number of rows.

    Args:
        job: the load.
        written: rows that the database says it took.
        wanted: rows that it was given.
        fewer: it may be fewer, since rows of one key become one; but not none of many.
    """
    if written == wanted or (fewer and min(1, wanted) <= written <= wanted):
        return
    raise LookbookError(
        f"{job.table}: {wanted} rows were to be written, and the database took {written}.",
        "Nothing was loaded. This is a fault of Lookbook: please report it.",
    )
