"""Clean-up of datasets: snapshots that may go, what runs left, and the objects that no snapshot lists any more."""

from __future__ import annotations

import json
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import datetime, timedelta
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING

import pyarrow as pa

from lookbook.blocks.errors import LookbookError
from lookbook.blocks.lake import Lake, ObjectInfo, read_object, snapshots_folder
from lookbook.blocks.registry import Registry
from lookbook.blocks.workspace import Workspace, scratch_folder
from lookbook.tasks.datasets.candidates import candidate_key
from lookbook.tasks.datasets.follow import forget_dataset
from lookbook.tasks.datasets.manifest import (
    DamagedSnapshotError,
    Manifest,
    Removed,
    batches_folder,
    current_key,
    list_snapshots,
    local_file,
    read_manifest,
    read_published,
    read_removed,
    removed_key,
    snapshot_folder,
    tables_folder,
    writing_key,
)
from lookbook.tasks.datasets.pieces import unlisted_pieces
from lookbook.tasks.datasets.publish import loose_pieces, raise_fences, sweep_unfinished
from lookbook.tasks.datasets.restore import KEYS, MEMORY
from lookbook.tasks.datasets.tags import find_snapshot, read_tags
from lookbook.tasks.images.batch import SWEEP_KEY, end_sweep, read_part, version_of_sweep
from lookbook.tasks.images.jobs import FOLDER
from lookbook.tasks.runs.lease import Hold, lease, living_owners
from lookbook.tasks.runs.removal import Amount, Rule, remove_objects

if TYPE_CHECKING:
    from duckdb import DuckDBPyConnection

#: Where nothing is published a run may stand still right before it publishes, and no fence stops it: what it wrote
#: goes only after so long.
UNFENCED = timedelta(days=1)
#: Objects of a folder that are compared at once.
LISTED_AT_ONCE = 100_000


@dataclass(frozen=True)
class Going:
    """A snapshot that is to go.

    Attributes:
        created_at: None where its manifest is gone already, or it never had one.
        digest: likewise.
        files: all that lies in its folder.
    """

    dataset: str
    snapshot_id: str
    created_at: datetime | None
    digest: str | None
    files: Sequence[ObjectInfo]


def datasets_of(lake: Lake) -> list[str]:
    """Return the names of all datasets of which anything lies in the lake, published or not."""
    return sorted({*lake.folders("datasets"), *lake.folders("batches")})


@contextmanager
def reading(
    workspace: Workspace, dataset: str, name: str | None, run_id: str, max_wait: float = 0
) -> Iterator[Manifest]:
    """Keep a snapshot in the lake while the block reads it; yields its manifest.

    Args:
        workspace: where the dataset lives.
        dataset: its name.
        name: of the snapshot, as for `lookbook.tasks.datasets.tags.find_snapshot`.
        run_id: of who reads.
        max_wait: seconds to wait while exports are removed, as for `lookbook.tasks.runs.lease.lease`.

    Raises:
        UsageError: there is no such snapshot.
        LookbookError: there is no such dataset, or the registry fails.
    """
    found = find_snapshot(workspace.lake, dataset, name)
    with lease(workspace.registry, f"reading/{dataset}/{found.snapshot_id}/{run_id}", max_wait):
        # It may have been removed before the lease was taken; from now on it is not.
        yield find_snapshot(workspace.lake, dataset, found.snapshot_id)


def read_now(registry: Registry, dataset: str) -> set[str]:
    """Return the snapshots of a dataset that exports and predictions read now."""
    start = f"reading/{dataset}/"
    return {name.split("/")[2] for name in living_owners(registry) if name.startswith(start)}


def going_snapshots(lake: Lake, dataset: str, rule: Rule, kept: Collection[str] = ()) -> list[Going]:
    """Return the snapshots of a dataset that may go, the newest first; then those that were never published.

    Args:
        lake: of the dataset.
        dataset: its name.
        rule: what may go.
        kept: ids of some that are read now.

    Raises:
        LookbookError: CURRENT, the tags or a manifest are damaged: what is needed is not known, and nothing may go.
    """
    files: dict[str, list[ObjectInfo]] = {}
    for info in lake.list(snapshots_folder(dataset)):
        files.setdefault(info.key.split("/")[3], []).append(info)
    chain = list_snapshots(lake, dataset) if read_published(lake, dataset) else []
    removed = read_removed(lake, dataset)[0]
    if chain and (before := removed.followed_by(chain[-1])):
        raise LookbookError(
            f"{dataset}: the manifest of {before} is missing or damaged: no older snapshot is found.",
            f'"lookbook verify {dataset} --all" says more.',
        )
    kept = {*kept, *(tag.snapshot for tag in read_tags(lake, dataset).values())}
    candidates = set()
    for info in lake.list(candidate_key(dataset)):
        candidates.add(snapshot_id := info.key.rpartition("/")[2])
        files.setdefault(snapshot_id, []).append(info)
    going = [
        Going(dataset, one.snapshot_id, one.created_at, one.digest, files.get(one.snapshot_id, []))
        for place, one in enumerate(chain)
        if place >= max(rule.keep, 1)
        and one.snapshot_id not in kept
        and rule.is_old(one.created_at)
        and _since(chain[place - 1], files) < rule.now - rule.grace
    ]
    published = {one.snapshot_id for one in chain}
    notes = {info.key.rpartition("/")[2]: info for info in lake.list(writing_key(dataset))}
    for snapshot_id, info in notes.items() if not chain else ():  # else `sweep_unfinished` removes them
        files.setdefault(snapshot_id, []).append(info)
    unfinished = notes.keys() if chain else set()
    for snapshot_id in sorted(files.keys() - published - kept, reverse=True):
        at_once = snapshot_id in removed.removed or snapshot_id in unfinished - candidates
        if at_once or rule.are_old(files[snapshot_id], timedelta(0) if chain else UNFENCED):
            going.append(Going(dataset, snapshot_id, None, None, files[snapshot_id]))
    return going


def going_pieces(lake: Lake, dataset: str, rule: Rule, going: Collection[Going]) -> list[ObjectInfo]:
    """Return the pieces of tables that only snapshots list which are to go, and those that none does."""
    return _old_pieces(lake, dataset, rule, unlisted_pieces(lake, dataset, {one.snapshot_id for one in going}))


def _old_pieces(lake: Lake, dataset: str, rule: Rule, found: list[ObjectInfo]) -> list[ObjectInfo]:
    """Return those of some pieces that no run can publish any more."""
    if read_published(lake, dataset) is not None:
        return found
    return [info for info in found if rule.is_old(info.modified, UNFENCED)]


def _since(manifest: Manifest, files: Mapping[str, Sequence[ObjectInfo]]) -> datetime:
    """Return since when a snapshot is published, and that before it is current no more: at the latest."""
    written = (one.modified for one in files.get(manifest.snapshot_id, ()) if one.key.endswith("/manifest.json"))
    return max([manifest.created_at, *(when for when in written if when is not None)])


def remove_snapshots(
    workspace: Workspace, dataset: str, rule: Rule, hold: Hold, amount: Amount, step: Callable[[str], object]
) -> list[Going]:
    """Remove the snapshots of a dataset that may go; the caller holds the dataset's lease. Done twice it goes on.

    Of each goes first that readers find it, then its manifest, then its other files; at last the pieces of tables that
    no snapshot lists any more. The objects that it alone listed stay: see `remove_unneeded`.

    Args:
        workspace: where the dataset lives.
        dataset: its name.
        rule: what may go.
        hold: of the dataset's lease.
        amount: counts what is gone.
        step: told of each step before it is done.

    Returns:
        Those that are gone.

    Raises:
        LeaseLostError: another run has taken the lease.
        LookbookError: as `going_snapshots`.
    """
    lake = workspace.lake
    end_sweep(lake)
    kept = read_now(workspace.registry, dataset)
    going = going_snapshots(lake, dataset, rule, kept)
    _bring_back_tagged(lake, dataset, hold, kept)
    gone = []
    if going:
        if read_published(lake, dataset) is not None:
            raise_fences(lake, dataset)
        step("mark")
        hold.confirm()
        _mark(lake, dataset, [one for one in going if one.digest is not None])
        for one in going:
            step("snapshot")
            # Who tagged it or began to read it after it was chosen did so before it was marked, and stands here.
            if one.snapshot_id in _needed_by_name(workspace, dataset):
                _bring_back_tagged(lake, dataset, hold, read_now(workspace.registry, dataset))
                continue
            for some in _in_order(one.files):
                remove_objects(lake, some, hold, amount)
                step("files")
            gone.append(one)
    step("pieces")
    hold.confirm()
    remove_objects(lake, _old_pieces(lake, dataset, rule, loose_pieces(lake, dataset)), hold, amount)
    step("forget")
    hold.confirm()
    sweep_unfinished(lake, dataset)  # of what is left of them by now: the notes that they were written
    _forget(lake, dataset)
    _forget_in_registry(workspace, dataset)
    return gone


def _in_order(files: Sequence[ObjectInfo]) -> Iterator[list[ObjectInfo]]:
    """Yield the files of a snapshot in groups: what says that it is there goes before what it lists."""
    notes = [info for info in files if info.key.split("/")[2] == "candidates"]
    manifests = [info for info in files if info.key.endswith("/manifest.json")]
    yield from (notes, manifests, [info for info in files if info not in notes and info not in manifests])


def _needed_by_name(workspace: Workspace, dataset: str) -> set[str]:
    tags = {tag.snapshot for tag in read_tags(workspace.lake, dataset).values()}
    return tags | read_now(workspace.registry, dataset)


def digests_that_stay(lake: Lake, going: Collection[Going] = ()) -> dict[str, set[str | None]]:
    """Return the digests of all snapshots in the lake but for some; None among a dataset's: one has no manifest."""
    gone = {(one.dataset, one.snapshot_id) for one in going}
    found: dict[str, set[str | None]] = {}
    for dataset in datasets_of(lake):
        for snapshot_id in lake.folders(snapshots_folder(dataset)):
            if (dataset, snapshot_id) not in gone:
                manifest = read_manifest(lake, dataset, snapshot_id)
                digests = (manifest.digest, *manifest.former) if manifest else (None,)
                found.setdefault(dataset, set()).update(digests)
    return found


def _mark(lake: Lake, dataset: str, going: Sequence[Going]) -> None:
    """Let readers pass over some snapshots from now on."""
    removed, version = read_removed(lake, dataset)
    marked = dict(removed.removed)
    for one in going:
        manifest = read_manifest(lake, dataset, one.snapshot_id)
        if manifest is not None:
            marked[one.snapshot_id] = manifest.previous
    _write(lake, dataset, removed, marked, version)


def _bring_back_tagged(lake: Lake, dataset: str, hold: Hold, read: Collection[str] = ()) -> None:
    """Let readers find snapshots again that were marked, and were tagged or read at the same moment."""
    removed, version = read_removed(lake, dataset)
    kept = {*read, *(tag.snapshot for tag in read_tags(lake, dataset).values())}
    back = {name for name in kept & removed.removed.keys() if read_manifest(lake, dataset, name) is not None}
    if back:
        hold.confirm()
        _write(lake, dataset, removed, {k: v for k, v in removed.removed.items() if k not in back}, version)


def _forget(lake: Lake, dataset: str) -> None:
    """Leave those out of the list of removed snapshots that nothing leads to any more."""
    removed, version = read_removed(lake, dataset)
    there = {info.key.split("/")[3] for info in lake.list(snapshots_folder(dataset))}
    manifests = [one for name in sorted(there) if (one := read_manifest(lake, dataset, name)) is not None]
    named = {one.previous for one in manifests} | there
    needed = {name: removed.passed(before) for name, before in removed.removed.items() if name in named}
    _write(lake, dataset, removed, needed, version)


def _write(lake: Lake, dataset: str, before: Removed, after: dict[str, str | None], version: str | None) -> None:
    if after != before.removed:
        text = json.dumps(Removed(removed=after).model_dump(mode="json"), indent=1, sort_keys=True)
        lake.swap(removed_key(dataset), text.encode(), version)


def _forget_in_registry(workspace: Workspace, dataset: str) -> None:
    """Remove the rows of snapshots that are gone, and the leases of exports that ended."""
    there = [info.key.split("/")[3] for info in workspace.lake.list(snapshots_folder(dataset))]
    for table in ("snapshots", "loads"):
        workspace.registry.execute(
            f"DELETE FROM {table} WHERE dataset = $1 AND NOT snapshot_id = ANY($2::text[])",  # noqa: S608 - our names
            dataset,
            sorted(set(there)),
        )
    workspace.registry.execute(
        "DELETE FROM leases WHERE starts_with(name, $1) AND expires_at < now() - interval '1 day'",
        f"reading/{dataset}/",
    )


def old_batches(lake: Lake, dataset: str, rule: Rule) -> list[str]:
    """Return the folders of batches that no run will take up; the caller holds the dataset's lease, or only asks."""
    found = []
    for name in lake.folders(batches_folder(dataset)):
        folder = f"{batches_folder(dataset)}/{name}"
        if rule.are_old(lake.list(folder)):
            found.append(folder)
    return found


def old_jobs(lake: Lake, rule: Rule) -> Iterator[str]:
    """Yield the folders of batches that a killed export, prediction or verification has left."""
    for name in lake.folders(FOLDER):
        if rule.are_old(lake.list(f"{FOLDER}/{name}")):
            yield f"{FOLDER}/{name}"


def remove_batch(lake: Lake, folder: str, hold: Hold, amount: Amount) -> None:
    """Remove a batch: first its part, so that no run takes it up, its manifest last."""
    order = {"part.parquet": 0, "manifest.parquet": 2}
    objects = sorted(lake.list(folder), key=lambda info: order.get(info.key.rpartition("/")[2], 1))
    for some in (objects[:1], objects[1:-1], objects[-1:]):
        remove_objects(lake, some, hold, amount)


@contextmanager
def needed_objects(
    workspace: Workspace, going: Collection[tuple[str, str]] = (), others: Collection[str] = ()
) -> Iterator[Needed]:
    """Find out what any snapshot of the lake lists, whatever became of it, and any part that a run may take up.

    DuckDB reads their tables one after the other; what it keeps of an object is its folder and a hash of its key. Of
    two keys with one hash, of billions, one would stay: nothing goes that is needed.

    Args:
        workspace: of the lake.
        going: dataset and id of snapshots that are taken to be gone.
        others: folders of batches, and keys of tables' pieces, likewise.

    Raises:
        LookbookError: a table is missing or damaged: what it lists is not known, and no object may go.
    """
    import duckdb  # noqa: PLC0415 - late: importing the tasks is to be quick

    lake = workspace.lake
    spared = []
    with (
        scratch_folder(workspace.scratch, "needed-") as folder,
        duckdb.connect(f"{folder}/needed.duckdb", config={"memory_limit": MEMORY, "temp_directory": folder}) as found,
    ):
        found.execute("CREATE TABLE needed (folder VARCHAR, h UBIGINT)")
        copies = Path(folder, "copies")
        for dataset in datasets_of(lake):
            for manifest, tables in _standing(lake, dataset, going, others, copies):
                for table, paths in tables.items():
                    _take(found, _OF_TABLE[table], paths, manifest)
                    _drop_copies(paths, copies)
            for name in lake.folders(batches_folder(dataset)):
                batch = f"{batches_folder(dataset)}/{name}"
                if batch not in others and read_part(lake, batch) is not None:
                    paths = [lake.local_copy(f"{batch}/part.parquet", copies)]
                    _take(found, _OF_PART, paths, batch)
                    _drop_copies(paths, copies)
                    spared.append(batch)
        found.execute("CREATE TABLE kept AS SELECT DISTINCT folder, h FROM needed ORDER BY folder, h")
        found.execute("DROP TABLE needed")
        yield Needed(lake, found, spared)


_OF_TABLE = {table: f"SELECT {column} AS key FROM read_parquet($1)" for table, column in KEYS.items()}  # noqa: S608
_OF_PART = """
SELECT original_key AS key FROM read_parquet($1)
UNION ALL SELECT unnest(drawn).object_key FROM read_parquet($1)
"""


def _standing(
    lake: Lake, dataset: str, going: Collection[tuple[str, str]], pieces: Collection[str], copies: Path
) -> Iterator[tuple[str, dict[str, list[Path]]]]:
    """Yield what lies in the lake of the tables that list objects: of each snapshot what none before it has.

    Raises:
        DamagedSnapshotError: a file is missing or damaged.
    """
    taken = set[str]()
    there: dict[str, set[str]] = {}
    for info in lake.list(snapshots_folder(dataset)):
        there.setdefault(info.key.split("/")[3], set()).add(info.key.rpartition("/")[2])
    for snapshot_id, names in sorted(there.items()):
        if (dataset, snapshot_id) in going:
            continue
        folder, tables = snapshot_folder(dataset, snapshot_id), dict[str, list[Path]]()
        manifest = read_manifest(lake, dataset, snapshot_id) if "manifest.json" in names else None
        for table in KEYS:
            if manifest is not None:
                new = [file for file in manifest.tables.get(table, ()) if manifest.key(file) not in taken]
                taken.update(map(manifest.key, new))
                tables[table] = [local_file(lake, manifest, file, copies) for file in new]
            elif f"{table}.parquet" in names:  # one that is being removed; earlier versions wrote such ones
                tables[table] = [lake.local_copy(f"{folder}/{table}.parquet", copies)]
        yield folder, tables
    for table in KEYS:  # those of a snapshot that is being written, or was removed
        left = [info.key for info in lake.list(f"{tables_folder(dataset)}/{table}") if info.key not in taken]
        yield tables_folder(dataset), {table: [lake.local_copy(key, copies) for key in left if key not in pieces]}


def _take(found: DuckDBPyConnection, keys: str, paths: Sequence[Path], of: str) -> None:
    """Add the keys that a query over some files gives, but for those that are there."""
    import duckdb  # noqa: PLC0415

    if not paths:
        return
    try:
        found.execute(
            "INSERT INTO needed SELECT DISTINCT part, k FROM"  # noqa: S608 - our names
            " (SELECT regexp_replace(key, '/[^/]*$', '') AS part, hash(key) AS k"
            f" FROM ({keys}) WHERE key IS NOT NULL) ANTI JOIN needed ON k = needed.h",
            [[str(path) for path in paths]],
        )
    except duckdb.Error as error:
        raise DamagedSnapshotError(
            f"{of} has a table that cannot be read: which objects it lists is not known.",
            "Ingest the source again; once the damaged snapshot is gone, objects are removed again.",
        ) from error


def _drop_copies(paths: Sequence[Path], copies: Path) -> None:
    for path in paths:
        if copies in path.parents:  # else it is the lake's own file
            path.unlink(missing_ok=True)


class Needed:
    """What some tables list, in a database in scratch.

    Attributes:
        batches: the batches among them.
    """

    def __init__(self, lake: Lake, found: DuckDBPyConnection, batches: list[str]) -> None:
        self._lake, self._found, self.batches = lake, found, batches

    def unneeded(self) -> Iterator[ObjectInfo]:
        """Yield the originals, outputs and rejected files of the lake that nothing lists, folder by folder."""
        for folder in self._folders():
            listed = (info for info in self._lake.list(folder) if info.key.rpartition("/")[0] == folder)
            while some := list(islice(listed, LISTED_AT_ONCE)):
                given = pa.table({"place": list(range(len(some))), "key": [info.key for info in some]})
                self._found.register("listed", given)
                rows = self._found.execute(
                    "SELECT place FROM listed WHERE hash(key) NOT IN (SELECT h FROM kept WHERE folder = $1)"
                    " ORDER BY place",
                    [folder],
                ).fetchall()
                self._found.unregister("listed")
                yield from (some[place] for (place,) in rows)

    def _folders(self) -> Iterator[str]:
        for top in ("originals", "rejected"):
            yield from (f"{top}/{name}" for name in self._lake.folders(top))
        for digest in self._lake.folders("derived"):
            yield from (f"derived/{digest}/{name}" for name in self._lake.folders(f"derived/{digest}"))


def remove_unneeded(workspace: Workspace, hold: Hold, amount: Amount, step: Callable[[str], object]) -> None:
    """Remove the objects that nothing lists. The caller holds the lease that keeps runs away from them.

    Args:
        workspace: of the lake.
        hold: of that lease.
        amount: counts what is gone.
        step: told of each step before it is done.

    Raises:
        LeaseLostError: a run has begun, because this one was silent for too long.
        LookbookError: as `needed_objects`.
    """
    with needed_objects(workspace) as needed:
        unneeded = needed.unneeded()
        first = list(islice(unneeded, 1))
        if not first:
            return
        # A part is relied upon only if it was counted, or if its batch begins once all of this is done.
        step("sweep")
        hold.confirm()
        last, version = version_of_sweep(workspace.lake)
        workspace.lake.swap(SWEEP_KEY, last.begun(needed.batches).model_dump_json().encode(), version)
        step("objects")
        remove_objects(workspace.lake, first, hold, amount)
        step("more objects")
        remove_objects(workspace.lake, unneeded, hold, amount)
        step("swept")
        hold.confirm()
        end_sweep(workspace.lake)


def _removing_key(dataset: str) -> str:
    return f"datasets/{dataset}/removing"


def is_there(workspace: Workspace, dataset: str) -> None:
    """See that there is a dataset that may be removed, or something that is left of one.

    Raises:
        LookbookError: there is none, or an export reads it.
    """
    read = read_now(workspace.registry, dataset)
    if read:
        raise LookbookError(f"{dataset}: an export reads its snapshot {min(read)}.", "Wait for it, or end it.")
    if dataset not in datasets_of(workspace.lake):
        raise LookbookError(f"{dataset}: no such dataset here.", 'See "lookbook datasets".')


def remove_dataset(
    workspace: Workspace, dataset: str, hold: Hold, amount: Amount, step: Callable[[str], object]
) -> None:
    """Remove all that lies of a dataset in the lake but for its originals and outputs, and for a note that it goes.

    The caller holds the dataset's lease. First goes CURRENT, so that nobody finds it; then what names snapshots.

    Raises:
        LeaseLostError: another run has taken the lease.
        LookbookError: the lake or the registry fails.
    """
    lake = workspace.lake
    lake.replace(_removing_key(dataset), b"")
    with suppress(LookbookError):  # CURRENT is damaged: it goes all the same
        raise_fences(lake, dataset)
    hold.confirm()
    step("current")
    lake.remove(current_key(dataset))
    step("manifests")
    every = f"datasets/{dataset}"
    manifests = (info for info in lake.list(snapshots_folder(dataset)) if info.key.endswith("/manifest.json"))
    remove_objects(lake, manifests, hold, amount)
    step("files")
    remove_objects(lake, (info for info in lake.list(every) if info.key != _removing_key(dataset)), hold, amount)
    step("batches")
    for name in lake.folders(batches_folder(dataset)):
        remove_batch(lake, f"{batches_folder(dataset)}/{name}", hold, amount)


def end_removal(workspace: Workspace, dataset: str, hold: Hold) -> bool:
    """Finish the removal of a dataset that was killed, before its name is used again; the caller holds its lease.

    A dataset that readers find still stays as it is, and only the note goes. Runs and watches stay in any case: the
    run that asks is among them.

    Returns:
        Whether anything of it was to be removed.

    Raises:
        LeaseLostError: another run has taken the lease.
        LookbookError: the lake, the registry or the warehouse fails.
    """
    lake = workspace.lake
    if read_object(lake, _removing_key(dataset)) is None:
        return False
    begun = lake.read_version(current_key(dataset)) is None
    if begun:
        remove_dataset(workspace, dataset, hold, Amount(), lambda _: None)
        forget_dataset(workspace, dataset, runs=False)
    finish_dataset(workspace, dataset, hold)
    return begun


def finish_dataset(workspace: Workspace, dataset: str, hold: Hold) -> None:
    """Remove the note that a dataset goes: all else is gone."""
    hold.confirm()
    workspace.lake.remove(_removing_key(dataset))
