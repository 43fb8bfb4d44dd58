"""Remove a dataset: readers do not find it first, then all of it goes, and then what nothing else needs."""

from __future__ import annotations

from typing import Any

from prefect import flow, get_run_logger, runtime

from lookbook.blocks.workspace import load_workspace
from lookbook.flows.endings import end_family, recorded_run
from lookbook.flows.gc import ALL, Work
from lookbook.tasks.datasets.follow import forget_dataset
from lookbook.tasks.datasets.gc import digests_that_stay, finish_dataset, is_there, remove_dataset, remove_unneeded
from lookbook.tasks.exports.finished import objects_of_export, old_exports
from lookbook.tasks.runs.lease import Hold, lease
from lookbook.tasks.runs.parameters import DatasetName, WorkspaceName
from lookbook.tasks.runs.records import end_run, start_run
from lookbook.tasks.runs.removal import Rule, age, remove_objects


@flow(name="remove", flow_run_name="remove-{dataset}", on_cancellation=[end_family], on_crashed=[end_family])
def remove(dataset: DatasetName, workspace: WorkspaceName = "local") -> dict[str, Any]:
    """Remove a dataset with all of its snapshots, tags, exports and predictions; what other datasets need stays.

    Returns:
        As of gc: ``kinds`` with the number and bytes of what is gone, and what is ``left`` to the next gc, and why.
    """
    place = load_workspace(workspace)
    registry, run_id = place.registry, str(runtime.flow_run.id)
    with recorded_run(
        registry,
        "gc",
        lambda: start_run(registry, run_id, ALL, f"remove:{dataset}"),
        lambda why: end_run(registry, run_id, None, why),
    ):
        done = remove_all(Work(place, Rule(1, age("9999w")), dataset))
        end_run(registry, run_id, done, None)
    for why in done["left"]:
        get_run_logger().warning("%s", why)
    get_run_logger().info("%s is removed: %d objects, %d bytes.", dataset, done["objects"], done["bytes"])
    return done


def remove_all(work: Work) -> dict[str, Any]:
    """Remove the dataset that the work names. Killed anywhere and done again, it is finished.

    Raises:
        LeaseHeldError: a run is at work on it.
        LookbookError: an export reads it; or there is no such dataset, and nothing is left of one.
    """
    place, name = work.place, str(work.dataset)
    work.begin()
    with lease(place.registry, f"dataset/{name}"):
        is_there(place, name)
        remove_held(work)
    work.step("objects")
    with work.noting("originals and outputs"), work.holding("gc/objects", "originals and outputs") as alone:
        if alone is not None:
            remove_unneeded(place, alone, work.amounts["objects"], work.step)
    return work.summary


def remove_held(work: Work) -> None:
    """Remove the dataset that the work names, but for originals and outputs. The caller holds the dataset's lease."""
    place, lake, name = work.place, work.place.lake, str(work.dataset)
    hold = Hold(place.registry, f"dataset/{name}")
    remove_dataset(place, name, hold, work.amounts["snapshots"], work.step)
    work.step("exports")
    with work.holding("gc/exports", f"exports of {name}") as alone:
        for export in old_exports(lake, work.rule, name, digests_that_stay(lake)) if alone else ():
            remove_objects(lake, objects_of_export(lake, export), hold, work.amounts["exports"])
    work.step("books")
    forget_dataset(place, name)
    work.step("note")
    finish_dataset(place, name, hold)
