"""The commands `gc`, `forget`, `remove`, `rename`: what nothing needs or what is named goes, a dataset, its name."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
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


def _confirm(name: str, what: str = "All") -> None:
    """Have the name of a dataset typed before something of it is removed.

    Raises:
        UsageError: nobody can be asked, or something else was typed.
    """
    if not sys.stdin.isatty():
        raise UsageError(f"{what} of {name} would be removed, and nobody is here to confirm it.", "Give --yes.")
    sys.stderr.write(f"{what} of {name} goes, and nothing brings it back. Type its name to remove it: ")
    sys.stderr.flush()
    if sys.stdin.readline().strip() != name:
        raise UsageError(f"That is not {name}.", "Nothing was removed.")


@with_checked_options
def forget(
    name: DatasetName,
    /,
    *keys: Annotated[str, Parameter(help="Keys of products, or paths of images, as the dataset's tables have them.")],
    where: Annotated[
        Sequence[str],
        Parameter(negative="", help="A condition as of exports; products of the rows that it chooses go."),
    ] = (),
    list: Annotated[bool, Parameter(negative="", help="Show what was forgotten before, without names.")] = False,  # noqa: A002
    dry_run: Annotated[bool, Parameter(negative="", help="Only say how much would go; nothing is changed.")] = False,
    yes: Annotated[bool, Parameter(negative="", help="Do not ask.")] = False,
    workspace: WorkspaceName = "local",
    json: Json = False,
    debug: Debug = False,
) -> int:
    """Delete products and images of NAME on request: from all snapshots, exports, books; no ingest takes them up again.

    A product's images go with it. Nothing brings them back. On a terminal the dataset's name is to be typed; elsewhere
    --yes is to be given. Without KEY and --where, what a killed run has begun is finished.
    """
    from lookbook.deployments.command.output import print_json

    if list:
        return _show_forgotten(name, workspace, json)
    if not yes and not dry_run:
        _confirm(name, "What is named")
    kept: dict[str, Any] = {"kept": []}
    asked = {"dataset": name, "keys": [*keys], "where": [*where], "workspace": workspace, "dry_run": dry_run}
    done = _forgotten(debug, name, asked, kept)
    if json:
        print_json(done | {"kept_images": kept["kept"]})
    else:
        _say_forgotten(done, kept["kept"])
    return 1 if done["unknown"] else 0


def _forgotten(debug: bool, name: str, asked: dict[str, Any], kept: dict[str, Any]) -> dict[str, Any]:
    from lookbook.blocks.settings import read_settings
    from lookbook.deployments.command import progress
    from lookbook.deployments.server import environment
    from lookbook.tasks.runs.progress import listening

    with progress.shown("forgetting") as say:
        say("starting Prefect")
        environment.prepare_server(read_settings().home, debug=debug)
        from lookbook.flows.forget import forget as flow

        say(name)
        with listening(going=kept.update):
            done: dict[str, Any] = flow(**asked)
    return done


def _say_forgotten(done: Mapping[str, Any], kept: Sequence[str]) -> None:
    from lookbook.deployments.command.output import print_rows, printable

    if done.get("dry_run"):
        counts = ", ".join(_counted(done[what], what) for what in ("products", "images", "contents", "rejects"))
        places = (_counted(len(done[what]), what) for what in ("snapshots", "exports"))
        sys.stdout.write(f"Would go: {counts}; from {' and '.join(places)}.\n")
    elif not (done["products"] or done["images"] or done["rejects"]):
        sys.stdout.write("Nothing to do: what is named was forgotten before.\n")
    else:
        proof = done["proof"]
        gone = " and ".join(_counted(len(done[what]), what) for what in ("products", "images"))
        rows = ([row["place"], f"{row['objects']:,}", f"{row['bytes']:,}"] for row in done["removed"])
        print_rows(["removed:", "objects", "bytes"], rows, "No object of the lake was removed.")
        sys.stdout.write(f"Made anew without them: {_counted(len(done['snapshots']), 'snapshots')}.\n")
        read = f"{_counted(proof['objects'], 'objects')}, {_counted(proof['bytes'], 'bytes')} were read"
        sys.stdout.write(f"{gone} of {done['dataset']} forgotten; {read}, and nothing of them was found.\n")
    for one in kept:
        sys.stdout.write(printable(f"Kept: {one}") + "\n")
    for why in done.get("left", ()):
        sys.stdout.write(f"{why[:1].upper()}{why[1:]}\n")
    for key in done["unknown"]:
        sys.stdout.write(printable(f"Unknown, and so nothing was done for it: {key}") + "\n")


def _counted(number: int, what: str) -> str:
    return f"{number:,} {what.removesuffix('s') if number == 1 else what}"


def _show_forgotten(name: str, workspace: str, json: bool) -> int:
    from lookbook.blocks.workspace import load_workspace
    from lookbook.deployments.command.output import print_json, print_rows
    from lookbook.tasks.images.tombstones import read_tombstones

    burials = [each.model_dump(mode="json") for each in read_tombstones(load_workspace(workspace).lake, name).burials]
    if json:
        print_json(burials)
        return 0
    columns = ["forgotten_at", "products", "images", "contents", "run_id"]
    rows = ([str(each[column]) for column in columns] for each in burials)
    print_rows(columns, rows, f"Nothing was ever forgotten of {name}.")
    return 0


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
