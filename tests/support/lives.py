"""Lives of datasets without pictures: what a run puts into a lake, in its order, each object some bytes of its name."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Collection
from datetime import UTC, datetime

import pyarrow as pa

from lookbook.blocks.lake import Lake, snapshots_folder
from lookbook.blocks.workspace import Workspace
from lookbook.tasks.datasets.inventory import clear_batches, take_up_parts
from lookbook.tasks.datasets.manifest import (
    TABLES,
    Current,
    Manifest,
    SnapshotFile,
    batches_folder,
    current_key,
    list_datasets,
    list_snapshots,
    new_snapshot_id,
    read_manifest,
    read_published,
    read_removed,
    read_table,
    removed_key,
    tables_folder,
)
from lookbook.tasks.datasets.pieces import write_tables
from lookbook.tasks.datasets.plan import Known, recipe_digest, take_up_known
from lookbook.tasks.datasets.publish import commit, sweep_unfinished, write_file, writing
from lookbook.tasks.datasets.restore import KEYS, restore_snapshot
from lookbook.tasks.datasets.schemas import (
    IMAGES_SCHEMA,
    LINKS_SCHEMA,
    OUTPUTS_SCHEMA,
    PRODUCTS_SCHEMA,
    REJECTS_SCHEMA,
)
from lookbook.tasks.datasets.tags import read_tags, tags_key
from lookbook.tasks.images.batch import SWEEP, end_sweep, read_sweep
from lookbook.tasks.images.items import Drawn, Outcome
from lookbook.tasks.images.parquet import part_table, to_parquet
from lookbook.tasks.images.recipe import codec_versions
from lookbook.tasks.runs.lease import confirm, lease
from tests.support.desks import shared_desk
from tests.support.pipeline import SMALL

Step = Callable[[str], object]
SCHEMAS = {
    "images": IMAGES_SCHEMA,
    "outputs": OUTPUTS_SCHEMA,
    "products": PRODUCTS_SCHEMA,
    "image_links": LINKS_SCHEMA,
    "rejects": REJECTS_SCHEMA,
}


def _nothing(_: str) -> None:
    """Go on."""


def objects_of(name: str) -> tuple[str, str]:
    """The keys of an image's original and of its one output."""
    digest = hashlib.sha256(name.encode()).hexdigest()
    return f"originals/{digest[:2]}/{digest}.jpg", f"derived/{'0' * 32}/{digest[:2]}/{digest}.webp"


def _outcome(name: str) -> Outcome:
    original, output = objects_of(name)
    sha256 = hashlib.sha256(name.encode()).hexdigest()
    drawn = Drawn("standard", "0" * 32, output, sha256, len(name), 1, 1)
    outcome = Outcome(name, f"of {name}", "ok", sha256=sha256, bytes=len(name), drawn=[drawn])
    outcome.asset.update({"original_key": original})
    return outcome


def draw(lake: Lake, dataset: str, names: Collection[str], step: Step = _nothing) -> None:
    """Be one batch: objects first, and then the part, which says what sweep it began after."""
    folder = f"{batches_folder(dataset)}/{hashlib.sha256(repr(sorted(names)).encode()).hexdigest()[:32]}"
    lake.replace(f"{folder}/manifest.parquet", b"")
    sweep = read_sweep(lake)
    for name in names:
        for key in objects_of(name):
            lake.put(key, name.encode())
    step("drawn")
    part = part_table([_outcome(name) for name in names])
    told = {"recipe_digest": recipe_digest(SMALL), SWEEP: str(sweep.number)}
    lake.replace(f"{folder}/part.parquet", to_parquet(part, told))


def keys_of_parts(lake: Lake, dataset: str) -> list[str]:
    """Return the images of all parts that can be relied upon."""
    desk = shared_desk()
    take_up_known(desk, Known())
    take_up_parts(desk, lake, dataset, SMALL)
    return [key for (key,) in desk.rows("SELECT key FROM parts ORDER BY key")]


def publish(place: Workspace, dataset: str, names: Collection[str], step: Step = _nothing) -> str:
    """Be a run of ingest: what a snapshot or a part holds already is not put into the lake again."""
    lake = place.lake
    with lease(place.registry, f"dataset/{dataset}"):
        end_sweep(lake)
        sweep_unfinished(lake, dataset)
        before = read_published(lake, dataset)
        known = set(read_table(lake, before.manifest, "images")["key"].to_pylist()) if before else set()
        draw(lake, dataset, sorted(set(names) - known - set(keys_of_parts(lake, dataset))), step)
        step("part")
        now = datetime.now(UTC)
        digest = hashlib.sha256(repr(sorted(names)).encode()).hexdigest()
        summary = {"images": {"found": len(names)}, "rows": {"found": 0}, "outputs": {}, "snapshot": ""}
        manifest = Manifest(
            dataset=dataset,
            snapshot_id=new_snapshot_id(now, digest),
            created_at=now,
            source="here",
            digest=digest,
            previous=before.manifest.snapshot_id if before else None,
            recipe=SMALL,
            rules_digest="",
            output_digests={},
            versions=codec_versions(),
            summary=summary,
            files=[],
        )
        rows = {
            "images": [
                {"key": name, "original_key": objects_of(name)[0], "bytes": len(name)}
                | {"outcome": "loaded", "orphan": True}
                for name in names
            ],
            "outputs": [{"object_key": objects_of(name)[1], "bytes": len(name)} for name in names],
        }
        with writing(lake, manifest):
            tables = {name: pa.Table.from_pylist(rows.get(name, []), schema=SCHEMAS[name]) for name in TABLES}
            manifest.files = write_tables(lake, manifest, tables, before.manifest if before else None)
            manifest.files.append(write_file(lake, manifest.folder, "report.html", b"<body>"))
            step("written")
            confirm(place.registry)
            commit(lake, manifest, before)
        step("published")
        clear_batches(lake, dataset)
    return manifest.snapshot_id


def restore(place: Workspace, dataset: str, name: str) -> None:
    """Be a run of restore."""
    with lease(place.registry, f"dataset/{dataset}"):
        sweep_unfinished(place.lake, dataset)
        restore_snapshot(place, dataset, name, datetime.now(UTC))


def whole_tables(lake: Lake, dataset: str) -> None:
    """Let all snapshots of a dataset lie as earlier versions wrote them: each table whole, in the snapshot's folder."""
    found = read_published(lake, dataset)
    assert found is not None
    for manifest in [read_manifest(lake, dataset, name) for name in lake.folders(snapshots_folder(dataset))]:
        assert manifest is not None
        files = []
        for name in TABLES:
            data, rows = to_parquet(read_table(lake, manifest, name)), manifest.rows[name]
            lake.put(f"{manifest.folder}/{name}.parquet", data)
            sha256 = hashlib.sha256(data).hexdigest()
            files.append(SnapshotFile(name=f"{name}.parquet", size=len(data), sha256=sha256, rows=rows))
        manifest.files = [*files, *(file for file in manifest.files if file.rows is None)]
        text = manifest.model_dump_json().encode()
        lake.replace(f"{manifest.folder}/manifest.json", text)
        if manifest.snapshot_id == found.manifest.snapshot_id:
            current = Current(snapshot_id=manifest.snapshot_id, manifest_sha256=hashlib.sha256(text).hexdigest())
            lake.swap(current_key(dataset), current.model_dump_json().encode(), found.version)
    for info in list(lake.list(tables_folder(dataset))):
        lake.remove(info.key)


def keys(lake: Lake) -> set[str]:
    """All that lies in a lake of datasets, but for what locks, and what names the lake and its last sweep."""
    folders = ("originals", "derived", "rejected", "batches", "datasets", "exports", "raw", "transformed", ".tmp")
    return {info.key for folder in folders for info in lake.list(folder) if not info.key.endswith(".lock")}


def listed(place: Workspace) -> set[str]:
    """What the snapshots that readers find consist of, with what names them."""
    lake, found = place.lake, set()
    for dataset in list_datasets(lake):
        found.add(f"datasets/{dataset}/CURRENT")
        found |= {tags_key(dataset)} if lake.read_version(tags_key(dataset)) else set()
        found |= {removed_key(dataset)} if read_removed(lake, dataset)[1] else set()
        snapshots = list_snapshots(lake, dataset)
        assert {tag.snapshot for tag in read_tags(lake, dataset).values()} <= {one.snapshot_id for one in snapshots}
        for manifest in snapshots:
            found |= {f"{manifest.folder}/manifest.json", *map(manifest.key, manifest.files)}
            for table, column in KEYS.items():
                found |= set(read_table(lake, manifest, table)[column].drop_null().to_pylist())
    return found
