"""Publishing a run: parts collected, books checked, files and manifest written, then CURRENT, the one commit."""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial
from typing import Any

import pyarrow as pa

from lookbook.blocks.errors import LookbookError, SwapConflictError, UsageError
from lookbook.blocks.lake import Lake, ObjectInfo, fault_of
from lookbook.blocks.registry import raised
from lookbook.blocks.workspace import Workspace
from lookbook.tasks.datasets.books import UnbalancedBooksError, check_reject_limit
from lookbook.tasks.datasets.candidates import Candidate, candidate_ids, candidate_key, published_ids, walk_candidates
from lookbook.tasks.datasets.checks import failed, read_checks, run_checks, told_failures
from lookbook.tasks.datasets.desk import Desk
from lookbook.tasks.datasets.differences import Tables, changes_between
from lookbook.tasks.datasets.forgotten import note_copies
from lookbook.tasks.datasets.inventory import Inventory, Listing, Request, clear_batches
from lookbook.tasks.datasets.links import RULES
from lookbook.tasks.datasets.manifest import (
    TABLES,
    Current,
    DamagedSnapshotError,
    Manifest,
    Published,
    SnapshotFile,
    current_key,
    file_faults,
    is_whole,
    new_snapshot_id,
    read_published,
    snapshot_folder,
    writing_key,
)
from lookbook.tasks.datasets.pieces import unlisted_pieces, write_tables
from lookbook.tasks.datasets.report.data import FILE_OUTCOMES, IMAGE_OUTCOMES, ROW_OUTCOMES
from lookbook.tasks.datasets.report.page import ReportData, render_report, report_markdown
from lookbook.tasks.datasets.snapshot import SnapshotTables, build_snapshot, logical_digest
from lookbook.tasks.datasets.unpublished import rejects_so_far
from lookbook.tasks.images.batch import read_part
from lookbook.tasks.images.recipe import codec_versions
from lookbook.tasks.runs.lease import confirm
from lookbook.tasks.runs.records import finished_summaries

#: Outcomes of rows that found no image, and the share of rows below which hardly one did.
LOST = ("missing_image", "ambiguous_image")
HARDLY = 0.1
#: The newest completed runs of a dataset among which one with the same inputs is looked for.
EARLIER_RUNS = 20


def write_file(lake: Lake, folder: str, name: str, data: bytes, rows: int | None = None) -> SnapshotFile:
    """Write one file into a snapshot's own folder, and note its size and checksum for the manifest."""
    if not lake.put(f"{folder}/{name}", data):
        raise LookbookError(f"{folder}/{name} stands already: two runs chose one snapshot id.", "Run again.")
    return SnapshotFile(name=name, size=len(data), sha256=hashlib.sha256(data).hexdigest(), rows=rows)


@contextmanager
def writing(lake: Lake, manifest: Manifest) -> Iterator[None]:
    """Note that a snapshot is written while the block writes and commits it.

    Where the block is killed or raises, the note stays, and `sweep_unfinished` finds by it what was written.
    """
    note = writing_key(manifest.dataset, manifest.snapshot_id)
    lake.put(note, b"")
    try:
        yield
    except BaseException:
        with suppress(LookbookError, OSError):  # it must not hide why the block ended
            lake.put(note, b"")  # a run that took the lease of this one has swept too early
        raise
    lake.remove(note)


def sweep_unfinished(lake: Lake, dataset: str) -> list[str]:
    """Remove what was written of snapshots that were never published; the caller holds the dataset's lease.

    A candidate is kept, but for older ones that a run was about to remove when it was killed.

    CURRENT is swapped before, for the same snapshot with this run's fences: a run that lost the lease and stands still
    right before its own swap can't publish what is removed here. Before a first snapshot there is none to swap, and
    what is unfinished waits.

    Returns:
        Their ids.

    Raises:
        SwapConflictError: such a run has just published.
        LookbookError: CURRENT or its manifest is damaged.
    """
    notes = [info.key for info in lake.list(writing_key(dataset))]
    candidates = candidate_ids(lake, dataset)
    if not (notes or candidates) or read_published(lake, dataset) is None:
        return []
    raise_fences(lake, dataset)
    published = published_ids(lake, dataset)
    for snapshot_id in published.intersection(candidates):  # its run was killed after CURRENT was swapped
        lake.remove(candidate_key(dataset, snapshot_id))
    kept = published.union(candidates)
    swept = []
    for note in notes:
        snapshot_id = note.rpartition("/")[2]
        if snapshot_id not in kept:  # else its run was killed after CURRENT was swapped, or a candidate was noted
            _remove_files(lake, dataset, snapshot_id)
            swept.append(snapshot_id)
    _remove_pieces(lake, dataset, swept)
    for note in notes:
        lake.remove(note)
    waiting = [snapshot_id for snapshot_id in candidates if snapshot_id not in published]
    drop_candidates(lake, dataset, keep=waiting[0] if waiting else "")
    return swept


def _remove_files(lake: Lake, dataset: str, snapshot_id: str) -> None:
    for info in list(lake.list(snapshot_folder(dataset, snapshot_id))):
        lake.remove(info.key)


def _remove_pieces(lake: Lake, dataset: str, gone: Collection[str]) -> None:
    """Remove the pieces that no snapshot lists, where some have just gone."""
    for info in loose_pieces(lake, dataset) if gone else ():
        lake.remove(info.key)


def loose_pieces(lake: Lake, dataset: str) -> list[ObjectInfo]:
    """Return the pieces of tables that no snapshot lists, and none ever will; the caller holds the dataset's lease.

    CURRENT, where there is one, is swapped after they were found and before it is looked again whether a manifest lists
    them: a run that wrote one of them and lost the lease has published by then, or can't any more. Later runs write
    pieces of other names.

    Raises:
        SwapConflictError: such a run has just published.
    """
    found = unlisted_pieces(lake, dataset)
    if found and raise_fences(lake, dataset):
        still = {info.key for info in unlisted_pieces(lake, dataset)}
        found = [info for info in found if info.key in still]
    return found


def raise_fences(lake: Lake, dataset: str) -> bool:
    """Swap CURRENT for the same snapshot with this run's fences: a run that lost the lease publishes nothing more.

    Returns:
        False where there is no CURRENT yet.

    Raises:
        SwapConflictError: such a run has just published.
        LeaseLostError: this run has lost it.
    """
    found = lake.read_version(current_key(dataset))
    if found is None:
        return False
    current = Current.model_validate_json(found[0])
    fenced = current.model_copy(update={"fences": raised(current.fences)})
    lake.swap(current_key(dataset), fenced.model_dump_json(exclude_defaults=True).encode(), found[1])
    return True


def drop_candidates(lake: Lake, dataset: str, keep: str = "") -> None:
    """Remove the candidates of a dataset, but for one; the caller holds the dataset's lease.

    CURRENT carries the fences of this run already: a run that lost the lease and stands still right before it
    publishes a candidate can't do so any more. Killed anywhere, the note on a candidate or the one of
    `writing_key` leads to what is left of it.
    """
    dropped = [snapshot_id for snapshot_id in candidate_ids(lake, dataset) if snapshot_id != keep]
    for snapshot_id in dropped:
        lake.put(writing_key(dataset, snapshot_id), b"")
        lake.remove(candidate_key(dataset, snapshot_id))
        _remove_files(lake, dataset, snapshot_id)
    _remove_pieces(lake, dataset, dropped)
    for snapshot_id in dropped:
        lake.remove(writing_key(dataset, snapshot_id))


def commit(lake: Lake, manifest: Manifest, before: Published | None) -> None:
    """Write the manifest, make all of it durable, and swap CURRENT: from here on readers see this snapshot.

    Args:
        lake: where to.
        manifest: lists every file of the snapshot; all of them are written.
        before: what CURRENT named when this run started, None for a first snapshot.

    Raises:
        SwapConflictError: another run published in between.
        LeaseLostError: the same, and it was the run that took a lease of this one.
    """
    raised(before.fences if before else {})
    _swap_current(lake, manifest, _write_manifest(lake, manifest), before)


def _write_manifest(lake: Lake, manifest: Manifest) -> str:
    """Write the manifest and make all of the snapshot durable; return the manifest's checksum."""
    text = json.dumps(manifest.model_dump(mode="json"), indent=1, sort_keys=True).encode()
    lake.put(f"{manifest.folder}/manifest.json", text)
    lake.settle()
    return hashlib.sha256(text).hexdigest()


def _swap_current(lake: Lake, manifest: Manifest, checksum: str, before: Published | None) -> None:
    """Let CURRENT name a snapshot whose files and manifest stand; raises as `commit`."""
    fences = raised(before.fences if before else {})
    current = Current(snapshot_id=manifest.snapshot_id, manifest_sha256=checksum, fences=fences)
    pointer = current.model_dump_json(exclude_defaults=True).encode()
    try:
        lake.swap(current_key(manifest.dataset), pointer, before.version if before else None)
    except SwapConflictError:
        now = read_published(lake, manifest.dataset)
        raised(now.fences if now else {})
        raise


def publish_candidate(workspace: Workspace, dataset: str, name: str | None) -> tuple[dict[str, Any], str]:
    """Publish a candidate although checks failed. The caller holds the dataset's lease.

    Args:
        workspace: where the dataset lives.
        dataset: its name.
        name: the candidate's id; None: the newest one.

    Returns:
        The summary of the snapshot, with the names of the checks that are overridden; and why nothing was published,
        else "".

    Raises:
        UsageError: there is no such candidate.
        DamagedSnapshotError: a file of it is missing or damaged.
        LookbookError: another snapshot was published since it was made.
    """
    lake, before = workspace.lake, read_published(workspace.lake, dataset)
    current = before.manifest if before else None
    if current is not None and name == current.snapshot_id:
        summary = current.summary | {"published": False, "overridden": failed(current.summary.get("checks", []))}
        return summary, f"nothing to do: {name} is current already"
    found = [each for each in walk_candidates(lake, dataset) if name in {None, each.snapshot_id}]
    if not found:
        raise UsageError(
            f"{dataset}: there is no candidate{f' {name}' if name else ''} to be published.",
            f'"lookbook snapshots {dataset}" lists it, where an ingest left one because checks failed.',
        )
    manifest = found[0]
    now = current.snapshot_id if current else None
    if manifest.previous != now:
        former = manifest.previous or "no snapshot"
        raise LookbookError(
            f"{dataset}: {manifest.snapshot_id} was checked against {former}, and {now or 'none'} is current now.",
            "Ingest the source again: it is checked against the current one, and nothing is drawn twice.",
        )
    note = Candidate.model_validate_json(lake.get(candidate_key(dataset, manifest.snapshot_id)))
    written = f"{manifest.folder}/manifest.json"
    faults = [f"{written} {fault}" for fault in [fault_of(lake.get(written), note.manifest_sha256)] if fault]
    if faults := [*faults, *file_faults(lake, manifest)]:
        raise DamagedSnapshotError(
            f"{dataset}: {manifest.snapshot_id} cannot be published: {'; '.join(faults)}.",
            "Ingest the source again: it makes a new candidate, and nothing is drawn twice.",
        )
    confirm(workspace.registry)
    _swap_current(lake, manifest, note.manifest_sha256, before)
    lake.remove(candidate_key(dataset, manifest.snapshot_id))
    drop_candidates(lake, dataset)
    return manifest.summary | {"overridden": failed(manifest.summary["checks"])}, ""


class FailedChecksError(LookbookError):
    """Checks failed: nothing was published, and the snapshot is a candidate.

    Attributes:
        finished: how the run ended.
    """

    finished: FinishedRun

    @classmethod
    def of(cls, finished: FinishedRun) -> FailedChecksError:
        """Name the failed checks, and the ways out."""
        dataset, candidate = finished.summary["dataset"], finished.summary["snapshot"]
        error = cls(
            f"{dataset}: {told_failures(finished.summary['checks'])}. Nothing was published.",
            f"It is kept as the candidate {candidate}: mend the source and ingest it again, or publish it all the same "
            f'by "lookbook publish {dataset}".',
        )
        error.finished, error.summary = finished, finished.summary
        return error


@dataclass(frozen=True)
class FinishedRun:
    """How a run ended: the summary, whether a snapshot was published, and its report in short.

    Attributes:
        note: why nothing was published, else "".
        changed: whether it says anything else than the snapshot that was published before.
    """

    summary: dict[str, Any]
    published: bool
    note: str
    changed: bool
    markdown: str


def finalize(request: Request, inventory: Inventory, started: datetime) -> FinishedRun:
    """Put the snapshot together, check it, and publish it unless it says what the published one says.

    Raises:
        FailedChecksError: checks that the dataset has failed: the snapshot is a candidate.
        LookbookError: the books don't balance, too much was rejected, or another run published meanwhile.
    """
    _refuse_changed_archives(request, inventory)
    snapshot = _balanced_snapshot(request, inventory)
    check_reject_limit(snapshot.image_counts, refused_by(inventory), request.reject_limit)
    digest = logical_digest(snapshot.files, request.recipe, inventory.desk)
    note = reason_to_keep(request, inventory, digest)
    now = datetime.now(UTC)
    before = inventory.published.manifest if inventory.published else None
    name = new_snapshot_id(now, digest) if not note or before is None else before.snapshot_id
    lake = request.workspace.lake
    checks = [] if note else run_checks(request.workspace, read_checks(lake, request.dataset), snapshot.files, before)
    stands = _standing_candidate(request, before, digest, checks)
    # A manifest is written once: that of a candidate says what will hold if it is published by hand.
    summary = _summary(request, inventory, snapshot, stands or name, not note, (now - started).total_seconds())
    summary["checks"] = checks
    data = _report_data(request, inventory, snapshot, digest, summary, now)
    if not note and not stands:
        _publish(request, inventory, snapshot, data)
    said = note, before is None or before.digest != digest, report_markdown(data)
    if failed(checks):
        raise FailedChecksError.of(FinishedRun(summary | {"published": False}, False, *said))
    return FinishedRun(summary, not note, *said)


def unchanged(request: Request, listing: Listing, inputs: str, started: datetime) -> FinishedRun | None:
    """Return how a run ends that would find what an earlier one found, without looking at anything again.

    Args:
        request: what the run is asked for.
        listing: of its source.
        inputs: `lookbook.tasks.datasets.inventory.inputs_digest` of both.
        started: when it began.

    Returns:
        None where no earlier run is known to have made, or found again, the current snapshot out of the same inputs;
        where a file of that snapshot is missing or damaged; and where rejects are to be judged again.
    """
    lake, dataset = request.workspace.lake, request.dataset
    published = None if request.again else read_published(lake, dataset)
    if published is None:
        return None
    manifest = published.manifest
    for earlier in finished_summaries(request.workspace.registry, dataset, EARLIER_RUNS):
        if (earlier.get("inputs"), earlier.get("snapshot")) == (inputs, manifest.snapshot_id):
            break
    else:
        return None
    if not is_whole(lake, manifest) or file_faults(lake, manifest, TABLES):
        return None
    images = earlier["images"]
    images |= {"loaded": 0, "unchanged": images["loaded"] + images["unchanged"]}
    said = {
        "source": listing.source,
        "published": False,
        "checks": [],
        "files": _in_order(earlier["files"], FILE_OUTCOMES),
        "images": _in_order(images, IMAGE_OUTCOMES),
        "rows": _in_order(earlier["rows"], ROW_OUTCOMES),
        "matched_by": {rule: earlier["matched_by"][rule] for rule in RULES if rule in earlier["matched_by"]},
        "outputs": dict.fromkeys(request.recipe.outputs, 0),
        "report": _report_uri(lake, dataset, manifest.snapshot_id),
        **_speed(images["found"], (datetime.now(UTC) - started).total_seconds()),
    }
    note = _says_the_same(manifest)
    told = f'"lookbook open {dataset}" shows its report.'
    return FinishedRun(earlier | said, False, note, False, f"# {dataset}\n\n{note[0].upper()}{note[1:]}. {told}\n")


def _standing_candidate(
    request: Request, before: Manifest | None, digest: str, checks: Sequence[Mapping[str, Any]]
) -> str:
    """Return the candidate of an earlier run that says the same, checks with it, or "": its id is not to change."""
    lake, previous = request.workspace.lake, before.snapshot_id if before else None
    for made in walk_candidates(lake, request.dataset) if failed(checks) else ():
        same = (made.digest, made.previous, _results(made.summary["checks"])) == (digest, previous, _results(checks))
        if same and is_whole(lake, made):
            return made.snapshot_id
    return ""


def _results(checks: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Return what checks found, without the rows that came first: their order may differ from run to run."""
    return [{key: value for key, value in check.items() if key != "first"} for check in checks]


def _refuse_changed_archives(request: Request, inventory: Inventory) -> None:
    try:
        inventory.check_archives()
    except LookbookError:
        clear_batches(request.workspace.lake, request.dataset)  # what they hold may be other images' bytes
        raise


def _balanced_snapshot(request: Request, inventory: Inventory) -> SnapshotTables:
    lake = request.workspace.lake
    try:
        parts = (_part(lake, key) for key in inventory.batches)
        note = partial(note_copies, lake, request.dataset, inventory.passed_over)
        return build_snapshot(inventory, parts, request.recipe, note)
    except UnbalancedBooksError as error:
        error.rejects = rejects_so_far(lake, inventory)
        clear_batches(lake, request.dataset)  # a part is wrong: the next run must not take it up again
        raise


def _part(lake: Lake, key: str) -> pa.Table:
    part = read_part(lake, key)
    if part is None:
        raise LookbookError(
            f"{key} ended without a part.", "Nothing was published. Run the command again: it is done anew."
        )
    return part


def refused_by(inventory: Inventory) -> dict[str, str]:
    """Return the rule by which each rejected image was refused, by key, once the snapshot is built."""
    return dict(inventory.desk.rows("SELECT key, rule FROM facts WHERE outcome = 'rejected'"))


def reason_to_keep(request: Request, inventory: Inventory, digest: str) -> str:
    """Return why the published snapshot stays, or "" where this one takes its place."""
    if inventory.published is None or (inventory.damaged and not request.limit):
        return ""
    manifest = inventory.published.manifest
    if manifest.digest == digest:
        return _says_the_same(manifest)
    fuller = manifest.summary["images"]["found"]
    if request.limit is not None and fuller > inventory.file_counts["images"]:
        return f"{manifest.snapshot_id} is fuller: {fuller} images, and this run was limited to {request.limit}"
    return ""


def _in_order(counts: dict[str, int], outcomes: Sequence[str]) -> dict[str, int]:
    """Return counts as a run tells them: the registry keeps no order."""
    return {name: counts[name] for name in ("found", *outcomes) if name in counts} | counts


def _says_the_same(manifest: Manifest) -> str:
    return f"nothing changed: {manifest.snapshot_id} says the same"


def _report_uri(lake: Lake, dataset: str, snapshot_id: str) -> str:
    return lake.uri(f"{snapshot_folder(dataset, snapshot_id)}/report.html")


def _speed(images: int, seconds: float) -> dict[str, float]:
    return {"seconds": round(seconds, 2), "images_per_second": round(images / max(seconds, 1e-3), 1)}


def _summary(
    request: Request, inventory: Inventory, snapshot: SnapshotTables, snapshot_id: str, published: bool, seconds: float
) -> dict[str, Any]:
    lake = request.workspace.lake
    return {
        "dataset": request.dataset,
        "source": inventory.source,
        "snapshot": snapshot_id,
        "published": published,
        "images": snapshot.image_counts,
        "rows": snapshot.row_counts,
        "matched_by": _rules(inventory.desk),
        "hint": _hint(inventory, snapshot),
        "orphan_images": snapshot.orphan_images,
        "files": inventory.file_counts,
        "ignored": dict(sorted(Counter(reject.rule for reject in inventory.ignored).items())),
        "outputs": snapshot.drawn,
        **_speed(snapshot.image_counts["found"], seconds),
        "report": _report_uri(lake, request.dataset, snapshot_id),
    }


def _rules(desk: Desk) -> dict[str, int]:
    """Return by which rule the rows of a snapshot found their images, the surest first."""
    matched = "FROM found_products WHERE outcome = 'matched' AND rule IS NOT NULL"
    return {RULES[n]: rows for n, rows in desk.rows(f"SELECT rule, count(*) {matched} GROUP BY rule ORDER BY rule")}


def _hint(inventory: Inventory, snapshot: SnapshotTables) -> str:
    """Return what to do where hardly a row found its image; "" where enough did, or there are none."""
    counts = snapshot.row_counts
    refused = [reject for reject in inventory.catalogue.rejects if reject.kind in ("row", "file")]
    if counts["found"] == counts["rejected"] and refused:
        return (
            f"No catalogue row was taken: {len(refused)} were refused, the first for {refused[0].rule} "
            f"({refused[0].locator}: {refused[0].message}). --key and --image-column name the columns."
        )
    wanted = counts["matched"] + counts["missing_image"] + counts["ambiguous_image"]
    if counts["matched"] >= HARDLY * wanted:
        return ""
    ((file, name),) = inventory.desk.rows(
        "SELECT file, coalesce(nullif(file_name, ''), product_key) FROM rows JOIN found_products USING (n)"
        " WHERE list_contains(?, found_products.outcome) ORDER BY n LIMIT 1",
        list(LOST),
    )
    first = inventory.desk.value("SELECT key FROM images ORDER BY depth(key), key LIMIT 1")
    return (
        f"{counts['matched']} of {wanted} catalogue rows found their image. {file} asks for {name!r}, and files "
        f"are called {first!r}: name the right columns by --key and --image-column."
    )


def _report_data(
    request: Request,
    inventory: Inventory,
    snapshot: SnapshotTables,
    digest: str,
    summary: dict[str, Any],
    now: datetime,
) -> ReportData:
    before = inventory.published.manifest.snapshot_id if inventory.published else None
    known: Tables | None = None
    if inventory.known.images is not None and inventory.known.outputs is not None:
        known = {"images": inventory.known.images, "outputs": inventory.known.outputs}
    current = {name: snapshot.files[name] for name in ("images", "outputs")}
    inventory.desk.rest()
    changes = changes_between(known, current, before)
    return ReportData(
        dataset=request.dataset,
        snapshot_id=summary["snapshot"],
        source=inventory.source,
        created_at=now,
        summary=summary,
        recipe=request.recipe.model_dump(mode="json"),
        versions=codec_versions(),
        digest=digest,
        tables=snapshot.files,
        desk=inventory.desk,
        changes=changes,
    )


def _publish(request: Request, inventory: Inventory, snapshot: SnapshotTables, data: ReportData) -> None:
    lake = request.workspace.lake
    manifest = Manifest(
        dataset=request.dataset,
        snapshot_id=data.snapshot_id,
        created_at=data.created_at,
        source=inventory.source,
        options=request.options,
        digest=data.digest,
        previous=data.changes.previous,
        recipe=request.recipe,
        rules_digest=request.recipe.rules_digest(),
        output_digests={name: output.digest() for name, output in request.recipe.outputs.items()},
        versions=data.versions,
        summary=data.summary,
        files=[],
    )
    before = inventory.published.manifest if inventory.published else None
    with writing(lake, manifest):
        manifest.files = write_tables(lake, manifest, snapshot.files, before, is_read=not inventory.damaged)
        manifest.files.append(write_file(lake, manifest.folder, "report.html", render_report(data, lake.get).encode()))
        confirm(request.workspace.registry)
        broken = failed(manifest.summary["checks"])
        fenced = _keep_candidate(lake, manifest, broken) if broken else True
        if not broken:
            commit(lake, manifest, inventory.published)
    if fenced:  # before a first snapshot the older ones wait, as what is unfinished does
        drop_candidates(lake, request.dataset, keep=manifest.snapshot_id if broken else "")


def _keep_candidate(lake: Lake, manifest: Manifest, broken: list[str]) -> bool:
    """Write the manifest and the note on a candidate. Its files are whole; CURRENT stays.

    Returns:
        Whether CURRENT, where there is one, carries the fences of this run: of two that make candidates, the one
        that lost the lease ends here.
    """
    fenced = raise_fences(lake, manifest.dataset)
    checksum = _write_manifest(lake, manifest)
    note = Candidate(created_at=manifest.created_at, manifest_sha256=checksum, failed=broken)
    lake.put(candidate_key(manifest.dataset, manifest.snapshot_id), note.model_dump_json().encode())
    return fenced
