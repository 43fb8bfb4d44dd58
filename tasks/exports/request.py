"""The request of an export, and the id that equal requests of equal snapshots share."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, StringConstraints, ValidationError, model_validator

from lookbook.blocks.errors import UsageError
from lookbook.tasks.exports.filters import BoundedFilter, Column
from lookbook.tasks.exports.recipes import ORIGINALS, ExportRecipe, built_in, told
from lookbook.tasks.exports.shares import Shares
from lookbook.tasks.runs.parameters import DatasetName

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
    quote_formulas: Annotated[
        bool,
        Field(description="An apostrophe before texts of CSV files that a spreadsheet would take for formulas."),
    ] = False
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


def read_request(values: Mapping[str, Any]) -> ExportRequest:
    """Return a request of plain values.

    Raises:
        UsageError: it can't be meant; the message names the field.
    """
    try:
        return ExportRequest.model_validate(dict(values))
    except ValidationError as error:
        raise UsageError(f"The export cannot be meant: {told(error)}.", "See docs/exports.md.") from error
