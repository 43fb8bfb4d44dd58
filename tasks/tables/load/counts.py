"""The books of one write: what a database says that it took."""

from __future__ import annotations

from lookbook.blocks.errors import LookbookError
from lookbook.tasks.tables.load.job import LoadJob


def check_written(job: LoadJob, written: int, wanted: int, *, fewer: bool = False) -> None:
    """Raises LookbookError, so that the transaction is given up, where a database took another number of rows.

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
