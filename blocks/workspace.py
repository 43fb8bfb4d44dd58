"""The workspace: lake, registry and warehouse under one name, the only thing that a flow is told."""

from __future__ import annotations

import os
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import httpx

from lookbook.blocks.duckdb.warehouse import DuckDBWarehouse
from lookbook.blocks.embedded import prefect_server
from lookbook.blocks.errors import LookbookError, OutOfReachError, UsageError
from lookbook.blocks.lake import FolderLake, Lake
from lookbook.blocks.registry import PostgresRegistry, Registry
from lookbook.blocks.settings import make_home, read_settings
from lookbook.blocks.warehouse import Warehouse

if TYPE_CHECKING:
    from lookbook.blocks.kaggle import KaggleCredentials


@dataclass(frozen=True)
class Workspace:
    """Where a dataset lives, and what its sources need.

    Attributes:
        registry: for the books of `lake` alone, whatever other lakes have theirs there.
        scratch: absolute path of a folder of this machine for downloads and unpacked archives.
        kaggle: for sources on Kaggle; None: public ones only, or what Kaggle's own settings name.
    """

    lake: Lake
    registry: Registry
    warehouse: Warehouse
    scratch: Path
    kaggle: KaggleCredentials | None = None

    def __post_init__(self) -> None:
        """Bind the registry to the lake."""
        object.__setattr__(self, "registry", self.registry.of_lake(self.lake))


def scratch_folder(scratch: Path, prefix: str) -> tempfile.TemporaryDirectory[str]:
    """Make a folder in a folder for scratch, to be removed by the caller.

    Raises:
        LookbookError: it can't be made.
    """
    try:
        scratch.mkdir(parents=True, exist_ok=True)  # a saved workspace's may be new to this machine
        return tempfile.TemporaryDirectory(dir=scratch, prefix=prefix)
    except OSError as error:
        raise LookbookError(
            f"The folder for scratch, {scratch}, cannot be used: {error.strerror or error}.",
            "Name one in the workspace's block that this machine may write to, with space left.",
        ) from error


def local_workspace(home: Path) -> Workspace:
    """Return the workspace that lives in the folder `home`: a folder, a DuckDB file, and an embedded PostgreSQL.

    LOOKBOOK_REGISTRY_URL names another PostgreSQL, as containers need it that share the folder.

    Raises:
        LookbookError: the folder can't be made or written.
    """
    try:
        make_home(home)
        for folder in (home / "lake", home / "scratch"):
            folder.mkdir(parents=True, exist_ok=True)
        (home / "scratch" / ".writable").touch()
    except OSError as error:
        raise LookbookError(
            f"LOOKBOOK_HOME {home} cannot be used: {error.strerror or error}.",
            "Point it to a folder that you may write to, with space left.",
        ) from error
    return Workspace(
        lake=FolderLake(root=home / "lake"),
        registry=PostgresRegistry(home=home, url=read_settings().registry_url),
        warehouse=DuckDBWarehouse(path=home / "lookbook.duckdb"),
        scratch=home / "scratch",
    )


def load_workspace(name: str) -> Workspace:
    """Return the workspace saved under `name`; ``local``, where none is saved, is the one of LOOKBOOK_HOME.

    With the home's own server ``local`` is always the home's: a saved one has absolute paths and does not move with it.

    Raises:
        UsageError: no workspace of that name is saved.
        OutOfReachError: Prefect's API can't be asked.
        LookbookError: the one that is saved can't be used, or Prefect's API refuses to tell.
    """
    home = read_settings().home
    if prefect_server.configured_api_url(home) is None:
        if name == "local":
            return local_workspace(home)
        prefect_server.use(home)
    saved = _load_saved(name)
    if saved is not None:
        return saved
    if name == "local":
        _check_home_of_worker()
        return local_workspace(home)
    raise UsageError(
        f"--workspace {name}: no workspace of that name is saved.",
        'It takes "local", or the name of a Lookbook Workspace block of your Prefect server.',
    )


def _check_home_of_worker() -> None:
    """Refuse a home in the folder where a worker runs flows: it is removed afterwards.

    Raises:
        UsageError: this is a worker's run, and LOOKBOOK_HOME names no folder of its machine.
    """
    on_worker = "PREFECT__FLOW_RUN_ID" in os.environ
    if on_worker and not Path(os.environ.get("LOOKBOOK_HOME", "")).expanduser().is_absolute():
        raise UsageError(
            "No workspace local is saved, and the worker was started without LOOKBOOK_HOME.",
            "Start the worker with LOOKBOOK_HOME, an absolute path; or name a workspace that is saved.",
        )


def _load_saved(name: str) -> Workspace | None:
    """Return the workspace that is saved under `name`, with the faults of the API named."""
    from prefect.exceptions import PrefectHTTPStatusError  # noqa: PLC0415

    from lookbook.blocks.saved_workspace import load  # noqa: PLC0415 - imports the classes of every kind

    try:
        saved = load(name)
    except (PrefectHTTPStatusError, httpx.HTTPError, OSError) as error:
        refused = isinstance(error, httpx.HTTPStatusError) and error.response.is_client_error
        raise (LookbookError if refused else OutOfReachError)(
            f"Prefect's API cannot be asked for the workspace {name}: {type(error).__name__}.",
            "See that the server of PREFECT_API_URL runs.",
        ) from error
    if saved is None:
        return None
    return Workspace(
        lake=saved.lake,
        registry=saved.registry,
        warehouse=saved.warehouse,
        scratch=saved.scratch or read_settings().home / "scratch",
        kaggle=saved.kaggle,
    )
