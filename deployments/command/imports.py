"""The commands ``lookbook import`` and ``lookbook orchestrate …``."""

from __future__ import annotations

from typing import Annotated, Literal

from cyclopts import App, Parameter

from lookbook.deployments.command.options import Debug, Json, with_checked_options
from lookbook.deployments.command.pipelines import Date, print_problems, work_with
from lookbook.tasks.runs.parameters import PipelineName, RejectLimit, WorkspaceName

orchestrate = App(name="orchestrate", help="Run the steps of an orchestration: pipelines, ingests and imports.")


@with_checked_options
def import_(
    source: Annotated[
        str,
        Parameter(
            help="A path, with or without wildcards; http(s)://…; lake://key; inbox://name; or connector:BLOCK/TABLE."
        ),
    ],
    /,
    *,
    table: Annotated[str, Parameter(help="Name of the table: lower-case letters, digits and _.")],
    to: Annotated[Literal["lake", "registry", "warehouse"], Parameter(help="Where the table is.")] = "warehouse",
    write_disposition: Annotated[
        Literal["append", "replace", "merge"], Parameter(help="merge needs a primary key.")
    ] = "append",
    primary_key: Annotated[
        list[str] | None, Parameter(negative="", help="A column that names a row; repeatable.")
    ] = None,
    format: Annotated[  # noqa: A002 - what users call it
        Literal["auto", "csv", "tsv", "json", "jsonl", "parquet"], Parameter(help="auto: by the name.")
    ] = "auto",
    skip: Annotated[int, Parameter(help="Lines before the header of CSV, such as a title.")] = 0,
    decimal: Annotated[Literal[".", ","], Parameter(help="Sign before the fraction of a number in CSV.")] = ".",
    allow_private: Annotated[bool, Parameter(negative="", help="Take addresses of private networks, too.")] = False,
    reject_limit: RejectLimit = 0.1,
    date: Date = None,
    workspace: WorkspaceName = "local",
    json: Json = False,
    debug: Debug = False,
) -> None:
    """Import SOURCE as a table, once and without a spec.

    The same source again takes the place of what it had brought; another one adds to the table.
    """
    from lookbook.deployments.command.output import print_json, print_pipeline

    parameters = {
        "source": source,
        "table": table,
        "to": to,
        "write_disposition": write_disposition,
        "primary_key": primary_key or [],
        "format": format,
        "skip": skip,
        "decimal": decimal,
        "allow_private": allow_private,
        "reject_limit": reject_limit,
        "workspace": workspace,
    }
    summary = work_with(debug).import_table(parameters, date, debug=debug)
    print_json(summary) if json else print_pipeline(summary)


@orchestrate.command
def validate(*, json: Json = False, debug: Debug = False) -> int:
    """Check orchestrate.yaml: one line per fault, with file, line and column."""
    return print_problems(work_with(debug).validate_orchestrations(), "No orchestrations yet", json=json)


@orchestrate.command
@with_checked_options
def run(
    name: PipelineName,
    /,
    *,
    date: Date = None,
    workspace: WorkspaceName = "local",
    json: Json = False,
    debug: Debug = False,
) -> None:
    """Run the orchestration NAME; run again for the same date, it goes on where it failed."""
    from lookbook.deployments.command.output import print_json, print_rows

    summary = work_with(debug).orchestrate(name, date, workspace, debug=debug)
    if json:
        print_json(summary)
    else:
        print_rows(["step", "outcome"], summary["steps"].items())
