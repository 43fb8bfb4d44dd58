"""Deletion on request: what of a dataset is to go, and snapshots, notes and books without it.

A note holds the names of what goes while that is under way; each snapshot is made anew beside itself before it is
replaced. So whatever run is next finishes what a killed one has begun, and never reads half of a snapshot.
"""

from __future__ import annotations

import hashlib
import json
import posixpath
import tempfile
from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import asyncpg
import pyarrow as pa
import pyarrow.compute as pc
from markupsafe import escape
from pydantic import ValidationError

from lookbook.blocks.errors import LookbookError, ObjectNotFoundError
from lookbook.blocks.lake import Lake, read_object, snapshots_folder
from lookbook.blocks.workspace import Workspace
from lookbook.tasks.datasets.candidates import candidate_ids
from lookbook.tasks.datasets.catalogue_types import parse_integer
from lookbook.tasks.datasets.desk import Desk
from lookbook.tasks.datasets.differences import ImageChanges, changes_between
from lookbook.tasks.datasets.follow import snapshot_tables
from lookbook.tasks.datasets.forgotten import (
    first_value,
    linked_products,
    names_of,
)
from lookbook.tasks.datasets.gc import remove_batch
from lookbook.tasks.datasets.manifest import (
    DamagedSnapshotError,
    Manifest,
    SnapshotFile,
    batches_folder,
    new_snapshot_id,
    read_manifest,
    read_published,
    read_removed,
    read_table,
    rewriting_folder,
    snapshot_folder,
    writing_key,
)
from lookbook.tasks.datasets.pieces import write_tables
from lookbook.tasks.datasets.publish import (
    commit,
    drop_candidates,
    loose_pieces,
    raise_fences,
    write_file,
    writing,
)
from lookbook.tasks.datasets.replay import in_order
from lookbook.tasks.datasets.report.page import ReportData, render_report
from lookbook.tasks.datasets.restore import REPORT, titled
from lookbook.tasks.datasets.snapshot import logical_digest
from lookbook.tasks.datasets.stripping import GONE, MOST_NAMES, Targets, keys_of, scrubbed, stripped, summary_without
from lookbook.tasks.datasets.tags import read_tags
from lookbook.tasks.datasets.unpublished import note_key, report_key
from lookbook.tasks.images.parquet import from_parquet
from lookbook.tasks.images.tombstones import (
    FORGOTTEN,
    Burial,
    Kind,
    Tombstones,
    add_tombstones,
    read_tombstones,
)
from lookbook.tasks.runs.lease import Hold, confirm
from lookbook.tasks.runs.removal import Amount, remove_objects


def forgetting_key(dataset: str) -> str:
    """Return the note that stands while something is being forgotten; it has the names of it, and goes at the end."""
    return f"datasets/{dataset}/forgetting"


def receipt_key(dataset: str, run_id: str) -> str:
    """Return the receipt of a run."""
    return f"datasets/{dataset}/receipts/{run_id}.json"


def read_targets(lake: Lake, dataset: str) -> Targets | None:
    """Return what a run was to forget that has not finished it; None where there is none.

    Raises:
        LookbookError: the note is damaged.
    """
    data = read_object(lake, forgetting_key(dataset))
    try:
        return None if data is None else Targets.model_validate_json(data)
    except ValidationError as error:
        raise LookbookError(
            f"{dataset}: {lake.uri(forgetting_key(dataset))} cannot be read: {error.error_count()} faults.",
            "Remove it, and ask once more that it be forgotten.",
        ) from error


# What is to go.


def spellings(key: str) -> list[str]:
    """Return what a key that was typed may mean, as a catalogue may write it: ``1163.0`` is the product 1163."""
    number = parse_integer(key)
    return list(dict.fromkeys([key, key.strip(), *([] if number is None else [str(number)])]))


def find_targets(
    workspace: Workspace, dataset: str, keys: Collection[str], run_id: str
) -> tuple[Targets, list[str], list[str]]:
    """Find what some keys mean, in all snapshots, candidates, batches and rejects of a dataset; nothing is changed.

    A product's images go with it, but for those that a product that stays has as well, in any snapshot. A content goes
    unless an image that stays has it.

    Args:
        workspace: where the dataset lives.
        dataset: its name.
        keys: of products or images, as typed.
        run_id: of the run that asks.

    Returns:
        What goes; the keys that mean nothing here; and those that were forgotten before.

    Raises:
        DamagedSnapshotError: a snapshot is damaged: what it holds is not known.
    """
    lake = workspace.lake
    meant = {spelled: key for key in keys for spelled in spellings(key)}
    images, products = set[str](), set[str]()
    rejects, going, staying = dict[str, str](), set[str](), dict[str, str]()
    for manifest in manifests_of(lake, dataset):
        tables = {name: read_table(lake, manifest, name) for name in ("images", "products", "rejects")}
        there = set(tables["images"]["key"].to_pylist())
        images |= there & meant.keys()
        known = {*tables["products"]["product_key"].to_pylist(), *tables["images"]["product_key"].to_pylist()}
        own = known & meant.keys()
        products |= own
        rejects |= _rejects_of(tables["rejects"], meant)
        if own:
            mine, others = _images_of(tables, own, suffixed=manifest.recipe.suffixed_images)
            going |= mine
            staying |= dict.fromkeys(others, "a product that stays has this image as well")
    for table in _unpublished_rejects(lake, dataset):
        rejects |= _rejects_of(table, meant)
    images |= {key for part in _batch_tables(lake, dataset) for key in part["key"].to_pylist() if key in meant}
    kept = {("image", key, staying[key]) for key in going & staying.keys() - images}
    going = images | (going - staying.keys())
    found = {*images, *products, *rejects.values()}
    stones = read_tombstones(lake, dataset)
    lost = [key for key in dict.fromkeys(keys) if not found.intersection(spellings(key))]
    before = [key for key in lost if any(stones.hold(kind, each) for each in spellings(key) for kind in _TYPED)]
    contents, files, shared = _contents_of(workspace, dataset, going)
    kept |= {("content", sha256, "an image that stays has the same bytes") for sha256 in shared}
    targets = Targets(
        run_id=run_id,
        asked_at=datetime.now(UTC),
        products=frozenset(products),
        images=frozenset(going),
        contents=frozenset(contents),
        files=frozenset(files),
        rejects=frozenset(rejects),
        kept=frozenset(kept),
    )
    return targets, [key for key in lost if key not in before], before


_TYPED: tuple[Kind, ...] = ("product", "image")


def _rejects_of(table: pa.Table, meant: Collection[str]) -> dict[str, str]:
    """Return the rejects that keys name, each with the key: by their place, or by the first value of a row."""
    found = {}
    for row in table.select(["kind", "locator", "raw"]).to_pylist():
        if row["kind"] in {"image", FORGOTTEN}:
            continue  # its image is found among the images
        by = row["locator"] if row["locator"] in meant else first_value(row["raw"] or "")
        if by in meant:
            found[f"{row['kind']}:{row['locator']}"] = by
    return found


def _images_of(
    tables: Mapping[str, pa.Table], products: Collection[str], *, suffixed: bool
) -> tuple[set[str], set[str]]:
    """Return the images of some products, and those of them that other products have as well."""
    images = tables["images"]
    _, linked = linked_products(names_of(tables["products"]), *keys_of(images), suffixed=suffixed)
    told = zip(images["key"].to_pylist(), images["product_key"].to_pylist(), strict=True)
    for key, product in told:
        if product is not None:
            linked.setdefault(key, set()).add(product)
    mine = {key for key, of in linked.items() if not of.isdisjoint(products)}
    return mine, {key for key in mine if not linked[key] <= set(products)}


def manifests_of(lake: Lake, dataset: str) -> Iterator[Manifest]:
    """Yield the manifests of all snapshots of a dataset that lie in the lake, candidates too.

    One that is being written, or was when its run was killed, is none yet.

    Raises:
        DamagedSnapshotError: one is missing or damaged.
    """
    there = lake.folders(snapshots_folder(dataset))
    # Listed second: a note goes after its manifest has come.
    written = {info.key.rpartition("/")[2] for info in lake.list(writing_key(dataset))}
    for snapshot_id in there:
        manifest = read_manifest(lake, dataset, snapshot_id)
        if manifest is None and snapshot_id not in written:
            raise DamagedSnapshotError(
                f"{dataset}: the manifest of {snapshot_id} is missing or damaged: what it holds is not known.",
                f'"lookbook verify {dataset} --all" says more; "lookbook gc {dataset}" removes what is old.',
            )
        if manifest is not None:
            yield manifest


def _batch_tables(lake: Lake, dataset: str) -> Iterator[pa.Table]:
    """Yield the manifests and parts of a dataset's batches that can be read."""
    for info in lake.list(batches_folder(dataset)):
        if info.key.endswith(".parquet"):
            try:
                yield from_parquet(lake.get(info.key))[0]
            except (pa.ArrowException, OSError, ObjectNotFoundError):
                continue


def _unpublished_rejects(lake: Lake, dataset: str) -> Iterator[pa.Table]:
    try:
        yield from_parquet(lake.get(note_key(dataset)))[0]
    except (pa.ArrowException, OSError, ObjectNotFoundError):
        return


def _contents_of(workspace: Workspace, dataset: str, images: Collection[str]) -> tuple[set[str], set[str], set[str]]:
    """Return the contents of images that no other image has, the outputs drawn of these alone, and other contents."""
    lake, mine, others = workspace.lake, set[str](), set[str]()
    going = pa.array(sorted(images), pa.string())
    for table in (
        *(read_table(lake, each, "images") for each in manifests_of(lake, dataset)),
        *parts_of(lake, dataset),
    ):
        chosen = pc.is_in(table["key"], going)
        mine.update(filter(None, table.filter(chosen)["sha256"].to_pylist()))
        others.update(filter(None, table.filter(pc.invert(chosen))["sha256"].to_pylist()))
    contents = mine - others
    drawn, else_drawn = set[str](), set[str]()
    for manifest in manifests_of(lake, dataset):
        outputs = read_table(lake, manifest, "outputs")
        chosen = pc.is_in(outputs["sha256"], pa.array(sorted(contents), pa.string()))
        drawn.update(filter(None, outputs.filter(chosen)["output_sha256"].to_pylist()))
        else_drawn.update(filter(None, outputs.filter(pc.invert(chosen))["output_sha256"].to_pylist()))
    return contents, drawn - else_drawn, mine & others


def parts_of(lake: Lake, dataset: str) -> Iterator[pa.Table]:
    """Yield the parts of a dataset's batches that can be read."""
    yield from (table for table in _batch_tables(lake, dataset) if "sha256" in table.column_names)


# Snapshots without it.


def holds(lake: Lake, manifest: Manifest, targets: Targets) -> bool:
    """Return whether a snapshot's tables or its report hold anything of what goes."""
    return _remade(lake, manifest, targets, Tombstones()) is not None


def _remade(lake: Lake, manifest: Manifest, targets: Targets, stones: Tombstones) -> dict[str, pa.Table] | None:
    before = {name: read_table(lake, manifest, name) for name in _TABLES}
    after = stripped(before, targets, stones, suffixed=manifest.recipe.suffixed_images)
    if after is None and _is_told(read_object(lake, f"{manifest.folder}/{REPORT}") or b"", targets):
        return before
    return after


_TABLES = ("images", "outputs", "products", "image_links", "rejects")


def _is_told(report: bytes, targets: Targets) -> bool:
    """Return whether a report may name an image that goes: one of before, which is not in the tables any more."""
    if len(targets.images) > MOST_NAMES:
        return True
    return any(str(escape(key)).encode() in report for key in targets.images)


def publish_without(workspace: Workspace, dataset: str, targets: Targets) -> bool:
    """Publish the current snapshot without what goes, under a new id. The caller holds the dataset's lease.

    Returns:
        Whether a snapshot was published: the current one may hold nothing of it.

    Raises:
        DamagedSnapshotError: a table of it is damaged.
        LookbookError: another run published meanwhile.
    """
    lake, before = workspace.lake, read_published(workspace.lake, dataset)
    if before is None:
        return False
    old, stones = before.manifest, read_tombstones(lake, dataset)
    tables = _remade(lake, old, targets, stones)
    if tables is None:
        return False
    now, digest = datetime.now(UTC), _digest(tables, old)
    manifest = old.model_copy(
        update={
            "snapshot_id": new_snapshot_id(now, digest),
            "created_at": now,
            "previous": old.snapshot_id,
            "restored_from": None,
            "former": (),
            "digest": digest,
            "files": [],
        }
    )
    told = {"snapshot": manifest.snapshot_id, "published": True, "report": lake.uri(f"{manifest.folder}/{REPORT}")}
    manifest.summary = summary_without(old.summary, snapshot_tables(workspace, old), tables, targets) | told
    manifest.summary.pop("restored_from", None)
    same = {name: tables[name] for name in ("images", "outputs")}
    with writing(lake, manifest):
        manifest.files = write_tables(lake, manifest, tables, old)
        report = _report(lake, manifest, tables, changes_between(same, same, old.snapshot_id), targets)
        manifest.files.append(write_file(lake, manifest.folder, REPORT, report))
        confirm(workspace.registry)
        commit(lake, manifest, before)
    drop_candidates(lake, dataset)  # they were checked against the former one
    return True


def rewrite_snapshots(
    workspace: Workspace, dataset: str, targets: Targets, hold: Hold, step: Callable[[str], object]
) -> list[str]:
    """Put all snapshots but the current one anew without what goes, under their ids; candidates with it go.

    The caller holds the dataset's lease. Killed anywhere, `finish_rewriting` goes on.

    Args:
        workspace: where the dataset lives.
        dataset: its name.
        targets: what goes.
        hold: of the dataset's lease.
        step: told of each step before it is done.

    Returns:
        The ids of those that held anything of it.

    Raises:
        DamagedSnapshotError: a snapshot is damaged: what it holds is not known.
        LeaseLostError: another run has taken the lease.
    """
    lake, stones = workspace.lake, read_tombstones(workspace.lake, dataset)
    published = read_published(lake, dataset)
    rewritten = []
    if published is not None:
        raise_fences(lake, dataset)
    candidates = candidate_ids(lake, dataset)
    found = [one for one in candidates if (each := read_manifest(lake, dataset, one)) and holds(lake, each, targets)]
    if found:
        step("candidates")
        drop_candidates(lake, dataset)
    for manifest in manifests_of(lake, dataset):
        if published is not None and manifest.snapshot_id == published.manifest.snapshot_id:
            continue
        tables = _remade(lake, manifest, targets, stones)
        if tables is not None:
            hold.confirm()
            step("aside")
            _write_aside(workspace, manifest, tables, targets)
            step("snapshot")
            _put_in_place(lake, dataset, manifest.snapshot_id, hold, step)
            rewritten.append(manifest.snapshot_id)
    if rewritten and published is not None:
        raise_fences(lake, dataset)  # who keeps snapshots in memory reads them again: CURRENT is another
    return [*rewritten, *found]


def _write_aside(workspace: Workspace, manifest: Manifest, tables: dict[str, pa.Table], targets: Targets) -> None:
    """Write a snapshot anew beside itself, its manifest last."""
    lake, folder = workspace.lake, f"{rewriting_folder(manifest.dataset)}/{manifest.snapshot_id}"
    summary = summary_without(
        manifest.summary, {name: read_table(lake, manifest, name) for name in _TABLES}, tables, targets
    )
    digest = _digest(tables, manifest)
    former = (*manifest.former, manifest.digest) if digest != manifest.digest else manifest.former
    changed = manifest.model_copy(update={"digest": digest, "former": former, "summary": summary, "files": []})
    changed.files = write_tables(lake, changed, tables, manifest)
    report = _report(lake, changed, tables, _changes(lake, manifest, tables, targets), targets)
    lake.replace(f"{folder}/{REPORT}", report)
    checksum = hashlib.sha256(report).hexdigest()
    changed.files.append(SnapshotFile(name=REPORT, size=len(report), sha256=checksum))
    lake.settle()
    text = json.dumps(changed.model_dump(mode="json"), indent=1, sort_keys=True).encode()
    lake.replace(f"{folder}/manifest.json", text)
    lake.settle()


def _put_in_place(lake: Lake, dataset: str, snapshot_id: str, hold: Hold, step: Callable[[str], object]) -> None:
    """Replace a snapshot by what was made of it, if that is whole and the snapshot is there still."""
    aside, folder = f"{rewriting_folder(dataset)}/{snapshot_id}", snapshot_folder(dataset, snapshot_id)
    text = read_object(lake, f"{aside}/manifest.json")
    if text is not None and read_object(lake, f"{folder}/manifest.json") is not None:
        hold.confirm()
        lake.replace(f"{folder}/{REPORT}", lake.get(f"{aside}/{REPORT}"))
        step("file")
        lake.replace(f"{folder}/manifest.json", text)
        lake.settle()
        step("replaced")
        for info in list(lake.list(folder)):  # earlier versions put the tables there
            if info.key.rpartition("/")[2] not in {REPORT, "manifest.json"}:
                lake.remove(info.key)
    lake.remove(f"{aside}/manifest.json")
    for info in list(lake.list(aside)):
        lake.remove(info.key)


def finish_rewriting(lake: Lake, dataset: str, hold: Hold, step: Callable[[str], object] = lambda _: None) -> None:
    """Replace the snapshots that a killed run had made anew; the caller holds the dataset's lease."""
    for snapshot_id in lake.folders(rewriting_folder(dataset)):
        _put_in_place(lake, dataset, snapshot_id, hold, step)


def _digest(tables: Mapping[str, pa.Table], manifest: Manifest) -> str:
    recipe = in_order(manifest.recipe, manifest.options.outputs if manifest.options else ())
    return logical_digest(tables, recipe, Desk(Path(tempfile.gettempdir())))


def _changes(lake: Lake, manifest: Manifest, tables: Mapping[str, pa.Table], targets: Targets) -> ImageChanges:
    """Return what differs from the snapshot before, without what goes; of one that is gone nobody knows."""
    before = read_manifest(lake, manifest.dataset, manifest.previous) if manifest.previous else None
    now = {name: tables[name] for name in ("images", "outputs")}
    if before is None:
        return changes_between(None, now, None)
    held = {name: read_table(lake, before, name) for name in _TABLES}
    left = stripped(held, targets, Tombstones(), suffixed=before.recipe.suffixed_images) or held
    return changes_between({name: left[name] for name in ("images", "outputs")}, now, before.snapshot_id)


def _report(
    lake: Lake, manifest: Manifest, tables: Mapping[str, pa.Table], changes: ImageChanges, targets: Targets
) -> bytes:
    data = ReportData(
        dataset=manifest.dataset,
        snapshot_id=manifest.snapshot_id,
        source=manifest.source,
        created_at=manifest.created_at,
        summary=manifest.summary,
        recipe=manifest.recipe.model_dump(mode="json"),
        versions=manifest.versions,
        digest=manifest.digest,
        tables=tables,
        desk=Desk(Path(tempfile.gettempdir())),
        changes=changes,
    )
    told = f"Some of it was deleted on request at {targets.asked_at:%Y-%m-%d %H:%M} UTC, and is told of no more."
    return titled(render_report(data, lake.get).encode(), told)


# The rest of a dataset.


def remove_leftovers(lake: Lake, dataset: str, hold: Hold, amount: Amount) -> None:
    """Remove what a killed clean-up left of snapshots that readers do not find, and of those never published.

    The caller holds the dataset's lease.
    """
    removed = read_removed(lake, dataset)[0].removed.keys() - {
        tag.snapshot for tag in read_tags(lake, dataset).values()
    }
    published = read_published(lake, dataset)
    for snapshot_id in lake.folders(snapshots_folder(dataset)):
        folder = snapshot_folder(dataset, snapshot_id)
        unfinished = published is None and read_object(lake, f"{folder}/manifest.json") is None
        if snapshot_id in removed or unfinished:
            objects = sorted(lake.list(folder), key=lambda info: not info.key.endswith("/manifest.json"))
            remove_objects(lake, objects, hold, amount)
    remove_pieces(lake, dataset, hold, amount)


def remove_pieces(lake: Lake, dataset: str, hold: Hold, amount: Amount) -> None:
    """Remove the pieces of tables that no snapshot lists any more; the caller holds the dataset's lease."""
    remove_objects(lake, loose_pieces(lake, dataset), hold, amount)


def remove_notes(lake: Lake, dataset: str, targets: Targets, hold: Hold, amount: Amount) -> None:
    """Remove the batches of killed runs, and the note on a run that published nothing, where they tell of what goes."""
    for name in lake.folders(batches_folder(dataset)):
        folder = f"{batches_folder(dataset)}/{name}"
        if any(_tells_of(lake, info.key, targets) for info in lake.list(folder) if info.key.endswith(".parquet")):
            remove_batch(lake, folder, hold, amount)
    tables = list(_unpublished_rejects(lake, dataset))
    rows = [row for table in tables for row in table.select(["kind", "locator", "raw"]).to_pylist()]
    page = read_object(lake, report_key(dataset)) or b""
    if any(targets.is_reject(*row.values()) for row in rows) or _is_told(page, targets):
        for key in (note_key(dataset), report_key(dataset)):
            found = [info for info in lake.list(posixpath.dirname(key)) if info.key == key]
            remove_objects(lake, found, hold, amount)


def _tells_of(lake: Lake, key: str, targets: Targets) -> bool:
    """Return whether a batch's manifest or part tells of what goes; one that cannot be read may."""
    try:
        table = from_parquet(lake.get(key))[0]
    except (pa.ArrowException, OSError, ObjectNotFoundError):
        return True
    if not targets.images.isdisjoint(table["key"].to_pylist()):
        return True
    known = table["known"].to_pylist() if "known" in table.column_names else []
    contents = {content["sha256"] for each in known for content in each or ()}
    contents.update(table["sha256"].to_pylist() if "sha256" in table.column_names else ())
    return not targets.contents.isdisjoint(contents)


def strip_registry(workspace: Workspace, dataset: str, targets: Targets) -> int:
    """Leave the names of what goes out of what the books say of runs and of requests; returns how many said them.

    The tables of the current snapshot follow it, and are not looked at here. What is removed stays in the server's
    files until `lookbook.blocks.registry.Registry.vacuum`.
    """
    manifests = list(manifests_of(workspace.lake, dataset))

    async def work(connection: asyncpg.Connection[asyncpg.Record]) -> int:
        changed = 0
        for manifest in manifests:
            await connection.execute(
                "UPDATE snapshots SET digest = $3, images = $4, products = $5 WHERE dataset = $1 AND snapshot_id = $2",
                *(dataset, manifest.snapshot_id, manifest.digest),
                *(manifest.rows.get("images", 0), manifest.rows.get("products", 0)),
            )
        for row in await connection.fetch("SELECT run_id, summary, error FROM runs WHERE dataset = $1", dataset):
            summary = json.loads(row["summary"]) if row["summary"] else None
            clean = scrubbed(summary, targets), scrubbed(row["error"], targets)
            if clean != (summary, row["error"]):
                told = json.dumps(clean[0]) if clean[0] is not None else None
                await connection.execute(
                    "UPDATE runs SET summary = $2::jsonb, error = $3 WHERE run_id = $1", row["run_id"], told, clean[1]
                )
                changed += 1
        asked = "SELECT id, kind, request FROM api_runs WHERE request->>'dataset' = $1"
        for row in await connection.fetch(asked, dataset):
            request = json.loads(row["request"])
            clean_request = scrubbed(request, targets, rows=False)
            if row["kind"] == "erasure":
                clean_request |= {name: [GONE] for name in ("keys", "where") if request[name]}
            if clean_request != request:
                told = json.dumps(clean_request)
                await connection.execute("UPDATE api_runs SET request = $2::json WHERE id = $1", row["id"], told)
                changed += 1
        return changed

    return workspace.registry.run(work)


#: Why the bytes of an image stay that the dataset has no more.
ELSEWHERE = "another dataset has the same bytes"
#: The tables of the registry that hold names.
BOOKS = ("assets", "products", "rejects", "runs", "api_runs")


def begin(workspace: Workspace, dataset: str, targets: Targets, step: Callable[[str], object]) -> None:
    """Note what goes, and let no run take it up again; the caller holds the dataset's lease."""
    lake = workspace.lake
    step("note")
    lake.replace(forgetting_key(dataset), targets.model_dump_json().encode())
    lake.settle()
    step("tombstones")
    add_tombstones(lake, dataset, targets.marks())


def resume(workspace: Workspace, dataset: str, hold: Hold) -> bool:
    """Do what a killed run left of forgetting, as far as the dataset itself goes; the caller holds its lease.

    What lies outside (exports, objects) and the proof are left to the next run that forgets.

    Returns:
        Whether there was anything.
    """
    lake = workspace.lake
    finish_rewriting(lake, dataset, hold)
    targets = read_targets(lake, dataset)
    if targets is None:
        return False
    add_tombstones(lake, dataset, targets.marks())
    publish_without(workspace, dataset, targets)
    rewrite_snapshots(workspace, dataset, targets, hold, lambda _: None)
    remove_pieces(lake, dataset, hold, Amount())
    remove_notes(lake, dataset, targets, hold, Amount())
    return True


@dataclass
class Receipt:
    """What was done.

    Attributes:
        removed: by the name of a place how much is gone: objects of the lake with their bytes, or rows.
        snapshots: that were put anew, or published without it.
        elsewhere: contents that another dataset has as well.
        objects, scanned: how many objects the proof has read, and their bytes.
        found: where it found something still.
    """

    dataset: str
    run_id: str
    removed: dict[str, Amount] = field(default_factory=dict)
    snapshots: list[str] = field(default_factory=list)
    exports: list[str] = field(default_factory=list)
    left: list[str] = field(default_factory=list)
    elsewhere: set[str] = field(default_factory=set)
    objects: int = 0
    scanned: int = 0
    found: list[str] = field(default_factory=list)

    def amount(self, place: str) -> Amount:
        """Return what is counted for a place."""
        return self.removed.setdefault(place, Amount())

    def document(self, targets: Targets, stones: Tombstones) -> dict[str, Any]:
        """Return the receipt as it is kept: without a name."""
        others: set[tuple[Kind, str, str]] = {("content", each, ELSEWHERE) for each in self.elsewhere}
        kept = sorted((kind, stones.mark(kind, value), why) for kind, value, why in targets.kept | others)
        return {
            "dataset": self.dataset,
            "run_id": self.run_id,
            "forgotten_at": targets.asked_at.isoformat(timespec="seconds"),
            "products": sorted(stones.mark("product", each) for each in targets.products),
            "images": sorted(stones.mark("image", each) for each in targets.images),
            "contents": sorted(stones.mark("content", each) for each in targets.contents),
            "rejects": len(targets.rejects),
            "kept": [{"kind": kind, "mark": mark, "why": why} for kind, mark, why in kept],
            "removed": [
                {"place": place, "objects": amount.objects, "bytes": amount.bytes}
                for place, amount in self.removed.items()
                if amount.objects
            ],
            "objects": sum(amount.objects for amount in self.removed.values()),
            "bytes": sum(amount.bytes for amount in self.removed.values()),
            "snapshots": self.snapshots,
            "exports": self.exports,
            "left": self.left,
            "proof": {"objects": self.objects, "bytes": self.scanned, "found": self.found},
        }


def finish(workspace: Workspace, targets: Targets, receipt: Receipt, hold: Hold) -> dict[str, Any]:
    """Write the receipt, and remove the note: all is done. The caller holds the dataset's lease."""
    lake, dataset = workspace.lake, receipt.dataset
    document = receipt.document(targets, read_tombstones(lake, dataset))
    hold.confirm()
    lake.replace(receipt_key(dataset, receipt.run_id), json.dumps(document, indent=1).encode())
    burial = Burial(
        run_id=receipt.run_id,
        forgotten_at=targets.asked_at,
        products=len(targets.products),
        images=len(targets.images),
        contents=len(targets.contents),
    )
    add_tombstones(lake, dataset, [], burial)
    lake.remove(forgetting_key(dataset))
    lake.settle()
    return document
