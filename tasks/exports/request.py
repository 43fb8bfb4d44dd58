"""What an export is asked for: one model of it, and the parameters that command, flow and form take."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, StringConstraints, ValidationError, model_validator

from lookbook.blocks.errors import UsageError
from lookbook.tasks.exports.filters import COLUMN, BoundedFilter, Column, read_conditions
from lookbook.tasks.exports.recipes import ORIGINALS, ExportRecipe, built_in, told
from lookbook.tasks.runs.parameters import DatasetName, described

#: The names of sides that are given by their shares alone, as Hugging Face's datasets call them.
DEFAULT_SIDES = {1: ("train",), 2: ("train", "test"), 3: ("train", "validation", "test")}
TAKES = "It takes shares of train, validation and test such as 0.8,0.1,0.1, or names: train=0.9,holdout=0.1."

SideName = Annotated[str, StringConstraints(pattern=r"^[a-z][a-z0-9_]{0,31}$")]


def _sum_to_one(shares: dict[str, float]) -> dict[str, float]:
    if abs(math.fsum(shares.values()) - 1) > 1e-9:  # noqa: PLR2004 - what decimal fractions lose in binary
        raise ValueError(f"the shares add up to {math.fsum(shares.values()):g}, not to 1")
    return shares


Shares = Annotated[
    dict[SideName, Annotated[float, Field(gt=0, le=1)]],
    Field(min_length=1, max_length=16, description="The sides of the split with their shares, which add up to 1."),
    AfterValidator(_sum_to_one),
]


def read_shares(text: str) -> dict[str, float]:
    """Return the shares in their short form: ``0.8,0.1,0.1`` or ``train=0.9,holdout=0.1``. They are not checked yet.

    Raises:
        UsageError: it is neither.
    """
    parts = [part.strip() for part in text.split(",")]
    names = DEFAULT_SIDES.get(len(parts), ()) if "=" not in text else [part.partition("=")[0].strip() for part in parts]
    values = [part.partition("=")[2] if "=" in text else part for part in parts]
    try:
        shares = dict(zip(names, map(float, values), strict=True))
    except ValueError as error:
        raise UsageError(f"--split {text}: these are no shares.", TAKES) from error
    if len(shares) != len(parts):
        raise UsageError(f"--split {text}: a side is named twice.", TAKES)
    return shares


Format = Literal["imagefolder", "webdataset", "parquet", "coco", "csv"]
#: Those that hold arrays of float32.
HOLDING_ARRAYS = ("webdataset", "parquet")
RecipeName = Annotated[
    str,
    StringConstraints(pattern=r"^[a-z][a-z0-9_-]{0,31}$"),
    Field(description="originals, an output of the snapshot such as standard, or square-224 and its kin."),
]


SnapshotId = Annotated[
    str | None,
    described("Snapshot", "Id or tag of a snapshot of the dataset. None: the current one.", max_length=128),
]
Where = Annotated[
    list[str],
    described(
        "Where",
        "Conditions that all have to hold: gender=Women, year>=2012, blurry_score<0.3, season in Summer,Fall, "
        "baseColour is null, productDisplayName contains tee.",
        max_length=100,
    ),
]
TextWanted = Annotated[
    str | None, described("Text", "Words of the display name: whole ones, all of them, in any order and case.")
]
IdsWanted = Annotated[
    list[str],
    described("Ids", "Only these: keys of products, or SHA-256 of images' contents. Empty: all.", max_length=100_000),
]
FilterWanted = Annotated[
    BoundedFilter | None,
    described("Filter", "A filter as JSON, with and, or, not: docs/exports.md shows its form. None: all."),
]
RecipeWanted = Annotated[
    RecipeName | ExportRecipe,
    described(
        "Recipe",
        "originals; an output of the snapshot (standard, grey, thumb); square-N, border-N, train-N or tensor-N with "
        "an edge in pixels; or the steps of a recipe.",
    ),
]
FormatWanted = Annotated[Format, described("Format", "The files that the export is packed into.")]
SplitWanted = Annotated[
    str | None,
    described("Split", "Shares of train, validation and test: 0.8,0.1,0.1; or named ones: train=0.9,holdout=0.1."),
]
Stratify = Annotated[
    str | None, described("Stratify", "A column whose values the sides share alike; the books tell how far.")
]
ExactShares = Annotated[
    bool,
    described("Exact shares", "Meet the shares, in each stratum; some images change sides when the dataset grows."),
]
LabelColumn = Annotated[str | None, described("Label", "Column of the class. None: the catalogue's category.")]
Columns = Annotated[list[str], described("Columns", "Columns of the metadata. Empty: all but EXIF.", max_length=500)]
Copies = Annotated[int, described("Copies", "Augmented copies of each image (1 to 100).", ge=1, le=100)]
Augment = Annotated[
    Literal["first", "all"], described("Augment", "Which sides get random steps and copies: first (train), or all.")
]
Seed = Annotated[int, described("Seed", "Of the split and of all that is random (0 or more).", ge=0, lt=2**63)]
Shuffle = Annotated[bool, described("Shuffle", "In an order drawn by the seed; else by the products' keys.")]
ShardSize = Annotated[int, described("Shard size", "Images in a shard (1 to 100,000).", ge=1, le=100_000)]
QuoteFormulas = Annotated[
    bool,
    described(
        "Quote formulas",
        "Put an apostrophe before texts of metadata.csv and left_out.csv that a spreadsheet would take for formulas.",
    ),
]
ModelFile = Annotated[
    str | None,
    described(
        "Predict",
        "An ONNX model that the worker can read, with its preprocessing in a YAML file of the same name: adds "
        "predicted_label, predicted_score and embedding. None: no predictions.",
        min_length=1,
    ),
]
Predictions = Annotated[
    str | None,
    described("Predictions", "Digest of a model whose stored predictions are columns.", pattern="^[0-9a-f]{16}$"),
]
Out = Annotated[
    str | None,
    described(
        "Out", "A folder of the machine that runs it, not there yet. None: the lake, under exports/<id>.", min_length=1
    ),
]


class ExportRequest(BaseModel):
    """What is wanted: which images of a dataset, made into what, in which files."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    dataset: DatasetName
    snapshot: SnapshotId = None
    filter: Annotated[BoundedFilter | None, Field(description="Which images. None: all.")] = None
    recipe: RecipeWanted = ORIGINALS
    format: FormatWanted = "imagefolder"
    split: Annotated[Shares | None, Field(description="Sides and their shares. None: all is train.")] = None
    stratify: Annotated[Stratify, Field(pattern=COLUMN)] = None
    exact_shares: ExactShares = False
    label: Annotated[LabelColumn, Field(pattern=COLUMN)] = None
    columns: Annotated[
        list[Column] | None,
        Field(min_length=1, max_length=500, description="Columns of the metadata. None: all but EXIF."),
    ] = None
    copies: Copies = 1
    augment: Augment = "first"
    seed: Seed = 0
    shuffle: Shuffle = False
    shard_size: ShardSize = 1000
    quote_formulas: QuoteFormulas = False
    predictions: Predictions = None

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


#: The flat parameters by which command, flow and form ask.
PARAMETERS = (*(name for name in ExportRequest.model_fields if name != "dataset"), "where", "text", "ids")


def request_of(dataset: str, parameters: Mapping[str, Any]) -> ExportRequest:
    """Return the request of flat parameters.

    Args:
        dataset: which one.
        parameters: by the names that the flow gives them; what it takes beside `PARAMETERS` is left alone.

    Raises:
        UsageError: it can't be meant; the message names the field.
    """
    values = {name: parameters[name] for name in PARAMETERS if name in parameters}
    wanted = read_conditions(values.pop("where"), values.pop("text"), values.pop("ids"), values.pop("filter"))
    split = values.pop("split")
    values |= {"columns": values["columns"] or None, "split": read_shares(split) if split is not None else None}
    return read_request({"dataset": dataset, "filter": wanted} | values)


def check_out(out: str | None) -> None:
    """See that a flow's folder is an absolute path: where a worker runs is nobody's folder.

    Raises:
        UsageError: it is not.
    """
    if out is not None and not out.startswith("/"):
        raise UsageError(f"out {out!r}: a relative path would lie in the worker's own folder.", "Name an absolute one.")
