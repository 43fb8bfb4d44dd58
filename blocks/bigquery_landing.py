"""Parquet files loaded into a table of staging that is gone after a day, whatever becomes of who made it."""

from __future__ import annotations

import uuid
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from lookbook.blocks.bigquery_staging import LEFTOVERS_STAND
from lookbook.blocks.bigquery_store import REQUEST_SECONDS, Store, columns_of
from lookbook.blocks.errors import LookbookError
from lookbook.blocks.extras import needs_extra

with needs_extra("gcp", "A warehouse in BigQuery"):
    from google.cloud.bigquery import LoadJob, LoadJobConfig

#: How often an upload of a file is tried again: some 30 seconds.
_UPLOAD_RETRIES = 5


@dataclass(frozen=True)
class LandedRows:
    """A table of staging with rows of files: its name, its columns as BigQuery calls their types, how many rows."""

    name: str
    columns: dict[str, str]
    rows: int


@contextmanager
def landed_files(store: Store, files: Sequence[Path]) -> Iterator[LandedRows]:
    """Load Parquet files of this machine, one at least, into one table; it is dropped at the end. Bills nothing.

    Raises:
        LookbookError: somebody else dropped the table.
    """
    mark = uuid.uuid4().hex
    name = f"feed_{mark}"
    try:
        rows = sum(_load(store, path, name, f"lookbook-{mark}-{number}") for number, path in enumerate(files))
        table = store.table(store.staging, name)
        if table is None:
            raise LookbookError(f"BigQuery: the table {store.staging}.{name} is gone as soon as it is made.")
        table.expires = datetime.now(UTC) + LEFTOVERS_STAND
        store.client.update_table(table, ["expires"], retry=store.retry, timeout=REQUEST_SECONDS)
        yield LandedRows(name, columns_of(table.schema), rows)
    finally:
        store.drop(store.staging, name)


def _load(store: Store, path: Path, name: str, job_name: str) -> int:
    """Add the rows of one file to the table; their number."""
    config = LoadJobConfig(source_format="PARQUET", write_disposition="WRITE_APPEND", labels=dict(store.labels))
    config.column_name_character_map = "V2"
    config.decimal_target_types = ["NUMERIC", "BIGNUMERIC"]  # by default, what no NUMERIC holds fails the job

    def begin(job_id: str) -> LoadJob:
        with path.open("rb") as file:
            return store.client.load_table_from_file(
                file,
                f"{store.client.project}.{store.staging}.{name}",
                size=path.stat().st_size,
                num_retries=_UPLOAD_RETRIES,
                job_id=job_id,
                location=store.location,
                job_config=config,
                timeout=REQUEST_SECONDS,
            )

    return int(store.once(job_name, begin).output_rows or 0)
