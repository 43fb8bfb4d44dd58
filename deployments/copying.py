"""The command ``lookbook copy``."""

from __future__ import annotations

import sys
from typing import Annotated, Any, Literal

from cyclopts import Parameter

from lookbook.deployments.options import Debug, Json, with_checked_options
from lookbook.tasks.runs.parameters import DatasetName, WorkspaceName

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
    from lookbook.deployments import prefect_environment, progress
    from lookbook.deployments.output import print_json, print_rows, printable

    with progress.shown("copying") as say:
        say(f"reading {name}")
        prefect_environment.prepare(read_settings().home, debug=debug)
        from lookbook.blocks.workspace import load_workspace
        from lookbook.tasks.exports.copy import copy_dataset

        done: dict[str, Any] = copy_dataset(load_workspace(workspace).lake, name, output, to, layout)
    if json:
        print_json(done)
        return
    sys.stdout.write(f"{name}: {done['snapshot']} copied to {printable(done['to'])}\n")
    rows = [(folder, *counts.values()) for folder, counts in (done["folders"] | {"tables": done["tables"]}).items()]
    print_rows(["folder", "files", "sent", "bytes sent"], rows)
