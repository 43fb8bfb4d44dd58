"""The inventory: what the source holds, what is known of it or was left by an earlier run, what is left to do."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Collection, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from functools import cache
from pathlib import Path

import pyarrow as pa

from lookbook.blocks.errors import LookbookError
from lookbook.blocks.lake import Lake
from lookbook.blocks.settings import this_host
from lookbook.blocks.workspace import Workspace
from lookbook.tasks.datasets.books import RefusedRunError, check_counts
from lookbook.tasks.datasets.catalogue import Catalogue, may_be_read, read_catalogue
from lookbook.tasks.datasets.catalogue_sheets import Columns
from lookbook.tasks.datasets.catalogue_types import SourceReject
from lookbook.tasks.datasets.desk import Desk
from lookbook.tasks.datasets.forgotten import PassedOver, pass_over
from lookbook.tasks.datasets.manifest import (
    TABLES,
    DamagedSnapshotError,
    IngestOptions,
    Manifest,
    Published,
    batches_folder,
    is_whole,
    local_table,
    read_published,
)
from lookbook.tasks.datasets.plan import (
    Known,
    batch_digest,
    list_files,
    listed_files,
    make_plan,
    recipe_digest,
    take_up_known,
    take_up_part,
    todo_batches,
)
from lookbook.tasks.datasets.sources.base import ARCHIVE_EXTENSIONS, OTHER_EXTENSIONS, SourceFile
from lookbook.tasks.datasets.sources.opening import open_source, version_of
from lookbook.tasks.images.batch import Sweep, read_sweep
from lookbook.tasks.images.formats import sniff, unread_kind
from lookbook.tasks.images.items import Item
from lookbook.tasks.images.locators import LISTED_ON, UnreadableMemberError, read_bytes, read_start
from lookbook.tasks.images.parquet import from_parquet, manifest_table, to_parquet
from lookbook.tasks.images.recipe import Recipe, codec_versions
from lookbook.tasks.images.tombstones import read_tombstones
from lookbook.tasks.runs.parameters import BATCH_BYTES

#: Bytes by which a file is known.
FIRST_BYTES = 512
#: Objects that are removed at the same time: a store that answers late is kept busy.
REMOVING_THREADS = 16


def take_up_parts(desk: Desk, lake: Lake, dataset: str, recipe: Recipe) -> None:
    """Add all valid parts of this dataset that were made with this recipe to the desk.

    A part that can't be read, or was made with another recipe, is no part: its images are done anew. Of two
    rows for one key and fingerprint either will do. A row that says "as published" holds only while that content is
    published.
    """
    sweep = read_sweep(lake)
    for info in lake.list(batches_folder(dataset)):
        if info.key.endswith("/part.parquet"):
            table = _read(lake, info.key, recipe, sweep)
            if table is not None:
                take_up_part(desk, table)
    desk.run(
        "DELETE FROM parts WHERE status = 'same'"
        " AND NOT EXISTS (SELECT 1 FROM published WHERE published.sha256 = parts.sha256)"
    )


def clear_batches(lake: Lake, dataset: str) -> None:
    """Remove the batches of a dataset once a snapshot holds their results; parts go before manifests."""
    keys = [info.key for info in lake.list(batches_folder(dataset))]
    with ThreadPoolExecutor(REMOVING_THREADS, thread_name_prefix="clearing") as pool:
        for manifests in (False, True):
            list(pool.map(lake.remove, [key for key in keys if ("/manifest" in key) == manifests]))


def _read(lake: Lake, key: str, recipe: Recipe, sweep: Sweep) -> pa.Table | None:
    try:
        table, metadata = from_parquet(lake.get(key))
    except (pa.ArrowException, OSError):
        return None
    made_with = metadata.get("recipe_digest", "")
    relied = made_with == recipe_digest(recipe) and sweep.spared(key.rpartition("/")[0], metadata)
    return table if relied else None


@dataclass(frozen=True)
class Request:
    """What a run is asked for: the flow's parameters, with the workspace that its name stands for.

    Attributes:
        within: folders in one of which the source has to lie; empty: anywhere.
        key: the catalogue's column that names a product; None: found by its name.
        image_column: the one that names an image's file; None: found by its name, or by what fits the files.
        again: rules whose image rejects are judged again, as if nothing were known of them.
    """

    workspace: Workspace
    source: str
    dataset: str
    recipe: Recipe
    limit: int | None
    batch_size: int
    reject_limit: float
    within: Sequence[str] = ()
    key: str | None = None
    image_column: str | None = None
    again: frozenset[str] = frozenset()

    @property
    def options(self) -> IngestOptions:
        """Return what a manifest remembers of it."""
        return IngestOptions(
            outputs=tuple(self.recipe.outputs),
            limit=self.limit,
            batch_size=self.batch_size,
            reject_limit=self.reject_limit,
            within=tuple(self.within),
            key=self.key,
            image_column=self.image_column,
        )


@dataclass(frozen=True)
class Listing:
    """The files of a source.

    Attributes:
        source: as of `Inventory`.
        desk: holds all files; see `lookbook.tasks.datasets.plan.list_files`.
        others: those that are no images, in the order in which images are ranked.
    """

    source: str
    desk: Desk
    others: list[SourceFile]


@dataclass(frozen=True)
class Inventory:
    """The stock of a run.

    Attributes:
        source: the source as the snapshot remembers it: as it was asked for, with the version if it has any.
        desk: holds the files found, what is known of them, and the plan; see `lookbook.tasks.datasets.plan`.
        catalogue: the links and rejects of the catalogue files.
        rows: the catalogue's rows, as a Parquet file.
        published: the snapshot that holds now, or None.
        damaged: files of that snapshot are missing or damaged: a new one has to take its place.
        known: its tables.
        batches: lake keys of the batches, once their manifests are written.
        archives: the archives that images are read from, with their times and sizes.
        ignored: the files that are neither images nor of the catalogue, each with the reason.
        file_counts: all files of the source, ``found`` and by what they are.
        work: how many images hold as they were ``published`` or by ``earlier_parts``, and how many are ``todo``.
        passed_over: what of the source was forgotten; it is counted among its files, and in nothing else here.
    """

    source: str
    desk: Desk
    catalogue: Catalogue
    rows: Path
    published: Published | None
    damaged: bool
    known: Known
    archives: dict[bytes, tuple[int, int]]
    ignored: list[SourceReject]
    file_counts: dict[str, int]
    work: dict[str, int]
    passed_over: PassedOver
    batches: list[str] = field(default_factory=list)

    def check_archives(self) -> None:
        """See that the archives are still those that were listed: their members lie elsewhere in others.

        Raises:
            LookbookError: one was changed or replaced.
        """
        for path, state in self.archives.items():
            if _state(path) != state:
                raise LookbookError(
                    f"{os.fsdecode(path)} was changed while it was read.",
                    "Nothing was published. Run again once it is complete.",
                )


def _state(path: bytes) -> tuple[int, int]:
    found = os.stat(path)  # noqa: PTH116 - its name is bytes
    return found.st_mtime_ns, found.st_size


def list_source(request: Request) -> Listing:
    """List the files of the source; what has to be downloaded is downloaded first.

    Raises:
        LookbookError: it can't be listed.
    """
    desk = Desk(request.workspace.scratch)
    source = open_source(request.source, request.workspace.scratch, request.workspace.kaggle, request.within)
    list_files(desk, ((file, holds_image(file)) for file in source.files()), request.limit)
    return Listing(version_of(source) or request.source, desk, list(listed_files(desk, where="NOT is_image")))


def inputs_digest(request: Request, listing: Listing) -> str:
    """Return SHA-256 over all that a snapshot is made of: with the same inputs nothing changes.

    That is the code, what is asked for, what was forgotten, the names and fingerprints of all files, and the bytes of
    those that a catalogue is read from: where no checksum of a listing vouches for them, they count whatever their
    time says.

    Raises:
        OSError: a file could not be read: worth another attempt.
        LookbookError: the tombstones are damaged.
    """
    asked = (request.limit, request.reject_limit, request.key, request.image_column, sorted(request.again))
    forgotten = sorted(read_tombstones(request.workspace.lake, request.dataset).marks)
    made = hashlib.sha256(f"{_code_digest()};{request.recipe.model_dump_json()};{asked!r};{forgotten}\n".encode())
    lines = (
        "SELECT concat_ws(chr(0), strlen(key), key, fingerprint, size, is_image, refused_rule, refused_message) AS line"
        " FROM files ORDER BY key"
    )
    for rows in listing.desk.stream(lines):
        made.update("\n".join([*rows.column("line").to_pylist(), ""]).encode())
    for file in filter(may_be_read, listing.others):
        if file.refused is None and not file.fingerprint.startswith("crc32:"):
            made.update(_checksum(file))
    return made.hexdigest()


@cache
def _code_digest() -> str:
    """Return a digest of the modules that make snapshots, and of the libraries that draw: other code, other results."""
    made = hashlib.sha256(repr(codec_versions()).encode())
    wings = Path(__file__).parent, Path(__file__).parents[1] / "images"
    for path in sorted(path for wing in wings for path in wing.rglob("*.py")):
        made.update(path.read_bytes())
    return made.hexdigest()


def _checksum(file: SourceFile) -> bytes:
    try:
        return hashlib.sha256(read_bytes(file.locator)).digest()
    except UnreadableMemberError as error:
        return error.rule.encode()


def take_inventory(request: Request, listing: Listing | None = None) -> Inventory:
    """Survey the source, and write the manifests of the batches that are to be done.

    Args:
        request: what the run is asked for.
        listing: of the source; None: it is listed now.

    Raises:
        RefusedRunError: the source holds no image.
        LookbookError: it can't be listed.
    """
    inventory = survey(request, listing)
    for items in planned_batches(request, inventory):
        key = f"{batches_folder(request.dataset)}/{batch_digest(items, request.recipe)}"
        _write_batch(request, key, items)
        inventory.batches.append(key)
    return inventory


def planned_batches(request: Request, inventory: Inventory) -> Iterator[list[Item]]:
    """Yield the work of each batch."""
    return todo_batches(inventory.desk, inventory.known, request.recipe, request.batch_size, BATCH_BYTES)


def survey(request: Request, listing: Listing | None = None) -> Inventory:
    """Read the source's catalogue, and compare with what is known; nothing is written to lake or registry.

    Args and errors are those of `take_inventory`.
    """
    lake, recipe = request.workspace.lake, request.recipe
    listing = listing or list_source(request)
    desk, others = listing.desk, listing.others
    columns = Columns(request.key, request.image_column, lambda names: _known_names(desk, names))
    catalogue = read_catalogue(others, columns)
    refused = {reject.locator for reject in catalogue.rejects if reject.kind in ("file", "style")}
    taken = refused.union(catalogue.files)
    ignored = [_ignored(file) for file in others if file.key not in taken]
    found, images, beyond = (desk.value(f"SELECT count(*) FROM {name}") for name in ("files", "images", "beyond"))  # noqa: S608
    if not images:
        refusal = RefusedRunError(
            f"{request.source}: no image among its {found} files.",
            "Name a folder or an archive that holds .jpg, .png, .webp, .tif or other image files.",
        )
        refusal.rejects = [*catalogue.rejects, *ignored]
        raise refusal
    file_counts = {
        "found": found,
        "images": images,
        "beyond_limit": beyond,
        "catalogue": len(set(catalogue.files) - refused),
        "rejected": len(refused),
        "ignored": len(ignored),
    }
    check_counts("files", file_counts)
    catalogue, ignored, passed = pass_over(
        desk, lake, request.dataset, catalogue, ignored, suffixed=recipe.suffixed_images
    )
    rows = desk.save("catalogue", catalogue.rows.schema, [catalogue.rows])
    catalogue = replace(catalogue, rows=catalogue.rows.schema.empty_table())  # nothing else holds them from here on
    pa.default_memory_pool().release_unused()
    published = read_published(lake, request.dataset)
    known = _known(request, published, desk)
    damaged = published is not None and (known.images is None or not _is_intact(request, published.manifest, desk))
    take_up_known(desk, known)
    take_up_parts(desk, lake, request.dataset, recipe)
    make_plan(desk, known, recipe)
    work = {
        name: desk.value(f"SELECT count(*) FROM {table}")  # noqa: S608 - names of ours
        for name, table in (("published", "held"), ("earlier_parts", "taken"), ("todo", "todo"))
    }
    read_from = "SELECT DISTINCT path FROM images WHERE store <> 'file' AND refused_rule IS NULL"
    archives = {path: _state(path) for (path,) in desk.rows(read_from)}
    found_ = (catalogue, rows, published, damaged, known, archives, ignored, file_counts, work, passed)
    return Inventory(listing.source, desk, *found_)


def _known_names(desk: Desk, names: Collection[str]) -> set[str]:
    """Return those of these names that an image of the source bears, within the limit or beyond."""
    there = "SELECT DISTINCT name FROM files SEMI JOIN (SELECT unnest(?::VARCHAR[]) AS name) USING (name)"
    return {name for (name,) in desk.rows(there, list(names))}


def holds_image(file: SourceFile) -> bool:
    """Return whether a file is an image: by its name, or by its first bytes where the name says nothing."""
    if file.is_image:
        return True
    if file.is_litter or file.refused is not None or file.extension in OTHER_EXTENSIONS:
        return False
    return sniff(_start(file)) is not None


def _start(file: SourceFile) -> bytes:
    try:
        return read_start(file.locator, FIRST_BYTES)
    except (UnreadableMemberError, FileNotFoundError, PermissionError):  # then nothing of it is known
        return b""


def _ignored(file: SourceFile) -> SourceReject:
    """Return why a file is neither an image nor of the catalogue."""
    if file.refused is not None:
        rule, why = file.refused
    elif file.is_litter:
        rule, why = "litter", "systems and tools leave it behind"
    elif file.extension in ARCHIVE_EXTENSIONS:
        rule, why = "archive", "within a source zip and tar archives are opened alone: unpack it"
    elif file.extension in OTHER_EXTENSIONS:
        rule, why = "not_of_the_catalogue", "it is no image, and the catalogue does not need it"
    elif (kind := unread_kind(_start(file))) is not None:
        rule, why = "unsupported", f"{kind} is not read"
    else:
        rule, why = "not_an_image", "its first bytes are no image's"
    return SourceReject("ignored", file.key, rule, why)


def _is_intact(request: Request, manifest: Manifest, desk: Desk) -> bool:
    """Return whether a snapshot is whole, and its tables that `_known` does not read are what the manifest lists."""
    lake = request.workspace.lake
    try:
        for name in set(TABLES) - {"images", "outputs"}:
            local_table(lake, manifest, name, desk.folder)
    except DamagedSnapshotError:
        return False
    return is_whole(lake, manifest)


def _known(request: Request, published: Published | None, desk: Desk) -> Known:
    if published is None:
        return Known()
    manifest, lake = published.manifest, request.workspace.lake
    try:
        images, outputs = (local_table(lake, manifest, name, desk.folder) for name in ("images", "outputs"))
    except DamagedSnapshotError:  # nothing of it can be relied upon: everything is looked at anew
        return Known()
    return Known(images, outputs, _rules_digest(request, manifest), request.again)


def _rules_digest(request: Request, manifest: Manifest) -> str:
    """Return the rules under which the published images were judged.

    Where rejects are judged again by a recipe that only lifts limits, what was taken before is taken by it, too.
    """
    is_todays = manifest.rules_digest == manifest.recipe.rules_digest()
    if request.again and is_todays and request.recipe.lifts_limits_of(manifest.recipe):
        return request.recipe.rules_digest()
    return manifest.rules_digest


def _write_batch(request: Request, key: str, items: list[Item]) -> None:
    lake = request.workspace.lake
    metadata = {
        "dataset": request.dataset,
        "recipe": request.recipe.model_dump_json(),
        "recipe_digest": recipe_digest(request.recipe),
        LISTED_ON: this_host(),
    }
    if request.again:  # what an earlier run judged under this name is to be judged again
        lake.remove(f"{key}/part.parquet")
    lake.replace(f"{key}/manifest.parquet", to_parquet(manifest_table(items), metadata))
