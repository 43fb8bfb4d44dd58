"""Delete on request: what is named goes from all of a dataset and never comes back; a receipt says so, and a proof."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Annotated, Any

import httpx
from prefect import flow, get_run_logger, runtime
from prefect.artifacts import create_table_artifact
from prefect.client.orchestration import get_client
from prefect.client.schemas.filters import FlowFilter, FlowFilterName

from lookbook.blocks.errors import LookbookError, UsageError
from lookbook.blocks.workspace import Workspace, load_workspace
from lookbook.flows.endings import end_family, max_wait, recorded_run
from lookbook.flows.ingest import announce_published, catch_up, index_in_registry, load_warehouse
from lookbook.tasks.datasets.forgetting import (
    BOOKS,
    Receipt,
    begin,
    find_targets,
    finish,
    finish_rewriting,
    holds,
    manifests_of,
    publish_without,
    read_targets,
    remove_leftovers,
    remove_notes,
    remove_pieces,
    rewrite_snapshots,
    strip_registry,
)
from lookbook.tasks.datasets.gc import datasets_of, remove_unneeded
from lookbook.tasks.datasets.manifest import read_published
from lookbook.tasks.datasets.proof import Search, search_all
from lookbook.tasks.datasets.stripping import GONE, Targets
from lookbook.tasks.exports.finished import objects_of_export
from lookbook.tasks.exports.forgetting import chosen_keys, exports_holding, exports_of, strip_predictions
from lookbook.tasks.images.tombstones import read_tombstones
from lookbook.tasks.runs import progress
from lookbook.tasks.runs.lease import Hold, lease, warehouse_lease
from lookbook.tasks.runs.parameters import DatasetName, Keys, WorkspaceName, described
from lookbook.tasks.runs.records import end_run, start_run
from lookbook.tasks.runs.removal import (
    DryRun,
    Rule,
    at_work_here,
    old_scratch,
    old_writes,
    remove_objects,
    remove_scratch,
)
from lookbook.tasks.tables.staging import objects_of_stage, old_stages, staging_pipelines

Where = Annotated[
    list[str],
    described(
        "Where",
        "Conditions on the current snapshot, as of exports, that all have to hold: the products of the rows that they "
        "choose are forgotten, too.",
        max_length=100,
    ),
]
#: Nothing is too young to go.
ALL_OF_IT = Rule(1, timedelta(0), timedelta(0))
#: Places that an error names.
NAMED = 3


@flow(name="forget", flow_run_name="forget-{dataset}", on_cancellation=[end_family], on_crashed=[end_family])
def forget(
    dataset: DatasetName,
    keys: Keys = [],  # noqa: B006 - nothing changes it, and Prefect's form shows it
    where: Where = [],  # noqa: B006 - as above
    workspace: WorkspaceName = "local",
    dry_run: DryRun = False,
) -> dict[str, Any]:
    """Delete products and images of a dataset on request, wherever they lie, and let no later ingest take them up.

    Without keys and conditions, what a killed run has begun is finished.

    Returns:
        The receipt, which stays in the lake: marks of what went, what is ``removed`` by place, ``kept`` and why,
        the ``proof``; and ``unknown``: keys that mean nothing here.
    """
    place, logger = load_workspace(workspace), get_run_logger()
    registry, run_id = place.registry, str(runtime.flow_run.id)
    job = Job(place, dataset, run_id, max_wait(), lambda why: logger.info("Waiting: %s", why))
    with recorded_run(
        registry,
        "gc",
        lambda: start_run(registry, run_id, dataset, "forget"),
        lambda why: end_run(registry, run_id, None, why),
    ):
        if dry_run:
            found = survey(job, keys, where)
            end_run(registry, run_id, _recorded(found), None)
            _leave_no_names(dataset)
            return found
        done = forget_all(
            job,
            keys,
            where,
            before=lambda: catch_up(place, workspace, dataset),
            follow=lambda: (index_in_registry(workspace, dataset), load_warehouse(workspace, dataset)),
        )
        end_run(registry, run_id, _recorded(done), None)
    if read_published(place.lake, dataset) is not None:
        announce_published(workspace, dataset)  # after the lease is given back: what follows may want it
    _leave_no_names(dataset)
    create_table_artifact(done["removed"], key="forgotten", description=f"What was deleted on request of {dataset}")
    logger.info(
        "%s: %d products and %d images are forgotten; %d objects read, nothing of them found.",
        *(dataset, len(done["products"]), len(done["images"]), done["proof"]["objects"]),
    )
    return done


def _recorded(done: dict[str, Any]) -> dict[str, Any]:
    """Return what the books say of a run: numbers; marks stand in the receipt alone, and names nowhere."""
    counted = ("products", "images", "contents", "rejects", "kept", "unknown")
    numbers = {name: value if isinstance(value := done[name], int) else len(value) for name in counted}
    return {name: value for name, value in done.items() if name not in counted} | {"forgotten": numbers}


def _leave_no_names(dataset: str) -> None:
    """Leave no names in what Prefect keeps of this run, and of those before it that have ended."""
    alike = FlowFilter(name=FlowFilterName(any_=["forget"]))
    try:
        with get_client(sync_client=True) as client:
            for run in client.read_flow_runs(flow_filter=alike):
                own, names = (
                    str(run.id) == runtime.flow_run.id,
                    [run.parameters.get(name) for name in ("keys", "where")],
                )
                ended = run.state is not None and run.state.is_final()
                if run.parameters.get("dataset") == dataset and (own or ended) and any(names):
                    hidden = {"keys": [GONE] * bool(names[0]), "where": [GONE] * bool(names[1])}
                    client.update_flow_run(run.id, parameters=run.parameters | hidden)
    except httpx.HTTPError as error:
        get_run_logger().warning("Prefect keeps the keys among the parameters of runs: %s", error)


@dataclass
class Job:
    """What is forgotten where, by which run.

    Attributes:
        wait: seconds to wait for runs that are at work.
        waiting: told what is waited for.
        step: told of each step before it is done.
    """

    place: Workspace
    dataset: str
    run_id: str
    wait: float = 0
    waiting: Callable[[str], object] = lambda _: None
    step: Callable[[str], object] = lambda _: None
    unknown: list[str] = field(default_factory=list)

    @contextmanager
    def holding(self, name: str) -> Iterator[Hold]:
        """Hold a lease while the block runs."""
        with lease(self.place.registry, name, self.wait, self.waiting):
            yield Hold(self.place.registry, name)


def survey(job: Job, keys: list[str], where: list[str]) -> dict[str, Any]:
    """Return what would go, in numbers; nothing is changed.

    Raises:
        UsageError: nothing here is called so.
        LookbookError: there is no such dataset, or a snapshot is damaged.
    """
    lake, dataset = job.place.lake, job.dataset
    targets, again = _targets(job, keys, where)
    return _told(targets) | {
        "dataset": dataset,
        "dry_run": True,
        "snapshots": [one.snapshot_id for one in manifests_of(lake, dataset) if holds(lake, one, targets)],
        "exports": exports_holding(lake, dataset, targets),
        "unknown": job.unknown,
        "forgotten_before": len(again),
    }


def _told(targets: Targets) -> dict[str, Any]:
    """Return how much goes; who listens hears what stays, by its name."""
    reasons = sorted((kind, value, why) for kind, value, why in targets.kept)
    progress.going({"kept": [f"{value}: {why}" for kind, value, why in reasons if kind == "image"]})
    names = ("products", "images", "contents", "rejects", "kept")
    return {name: len(getattr(targets, name)) for name in names}


def _targets(job: Job, keys: list[str], where: list[str]) -> tuple[Targets, list[str]]:
    lake, dataset = job.place.lake, job.dataset
    if dataset not in datasets_of(lake):
        raise LookbookError(f"{dataset}: no such dataset here.", 'See "lookbook datasets".')
    chosen = chosen_keys(lake, dataset, where) if where else []
    targets, job.unknown, again = find_targets(job.place, dataset, [*keys, *chosen], job.run_id)
    earlier = read_targets(lake, dataset)
    if targets.is_empty and earlier is None and not again:
        if not keys and not where:
            raise UsageError("Nothing is named that is to be forgotten.", "Give KEY, or --where.")
        named = ", ".join(job.unknown[:NAMED]) or "the rows that --where chooses: none"
        raise UsageError(
            f"{dataset}: there is no product and no image here that is called {named}.",
            'Keys are those of the tables: "lookbook query" shows product_key and key.',
        )
    return targets.with_earlier(earlier), again


def forget_all(
    job: Job,
    keys: list[str],
    where: list[str],
    *,
    before: Callable[[], object] = lambda: None,
    follow: Callable[[], object] = lambda: None,
) -> dict[str, Any]:
    """Forget what is named; the caller holds the lease of clean-ups. Killed anywhere and done again, it is finished.

    Args:
        job: where, and by which run.
        keys: of products and images.
        where: conditions on the current snapshot.
        before: called under the dataset's lease before anything is looked at.
        follow: called when a snapshot without it is published.

    Raises:
        UsageError: nothing here is called so.
        LeaseHeldError: a run is at work on the dataset, an export reads one, or a run on any when objects are to go.
        LookbookError: a snapshot is damaged; or the proof found something still.
    """
    place, lake, dataset = job.place, job.place.lake, job.dataset
    receipt = Receipt(dataset, job.run_id)
    with job.holding(f"dataset/{dataset}") as hold, job.holding("gc/exports"):
        before()
        finish_rewriting(lake, dataset, hold, job.step)
        remove_leftovers(lake, dataset, hold, receipt.amount("snapshots"))
        resumed = read_targets(lake, dataset) is not None
        targets, _ = _targets(job, keys, where)
        _told(targets)
        if targets.is_empty:  # all of it was forgotten before
            return receipt.document(targets, read_tombstones(lake, dataset)) | {"unknown": job.unknown}
        begin(place, dataset, targets, job.step)
        _forget_held(job, targets, hold, receipt, resumed, follow)
    job.step("objects")
    with job.holding("gc/objects") as alone:
        remove_unneeded(place, alone, receipt.amount("originals and outputs"), job.step)
        remove_objects(lake, old_writes(lake, ALL_OF_IT), alone, receipt.amount("originals and outputs"))
    _scratch(job, receipt)
    job.step("proof")
    with job.holding(f"dataset/{dataset}") as hold:
        search_all(place, dataset, targets, [each.id for each in exports_of(lake, dataset)], receipt)
        if receipt.found:
            more = f" and {len(receipt.found) - NAMED} more" if len(receipt.found) > NAMED else ""
            raise LookbookError(
                f"{dataset}: not all of it is gone: {'; '.join(receipt.found[:NAMED])}{more}.",
                f'Remove what is named, if Lookbook did not write it, and run "lookbook forget {dataset}" again.',
            )
        job.step("receipt")
        return finish(place, targets, receipt, hold) | {"unknown": job.unknown}


def _forget_held(
    job: Job, targets: Targets, hold: Hold, receipt: Receipt, resumed: bool, follow: Callable[[], object]
) -> None:
    """Do what is done under the dataset's lease, while no export reads anything."""
    place, lake, dataset, step = job.place, job.place.lake, job.dataset, job.step
    step("exports")  # before snapshots are put anew: they say what an export chose
    receipt.exports = exports_holding(lake, dataset, targets, resumed=resumed)
    for export in receipt.exports:
        remove_objects(lake, objects_of_export(lake, export), hold, receipt.amount("exports"))
    step("publish")
    if publish_without(place, dataset, targets):
        step("follow")
        follow()
    receipt.snapshots = rewrite_snapshots(place, dataset, targets, hold, step)
    step("pieces")
    remove_pieces(lake, dataset, hold, receipt.amount("snapshots"))
    step("notes")
    remove_notes(lake, dataset, targets, hold, receipt.amount("batches and rejects"))
    step("predictions")
    strip_predictions(lake, dataset, targets.contents, hold, receipt.amount("predictions"))
    step("stages")
    _stages(job, targets, hold, receipt)
    step("books")
    receipt.amount("records of runs").objects += strip_registry(place, dataset, targets)
    place.registry.vacuum(BOOKS)
    with warehouse_lease(place.registry):
        place.warehouse.compact()


def _stages(job: Job, targets: Targets, hold: Hold, receipt: Receipt) -> None:
    """Remove what pipelines staged of the dataset's images: the pipelines make it anew."""
    lake = job.place.lake
    search = Search(targets, targets.contents, lambda _: False)
    for name in staging_pipelines(lake):
        for folder in old_stages(lake, name, ALL_OF_IT):
            if any(search.told(info.key, lake.get(info.key)) for info in lake.list(folder)):
                with job.holding(f"pipeline/{name}"):
                    remove_objects(lake, objects_of_stage(lake, folder), hold, receipt.amount("stages"))


def _scratch(job: Job, receipt: Receipt) -> None:
    """Remove the scratch of this machine: copies of sources and of snapshots, which are made again when wanted."""
    busy = at_work_here(job.place.registry)
    if busy:
        receipt.left.append(f"scratch stays: {busy[0]} is at work on this machine")
        return
    amount = receipt.amount("scratch")
    for path, size in old_scratch(job.place.scratch, ALL_OF_IT):
        remove_scratch(path)
        amount.objects += size.objects
        amount.bytes += size.bytes
