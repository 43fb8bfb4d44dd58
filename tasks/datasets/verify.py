"""Verifying a dataset: manifest, objects, registry and warehouse are read again and compared; and repairs."""

from __future__ import annotations

import hashlib
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property, partial
from itertools import chain, repeat
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

import pyarrow as pa

from lookbook.blocks.errors import LookbookError, ObjectNotFoundError
from lookbook.blocks.lake import Lake, compare_objects, fault_of, fault_of_digest
from lookbook.blocks.sql_text import parquet_files
from lookbook.blocks.workspace import Workspace, scratch_folder
from lookbook.tasks.datasets import follow
from lookbook.tasks.datasets.follow import registry_differences
from lookbook.tasks.datasets.manifest import (
    TABLES,
    Manifest,
    list_snapshots,
    read_removed,
    require_published,
    snapshot_folder,
)
from lookbook.tasks.datasets.restore import MEMORY
from lookbook.tasks.datasets.schemas import load_models
from lookbook.tasks.datasets.sources.base import SourceFile
from lookbook.tasks.datasets.sources.opening import open_source
from lookbook.tasks.images import jobs
from lookbook.tasks.images.jobs import DoBatches, Job, open_job
from lookbook.tasks.images.locators import read_bytes
from lookbook.tasks.images.pacing import check_not_stopped, stoppable
from lookbook.tasks.images.parquet import in_pieces
from lookbook.tasks.images.render import render
from lookbook.tasks.runs.lease import lease, living_owners, wait_until_free

if TYPE_CHECKING:
    from lookbook.blocks.kaggle import KaggleCredentials


class SourceFiles:
    """The files of a source, listed once, when the first of them is asked for."""

    def __init__(self, uri: str, scratch: Path, kaggle: KaggleCredentials | None = None) -> None:
        self.uri = uri
        self._scratch = scratch
        self._kaggle = kaggle

    @cached_property
    def by_key(self) -> dict[str, SourceFile]:
        """The files that may be read, by their names within the source."""
        files = open_source(self.uri, self._scratch, self._kaggle).files()
        return {file.key: file for file in files if file.refused is None}


def restore_original(lake: Lake, source: SourceFiles, original: str, sha256: str, keys: tuple[str, ...]) -> None:
    """Fetch an original once more from the source that the snapshot was made from.

    Args:
        lake: where to.
        source: the snapshot's source.
        original: the lake key to write.
        sha256: the content that it has to have.
        keys: names within the source that had this content.

    Raises:
        LookbookError: the source is gone, or holds other bytes now.
    """
    for key in keys:
        file = source.by_key.get(key)
        data = read_bytes(file.locator) if file else b""
        if hashlib.sha256(data).hexdigest() == sha256:
            lake.replace(original, data)
            return
    raise LookbookError(f"{source.uri} does not hold {' or '.join(keys)} as it was.")


def redraw(lake: Lake, manifest: Manifest, row: Mapping[str, Any], original_key: str) -> None:
    """Draw an output again from its original. The same recipe and codecs give the same bytes.

    Raises:
        LookbookError: the original is gone or damaged, or this installation's codecs are others.
    """
    original = lake.get(original_key)
    if hashlib.sha256(original).hexdigest() != row["sha256"]:
        raise LookbookError(f"its original {original_key} is damaged")
    name = str(row["output"])
    data = render(original, manifest.recipe, [name]).files[name].data
    if hashlib.sha256(data).hexdigest() != row["output_sha256"]:
        raise LookbookError("drawn again it has other bytes: the codecs here are not those that drew it")
    lake.replace(str(row["object_key"]), data)


#: Lists the files of a dataset's finished exports: the key of each, and its SHA-256, or what is wrong with it. Exports
#: are built over datasets, so that they are handed in from above.
ListExports: TypeAlias = Callable[[Lake, str], Iterable[tuple[str, str | None, str | None]]]
#: Objects in a batch: half a minute of reading or more, where a store answers late.
OBJECTS_IN_BATCH = 20_000


@dataclass(frozen=True)
class Difference:
    """One thing that is not as the manifest says.

    Attributes:
        line: for the user.
        mend: mends it, where that can be done.
        follows: of registry or warehouse: a run that publishes brings them up to its snapshot in a moment.
    """

    line: str
    mend: Callable[[], None] | None = None
    follows: bool = False


@dataclass(frozen=True)
class Verified:
    """What a verification found: the snapshot, how many objects were read, and all differences."""

    snapshot_id: str
    objects: int
    differences: list[Difference]


def verify(
    workspace: Workspace,
    dataset: str,
    *,
    everything: ListExports | None = None,
    do: DoBatches | None = None,
    batch_size: int = OBJECTS_IN_BATCH,
) -> Verified:
    """Read everything that a dataset's current snapshot consists of, and compare.

    Args:
        workspace: where it lives.
        dataset: its name.
        everything: read older snapshots too, and the finished exports that this lists.
        do: has the batches of objects read; None: in this process.
        batch_size: objects in a batch.

    Raises:
        LookbookError: there is no such dataset, or CURRENT or its manifest can't be read.
    """
    manifest = require_published(workspace.lake, dataset).manifest
    with (
        scratch_folder(workspace.scratch, "verify-") as folder,
        open_job(workspace.lake) as job,
        _Objects(workspace, job, Path(folder), batch_size) as objects,
    ):
        known = dict[str, str]()
        current = _read_files(workspace.lake, manifest, Path(folder), known)
        objects.take(current, more=everything is not None)
        lost, manifests = _older(workspace, manifest) if everything is not None else ([], [])
        older = []
        for before in manifests:
            older.append(_read_files(workspace.lake, before, Path(folder), known))
            objects.take(older[-1])
            older[-1].drop_copies(Path(folder), current)
        for noted in everything(workspace.lake, dataset) if everything is not None else ():
            objects.take_noted(*noted)
        objects.compare(do or jobs.do_here(workspace.lake, do_batch))
        differences = current.damaged + objects.differences(current) + _following(workspace, current) + lost
        for each in older:
            differences += each.damaged + objects.differences(each)
        differences += objects.of_exports()
        files = len(known) + len(lost)
    return Verified(manifest.snapshot_id, files + objects.number, differences)


def _following(workspace: Workspace, current: _Files) -> list[Difference]:
    """Return where registry and warehouse differ; without its tables nothing of a snapshot can be judged."""
    if not current.is_readable:
        return []
    manifest = current.manifest
    index = partial(follow.index, workspace, manifest)
    lines = registry_differences(workspace.registry, manifest, current.tables)
    found = [Difference(line, index, follows=True) for line in lines]
    load = partial(follow.load, workspace, manifest)
    with follow.snapshot_load(workspace, manifest) as job:
        lines = workspace.warehouse.differences(job, load_models())
    return found + [Difference(line, load, follows=True) for line in lines]


def verify_or_repair(
    workspace: Workspace,
    dataset: str,
    mend: bool,
    max_wait: float = 0,
    waiting: Callable[[str], object] = lambda _: None,
    *,
    everything: ListExports | None = None,
    do: DoBatches | None = None,
    batch_size: int = OBJECTS_IN_BATCH,
) -> tuple[Verified, list[str]]:
    """Verify a dataset; with `mend`, mend what can be mended under the dataset's lease, and verify once more.

    Args:
        workspace: where it lives.
        dataset: its name.
        mend: whether to mend.
        max_wait: seconds to wait for a run that is at work on the dataset, where that is in the way.
        waiting: told what is waited for.
        everything: see `verify`.
        do: likewise.
        batch_size: likewise.

    Returns:
        What was found at last, and one line for each thing that was to be mended.

    Raises:
        LookbookError: as `verify`; or another run is at work on the dataset that is to be mended.
    """
    look = partial(verify, workspace, dataset, everything=everything, do=do, batch_size=batch_size)
    if not mend:
        return _verify_beside_runs(workspace, dataset, max_wait, waiting, look), []
    with lease(
        workspace.registry, f"dataset/{dataset}", max_wait, waiting
    ):  # a run that publishes meanwhile would be set back
        repairs = repair(look())
        return look(), repairs


def _verify_beside_runs(
    workspace: Workspace,
    dataset: str,
    max_wait: float,
    waiting: Callable[[str], object],
    look: Callable[[], Verified],
) -> Verified:
    """Verify; where registry or warehouse differ while a run may be publishing, wait for it and verify again.

    Objects of the lake never change, so what differs there counts at once. What differs after `max_wait` seconds
    counts, whoever is at work.
    """
    name, deadline = f"dataset/{dataset}", time.monotonic() + max_wait
    while True:
        busy = name in living_owners(workspace.registry)
        found = look()
        if not any(difference.follows for difference in found.differences) or time.monotonic() >= deadline:
            return found
        busy = busy or name in living_owners(workspace.registry)
        if not busy and require_published(workspace.lake, dataset).manifest.snapshot_id == found.snapshot_id:
            return found
        waiting(f"{name}: a run is at work on it, and registry or warehouse differ; it is verified again.")
        wait_until_free(workspace.registry, name, deadline - time.monotonic())


def repair(found: Verified) -> list[str]:
    """Mend what can be mended; says for each difference what came of it.

    What mends many lines (a registry or a warehouse that is filled anew) is done once. The caller holds the
    dataset's lease: a run that publishes meanwhile would be set back.
    """
    outcomes: dict[Callable[[], None] | None, str] = {
        None: "cannot be mended from what is here; ingest the source again"
    }
    for difference in found.differences:
        if difference.mend is not None and difference.mend not in outcomes:
            outcomes[difference.mend] = _mended(difference.mend)
    return [f"{difference.line}: {outcomes[difference.mend]}" for difference in found.differences]


def _mended(mend: Callable[[], None]) -> str:
    try:
        mend()
    except Exception as error:  # noqa: BLE001 - whatever fails is told, and the others are mended all the same
        return f"not mended: {error}"
    return "mended"


@dataclass(frozen=True)
class _Files:
    """The files of a snapshot.

    Attributes:
        manifest: of it.
        damaged: those that are not as it says.
        tables: where those of `TABLES` lie that are.
    """

    manifest: Manifest
    damaged: list[Difference]
    tables: dict[str, list[Path]]

    @property
    def is_readable(self) -> bool:
        """Return whether all tables are there."""
        return self.tables.keys() == set(TABLES)

    def drop_copies(self, folder: Path, kept: _Files) -> None:
        """Remove tables that were copied into a folder, but for files that are those of another snapshot as well.

        Of many snapshots they would fill it.
        """
        for path in {*chain(*self.tables.values())} - {*chain(*kept.tables.values())}:
            if folder in path.parents:
                path.unlink()


def _read_files(lake: Lake, manifest: Manifest, folder: Path, known: dict[str, str]) -> _Files:
    """Read the files of a snapshot, tables piece by piece; in a folder, if the lake lies in none.

    Args:
        lake: where they are.
        manifest: of the snapshot.
        folder: for copies.
        known: what is wrong with files that were read for other snapshots, "" with none: read and told of once.
    """
    damaged, whole = [], dict[str, Path]()
    for file in manifest.files:
        key = manifest.key(file)
        is_told = key in known
        try:
            path = lake.local_copy(key, folder)
        except ObjectNotFoundError:
            known[key] = fault_of(None, file.sha256) or ""
        else:
            whole[file.name] = path
            if not is_told:
                with path.open("rb") as data:
                    known[key] = fault_of_digest(hashlib.file_digest(data, "sha256").hexdigest(), file.sha256) or ""
        if known[key]:
            whole.pop(file.name, None)
            damaged += [] if is_told else [Difference(f"lake: {key} {known[key]}")]
    tables = {
        table: [whole[file.name] for file in files]
        for table, files in manifest.tables.items()
        if all(file.name in whole for file in files)
    }
    return _Files(manifest, damaged, tables)


def _older(workspace: Workspace, current: Manifest) -> tuple[list[Difference], list[Manifest]]:
    """Return the snapshots before the current one; and that there is one more, where it cannot be found."""
    found = list_snapshots(workspace.lake, current.dataset)
    lost = []
    if before := read_removed(workspace.lake, current.dataset)[0].followed_by(found[-1]):
        missing = snapshot_folder(current.dataset, before)
        lost = [Difference(f"lake: {missing}/manifest.json is missing or damaged: no older snapshot is found")]
    return lost, [one for one in found if one.snapshot_id != current.snapshot_id]


def _ask_again() -> None:
    """Raise LookbookError: only who asked for an export can say what it is to hold."""
    raise LookbookError("ask for the export again; it is made anew")


#: What a manifest says of its batch.
KIND = "verify"
NOTED_SCHEMA = pa.schema([pa.field("key", pa.string()), pa.field("sha256", pa.string())])
FAULTS_SCHEMA = NOTED_SCHEMA.append(pa.field("fault", pa.string()))


def do_batch(lake: Lake, batch: str) -> dict[str, int]:
    """Read the objects of a batch and compare them; its part names those that are not as was noted.

    Returns:
        The number of ``objects``, and of those with ``faults``.

    Raises:
        LookbookError: there is no such batch.
        StoppedError: the run was interrupted.
    """
    rows, _ = jobs.read_batch(lake, batch)
    done = jobs.read_part(lake, batch)
    if done is not None:
        return done[1]
    keys, digests = rows["key"].to_pylist(), rows["sha256"].to_pylist()
    faults = []
    with stoppable():
        for key, fault, sha256 in compare_objects(lake, zip(keys, digests, digests, strict=True)):
            check_not_stopped()
            if fault:
                faults.append({"key": key, "sha256": sha256, "fault": fault})
    counts = {"objects": len(keys), "faults": len(faults)}
    jobs.finish_batch(lake, batch, pa.Table.from_pylist(faults, schema=FAULTS_SCHEMA), counts)
    return counts


#: The objects that the tables of a snapshot name, each with its SHA-256.
_NAMED = (
    (
        "images",
        "SELECT DISTINCT original_key AS key, sha256 FROM images WHERE original_key IS NOT NULL ORDER BY ALL",
    ),
    ("outputs", "SELECT object_key AS key, output_sha256 AS sha256 FROM outputs"),
)
#: What several snapshots need is read once: 128 bits of a hash tell it.
_TOLD_BY = "md5_number(key || chr(10) || sha256)"


class _Objects:
    """The objects that are to be read, in batches: those of snapshots, and of exports.

    A database in scratch keeps what has to be known of all of them; they are written down as they are found.

    Attributes:
        number: how many were read, and how many of exports were at fault before.
    """

    def __init__(self, workspace: Workspace, job: Job, folder: Path, batch_size: int) -> None:
        import duckdb  # noqa: PLC0415 - late: importing the tasks is to be quick

        self.number = 0
        self._workspace, self._job, self._folder, self._batch_size = workspace, job, folder, batch_size
        self._waiting: list[tuple[str, str]] = []
        self._told: list[Difference] = []
        self._faults: dict[str, list[tuple[str, str, str]]] = {}
        self._batches: dict[str, list[str]] = {}
        self._found = duckdb.connect(
            str(folder / "verify.duckdb"), config={"memory_limit": MEMORY, "temp_directory": str(folder)}
        )
        self._found.execute("CREATE TABLE taken (h UHUGEINT)")

    def __enter__(self) -> _Objects:
        return self

    def __exit__(self, *_: object) -> None:
        self._found.close()

    def take(self, files: _Files, *, more: bool = True) -> None:
        """Take the objects that a snapshot needs and none before it; none where a table is missing.

        Args:
            files: of the snapshot.
            more: whether other ones follow.
        """
        batches_of = self._batches.setdefault(files.manifest.snapshot_id, [])
        for table, named in _NAMED if files.is_readable else ():
            self._found.sql(f"FROM {parquet_files(files.tables[table])}").create_view(table)
            new = named
            if len(self._batches) > 1:  # before the first nothing is taken
                new = f"SELECT key, sha256 FROM ({named}) ANTI JOIN taken ON h = {_TOLD_BY} ORDER BY ALL"  # noqa: S608
            for rows in in_pieces(self._found.sql(new).to_arrow_reader(self._batch_size), repeat(self._batch_size)):
                batches_of.append(self._job.add(KIND, rows.cast(NOTED_SCHEMA), {}))
        for table, named in _NAMED if files.is_readable and more else ():
            self._found.execute(f"INSERT INTO taken SELECT {_TOLD_BY} FROM ({named})")  # noqa: S608 - our own
            self._found.execute(f"DROP VIEW {table}")

    def take_noted(self, key: str, sha256: str | None, fault: str | None) -> None:
        """Take an object of an export; or what is wrong with it, where that is known."""
        if fault is not None or sha256 is None:
            self._told.append(Difference(f"lake: {key} {fault}", _ask_again))
            self.number += 1
            return
        self._waiting.append((key, sha256))
        if len(self._waiting) == self._batch_size:
            self._write_waiting()

    def _write_waiting(self) -> None:
        if self._waiting:
            rows = pa.table(list(zip(*self._waiting, strict=True)), schema=NOTED_SCHEMA)
            self._batches.setdefault("", []).append(self._job.add(KIND, rows, {}))
            self._waiting = []

    def compare(self, do: DoBatches) -> None:
        """Have all of them read and compared."""
        self._write_waiting()

        def note(batch: str) -> None:
            part, counts = jobs.require_part(self._job.lake, batch)
            self.number += counts["objects"]
            self._faults[batch] = [(row["key"], row["sha256"], row["fault"]) for row in part.to_pylist()]

        do(self._job.batches, note)

    def _faults_of(self, name: str) -> list[tuple[str, str, str]]:
        return [fault for batch in self._batches.get(name, ()) for fault in self._faults[batch]]

    def of_exports(self) -> list[Difference]:
        """Return what is wrong with files of exports."""
        found = [Difference(f"lake: {key} {fault}", _ask_again) for key, _, fault in self._faults_of("")]
        return self._told + found

    def differences(self, files: _Files) -> list[Difference]:
        """Return what is wrong with the objects of a snapshot, with what mends each."""
        faults = self._faults_of(files.manifest.snapshot_id)
        if not faults:
            return []
        mends = self._mends(files.manifest, faults)
        return [Difference(f"lake: {key} {fault}", mends.get((key, sha256))) for key, sha256, fault in faults]

    def _mends(
        self, manifest: Manifest, faults: Sequence[tuple[str, str, str]]
    ) -> dict[tuple[str, str], Callable[[], None]]:
        """Return what mends objects, by key and SHA-256."""
        lake = self._workspace.lake
        files = [[str(lake.local_copy(key, self._folder)) for key in manifest.keys(name)] for name, _ in _NAMED]
        given = pa.table([[key for key, _, _ in faults], [sha256 for _, sha256, _ in faults]], schema=NOTED_SCHEMA)
        self._found.register("faults", given)
        originals = self._found.execute(
            "SELECT original_key, sha256, list(i.key ORDER BY i.key) FROM read_parquet($1) AS i"
            " JOIN (SELECT DISTINCT key AS original_key, sha256 FROM faults) USING (original_key, sha256)"
            " GROUP BY original_key, sha256",
            files[:1],
        ).fetchall()
        outputs = self._found.execute(
            "WITH wrong AS (SELECT DISTINCT o.output, o.sha256, o.output_sha256, o.object_key"
            " FROM read_parquet($2) AS o JOIN faults AS f ON f.key = o.object_key AND f.sha256 = o.output_sha256)"
            " SELECT wrong.*, min(i.original_key) FROM wrong JOIN read_parquet($1) AS i ON i.sha256 = wrong.sha256"
            " WHERE i.original_key IS NOT NULL GROUP BY ALL",
            files,
        ).fetchall()
        self._found.unregister("faults")
        source = SourceFiles(manifest.source, self._workspace.scratch, self._workspace.kaggle)
        mends: dict[tuple[str, str], Callable[[], None]] = {}
        for original, sha256, keys in originals:
            mends[original, sha256] = partial(restore_original, lake, source, original, sha256, tuple(keys))
        for output, sha256, output_sha256, key, original in outputs:
            row = {"output": output, "sha256": sha256, "output_sha256": output_sha256, "object_key": key}
            mends[key, output_sha256] = partial(redraw, lake, manifest, row, original)
        return mends
