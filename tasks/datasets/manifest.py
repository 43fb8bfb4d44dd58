"""A snapshot as readers find it: its manifest, CURRENT, which names the one that they see, and where both lie."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any, Generic, TypeVar

import pyarrow as pa
from pydantic import BaseModel, ConfigDict, ValidationError

from lookbook.blocks.errors import LookbookError, ObjectNotFoundError
from lookbook.blocks.lake import Lake, fault_of, read_object, snapshots_folder
from lookbook.tasks.images.parquet import from_parquet
from lookbook.tasks.images.recipe import Recipe
from lookbook.tasks.runs.parameters import BATCH_SIZE

ManifestT = TypeVar("ManifestT", bound=BaseModel)
T = TypeVar("T")
#: Files of a table that are read at the same time: a bucket answers late.
FILES_AT_ONCE = 4


def current_key(dataset: str) -> str:
    """Return the one mutable object: which snapshot readers see."""
    return f"datasets/{dataset}/CURRENT"


def snapshot_folder(dataset: str, snapshot_id: str) -> str:
    """Return the folder of a snapshot's files."""
    return f"{snapshots_folder(dataset)}/{snapshot_id}"


def new_snapshot_id(now: datetime, digest: str) -> str:
    """Return the id of a snapshot that is made now, by its logical digest; later ones sort behind it."""
    return f"{now:%Y%m%dT%H%M%S}{now.microsecond // 1000:03d}Z-{digest[:8]}"


def writing_key(dataset: str, snapshot_id: str = "") -> str:
    """Return the note that stands while a snapshot is written; without an id the folder of them."""
    return f"datasets/{dataset}/writing" + (f"/{snapshot_id}" if snapshot_id else "")


def removed_key(dataset: str) -> str:
    """Return the object that says which snapshots were removed, and so are passed over."""
    return f"datasets/{dataset}/removed.json"


def batches_folder(dataset: str) -> str:
    """Return the folder of a dataset's batches that are not published yet."""
    return f"batches/{dataset}"


def tables_folder(dataset: str) -> str:
    """Return the folder of the pieces of a dataset's tables, which its snapshots share."""
    return f"datasets/{dataset}/tables"


def rewriting_folder(dataset: str) -> str:
    """Return the folder of snapshots that are made anew beside themselves before they are replaced."""
    return f"datasets/{dataset}/rewriting"


#: The tables of a snapshot.
TABLES = ("images", "outputs", "products", "image_links", "rejects")
#: Begins the name of a piece: from the dataset's folder on, where other names are of the snapshot's own.
_PIECE = "tables/"


_INGEST_AGAIN = "Ingest the source again: it publishes a whole snapshot in its place."


class DamagedSnapshotError(LookbookError):
    """A file of a snapshot is missing, or is not the one that its manifest lists."""


class SnapshotFile(BaseModel):
    """One file of a snapshot: its name, bytes, checksum; rows where it is a table or a piece of one.

    A piece is called ``tables/<table>/<id>.parquet`` from the dataset's folder on: snapshots share it. Any other file
    lies in the snapshot's own folder; there earlier versions put each table whole, as ``<table>.parquet``.
    """

    name: str
    size: int
    sha256: str
    rows: int | None = None


def piece_name(table: str, piece_id: str) -> str:
    """Return how a manifest calls a piece of a table."""
    return f"{_PIECE}{table}/{piece_id}.parquet"


def is_piece(file: SnapshotFile) -> bool:
    """Return whether a file is a piece of a table, which other snapshots may list as well."""
    return file.name.startswith(_PIECE)


class IngestOptions(BaseModel):
    """What the run that made a snapshot was asked for beside source and recipe: as `Request` in `inventory` has it.

    Attributes:
        outputs: names of the recipe's outputs in their order, which the sorted JSON of a manifest loses: the first
            one gives the images their width and height.
    """

    outputs: Sequence[str] = ()
    limit: int | None = None
    batch_size: int = BATCH_SIZE
    reject_limit: float = 0.1
    within: Sequence[str] = ()
    key: str | None = None
    image_column: str | None = None


class Manifest(BaseModel):
    """What a snapshot consists of and how it was made. Written after its files, before CURRENT.

    Attributes:
        options: of the run that made it; None in those of earlier versions, which did not keep them.
        previous: the snapshot that it followed.
        restored_from: an older one that it equals, where it was not made of a source.
        former: digests that it had before something of it was deleted on request; exports are of these.
    """

    model_config = ConfigDict(extra="ignore")

    format_version: int = 1
    dataset: str
    snapshot_id: str
    created_at: datetime
    source: str
    options: IngestOptions | None = None
    digest: str
    previous: str | None
    restored_from: str | None = None
    former: tuple[str, ...] = ()
    recipe: Recipe
    rules_digest: str
    output_digests: dict[str, str]
    versions: dict[str, str]
    summary: dict[str, Any]
    files: list[SnapshotFile]

    @property
    def folder(self) -> str:
        """The lake's folder that holds the snapshot."""
        return snapshot_folder(self.dataset, self.snapshot_id)

    @property
    def tables(self) -> dict[str, list[SnapshotFile]]:
        """The files of each table, in the order of its rows."""
        found: dict[str, list[SnapshotFile]] = {}
        for file in self.files:
            if file.rows is not None:
                found.setdefault(file.name.removeprefix(_PIECE).partition("/")[0].removesuffix(".parquet"), []).append(
                    file
                )
        return found

    @property
    def rows(self) -> dict[str, int]:
        """The number of rows of each table."""
        return {table: sum(file.rows or 0 for file in files) for table, files in self.tables.items()}

    def key(self, file: SnapshotFile) -> str:
        """Return where a file of the snapshot lies in the lake."""
        return f"{self.folder}/{file.name}" if not is_piece(file) else f"datasets/{self.dataset}/{file.name}"

    def keys(self, table: str) -> list[str]:
        """Return where the files of a table lie, in the order of its rows."""
        return [self.key(file) for file in self.tables.get(table, ())]


class Current(BaseModel):
    """The content of CURRENT: a snapshot, its manifest's checksum, its fences (`lookbook.blocks.registry`)."""

    snapshot_id: str
    manifest_sha256: str
    fences: dict[str, int] = {}


@dataclass(frozen=True)
class CurrentSnapshot(Generic[ManifestT]):
    """The snapshot that readers see, the version of CURRENT that named it, and the fences that stood there."""

    manifest: ManifestT
    version: str
    fences: Mapping[str, int]


Published = CurrentSnapshot[Manifest]


class Removed(BaseModel):
    """The content of the object that says which snapshots were removed.

    It is swapped before anything of a snapshot goes: from then on no reader finds it, whatever is there of it still.
    What is not needed any more to find older ones is left out again.

    Attributes:
        removed: by the id of each the snapshot that it had followed, None where it was the first.
    """

    format_version: int = 1
    removed: dict[str, str | None] = {}

    def followed_by(self, manifest: Manifest) -> str | None:
        """Return the id of the snapshot before another one, of those that were not removed; None: there is none."""
        return self.passed(manifest.previous)

    def passed(self, snapshot_id: str | None) -> str | None:
        """Return a snapshot's id, or that of the last one before it that was not removed."""
        while snapshot_id is not None and snapshot_id in self.removed:
            snapshot_id = self.removed[snapshot_id]
        return snapshot_id


def read_current(
    lake: Lake, key: str, manifest_key: Callable[[str], str], model: type[ManifestT]
) -> CurrentSnapshot[ManifestT] | None:
    """Return the snapshot that the CURRENT of a dataset or a table names; None where there is none.

    Raises:
        ValueError: CURRENT or the manifest is damaged or missing.
    """
    while True:
        found = lake.read_version(key)
        if found is None:
            return None
        try:
            current = Current.model_validate_json(found[0])
            text = lake.get(manifest_key(current.snapshot_id))
            if hashlib.sha256(text).hexdigest() == current.manifest_sha256:
                return CurrentSnapshot(model.model_validate_json(text), found[1], current.fences)
            fault = f"the manifest of {current.snapshot_id} was changed: its checksum differs"
        except ValidationError as error:
            fault = f"CURRENT or its manifest cannot be read: {error.error_count()} faults"
        except ObjectNotFoundError as error:
            again = lake.read_version(key)
            if again is not None and again[1] != found[1]:
                continue  # two commits came in between, and the manifest was removed with the second
            fault = f"CURRENT names a snapshot whose manifest is gone: {error.problem}"
        raise ValueError(fault)


def read_published(lake: Lake, dataset: str) -> Published | None:
    """Return the snapshot that CURRENT names, or None where nothing was published yet.

    Raises:
        LookbookError: CURRENT or the manifest is damaged or missing.
    """
    key = current_key(dataset)
    try:
        return read_current(lake, key, lambda name: f"{snapshot_folder(dataset, name)}/manifest.json", Manifest)
    except ValueError as error:
        raise LookbookError(
            f"{dataset}: {error}.",
            f"Remove {lake.uri(key)} and ingest the source again: originals and outputs in the lake stay.",
        ) from error


def require_published(lake: Lake, dataset: str) -> Published:
    """Like `read_published`, for readers who need a snapshot.

    Raises:
        LookbookError: nothing is published under this name.
    """
    published = read_published(lake, dataset)
    if published is None:
        raise LookbookError(
            f"{dataset}: no such dataset here.",
            'See "lookbook datasets"; "lookbook ingest SOURCE --dataset NAME" makes one.',
        )
    return published


def read_table(lake: Lake, manifest: Manifest, name: str, without: Collection[str] = ()) -> pa.Table:
    """Return one of `TABLES` of a snapshot, but for the columns `without`.

    Raises:
        DamagedSnapshotError: a file of it is missing, or is not the one that the manifest lists.
    """

    def read(file: SnapshotFile) -> pa.Table:
        key = manifest.key(file)
        try:
            data = lake.get(key)
        except ObjectNotFoundError as error:
            raise DamagedSnapshotError(f"{key} is missing.", _INGEST_AGAIN) from error
        _check(key, file, hashlib.sha256(data).hexdigest())
        return from_parquet(data, without)[0]

    return pa.concat_tables(_of_each(_files_of(manifest, name), read))


def local_table(lake: Lake, manifest: Manifest, name: str, folder: Path) -> list[Path]:
    """Return the files of one of `TABLES` of a snapshot in their order, to be read by parts: not to be changed.

    Args:
        lake: where they are.
        manifest: of the snapshot.
        name: of the table.
        folder: where copies are made if the lake itself lies in no folder.

    Raises:
        DamagedSnapshotError: as `read_table`.
    """
    return _of_each(_files_of(manifest, name), lambda file: local_file(lake, manifest, file, folder))


def local_file(lake: Lake, manifest: Manifest, file: SnapshotFile, folder: Path) -> Path:
    """Return where a file of a snapshot can be read on this machine; arguments and errors as `local_table`."""
    key = manifest.key(file)
    try:
        path = lake.local_copy(key, folder)
    except ObjectNotFoundError as error:
        raise DamagedSnapshotError(f"{key} is missing.", _INGEST_AGAIN) from error
    with path.open("rb") as data:
        _check(key, file, hashlib.file_digest(data, "sha256").hexdigest())
    return path


def _of_each(files: Sequence[SnapshotFile], read: Callable[[SnapshotFile], T]) -> list[T]:
    """Return what is read of files, in their order; some are read at the same time."""
    with ThreadPoolExecutor(FILES_AT_ONCE, thread_name_prefix="tables") as pool:
        return list(pool.map(read, files))


def _files_of(manifest: Manifest, name: str) -> list[SnapshotFile]:
    """Return the files of a table.

    Raises:
        DamagedSnapshotError: the manifest lists none.
    """
    files = manifest.tables.get(name, [])
    if not files:
        raise DamagedSnapshotError(f"{manifest.folder}/manifest.json lists no table {name}.", _INGEST_AGAIN)
    return files


def _check(key: str, file: SnapshotFile, sha256: str) -> None:
    if sha256 != file.sha256:
        raise DamagedSnapshotError(f"{key} is damaged: its checksum is not the manifest's.", _INGEST_AGAIN)


def is_whole(lake: Lake, manifest: Manifest) -> bool:
    """Return whether every file of a snapshot is there with its size."""
    folders = {manifest.folder, *(tables_folder(manifest.dataset) for file in manifest.files if is_piece(file))}
    there = {info.key: info.size for folder in folders for info in lake.list(folder)}
    return all(there.get(manifest.key(file)) == file.size for file in manifest.files)


def file_faults(lake: Lake, manifest: Manifest, tables: Collection[str] = ()) -> list[str]:
    """Return what is wrong with the files of a snapshot, or with some tables; read one by one: they may be large."""
    files = [file for table in tables for file in manifest.tables.get(table, ())] if tables else manifest.files
    found = ((key, fault_of(read_object(lake, key), file.sha256)) for file in files for key in [manifest.key(file)])
    return [f"{key} {fault}" for key, fault in found if fault]


def list_datasets(lake: Lake) -> list[str]:
    """Return the names of all datasets that have a snapshot, sorted."""
    keys = (info.key for info in lake.list("datasets"))
    return sorted(key.split("/")[1] for key in keys if key.endswith("/CURRENT"))


def list_snapshots(lake: Lake, dataset: str) -> list[Manifest]:
    """Return the manifests of a dataset's snapshots, newest first: the current one, and those that it followed.

    A manifest that no chain leads to was never published; one that is gone or damaged ends the chain. Those that were
    removed are passed over.
    """
    return list(walk_snapshots(lake, dataset))


def walk_snapshots(lake: Lake, dataset: str) -> Iterator[Manifest]:
    """Yield what `list_snapshots` returns, each read when it is asked for."""
    found: Manifest | None = require_published(lake, dataset).manifest
    removed: Removed | None = None
    while found is not None:
        yield found
        removed = removed or read_removed(lake, dataset)[0]
        before = removed.followed_by(found)
        found = read_manifest(lake, dataset, before) if before else None


def read_removed(lake: Lake, dataset: str) -> tuple[Removed, str | None]:
    """Return which snapshots of a dataset were removed, and the version of the object that says it; None: none is.

    Raises:
        LookbookError: the object is damaged.
    """
    way_out = "Bring it back from a copy of the lake: without it older snapshots are not found."
    found, version = lake.read_swapped(removed_key(dataset), Removed, f"{dataset}:", way_out)
    return found or Removed(), version


def read_manifest(lake: Lake, dataset: str, snapshot_id: str) -> Manifest | None:
    """Return the manifest of a snapshot that another one, or a tag, names; None where it is gone or damaged."""
    try:
        return Manifest.model_validate_json(lake.get(f"{snapshot_folder(dataset, snapshot_id)}/manifest.json"))
    except (ObjectNotFoundError, ValidationError):
        return None
