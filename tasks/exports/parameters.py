"""The parameters of exports: one annotated type each, for the command's options, the flow and its form."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Literal

from lookbook.blocks.errors import UsageError
from lookbook.tasks.exports.filter_text import read_conditions
from lookbook.tasks.exports.filters import BoundedFilter
from lookbook.tasks.exports.recipes import ExportRecipe
from lookbook.tasks.exports.request import ExportRequest, Format, RecipeName, read_request
from lookbook.tasks.exports.shares import read_shares
from lookbook.tasks.runs.parameters import described

SnapshotId = Annotated[
    str | None, described("Snapshot", "Id of one of the dataset's snapshots. None: the current one.", max_length=128)
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


def request_of(dataset: str, parameters: Mapping[str, Any]) -> ExportRequest:
    """Return the request of flat parameters.

    Args:
        dataset: which one.
        parameters: by the names that the flow gives them.

    Raises:
        UsageError: it can't be meant; the message names the field.
    """
    values = dict(parameters)
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
