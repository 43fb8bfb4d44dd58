"""The commands that take images out: export, copy."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

from cyclopts import Parameter

from lookbook.blocks.errors import LookbookError, UsageError
from lookbook.deployments.command.options import Debug, Json, with_checked_options
from lookbook.tasks.exports.request import (
    PARAMETERS,
    Augment,
    Copies,
    ExactShares,
    LabelColumn,
    Predictions,
    QuoteFormulas,
    Seed,
    ShardSize,
    Shuffle,
    SnapshotId,
    SplitWanted,
    Stratify,
    TextWanted,
)
from lookbook.tasks.runs.parameters import BATCH_SIZE, BatchSize, DatasetName, Executor, WorkspaceName

if TYPE_CHECKING:
    from lookbook.tasks.exports.filters import Filter

Where = Annotated[
    list[str],
    Parameter(
        name="--where",
        negative="",
        help="A condition: gender=Women, year>=2012, blurry_score<0.3, 'season in Summer,Fall', 'x is null', "
        "'x contains tee'; several all have to hold.",
    ),
]
Ids = Annotated[
    list[str], Parameter(name="--id", negative="", help="Key of a product, or SHA-256 of an image; several times.")
]
IdFile = Annotated[Path | None, Parameter(help="A file with such ids, one a line.")]
FilterFile = Annotated[Path | None, Parameter(help="A filter with and, or, not: a JSON or YAML file.")]
Recipe = Annotated[
    str,
    Parameter(
        help="originals; an output (standard, grey, thumb); square-224, border-224, train-224, tensor-224; "
        "or a YAML file with steps."
    ),
]
Format = Annotated[
    Literal["imagefolder", "webdataset", "parquet", "coco", "csv"],
    Parameter(help="The files that the export is packed into."),
]
Columns = Annotated[
    list[str], Parameter(name="--column", negative="", help="A column of the metadata; several times. Else all.")
]
Out = Annotated[
    str | None,
    Parameter(
        allow_leading_hyphen=True,
        help="A folder, a .zip file, or - for an archive on standard output. Else the lake: exports/<id>.",
    ),
]
Predict = Annotated[
    Path | None,
    Parameter(
        help="An ONNX model with its preprocessing in a YAML file of the same name beside it: adds predicted_label, "
        "predicted_score and embedding."
    ),
]
Count = Annotated[bool, Parameter(negative="", help="Only count what it would hold.")]


@with_checked_options
def export(
    name: DatasetName,
    /,
    *,
    where: Where = [],  # noqa: B006 - nothing changes it
    text: TextWanted = None,
    id: Ids = [],  # noqa: A002, B006
    ids_from: IdFile = None,
    filter: FilterFile = None,  # noqa: A002
    recipe: Recipe = "originals",
    format: Format = "imagefolder",  # noqa: A002
    split: SplitWanted = None,
    stratify: Stratify = None,
    exact_shares: ExactShares = False,
    label: LabelColumn = None,
    column: Columns = [],  # noqa: B006
    copies: Copies = 1,
    augment: Augment = "first",
    seed: Seed = 0,
    shuffle: Shuffle = False,
    shard_size: ShardSize = 1000,
    quote_formulas: QuoteFormulas = False,
    snapshot: SnapshotId = None,
    predict: Predict = None,
    predictions: Predictions = None,
    out: Out = None,
    executor: Executor = "threads",
    batch_size: BatchSize = BATCH_SIZE,
    count: Count = False,
    workspace: WorkspaceName = "local",
    json: Json = False,
    debug: Debug = False,
) -> None:
    """Export NAME's images and metadata as a dataset that loads in one line."""
    given = locals() | {"columns": column}
    from lookbook.deployments.command.output import print_json

    given |= {"ids": [*id, *_ids_in(ids_from)], "filter": _filter_in(filter), "recipe": _recipe(recipe)}
    parameters = {each: given[each] for each in PARAMETERS}
    if count:
        counts = _counted(workspace, name, parameters, debug=debug)
        print_json(counts) if json else _print_books(counts)
        return
    if out == "-" and json:
        raise UsageError("--out - and --json: both would be standard output.", "Give one of them.")
    archive = out is not None and (out == "-" or out.endswith(".zip"))
    folder = None if out is None or archive else os.path.abspath(Path(out).expanduser())  # noqa: PTH100 - links stay
    model = str(predict.expanduser().absolute()) if predict else None
    more = {"out": folder, "model": model, "executor": executor, "batch_size": batch_size}
    summary = _run(name, workspace, parameters, more, debug=debug)
    if archive:
        summary["uri"] = _write_archive(workspace, summary["export"], str(out))
    if json:
        print_json(summary)
    elif out != "-":
        _print_summary(summary)


def _run(name: str, workspace: str, parameters: dict[str, Any], more: dict[str, Any], *, debug: bool) -> dict[str, Any]:
    """Run the flow `export_dataset` in this process; returns its summary."""
    from lookbook.blocks.settings import read_settings
    from lookbook.deployments.command import progress
    from lookbook.deployments.server import environment

    # What can't be meant is told before a server is started for it.
    from lookbook.tasks.exports.request import request_of

    request_of(name, parameters)
    with progress.shown("exporting") as say:
        say("starting Prefect")
        environment.prepare_server(read_settings().home, debug=debug)
        from lookbook.flows.export_dataset import export_dataset as flow

        say(f"reading {name}")
        summary: dict[str, Any] = flow(dataset=name, workspace=workspace, **parameters, **more)
    return summary


def _counted(workspace: str, name: str, parameters: dict[str, Any], *, debug: bool) -> dict[str, Any]:
    from lookbook.blocks.settings import read_settings
    from lookbook.deployments.server import environment

    environment.prepare(read_settings().home, debug=debug)
    from lookbook.blocks.workspace import load_workspace
    from lookbook.tasks.exports.export import count_rows, prepare
    from lookbook.tasks.exports.request import request_of

    return count_rows(prepare(load_workspace(workspace).lake, request_of(name, parameters)))


def _ids_in(path: Path | None) -> list[str]:
    if path is None:
        return []
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise UsageError(f"--ids-from {path}: {error}.", "It takes a text file with one id a line.") from error
    return [line.strip() for line in lines if line.strip()]


def _filter_in(path: Path | None) -> Filter | None:
    if path is None:
        return None
    import yaml

    from lookbook.tasks.exports.filters import read_filter

    try:
        return read_filter(yaml.safe_load(path.read_text(encoding="utf-8")))
    except (OSError, UnicodeDecodeError, yaml.YAMLError, RecursionError) as error:
        raise UsageError(f"--filter {path}: {error}.", "It takes a JSON or YAML file.") from error


def _recipe(recipe: str) -> Any:  # noqa: ANN401 - a name, or a recipe
    """Return a recipe's name, or the recipe in a file."""
    from lookbook.tasks.exports.recipes import read_export_recipe

    is_file = recipe.lower().endswith((".yaml", ".yml", ".json")) or "/" in recipe
    return read_export_recipe(Path(recipe)) if is_file else recipe


def _write_archive(workspace: str, export_id: str, out: str) -> str:
    """Write the archive of a finished export to a file or to standard output; where it lies."""
    from lookbook.blocks.workspace import load_workspace
    from lookbook.tasks.exports.finished import require_finished

    stream = require_finished(load_workspace(workspace).lake, export_id).stream()
    if out == "-":
        sys.stdout.buffer.writelines(stream)
        sys.stdout.buffer.flush()
        return out
    path = Path(out).expanduser().absolute()
    aside = path.with_name(f".{path.name}.partial")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with aside.open("wb") as file:
            file.writelines(stream)
        aside.replace(path)
    except OSError as error:
        raise LookbookError(
            f"--out {out} cannot be written: {error.strerror or error}.", "Name a file that you may write."
        ) from error
    finally:
        aside.unlink(missing_ok=True)
    return str(path)


def _print_summary(summary: dict[str, Any]) -> None:
    from lookbook.deployments.command.output import printable

    answered = " (it was there)" if summary["answered"] else ""
    sys.stdout.write(f"{summary['dataset']}: export {summary['export']} of {summary['snapshot']}{answered}\n")
    sys.stdout.write(f"{printable(summary['uri'])}\n")
    _print_books(summary)


def _print_books(books: dict[str, Any]) -> None:
    from lookbook.deployments.command.output import print_rows

    rows: Iterable[tuple[str, str]] = [
        ("selected", f"{books['selected']:,}"),
        ("exported", f"{books['exported']:,}"),
        *((f"left out: {reason}", f"{number:,}") for reason, number in books["left_out"].items()),
        *((f"images: {side}", f"{number:,}") for side, number in books.get("images", {}).items()),
    ]
    print_rows(["what", "number"], rows)


Outputs = Annotated[
    list[str],
    Parameter(
        name="--output",
        negative="",
        help="An output of the recipe (standard, grey, thumb), or originals; may be given several times.",
    ),
]
To = Annotated[str, Parameter(help="A folder, or gs://bucket/folder.")]
Layout = Annotated[
    Literal["id", "hash"], Parameter(help="Name images by their products' ids, or by their contents' SHA-256.")
]


@with_checked_options
def copy(
    name: DatasetName,
    /,
    *,
    output: Outputs,
    to: To,
    layout: Layout = "id",
    workspace: WorkspaceName = "local",
    json: Json = False,
    debug: Debug = False,
) -> None:
    """Copy NAME's images and tables to a folder or a bucket, under names that people read."""
    from lookbook.blocks.settings import read_settings
    from lookbook.deployments.command import progress
    from lookbook.deployments.command.output import print_json, print_rows, printable
    from lookbook.deployments.server import environment

    with progress.shown("copying") as say:
        say(f"reading {name}")
        environment.prepare(read_settings().home, debug=debug)
        from lookbook.blocks.workspace import load_workspace
        from lookbook.tasks.exports.copy import copy_dataset

        done: dict[str, Any] = copy_dataset(load_workspace(workspace).lake, name, output, to, layout)
    if json:
        print_json(done)
        return
    sys.stdout.write(f"{name}: {done['snapshot']} copied to {printable(done['to'])}\n")
    rows = [(folder, *counts.values()) for folder, counts in (done["folders"] | {"tables": done["tables"]}).items()]
    print_rows(["folder", "files", "sent", "bytes sent"], rows)
