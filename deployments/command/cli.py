"""The ``lookbook`` command. What is slow is imported inside the commands: help and usage errors come at once."""

from __future__ import annotations

import gc
import os
import sys
from collections.abc import Mapping
from importlib.metadata import version
from pathlib import Path
from typing import Annotated, Any

from cyclopts import App, CycloptsError, Parameter

from lookbook.blocks.errors import LookbookError, UsageError
from lookbook.deployments.command.api import api, api_key
from lookbook.deployments.command.options import Debug, Json, with_checked_options
from lookbook.deployments.command.pipelines import pipeline as pipeline_commands
from lookbook.deployments.command.server import deploy, serve
from lookbook.deployments.command.workspace import workspace as workspace_commands
from lookbook.tasks.runs.parameters import (
    BATCH_SIZE,
    BatchSize,
    CandidateName,
    DatasetName,
    DropDownload,
    Executor,
    ImageColumn,
    KeyColumn,
    Limit,
    RejectLimit,
    SnapshotName,
    SourceUri,
    WorkspaceName,
)

EXIT_FAILED = 1
EXIT_USAGE = 2
EXIT_INTERRUPTED = 130
#: New objects at which Python looks for garbage. What is imported makes half a million that stay: to look through them
#: at each 700, as Python does, takes a tenth of a start.
OBJECTS_TO_LOOK = 10_000

app = App(
    name="lookbook",
    help="Turn an image collection with its catalogue into a verified, versioned, queryable dataset.\n\n"
    "Start with: lookbook ingest photos/ --dataset shoes. Everything lies in LOOKBOOK_HOME, by default .lookbook "
    "in the current folder.",
    help_format="plaintext",
    version=lambda: version("lookbook-datasets"),
    version_flags=["--version"],
    suppress_keyboard_interrupt=False,  # main says what an interrupt leaves behind
)
for command in (deploy, serve):
    app.command(with_checked_options(command))


def main() -> None:
    """Entry of the console script: 0 done, 1 failed, 2 wrong usage, 130 interrupted."""
    # Not while an error is handled: what it holds, such as tables in DuckDB, would outlive the interpreter and say so.
    status = _done()
    if status == EXIT_INTERRUPTED:  # so would what the threads hold that were at work
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stderr.fileno())
    sys.exit(status)


def _done() -> int:  # noqa: PLR0911 - one for each way to end
    """Do the command, say how it failed, and return the status to exit with."""
    debug = "--debug" in sys.argv
    gc.set_threshold(OBJECTS_TO_LOOK)
    try:
        return app(exit_on_error=False, print_error=False) or 0
    except CycloptsError as error:
        command = " ".join(("lookbook", *(error.command_chain or ())))
        _complain(f"{error}", f'See "{command} --help".')
        return EXIT_USAGE
    except LookbookError as error:
        if debug:
            raise
        _complain(error.problem, error.way_out, error.summary)
        return EXIT_USAGE if isinstance(error, UsageError) else EXIT_FAILED
    except BrokenPipeError:  # whoever read what is printed has had enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return EXIT_FAILED
    except OSError as error:
        if debug:
            raise
        _complain(
            _disk_fault(error), "See that it is there, that you may read it, and that nobody changes it; run again."
        )
        return EXIT_FAILED
    except KeyboardInterrupt:
        _complain("Interrupted. Nothing half done was published; the same command goes on from here.", "")
        return EXIT_INTERRUPTED
    except Exception as error:
        if debug:
            raise
        _complain(
            f"{type(error).__name__}: {error}",
            "This is a fault of Lookbook: please report it. --debug shows where.",
        )
        return EXIT_FAILED


def _disk_fault(error: OSError) -> str:
    name = os.fsdecode(error.filename) if isinstance(error.filename, (str, bytes)) else ""
    return f"{name}: {error.strerror}." if name and error.strerror else f"{error}"


def _complain(problem: str, way_out: str, summary: Mapping[str, Any] | None = None) -> None:
    from lookbook.deployments.command.output import print_json, printable

    lines = [line for line in (*problem.splitlines(), *way_out.splitlines()) if line.strip()]
    sys.stderr.write("".join(f"{printable(line)}\n" for line in lines))
    if "--json" in sys.argv:
        print_json({"error": problem, "way_out": way_out} | ({"summary": summary} if summary else {}))


@app.command
@with_checked_options
def ingest(
    source: SourceUri,
    /,
    *,
    dataset: DatasetName,
    workspace: WorkspaceName = "local",
    recipe: Annotated[Path | None, Parameter(help="YAML or JSON file: outputs, sizes, formats, limits.")] = None,
    limit: Limit = None,
    batch_size: BatchSize = BATCH_SIZE,
    reject_limit: RejectLimit = 0.1,
    executor: Executor = "threads",
    drop_download: DropDownload = False,
    key: KeyColumn = None,
    image_column: ImageColumn = None,
    json: Json = False,
    debug: Debug = False,
) -> int:
    """Ingest SOURCE: draw, measure, check and publish a snapshot of DATASET."""
    from lookbook.blocks.settings import read_settings
    from lookbook.deployments.command import datasets
    from lookbook.deployments.command.output import print_json, print_summary

    home = read_settings().home
    summary = datasets.ingest(
        home,
        debug,
        {
            "source": datasets.check_source(home, source),
            "dataset": dataset,
            "workspace": workspace,
            "recipe": datasets.recipe_from(recipe),
            "limit": limit,
            "batch_size": batch_size,
            "reject_limit": reject_limit,
            "executor": executor,
            "drop_download": drop_download,
            "key": key,
            "image_column": image_column,
        },
    )
    print_json(summary) if json else print_summary(summary)
    return 0


@app.command
@with_checked_options
def plan(
    source: SourceUri,
    /,
    *,
    dataset: DatasetName,
    workspace: WorkspaceName = "local",
    recipe: Annotated[Path | None, Parameter(help="YAML or JSON file: outputs, sizes, formats, limits.")] = None,
    limit: Limit = None,
    batch_size: BatchSize = BATCH_SIZE,
    reject_limit: RejectLimit = 0.1,
    key: KeyColumn = None,
    image_column: ImageColumn = None,
    json: Json = False,
    debug: Debug = False,
) -> None:
    """Show what an ingest of SOURCE would do, by its listing: files, outputs, bytes, time; nothing is written."""
    from lookbook.blocks.settings import read_settings
    from lookbook.deployments.command.output import print_json, print_plan

    commands = _commands(debug)
    found = commands.plan(
        workspace,
        {
            "source": commands.check_source(read_settings().home, source),
            "dataset": dataset,
            "recipe": commands.recipe_from(recipe),
            "limit": limit,
            "batch_size": batch_size,
            "reject_limit": reject_limit,
            "key": key,
            "image_column": image_column,
        },
    )
    print_json(found) if json else print_plan(found)


@app.command
@with_checked_options
def replay(
    name: DatasetName,
    /,
    *,
    rule: Annotated[
        list[str], Parameter(negative="", help='Only rejects of this rule; several times. "lookbook rejects" names it.')
    ] = [],  # noqa: B006 - nothing changes it
    recipe: Annotated[
        Path | None, Parameter(help="YAML or JSON file: the snapshot's recipe with limits lifted. Else as it is.")
    ] = None,
    executor: Executor = "threads",
    workspace: WorkspaceName = "local",
    json: Json = False,
    debug: Debug = False,
) -> None:
    """Judge the rejected images of NAME again, and publish what became good."""
    from lookbook.blocks.settings import read_settings
    from lookbook.deployments.command import datasets
    from lookbook.deployments.command.output import print_json, print_replayed

    home = read_settings().home
    summary = datasets.replay(home, debug, workspace, name, rule, recipe, executor)
    print_json(summary) if json else print_replayed(summary)


@app.command
@with_checked_options
def verify(
    name: DatasetName,
    /,
    *,
    workspace: WorkspaceName = "local",
    repair: Annotated[bool, Parameter(negative="", help="Mend what can be mended, then verify again.")] = False,
    everything: Annotated[
        bool, Parameter(name="--all", negative="", help="Read older snapshots and finished exports, too.")
    ] = False,
    executor: Executor = "threads",
    json: Json = False,
    debug: Debug = False,
) -> int:
    """Read NAME's snapshot, objects, registry and warehouse again; one line per difference."""
    from lookbook.blocks.settings import read_settings
    from lookbook.deployments.command import datasets
    from lookbook.deployments.command.output import print_json, printable

    result = datasets.verify(read_settings().home, debug, workspace, name, repair, everything, executor)
    if json:
        print_json(result)
    else:
        for line in [*result["repairs"], *result["differences"]]:
            sys.stdout.write(printable(line) + "\n")
        if not result["differences"]:
            sys.stdout.write(f"{name}: {result['snapshot']} is clean, {result['objects']} objects read.\n")
    return EXIT_FAILED if result["differences"] else 0


@app.command
@with_checked_options
def rejects(
    name: DatasetName, /, *, workspace: WorkspaceName = "local", json: Json = False, debug: Debug = False
) -> None:
    """Show what was refused of NAME, by the last run if it published nothing: which rule, where."""
    from lookbook.deployments.command.output import printable

    rows, lines = _commands(debug).rejects(workspace, name)
    for line in lines if not json else []:
        sys.stdout.write(printable(line) + "\n")
    _print(rows, ["reject_id", "kind", "locator", "rule", "message"], json, "No rejects.")


@app.command
@with_checked_options
def datasets(*, workspace: WorkspaceName = "local", json: Json = False, debug: Debug = False) -> None:
    """List the datasets of a workspace."""
    rows = _commands(debug).datasets(workspace)
    faults = ["fault"] if any(row["fault"] for row in rows) else []
    empty = f"No datasets yet in workspace {workspace}{_home_of(workspace)}."
    _print(rows, ["dataset", "snapshot", "created_at", "images", "rows", *faults], json, empty)


@app.command
@with_checked_options
def snapshots(
    name: DatasetName, /, *, workspace: WorkspaceName = "local", json: Json = False, debug: Debug = False
) -> None:
    """List the snapshots of NAME, newest first, with the candidate that checks kept back."""
    rows = _commands(debug).snapshots(workspace, name)
    if not json:
        rows = [row | {"tags": ", ".join(row["tags"])} for row in rows]
        rows = [row | {"failed_checks": ", ".join(row["failed_checks"])} for row in rows]
    more = [
        column for column in ("candidate", "failed_checks", "tags", "restored_from") if any(row[column] for row in rows)
    ]
    _print(rows, ["snapshot", "current", *more, "created_at", "source", "images", "rows"], json, "No snapshots.")


@app.command
@with_checked_options
def tag(
    name: DatasetName,
    tag: Annotated[str | None, Parameter(help="The tag: letters, digits, . _ and -. Without: all are listed.")] = None,
    snapshot: Annotated[
        str | None, Parameter(help="Id of the snapshot, or another tag of it. Without: the current one.")
    ] = None,
    /,
    *,
    move: Annotated[bool, Parameter(negative="", help="Let it name this snapshot from now, and no other.")] = False,
    remove: Annotated[bool, Parameter(negative="", help="Remove the tag; the snapshot stays.")] = False,
    workspace: WorkspaceName = "local",
    json: Json = False,
    debug: Debug = False,
) -> None:
    """Give a snapshot of NAME a name that works wherever its id does; or list NAME's tags."""
    from lookbook.deployments.command.output import print_json

    if remove and (move or snapshot):
        raise UsageError("--remove takes a tag alone.", f"lookbook tag {name} {tag or 'TAG'} --remove")
    if tag is None and (move or remove):
        raise UsageError("--move and --remove are for one tag, and none is named.", f"lookbook tag {name} TAG …")
    if tag is None:
        rows = _commands(debug).tags(workspace, name)
        _print(rows, ["tag", "snapshot", "tagged_at"], json, f"No tags of {name} yet.")
        return
    done = _commands(debug).tag(workspace, name, tag, snapshot, move=move, remove=remove)
    if json:
        print_json(done)
    elif done["snapshot"] is None:
        sys.stdout.write(f"{name}: {tag} is removed; it named {done['before']}.\n")
    else:
        until = f" (until now {done['before']})" if done["before"] not in {None, done["snapshot"]} else ""
        sys.stdout.write(f"{name}: {tag} names {done['snapshot']}{until}.\n")


@app.command
@with_checked_options
def restore(
    name: DatasetName,
    snapshot: SnapshotName,
    /,
    *,
    workspace: WorkspaceName = "local",
    json: Json = False,
    debug: Debug = False,
) -> None:
    """Publish a new snapshot of NAME that equals SNAPSHOT, an older one or a tag."""
    from lookbook.deployments.command.datasets import run_flow
    from lookbook.deployments.command.output import print_json, printable

    asked = {"dataset": name, "snapshot": snapshot, "workspace": workspace}
    summary = run_flow("restore", debug, "restoring", snapshot, **asked)
    if json:
        print_json(summary)
    else:
        said = summary["note"] or f"{summary['snapshot']} equals {summary['restored_from']}, and readers see it"
        sys.stdout.write(f"{name}: {said}.\n{printable(summary['report'])}\n")


@app.command
@with_checked_options
def checks(
    name: DatasetName | None = None,
    /,
    *,
    set_: Annotated[
        Path | None, Parameter(name="--set", help="YAML file of checks: they replace those that hold until now.")
    ] = None,
    remove: Annotated[bool, Parameter(negative="", help="Remove them: what is ingested is published.")] = False,
    schema: Annotated[bool, Parameter(negative="", help="Print the JSON Schema of such a file instead.")] = False,
    workspace: WorkspaceName = "local",
    json: Json = False,
    debug: Debug = False,
) -> None:
    """Show, set or remove the checks that NAME's ingests have to pass before they publish."""
    from lookbook.deployments.command.output import print_json

    if schema:
        sys.stdout.write(_commands(debug).checks_schema())
        return
    if name is None:
        raise UsageError("No dataset is named.", "lookbook checks NAME, or lookbook checks --schema")
    if set_ is not None and remove:
        raise UsageError("--set and --remove: only one of them can be done.", "Give one or none.")
    if set_ is not None or remove:
        _commands(debug).set_checks(workspace, name, set_)
    rows = _commands(debug).checks(workspace, name)
    if json:
        print_json({"dataset": name, "checks": rows})
    elif set_ is not None:
        sys.stdout.write(f"{name}: {len(rows)} check{'' if len(rows) == 1 else 's'} from the next ingest on.\n")
    elif remove:
        sys.stdout.write(f"{name}: no checks from the next ingest on.\n")
    else:
        rows = [row | {"sql": " ".join(row["sql"].split())} for row in rows]
        _print(rows, ["name", "level", "says", "sql"], json, f"No checks of {name}.")


@app.command
@with_checked_options
def publish(
    name: DatasetName,
    candidate: CandidateName = None,
    /,
    *,
    workspace: WorkspaceName = "local",
    json: Json = False,
    debug: Debug = False,
) -> None:
    """Publish the candidate of NAME that an ingest left, although checks failed."""
    from lookbook.deployments.command.datasets import run_flow
    from lookbook.deployments.command.output import print_json, printable

    asked = {"dataset": name, "candidate": candidate, "workspace": workspace}
    summary = run_flow("publish", debug, "publishing", candidate or "the candidate", **asked)
    if json:
        print_json(summary)
    else:
        over = ", ".join(summary["overridden"])
        said = summary["note"] or f"{summary['snapshot']} is current, although these checks failed: {over}"
        sys.stdout.write(f"{name}: {said}.\n{printable(summary['report'])}\n")


@app.command
@with_checked_options
def runs(
    name: DatasetName | None = None,
    /,
    *,
    workspace: WorkspaceName = "local",
    json: Json = False,
    debug: Debug = False,
) -> None:
    """List the runs of NAME, or of all datasets: when, what, counts, how they ended."""
    rows = _commands(debug).runs(workspace, name)
    if not json:  # the way out is for whoever ran it; a table has room for the problem
        rows = [row | {"error": (row["error"] or "").partition("\n")[0]} for row in rows]
    columns = ["started_at", "dataset", "source", "status", "counts", "snapshot_id", "error"]
    _print(rows, columns, json, f"No runs of {name}." if name else "No runs yet.")


@app.command
@with_checked_options
def query(
    sql: Annotated[str, Parameter(help='One SELECT over tables that "lookbook tables" names.')],
    /,
    *,
    workspace: WorkspaceName = "local",
    json: Json = False,
    csv: Annotated[bool, Parameter(negative="", help="Print CSV.")] = False,
    dry_run: Annotated[bool, Parameter(negative="", help="Check it, and print the bytes that it would bill.")] = False,
    debug: Debug = False,
) -> None:
    """Ask the tables of warehouse and lake."""
    from lookbook.deployments.command.output import print_query_cost, unique_names

    if dry_run:
        print_query_cost(_commands(debug).query_cost(workspace, sql), as_json=json)
        return
    if json and csv:
        raise UsageError("--json and --csv: only one of them can be printed.", "Give one or none.")
    table = _commands(debug).query(workspace, sql)
    if csv:
        import pyarrow.csv

        pyarrow.csv.write_csv(table, sys.stdout.buffer)
    else:
        table = table.rename_columns(unique_names(table.column_names))
        _print(table.to_pylist(), table.column_names, json, "No rows.")


@app.command(name="open")
@with_checked_options
def open_report(
    name: DatasetName, /, *, workspace: WorkspaceName = "local", json: Json = False, debug: Debug = False
) -> None:
    """Print where NAME's report lies, and open it where there is a display."""
    from lookbook.deployments.command.output import print_json

    path = _commands(debug).open_report(workspace, name)
    print_json({"report": path}) if json else sys.stdout.write(path + "\n")


@app.command
def stop(*, json: Json = False, debug: Debug = False) -> None:
    """End the embedded servers of this home."""
    from lookbook.blocks.settings import read_settings
    from lookbook.deployments.command.output import print_json

    ended = _commands(debug).stop(read_settings().home)
    if json:
        print_json(ended)
    else:
        names = " and ".join(name for name, was in ended.items() if was)
        sys.stdout.write(f"Ended {names}.\n" if names else "No server was running.\n")


app.command(
    "lookbook.deployments.command.exports:copy",
    name="copy",
    help="Copy a dataset's images and tables to a folder or a bucket.",
)
app.command(
    "lookbook.deployments.command.exports:export", name="export", help="Export images and metadata, ready to train on."
)
app.command(
    "lookbook.deployments.command.differences:diff",
    name="diff",
    help="Show what differs between two snapshots of a dataset.",
)
app.command(
    "lookbook.deployments.command.cleanup:gc", name="gc", help="Remove old snapshots, and what nothing needs any more."
)
app.command(
    "lookbook.deployments.command.cleanup:remove", name="remove", help="Remove a dataset, with all that is of it alone."
)
app.command("lookbook.deployments.command.cleanup:rename", name="rename", help="Give a dataset another name.")
app.command("lookbook.deployments.command.cleanup:forget", name="forget", help="Delete products and images on request.")
app.command(
    "lookbook.deployments.command.tables:tables", name="tables", help="List the tables of warehouse, lake and registry."
)
app.command("lookbook.deployments.command.tables:describe", name="describe", help="Show a table's columns and origin.")
app.command(workspace_commands)
app.command(api)
app.command(api_key)
app.command(pipeline_commands)
app.command("lookbook.deployments.command.imports:import_", name="import", help="Import a table once, without a spec.")
app.command(
    "lookbook.deployments.command.imports:orchestrate", name="orchestrate", help="Run the steps of an orchestration."
)
app.command(
    "lookbook.deployments.command.api:receive", name="receive", help="Take Pub/Sub's messages and announce changes."
)


def _home_of(workspace: str) -> str:
    from lookbook.blocks.settings import read_settings

    return f" ({read_settings().home})" if workspace == "local" else ""


def _commands(debug: bool) -> Any:  # noqa: ANN401 - a module
    """Return the commands' work, with Prefect's settings in place before anything imports Prefect."""
    from lookbook.blocks.settings import read_settings
    from lookbook.deployments.command import datasets
    from lookbook.deployments.server import environment

    environment.prepare(read_settings().home, debug=debug)
    return datasets


def _print(rows: list[dict[str, Any]], columns: list[str], json: bool, empty: str) -> None:
    from lookbook.deployments.command.output import print_json, print_rows

    if json:
        print_json(rows)
    else:
        print_rows(columns, ([row[column] for column in columns] for row in rows), empty)
