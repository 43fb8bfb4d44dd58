"""The warehouses that one contract holds for, each with a way to change it behind its back."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import duckdb

from lookbook.blocks.bigquery.warehouse import BigQueryWarehouse
from lookbook.blocks.duckdb.warehouse import DuckDBWarehouse
from lookbook.blocks.warehouse import Warehouse
from tests.support.bigquery_catalog import Catalog
from tests.support.bigquery_server import BigQueryServer
from tests.support.gcp_credentials import AnonymousGcpCredentials

PROJECT = "test-project"


@dataclass
class Rig:
    """A warehouse under test.

    Attributes:
        change: runs a statement behind its back.
        copy: opens another warehouse with the same content, in a folder if it needs one.
    """

    warehouse: Warehouse
    change: Callable[[str], None]
    copy: Callable[[Path], AbstractContextManager[Rig]]


def bigquery_warehouse(server: BigQueryServer, **settings: Any) -> BigQueryWarehouse:
    """A warehouse that asks the stand-in, and does not ask for long."""
    given = {"retry_seconds": 5.0, "job_seconds": 60.0} | settings
    credentials = AnonymousGcpCredentials(endpoint=server.url)
    return BigQueryWarehouse(project=PROJECT, credentials=credentials, **given)


@contextmanager
def duckdb_rig(folder: Path, content: Path | None = None) -> Iterator[Rig]:
    """DuckDB, with a copy of the file `content`."""
    warehouse = DuckDBWarehouse(path=folder / "a house" / "lookbook.duckdb")
    if content is not None:
        warehouse.path.parent.mkdir()
        shutil.copy(content, warehouse.path)

    def change(statement: str) -> None:
        with duckdb.connect(str(warehouse.path)) as connection:
            connection.execute(statement)

    yield Rig(warehouse, change, lambda other: duckdb_rig(other, warehouse.path))


@contextmanager
def bigquery_rig(_: Path, content: Catalog | None = None) -> Iterator[Rig]:
    """BigQuery's stand-in, with a copy of a catalog."""
    server = BigQueryServer(PROJECT, catalog=content.clone() if content else None)
    try:
        yield Rig(bigquery_warehouse(server), server.run, lambda other: bigquery_rig(other, server.catalog))
    finally:
        server.close()


RIGS: dict[str, Callable[..., AbstractContextManager[Rig]]] = {"duckdb": duckdb_rig, "bigquery": bigquery_rig}
