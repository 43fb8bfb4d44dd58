"""Workspaces saved on a Prefect server. Imports the classes of every kind, which is slow: import it late."""

from __future__ import annotations

import importlib
from collections.abc import Mapping
from functools import reduce
from operator import or_
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias, cast

from prefect.blocks.core import Block
from pydantic import ConfigDict, Field, ValidationError

from lookbook.blocks.errors import INSTALL, LookbookError
from lookbook.blocks.lake import Lake
from lookbook.blocks.registry import Registry
from lookbook.blocks.warehouse import Warehouse

#: What a form sends names no class: the fields tell. All of the Registry's may be empty, so it comes last.
LAKES = ("lookbook.blocks.gcs:GcsLake", "lookbook.blocks.lake:FolderLake")
REGISTRIES = ("lookbook.blocks.connector_registry:ConnectorRegistry", "lookbook.blocks.registry:PostgresRegistry")
WAREHOUSES = (
    "lookbook.blocks.bigquery.warehouse:BigQueryWarehouse",
    "lookbook.blocks.duckdb.warehouse:DuckDBWarehouse",
)
CREDENTIALS = ("lookbook.blocks.kaggle:KaggleCredentials",)

#: Why kinds cannot be imported here: those in the cloud need the extra gcp.
missing: list[str] = []


def _kinds(paths: tuple[str, ...]) -> Any:  # noqa: ANN401 - a union of classes
    """Return the union of the classes that can be imported."""
    found = []
    for path in paths:
        module, _, name = path.partition(":")
        try:
            found.append(getattr(importlib.import_module(module), name))
        except LookbookError as error:
            missing.append(str(error).partition("\n")[0])
    return reduce(or_, found) if found else type(None)


if TYPE_CHECKING:
    from pydantic_core import ErrorDetails

    from lookbook.blocks.kaggle import KaggleCredentials

    AnyLake: TypeAlias = Lake
    AnyRegistry: TypeAlias = Registry
    AnyWarehouse: TypeAlias = Warehouse
else:
    AnyLake, AnyRegistry, AnyWarehouse = _kinds(LAKES), _kinds(REGISTRIES), _kinds(WAREHOUSES)
    KaggleCredentials = _kinds(CREDENTIALS)


class WorkspaceBlock(Block):
    """Where a dataset lives: lake, registry and warehouse, and a folder for what can be made again."""

    _block_type_name = "Lookbook Workspace"
    _block_type_slug = "lookbook-workspace"
    # Prefect's own errors would print what was given, secrets of nested blocks included.
    model_config = ConfigDict(hide_input_in_errors=True)

    lake: AnyLake
    registry: AnyRegistry = Field(union_mode="left_to_right")
    warehouse: AnyWarehouse
    kaggle: KaggleCredentials | None = Field(default=None, description="For sources on Kaggle that are not public.")
    scratch: Path | None = Field(
        default=None,
        description="Absolute path of a folder for downloads and unpacked archives; empty: the folder scratch of "
        "LOOKBOOK_HOME, on each machine.",
    )


def load(name: str) -> WorkspaceBlock | None:
    """Return what is saved under `name`; None where nothing is.

    Raises:
        LookbookError: what is saved can't be used here.
    """
    try:
        return cast("WorkspaceBlock", WorkspaceBlock.load(name, _sync=True))  # type: ignore[call-arg]
    except ValueError as error:
        if "Unable to find block document" in str(error):
            return None
        raise _unusable(name, type(error).__name__) from None
    except RuntimeError as error:  # what Prefect makes of a ValidationError
        raise _unusable(name, _faults(error.__cause__ or error)) from None
    except Exception as error:
        if not type(error).__module__.startswith("google.auth"):
            raise
        raise LookbookError(
            f"The workspace {name} names no key, and this machine has no Google credentials.",
            'Log in with "gcloud auth application-default login", run where a service account is attached, or put a '
            "key into its GCP Credentials block.",
        ) from None


def save(name: str, parts: Mapping[str, Any]) -> None:
    """Save a workspace under `name`, in place of one of that name.

    Its parts become blocks of their own with the same name, so that a form can change each; parts that were loaded
    from the server are referred to as they are.

    Args:
        name: of the workspace.
        parts: the fields of a `lookbook.blocks.workspace.Workspace`; without scratch each machine has its own.
    """
    for part in parts.values():
        if isinstance(part, Block):
            _save_part(part, name)
    WorkspaceBlock(**parts).save(name, overwrite=True, _sync=True)  # type: ignore[call-arg]


def register() -> None:
    """Make the block types known to the server: the workspace's, and those of all its kinds."""
    WorkspaceBlock.register_type_and_schema(_sync=True)  # type: ignore[call-arg]


def _save_part(part: Block, name: str) -> None:
    if part._block_document_id is None:
        for field in type(part).model_fields:
            if isinstance(nested := getattr(part, field), Block):
                _save_part(nested, name)
        part.save(name, overwrite=True, _sync=True)  # type: ignore[call-arg]


def _unusable(name: str, faults: str) -> LookbookError:
    way_out = "Mend its block in Prefect's UI."
    if missing:
        way_out = f"If it lies on Google Cloud, the extra gcp is missing here. {INSTALL}. Else: {way_out}"
    return LookbookError(f"The workspace {name} that is saved cannot be used: {faults}.", way_out)


def _faults(error: BaseException) -> str:
    """Return each fault with the field that has it, without what was given there: that may be a secret."""
    if not isinstance(error, ValidationError):
        return type(error).__name__
    faults = error.errors(include_input=False, include_url=False, include_context=False)
    return "; ".join(f"{'.'.join(map(str, fault['loc']))}: {_message(fault)}" for fault in faults)


def _message(fault: ErrorDetails) -> str:
    return "it is refused" if fault["type"] == "value_error" else fault["msg"]  # ours and Prefect's may quote it
