"""Rename a dataset: it is made under the new name, registry and warehouse follow, and the old name goes."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from prefect import flow, get_run_logger, runtime

from lookbook.blocks.errors import UsageError
from lookbook.blocks.workspace import Workspace, load_workspace
from lookbook.flows.endings import end_family, recorded_run
from lookbook.flows.gc import Work
from lookbook.flows.ingest import announce_published, catch_up, index_in_registry, load_warehouse
from lookbook.flows.remove import remove_held
from lookbook.tasks.datasets.gc import datasets_of, is_there
from lookbook.tasks.datasets.manifest import read_published, require_published
from lookbook.tasks.datasets.rename import check_names, end_renaming, make_renamed, rename_runs
from lookbook.tasks.runs.lease import lease
from lookbook.tasks.runs.parameters import DatasetName, NewName, WorkspaceName
from lookbook.tasks.runs.records import end_run, start_run
from lookbook.tasks.runs.removal import Rule, age


@flow(name="rename", flow_run_name="rename-{dataset}", on_cancellation=[end_family], on_crashed=[end_family])
def rename(dataset: DatasetName, new_name: NewName, workspace: WorkspaceName = "local") -> dict[str, Any]:
    """Give a dataset another name: its snapshots keep their ids, its tags, checks and predictions go along.

    Its exports go: they were made of the old name. Schedules and watches that name it have to be changed by hand.

    Returns:
        The summary of the snapshot that is current under the new name.
    """
    place = load_workspace(workspace)
    registry, run_id = place.registry, str(runtime.flow_run.id)
    with recorded_run(
        registry,
        f"dataset/{new_name}",
        lambda: start_run(registry, run_id, new_name, f"rename:{dataset}"),
        lambda why: end_run(registry, run_id, None, why),
    ):
        rename_all(
            place,
            dataset,
            new_name,
            before=lambda: catch_up(place, workspace, dataset),
            follow=lambda: (index_in_registry(workspace, new_name), load_warehouse(workspace, new_name)),
        )
        summary = require_published(place.lake, new_name).manifest.summary
        end_run(registry, run_id, summary, None)
    announce_published(workspace, new_name)  # after the lease is given back: what follows may want it
    get_run_logger().info("%s is %s now.", dataset, new_name)
    return summary


def rename_all(
    place: Workspace,
    old: str,
    new: str,
    *,
    before: Callable[[], object] = lambda: None,
    follow: Callable[[], object] = lambda: None,
    step: Callable[[str], object] = lambda _: None,
) -> None:
    """Rename a dataset; the caller holds the lease of the new one. Killed anywhere and done again, it is finished.

    Args:
        place: where it lives.
        old: its name.
        new: the name that it gets.
        before: called before anything is copied.
        follow: called when the new name is published, before the old one goes.
        step: told of each step before it is done.

    Raises:
        UsageError: both names are one.
        LeaseHeldError: a run is at work on it.
        LookbookError: as `check_names` and `make_renamed`.
    """
    if old == new:
        raise UsageError(f"{old} has this name already.", "Give another one.")
    with lease(place.registry, f"dataset/{old}"):
        check_names(place, old, new)
        if read_published(place.lake, old) is not None:
            before()
        make_renamed(place, old, new, step)
        step("follow")
        rename_runs(place, old, new)
        follow()
        if old in datasets_of(place.lake):
            is_there(place, old)
            work = Work(place, Rule(1, age("9999w")), old, step)
            work.begin()
            remove_held(work)
        step("end")
        end_renaming(place, new)
