"""A request in the light of a snapshot, and the id that equal requests of equal snapshots share."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from typing import Any

import pyarrow as pa

from lookbook.blocks.errors import UsageError
from lookbook.blocks.lake import Lake
from lookbook.tasks.datasets.manifest import Manifest, list_snapshots, require_published
from lookbook.tasks.exports.filter_columns import check_column, fitted
from lookbook.tasks.exports.filters import Filter, as_document, canonical
from lookbook.tasks.exports.groups import COLOURS
from lookbook.tasks.exports.recipes import ORIGINALS, ExportRecipe, built_in, pixel_versions
from lookbook.tasks.exports.request import ExportRequest
from lookbook.tasks.exports.rows import Rows

#: Raise it when the files of an export change for the same request: its readers' papers, packing, names, order.
EXPORT_VERSION = 1


@dataclass(frozen=True)
class Resolved:
    """A request whose names are found in a snapshot.

    Attributes:
        request: as it was asked.
        manifest: of the snapshot.
        wanted: its filter in canonical form, with values of the columns' types.
        recipe: the steps on the fly; None where stored files are exported.
        label: the column of the class, if there is one.
        id: equal for equal requests of equal snapshots, with equal versions of what makes the bytes.
    """

    request: ExportRequest
    manifest: Manifest
    wanted: Filter | None
    recipe: ExportRecipe | None
    label: str | None
    id: str

    def document(self) -> dict[str, Any]:
        """Return what the id is made of."""
        return _document(self.request, self.manifest, self.wanted, self.recipe, self.label)


def find_snapshot(lake: Lake, request: ExportRequest) -> Manifest:
    """Return the manifest of the snapshot that is asked for.

    Raises:
        LookbookError: there is no such dataset.
        UsageError: it has no such snapshot.
    """
    if request.snapshot is None:
        return require_published(lake, request.dataset).manifest
    for manifest in list_snapshots(lake, request.dataset):
        if manifest.snapshot_id == request.snapshot:
            return manifest
    raise UsageError(
        f"{request.dataset}: there is no snapshot {request.snapshot}.", f'See "lookbook snapshots {request.dataset}".'
    )


def resolve(request: ExportRequest, manifest: Manifest, rows: Rows, table: pa.Table) -> Resolved:
    """Find the names of a request in a snapshot.

    Args:
        request: what is asked.
        manifest: of the snapshot.
        rows: of it.
        table: with the columns that there are, predictions with them.

    Raises:
        UsageError: a column, an output or a recipe does not exist, or a value is none of its column's type.
    """
    for name in filter(None, (request.label, request.stratify, *(request.columns or ()))):
        check_column(name, table.schema, "The export")
    wanted = None
    if request.filter is not None:
        wanted = canonical(fitted(request.filter, table, rows.display_name))
    recipe = request.recipe if isinstance(request.recipe, ExportRecipe) else _named_recipe(request.recipe, manifest)
    label = request.label or rows.label
    document = _document(request, manifest, wanted, recipe, label)
    digest = hashlib.sha256(json.dumps(document, sort_keys=True).encode()).hexdigest()[:32]
    return Resolved(request, manifest, wanted, recipe, label, digest)


def _named_recipe(name: str, manifest: Manifest) -> ExportRecipe | None:
    if name == ORIGINALS or name in manifest.recipe.outputs:
        return None
    recipe = built_in(name)
    if recipe is None:
        stored = ", ".join((ORIGINALS, *manifest.recipe.outputs))
        raise UsageError(
            f"--recipe {name}: {manifest.dataset} has no such output, and there is no recipe of that name.",
            f"It has {stored}; recipes are square-N, border-N, train-N, tensor-N, or a YAML file.",
        )
    return recipe


def _document(
    request: ExportRequest, manifest: Manifest, wanted: Filter | None, recipe: ExportRecipe | None, label: str | None
) -> dict[str, Any]:
    asked = request.model_dump(mode="json", exclude={"filter", "recipe", "snapshot", "label", "split"})
    if not request.quote_formulas:
        del asked["quote_formulas"]  # requests from before it was there keep their ids
    asked["sides"] = list(request.sides.items())  # in their order, which sorted keys would lose
    made = recipe.model_dump(mode="json") if recipe else request.recipe
    versions: dict[str, Any] = {"export": EXPORT_VERSION, "pyarrow": pa.__version__}
    versions["colours"] = hashlib.sha256(" ".join(sorted(COLOURS)).encode()).hexdigest()[:16]
    if recipe:
        versions |= pixel_versions()
    return {
        "request": asked | {"filter": as_document(wanted) if wanted else None, "recipe": made, "label": label},
        "snapshot": manifest.digest,
        "versions": versions,
    }
