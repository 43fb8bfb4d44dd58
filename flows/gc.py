"""Clean up: old snapshots go, and with them all that nothing needs any more; how much that is is said before."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, dataclass, field
from typing import Annotated, Any

from prefect import flow, get_run_logger, runtime
from prefect.artifacts import create_table_artifact

from lookbook.blocks.errors import LeaseLostError, LookbookError, OutOfReachError
from lookbook.blocks.lake import ObjectInfo
from lookbook.blocks.workspace import Workspace, load_workspace
from lookbook.flows.endings import end_family, recorded_run
from lookbook.tasks.datasets.gc import (
    Going,
    datasets_of,
    digests_that_stay,
    going_pieces,
    going_snapshots,
    needed_objects,
    old_batches,
    old_jobs,
    read_now,
    remove_batch,
    remove_snapshots,
    remove_unneeded,
)
from lookbook.tasks.exports.finished import objects_of_export, old_exports
from lookbook.tasks.exports.predictions import old_predictions
from lookbook.tasks.runs import progress
from lookbook.tasks.runs.lease import Hold, LeaseHeldError, lease, living_owners
from lookbook.tasks.runs.parameters import DatasetName, WorkspaceName, described
from lookbook.tasks.runs.records import end_run, start_run
from lookbook.tasks.runs.removal import (
    Age,
    Amount,
    DryRun,
    Keep,
    Rule,
    age,
    amount_of,
    at_work_here,
    old_scratch,
    old_writes,
    remove_objects,
    remove_scratch,
)
from lookbook.tasks.tables.staging import old_stages, remove_stages, staging_pipelines

DatasetOrAll = Annotated[DatasetName | None, described("Dataset", "Name of the dataset. None: all of the workspace.")]
#: The dataset in the record of a run that is of all: no dataset has this name.
ALL = "*"
#: What goes, in this order; originals and outputs are counted together.
KINDS = ("snapshots", "batches", "exports", "predictions", "stages", "objects", "writes", "scratch")


@flow(name="gc", flow_run_name="gc", on_cancellation=[end_family], on_crashed=[end_family])
def gc(
    dataset: DatasetOrAll = None,
    workspace: WorkspaceName = "local",
    keep: Keep = 10,
    older_than: Age = "30d",
    dry_run: DryRun = False,
) -> dict[str, Any]:
    """Remove old snapshots, and all that no snapshot, export, tag or run at work needs any more.

    Returns:
        The ``snapshots`` and the ``kinds`` of what goes, with the number and bytes of each; ``left``: what stays for
        now, and why; ``dry_run``: whether all of it is there still.
    """
    place, say = load_workspace(workspace), get_run_logger().info
    work = Work(place, Rule(keep, age(older_than)), dataset)
    registry, run_id = place.registry, str(runtime.flow_run.id)
    with recorded_run(
        registry,
        "gc",
        lambda: start_run(registry, run_id, ALL, f"gc:{dataset or ALL}"),
        lambda why: end_run(registry, run_id, None, why),
    ):
        found = survey(work)
        progress.going(found)
        for kind in found["kinds"]:
            say("%s: %d, %d bytes", kind["kind"], kind["objects"], kind["bytes"])
        done = (found if dry_run else remove(work)) | {"dry_run": dry_run}
        end_run(registry, run_id, done, None)
    for why in done["left"]:
        get_run_logger().warning("%s", why)
    create_table_artifact(done["kinds"], key="gc", description="What would go" if dry_run else "What is removed")
    return done


@dataclass
class Work:
    """What is to be cleaned up.

    Attributes:
        place: the workspace.
        rule: what may go.
        dataset: the one whose snapshots and exports may go; None: all.
        step: told of each step before it is done.
    """

    place: Workspace
    rule: Rule
    dataset: str | None = None
    step: Callable[[str], object] = lambda _: None
    left: list[str] = field(default_factory=list)
    snapshots: list[Going] = field(default_factory=list)
    amounts: dict[str, Amount] = field(default_factory=dict)

    def begin(self) -> None:
        """Count anew."""
        self.left, self.snapshots, self.amounts = [], [], {kind: Amount() for kind in KINDS}

    @property
    def datasets(self) -> list[str]:
        """Return the datasets that are looked at."""
        return [name for name in datasets_of(self.place.lake) if self.dataset in {None, name}]

    @property
    def summary(self) -> dict[str, Any]:
        """Return what was found, or is done."""
        rows = [{"kind": kind} | asdict(amount) for kind, amount in self.amounts.items()]
        return {
            "dataset": self.dataset,
            "snapshots": [_told(one) for one in self.snapshots],
            "kinds": rows,
            "objects": sum(row["objects"] for row in rows),
            "bytes": sum(row["bytes"] for row in rows),
            "left": self.left,
        }

    @contextmanager
    def noting(self, what: str) -> Iterator[None]:
        """Note why something stays where the block raises, unless that ends the run as well."""
        try:
            yield
        except (LeaseLostError, OutOfReachError):
            raise
        except LookbookError as error:
            self.left.append(f"{what} stay: {error.problem}")

    @contextmanager
    def holding(self, name: str, what: str) -> Iterator[Hold | None]:
        """Hold a lease while the block runs; where somebody else holds it, note that and yield None."""
        with ExitStack() as stack:
            try:
                stack.enter_context(lease(self.place.registry, name))
            except LeaseHeldError as error:
                self.left.append(f"{what} stay: {error.problem}")
                yield None
            else:
                yield Hold(self.place.registry, name)

    def count(self, kind: str, objects: Iterable[ObjectInfo]) -> None:
        """Count what would go."""
        found = amount_of(objects)
        self.amounts[kind].objects += found.objects
        self.amounts[kind].bytes += found.bytes


def _told(one: Going) -> dict[str, Any]:
    return {
        "dataset": one.dataset,
        "snapshot": one.snapshot_id,
        "created_at": one.created_at.isoformat(timespec="seconds") if one.created_at else None,
        "published": one.digest is not None,
        "bytes": sum(info.size for info in one.files),
    }


def survey(work: Work) -> dict[str, Any]:
    """Return what would go now; nothing is changed."""
    lake, rule = work.place.lake, work.rule
    work.begin()
    owners = living_owners(work.place.registry)
    others = _survey_datasets(work, owners)
    if any(name.startswith("reading/") for name in owners):
        work.left.append("exports and predictions stay: an export is at work")
    else:
        for export in old_exports(lake, rule, work.dataset, digests_that_stay(lake, work.snapshots)):
            work.count("exports", objects_of_export(lake, export))
        for folder in _predictions(work):
            work.count("predictions", lake.list(folder))
    if work.dataset is None:
        work.count("writes", old_writes(lake, rule))
        for name in staging_pipelines(lake):
            if f"pipeline/{name}" in owners:
                work.left.append(f"stages of {name} stay: a run is at work on it")
            else:
                work.count("stages", (info for at in old_stages(lake, name, rule) for info in lake.list(at)))
        _scratch(work, lambda _: None)
    if any(name.startswith("dataset/") for name in owners):
        work.left.append("originals and outputs stay: a run is at work on a dataset")
    else:
        gone = {(one.dataset, one.snapshot_id) for one in work.snapshots}
        with work.noting("originals and outputs"), needed_objects(work.place, gone, others) as needed:
            work.count("objects", needed.unneeded())
    return work.summary


def _survey_datasets(work: Work, owners: Collection[str]) -> set[str]:
    """Count the snapshots and batches that would go; returns the folders of those batches, and the pieces of tables."""
    lake, rule, registry = work.place.lake, work.rule, work.place.registry
    batches, pieces = [], list[ObjectInfo]()
    for name in work.datasets:
        if f"dataset/{name}" in owners:
            work.left.append(f"snapshots of {name} stay: a run is at work on it")
            continue
        with work.noting(f"snapshots of {name}"):
            going = going_snapshots(lake, name, rule, read_now(registry, name))
            work.snapshots += going
            pieces += going_pieces(lake, name, rule, going)
        batches += old_batches(lake, name, rule)
    work.count("snapshots", [*pieces, *(info for one in work.snapshots for info in one.files)])
    folders = [*batches, *(old_jobs(lake, rule) if work.dataset is None else ())]
    work.count("batches", (info for folder in folders for info in lake.list(folder)))
    return {*batches, *(info.key for info in pieces)}


def _predictions(work: Work) -> Iterator[str]:
    for name in work.datasets:
        yield from old_predictions(work.place.lake, name, work.rule)


def remove(work: Work) -> dict[str, Any]:
    """Remove what may go; returns what is gone. Killed anywhere nothing needed is missing, and the next run goes on."""
    lake, rule = work.place.lake, work.rule
    work.begin()
    amounts = work.amounts
    for name in work.datasets:
        with work.noting(f"snapshots of {name}"), work.holding(f"dataset/{name}", f"snapshots of {name}") as hold:
            if hold is not None:
                gone = remove_snapshots(work.place, name, rule, hold, amounts["snapshots"], work.step)
                work.snapshots += gone
                work.step("batches")
                for folder in old_batches(lake, name, rule):
                    remove_batch(lake, folder, hold, amounts["batches"])
    with work.noting("exports"), work.holding("gc/exports", "exports and predictions") as hold:
        if hold is not None:
            work.step("exports")
            for export in old_exports(lake, rule, work.dataset, digests_that_stay(lake)):
                remove_objects(lake, objects_of_export(lake, export), hold, amounts["exports"])
            for folder in _predictions(work):
                remove_objects(lake, lake.list(folder), hold, amounts["predictions"])
    if work.dataset is None:
        _left_off(work)
        _stages(work)
        _scratch(work, remove_scratch)
    with work.noting("originals and outputs"), work.holding("gc/objects", "originals and outputs") as hold:
        if hold is not None:
            remove_unneeded(work.place, hold, amounts["objects"], work.step)
    return work.summary


def _left_off(work: Work) -> None:
    lake, rule = work.place.lake, work.rule
    with work.noting("half-written objects"), work.holding("gc/writes", "half-written objects") as hold:
        if hold is not None:
            remove_objects(lake, old_writes(lake, rule), hold, work.amounts["writes"])
            for folder in old_jobs(lake, rule):
                remove_objects(lake, lake.list(folder), hold, work.amounts["batches"])


def _stages(work: Work) -> None:
    lake = work.place.lake
    for name in staging_pipelines(lake):
        what = f"stages of {name}"
        with work.noting(what), work.holding(f"pipeline/{name}", what) as hold:
            if hold is not None:
                remove_stages(lake, name, work.rule, hold, work.amounts["stages"])


def _scratch(work: Work, remove: Callable[[Any], object]) -> None:
    busy = at_work_here(work.place.registry)
    if busy:
        work.left.append(f"scratch stays: {busy[0]} is at work on this machine")
        return
    for path, amount in old_scratch(work.place.scratch, work.rule):
        remove(path)
        work.amounts["scratch"].objects += amount.objects
        work.amounts["scratch"].bytes += amount.bytes
