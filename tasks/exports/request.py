"""The request of an export, and the id that equal requests of equal snapshots share."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Any, Literal

import pyarrow as pa
from pydantic import BaseModel, ConfigDict, Field, StringConstraints, ValidationError, model_validator

from blocks.errors import UsageError
from blocks.lake import Lake
from tasks.datasets.manifest import Manifest, list_snapshots, require_published
from tasks.exports.copy import ORIGINALS
from tasks.exports.filter_columns import check_column, fitted
from tasks.exports.filters import BoundedFilter, Column, Filter, as_document, canonical
from tasks.exports.groups import COLOURS
from tasks.exports.recipes import ExportRecipe, built_in, pixel_versions, told
from tasks.exports.rows import Rows
from tasks.exports.splits import Shares
from tasks.parameters import DatasetName

#: Raise it when the files of an export change for the same request: its readers' papers, packing, names, order.
EXPORT_VERSION = 1

Format = Literal["imagefolder", "webdataset", "parquet", "coco", "csv"]
#: Those that hold arrays of float32.
HOLDING_ARRAYS = ("webdataset", "parquet")
RecipeName = Annotated[
    str,
    StringConstraints(pattern=r"^[a-z][a-z0-9_-]{0,31}$"),
    Field(description="originals, an output of the snapshot such as standard, or square-224 and its kin."),
]


class ExportRequest(BaseModel):
    """What is wanted: which images of a dataset, made into what, in which files."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    dataset: DatasetName
    snapshot: Annotated[
        str | None, Field(max_length=128, description="Id of one of the dataset's snapshots. None: the current one.")
    ] = None
    filter: Annotated[BoundedFilter | None, Field(description="Which images. None: all.")] = None
    recipe: Annotated[
        RecipeName | ExportRecipe, Field(description="What is made of each: a name, or steps on the fly.")
    ] = ORIGINALS
    format: Annotated[Format, Field(description="The files that it is packed into.")] = "imagefolder"
    split: Annotated[Shares | None, Field(description="Sides and their shares. None: all is train.")] = None
    stratify: Annotated[
        Column | None, Field(description="A column whose values the sides share alike; the books tell how far.")
    ] = None
    exact_shares: Annotated[
        bool, Field(description="Meet the shares in each stratum; some images change sides when the dataset grows.")
    ] = False
    label: Annotated[Column | None, Field(description="The column of the class. None: the catalogue's category.")] = (
        None
    )
    columns: Annotated[
        list[Column] | None,
        Field(min_length=1, max_length=500, description="Columns of the metadata. None: all but EXIF."),
    ] = None
    copies: Annotated[int, Field(ge=1, le=100, description="Augmented copies of each image.")] = 1
    augment: Annotated[
        Literal["first", "all"], Field(description="Which sides get random steps and copies: the first one, or all.")
    ] = "first"
    seed: Annotated[int, Field(ge=0, lt=2**63, description="Of the split and of all that is random.")] = 0
    shuffle: Annotated[bool, Field(description="In an order drawn by the seed; else by the products' keys.")] = False
    shard_size: Annotated[int, Field(ge=1, le=100_000, description="Images in a shard, at the most.")] = 1000
    predictions: Annotated[
        str | None,
        StringConstraints(pattern=r"^[0-9a-f]{16}$"),
        Field(description="Digest of a model: its stored predictions are columns."),
    ] = None

    @model_validator(mode="after")
    def _agrees(self) -> ExportRequest:
        recipe = built_in(self.recipe) if isinstance(self.recipe, str) else self.recipe
        if self.copies > 1 and (recipe is None or not recipe.is_random):
            raise ValueError("copies of an image differ only by a recipe with a random step")
        if recipe and recipe.encode_format == "npy" and self.format not in HOLDING_ARRAYS:
            raise ValueError(f"{self.format} holds no arrays; {' and '.join(HOLDING_ARRAYS)} do")
        if recipe and self.format == "csv":
            raise ValueError("csv holds links to originals or to an output of the snapshot, and no other images")
        if self.exact_shares and not self.split:
            raise ValueError("exact_shares are those of a split, and none is asked for")
        if self.stratify and not self.split:
            raise ValueError("stratify is for a split, and none is asked for")
        return self

    @property
    def sides(self) -> dict[str, float]:
        """The sides with their shares: one alone where there is no split."""
        return dict(self.split) if self.split else {"train": 1.0}


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
        """What the id is made of."""
        return _document(self.request, self.manifest, self.wanted, self.recipe, self.label)


def read_request(values: Mapping[str, Any]) -> ExportRequest:
    """A request of plain values.

    Raises:
        UsageError: it can't be meant; the message names the field.
    """
    try:
        return ExportRequest.model_validate(dict(values))
    except ValidationError as error:
        raise UsageError(f"The export cannot be meant: {told(error)}.", "See docs/exports.md.") from error


def find_snapshot(lake: Lake, request: ExportRequest) -> Manifest:
    """The manifest of the snapshot that is asked for.

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


def resolve(request: ExportRequest, manifest: Manifest, rows: Rows, schema: pa.Schema) -> Resolved:
    """Find the names of a request in a snapshot.

    Args:
        request: what is asked.
        manifest: of the snapshot.
        rows: of it.
        schema: of the columns that there are, predictions with them.

    Raises:
        UsageError: a column, an output or a recipe does not exist, or a value is none of its column's type.
    """
    for name in filter(None, (request.label, request.stratify, *(request.columns or ()))):
        check_column(name, schema, "The export")
    wanted = None
    if request.filter is not None:
        wanted = canonical(fitted(request.filter, schema, rows.display_name))
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
