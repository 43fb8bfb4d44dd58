"""Workspaces from what a user writes, saved as blocks. Imports Prefect."""

from __future__ import annotations

import os
from dataclasses import fields, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from prefect.blocks.core import Block

from lookbook.blocks import saved_workspace
from lookbook.blocks.duckdb.warehouse import DuckDBWarehouse
from lookbook.blocks.errors import LookbookError, UsageError
from lookbook.blocks.lake import IDENTITY, FolderLake, Lake
from lookbook.blocks.warehouse import Warehouse
from lookbook.blocks.workspace import Workspace, local_workspace

if TYPE_CHECKING:
    from prefect_gcp import GcpCredentials


def assemble(
    home: Path,
    lake: str | None,
    warehouse: str | None,
    credentials: str | None,
    connector: str | None,
    kaggle: str | None,
) -> Workspace:
    """Return the local workspace, with other parts where they are given.

    Args:
        home: of the local workspace.
        lake: a folder, or ``gs://bucket/prefix``.
        warehouse: a DuckDB file, or ``bigquery://project/location``.
        credentials: a saved GCP Credentials block, for what lies on Google Cloud; None: the machine's own.
        connector: a saved Async SQLAlchemy Connector block, for the registry.
        kaggle: a saved Lookbook Kaggle Credentials block.

    Raises:
        UsageError: an address can't be meant, or no block of such a name is saved.
        LookbookError: an extra or the machine's credentials are missing.
    """
    place, google = local_workspace(home), _Google(credentials)
    if lake is not None:
        place = replace(place, lake=_lake(lake, google))
    if warehouse is not None:
        place = replace(place, warehouse=_warehouse(warehouse, google))
    if connector is not None:
        from lookbook.blocks.connector_registry import ConnectorRegistry

        found: Any = _block("async-sqlalchemy-connector", connector, "--connector")
        place = replace(place, registry=ConnectorRegistry(connector=found))
    if kaggle is not None:
        block: Any = _block("lookbook-kaggle-credentials", kaggle, "--kaggle")
        place = replace(place, kaggle=block)
    return place


def save(name: str, place: Workspace) -> dict[str, str]:
    """Save a workspace, without the scratch of this machine; returns the block that each part became."""
    saved_workspace.save(name, vars(place) | {"scratch": None})
    parts = {part.name: getattr(place, part.name) for part in fields(place)}
    return {"workspace": name} | {
        part: f"{block.get_block_type_name()} {block._block_document_name}"
        for part, block in parts.items()
        if isinstance(block, Block)
    }


def notes(home: Path, place: Workspace) -> list[str]:
    """Say what a user should know of a workspace whose lake is not that of `home`; a bucket is not asked.

    Raises:
        LookbookError: the object with a folder's id is damaged.
    """
    local = local_workspace(home).lake
    if place.lake == local:
        return []
    said = ["The registry keeps the books of each lake apart: those of this lake are its own, whoever else is there."]
    if isinstance(place.lake, FolderLake) and (found := place.lake.read_id()) and found == local.read_id():
        said.append(
            f"This lake has the id that stands in {local.uri(IDENTITY)}, as a copy has: their books would mix. "
            f"Where both go on being written, remove {place.lake.uri(IDENTITY)} first; it gets an id of its own."
        )
    return said


class _Google:
    """Google's credentials, looked for once, and only where something asks for them."""

    def __init__(self, name: str | None) -> None:
        self._name = name
        self._found: GcpCredentials | None = None

    def credentials(self) -> GcpCredentials:
        if self._found is None:
            self._found = self._saved(self._name) if self._name else self._machines()
        return self._found

    def _saved(self, name: str) -> GcpCredentials:
        found: GcpCredentials = _block("gcp-credentials", name, "--credentials")
        return found

    def _machines(self) -> GcpCredentials:
        from google.auth.exceptions import GoogleAuthError
        from prefect_gcp import GcpCredentials

        try:
            return GcpCredentials()
        except GoogleAuthError as error:
            raise LookbookError(
                "This machine has no Google credentials.",
                'Log in with "gcloud auth application-default login", or save a GCP Credentials block with a key and '
                "name it by --credentials.",
            ) from error


def _lake(address: str, google: _Google) -> Lake:
    scheme, _, rest = address.rpartition("://")
    if not scheme:
        return FolderLake(root=_absolute(address))
    bucket, _, prefix = rest.partition("/")
    if scheme != "gs" or not bucket:
        raise UsageError(f"--lake {address}: that is no lake.", "Give a folder, or gs://BUCKET/PREFIX.")
    from lookbook.blocks.gcs import GcsLake

    return GcsLake(bucket=bucket, prefix=prefix, credentials=google.credentials())


def _warehouse(address: str, google: _Google) -> Warehouse:
    scheme, _, rest = address.rpartition("://")
    if not scheme:
        return DuckDBWarehouse(path=_absolute(address))
    project, _, location = rest.partition("/")
    if scheme != "bigquery" or not project:
        raise UsageError(
            f"--warehouse {address}: that is no warehouse.", "Give a DuckDB file, or bigquery://PROJECT/LOCATION."
        )
    from lookbook.blocks.bigquery.warehouse import BigQueryWarehouse

    where = {"location": location} if location else {}
    return BigQueryWarehouse(project=project, credentials=google.credentials(), **where)


def _absolute(path: str) -> Path:
    return Path(os.path.abspath(Path(path).expanduser()))  # noqa: PTH100 - links stay


def _block(slug: str, name: str, option: str) -> Any:  # noqa: ANN401 - a block of that type
    """Return a saved block, whose class Prefect finds by itself.

    Raises:
        UsageError: none is saved.
    """
    try:
        return Block.load(f"{slug}/{name}", _sync=True)  # type: ignore[call-arg]
    except ValueError as error:
        raise UsageError(f"{option} {name}: {error}.", "Save it first, in Prefect's UI under Blocks.") from error
