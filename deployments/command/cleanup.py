"""The commands `gc`, `remove` and `rename`: what nothing needs any more goes, or a whole dataset, or its name."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from typing import Annotated, Any

from cyclopts import Parameter

from lookbook.blocks.errors import UsageError
from lookbook.deployments.command.options import Debug, Json, with_checked_options
from lookbook.tasks.runs.parameters import DatasetName, NewName, WorkspaceName
from lookbook.tasks.runs.removal import Age, Keep


@with_checked_options
def gc(
    name: DatasetName | None = None,
    /,
    *,
    keep: Keep = 10,
    older_than: Age = "30d",
    dry_run: Annotated[bool, Parameter(negative="", help="Only say what would go; nothing is changed.")] = False,
    workspace: WorkspaceName = "local",
    json: Json = False,
    debug: Debug = False,
) -> None:
    """Remove old snapshots of NAME, or of all datasets, beyond the newest ones; and all that nothing needs then.

    Never: the current one, one with a tag, one that an export reads, one that was current within the last hour.
    """
    from lookbook.blocks.settings import read_settings
    from lookbook.deployments.command import progress
    from lookbook.deployments.command.output import print_json
    from lookbook.deployments.server import environment
    from lookbook.tasks.runs.progress import listening

    with progress.shown("removing") as say:
        say("starting Prefect")
        environment.prepare_server(read_settings().home, debug=debug)
        from lookbook.flows.gc import gc as flow

        say("looking")
        with listening(going=lambda found: None if json else _say(found, "goes:" if not dry_run else "would go:")):
            done: dict[str, Any] = flow(
                dataset=name, workspace=workspace, keep=keep, older_than=older_than, dry_run=dry_run
            )
    if json:
        print_json(done)
    elif not dry_run:
        sys.stdout.write(f"Removed {done['objects']:,} objects and files, {done['bytes']:,} bytes.\n")
    for why in done["left"] if not json else ():
        sys.stdout.write(f"{why[:1].upper()}{why[1:]}\n")


def _say(found: Mapping[str, Any], what: str) -> None:
    from lookbook.deployments.command.output import print_rows

    for one in found["snapshots"]:
        published = "" if one["published"] else ", never published"
        sys.stdout.write(f"{one['dataset']}: {one['snapshot']} {what[:-1]}{published}.\n")
    rows = ([row["kind"], f"{row['objects']:,}", f"{row['bytes']:,}"] for row in found["kinds"] if row["objects"])
    print_rows([what, "objects", "bytes"], rows, "Nothing goes: all that is here is needed, or young.")
    sys.stdout.flush()


@with_checked_options
def remove(
    name: DatasetName,
    /,
    *,
    yes: Annotated[bool, Parameter(negative="", help="Do not ask.")] = False,
    workspace: WorkspaceName = "local",
    json: Json = False,
    debug: Debug = False,
) -> None:
    """Remove the dataset NAME: all of its snapshots, tags, exports and predictions, and what no other dataset needs.

    Nothing brings it back. On a terminal its name is to be typed; elsewhere --yes is to be given.
    """
    from lookbook.deployments.command.datasets import run_flow
    from lookbook.deployments.command.output import print_json

    if not yes:
        _confirm(name)
    done = run_flow("remove", debug, "removing", name, dataset=name, workspace=workspace)
    if json:
        print_json(done)
        return
    sys.stdout.write(f"{name} is removed: {done['objects']:,} objects, {done['bytes']:,} bytes.\n")
    for why in done["left"]:
        sys.stdout.write(f"{why[:1].upper()}{why[1:]}\n")


def _confirm(name: str) -> None:
    """Have the name of a dataset typed before it is removed.

    Raises:
        UsageError: nobody can be asked, or something else was typed.
    """
    if not sys.stdin.isatty():
        raise UsageError(f"{name} would be removed, and nobody is here to confirm it.", "Give --yes.")
    sys.stderr.write(f"All of {name} goes, and nothing brings it back. Type its name to remove it: ")
    sys.stderr.flush()
    if sys.stdin.readline().strip() != name:
        raise UsageError(f"That is not {name}.", "Nothing was removed.")


@with_checked_options
def rename(
    name: DatasetName,
    new_name: NewName,
    /,
    *,
    workspace: WorkspaceName = "local",
    json: Json = False,
    debug: Debug = False,
) -> None:
    """Give the dataset NAME another name. Its snapshots, tags, checks and predictions go along; its exports go.

    Schedules, watches and programs that ask for the old name have to be changed by hand.
    """
    from lookbook.deployments.command.datasets import run_flow
    from lookbook.deployments.command.output import print_json

    summary = run_flow("rename", debug, "renaming", name, dataset=name, new_name=new_name, workspace=workspace)
    if json:
        print_json(summary)
    else:
        sys.stdout.write(f"{name} is {new_name} now.\n")
