"""Fences in BigQuery: one table in staging, raised by the script that commits; see `lookbook.blocks.fences`.

Transactions that change one table cannot run at the same time: BigQuery cancels one of them, and it is run again. So
who commits later also sees what who committed before has raised.
https://cloud.google.com/bigquery/docs/transactions#transaction_concurrency
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING

from lookbook.blocks.bigquery_errors import JobFailedError
from lookbook.blocks.bigquery_sql import literal
from lookbook.blocks.bigquery_store import REQUEST_SECONDS, Store
from lookbook.blocks.extras import needs_extra
from lookbook.blocks.fences import held_counters, raised

with needs_extra("gcp", "A warehouse in BigQuery"):
    from google.cloud.bigquery import SchemaField, Table

if TYPE_CHECKING:
    from google.cloud.bigquery import QueryJob

#: In staging: the highest counter that was seen of each lease.
FENCES = "fences"


def commit(store: Store, statements: Sequence[str], name: str | None = None) -> QueryJob:
    """Run statements as one transaction that raises the fences first.

    Args:
        store: whose tables the statements change; its dataset of staging is there.
        statements: without DDL.
        name: of the job; see `Store.execute`.

    Raises:
        LeaseLostError: another run has taken a lease that is held here, and committed; nothing was changed.
    """
    return _fenced(store, lambda raising: ["BEGIN TRANSACTION", *raising, *statements, "COMMIT TRANSACTION"], name)


def define(store: Store, statements: Sequence[str], name: str | None = None) -> None:
    """Run DDL, which no transaction takes, right behind the statement that raises the fences.

    Raises:
        LeaseLostError: as `commit`.
    """
    _fenced(store, lambda raising: [*raising, *statements], name)


def _fenced(store: Store, script: Callable[[list[str]], list[str]], name: str | None) -> QueryJob:
    held = held_counters()
    if held and store.table(store.staging, FENCES) is None:
        fields = [SchemaField("name", "STRING"), SchemaField("counter", "INT64")]
        store.create(Table(f"{store.client.project}.{store.staging}.{FENCES}", schema=fields))
    raising = [_raising(store.address(store.staging, FENCES), held)] if held else []
    try:
        return store.execute(";\n".join(script(raising)), name)
    except JobFailedError:
        if held:
            raised(_standing(store))  # tells who lost a lease that it did
        raise


def _raising(fences: str, held: Mapping[str, int]) -> str:
    """The statement that raises the fences to the counters that are held, and fails where one of them is higher."""
    given = " UNION ALL ".join(
        f"SELECT {literal(name)} AS name, {counter} AS counter" for name, counter in held.items()
    )
    refused = 'ERROR(CONCAT("another run has taken the lease ", f.name))'
    return (
        f"MERGE INTO {fences} AS f USING ({given}) AS h ON f.name = h.name"  # noqa: S608 - quoted
        f" WHEN MATCHED THEN UPDATE SET counter = IF(f.counter > h.counter, {refused}, h.counter)"
        " WHEN NOT MATCHED THEN INSERT (name, counter) VALUES (h.name, h.counter)"
    )


def _standing(store: Store) -> dict[str, int]:
    """Return the fences as they stand; listing them bills nothing."""
    table = store.table(store.staging, FENCES)
    rows = store.client.list_rows(table, retry=store.retry, timeout=REQUEST_SECONDS) if table is not None else ()
    return {row["name"]: row["counter"] for row in rows}
