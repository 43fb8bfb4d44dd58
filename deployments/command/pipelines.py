"""The commands ``lookbook pipeline …``. What is slow is imported inside: help and usage errors come at once."""

from __future__ import annotations

import sys
from pathlib import Path
from types import ModuleType
from typing import Annotated, Any

from cyclopts import App, Parameter

from lookbook.deployments.command.options import Debug, Json, with_checked_options
from lookbook.tasks.runs.parameters import Again, PipelineName, WorkspaceName

pipeline = App(
    name="pipeline", help="Run and deploy pipelines: tables beside the images, each described by a YAML file."
)

Date = Annotated[
    str | None,
    Parameter(help="The date that the run is about: 2026-03-01 or 2026-03-01T09:00. By default the last tick."),
]
Param = Annotated[
    list[str] | None,
    Parameter(name="--param", negative="", help="key=value, in place of what the spec says under params; repeatable."),
]
EXIT_FAILED = 1


@pipeline.command(name="list")
@with_checked_options
def list_pipelines(*, workspace: WorkspaceName = "local", json: Json = False, debug: Debug = False) -> None:
    """List the pipelines: what starts them, and how their last run ended."""
    from lookbook.deployments.command.output import print_json, print_rows

    rows = work_with(debug).list_pipelines(workspace)
    if json:
        print_json(rows)
        return
    columns = ["pipeline", "starts", "tasks", "last_date", "status", "rows", "error"]
    print_rows(columns, ([row[column] for column in columns] for row in rows), "No pipelines yet.")


@pipeline.command
def validate(*files: Path, json: Json = False, debug: Debug = False) -> int:
    """Check specs, by default all of the folder: one line per fault, with file, line and column."""
    return print_problems(work_with(debug).validate(list(files)), "No pipelines yet", json=json)


@pipeline.command
@with_checked_options
def run(
    name: PipelineName,
    /,
    *,
    date: Date = None,
    param: Param = None,
    again: Again = False,
    workspace: WorkspaceName = "local",
    json: Json = False,
    debug: Debug = False,
) -> None:
    """Run the pipeline NAME for one date."""
    from lookbook.deployments.command.output import print_json, print_pipeline

    summary = work_with(debug).run(name, date, param or [], workspace, again=again, debug=debug)
    print_json(summary) if json else print_pipeline(summary)


@pipeline.command
@with_checked_options
def backfill(
    name: PipelineName,
    /,
    *,
    from_: Annotated[str, Parameter(name="--from", help="The first date.")],
    to: Annotated[str, Parameter(help="The last date; a whole day where it names no time.")],
    again: Annotated[
        bool, Parameter(negative="", help="Run dates that are done, and load what is unchanged, too.")
    ] = False,
    param: Param = None,
    workspace: WorkspaceName = "local",
    json: Json = False,
    debug: Debug = False,
) -> None:
    """Run NAME for each tick of its schedule from one date to another (without a schedule, for each day), each once.

    It stops at the first failure; the same command goes on from there.
    """
    from lookbook.deployments.command.output import print_backfill, print_json

    done = work_with(debug).backfill(name, (from_, to), param or [], workspace, again=again, debug=debug)
    print_json(done) if json else print_backfill(name, done)


@pipeline.command
def deploy(
    *,
    prune: Annotated[bool, Parameter(negative="", help="Remove what was deployed of specs that are gone.")] = False,
    json: Json = False,
    debug: Debug = False,
) -> int:
    """Deploy the pipelines and orchestrations on the Prefect server of PREFECT_API_URL or the active profile."""
    from dataclasses import asdict

    from lookbook.deployments.command.output import print_json
    from lookbook.deployments.command.server import print_changes

    api, done = work_with(debug).deploy(prune=prune, debug=debug)
    print_json({"server": api} | asdict(done)) if json else print_changes(done)
    return EXIT_FAILED if done.broken else 0


@pipeline.command
@with_checked_options
def rejects(
    name: PipelineName, /, *, workspace: WorkspaceName = "local", json: Json = False, debug: Debug = False
) -> None:
    """Show the rows of NAME that were set aside: which rule, where they stand, and the row itself."""
    from lookbook.deployments.command.output import print_json, print_rows

    rows = work_with(debug).rejects(workspace, name)
    if json:
        print_json(rows)
        return
    columns = ["reject_id", "table_name", "rule", "message", "input", "line", "raw"]
    print_rows(columns, ([row[column] for column in columns] for row in rows), "No rejects.")


@pipeline.command
@with_checked_options
def replay(
    name: PipelineName, /, *, workspace: WorkspaceName = "local", json: Json = False, debug: Debug = False
) -> None:
    """Take up the rejects of NAME again, with its spec as it stands now: those that fit are loaded."""
    from lookbook.deployments.command.output import print_json, print_replay

    done = work_with(debug).replay(workspace, name)
    print_json(done) if json else print_replay(done)


@pipeline.command
def schema(
    *,
    write: Annotated[bool, Parameter(negative="", help="Write it beside the specs, for editors.")] = False,
    debug: Debug = False,
) -> None:
    """Print the JSON Schema of specs."""
    work = work_with(debug)
    if write:
        for path in work.write_schemas():
            sys.stdout.write(f"{path}\n")
    else:
        sys.stdout.write(work.schema())


def print_problems(found: dict[str, Any], none_yet: str, *, json: bool) -> int:
    """Print what is wrong with specs, a line each; returns the command's exit code."""
    from lookbook.deployments.command.output import print_json, printable

    if json:
        print_json(found)
    else:
        for one in found["problems"]:
            sys.stdout.write(printable(one["text"]) + "\n")
        if not found["problems"]:
            sys.stdout.write(f"{', '.join(found['valid']) or none_yet}: nothing is wrong.\n")
    return EXIT_FAILED if found["problems"] else 0


def work_with(debug: bool) -> ModuleType:
    """Return `pipeline_work` with Prefect's settings in place before anything imports Prefect."""
    from lookbook.blocks.settings import read_settings
    from lookbook.deployments.server import environment

    environment.prepare(read_settings().home, debug=debug)
    from lookbook.deployments.command import pipeline_work

    return pipeline_work
