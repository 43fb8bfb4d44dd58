"""Batches of exports, predictions and verifications: a manifest that says what to do, a part once it is done."""

from __future__ import annotations

import json
import uuid
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, TypeAlias

import pyarrow as pa
import pyarrow.parquet as pq

from lookbook.blocks.errors import LookbookError, ObjectNotFoundError
from lookbook.tasks.images.parquet import from_parquet, to_parquet
from lookbook.tasks.runs import progress

if TYPE_CHECKING:
    from lookbook.blocks.lake import Lake

#: The lake's folder of these batches; those of ingests lie in `batches`, and are taken up by the next run.
FOLDER = "work"
#: Under which a manifest says what is done with its rows, and a part how many there were of what.
KIND, COUNTS = "kind", "counts"

#: Does one batch; doing it twice is harmless. Returns counts, such as ``images``, and ``bytes`` that were written.
Work: TypeAlias = "Callable[[Lake, str], dict[str, int]]"
#: Has batches done, wherever that is, and calls for each that is done, in this thread and in whichever order.
DoBatches: TypeAlias = Callable[[Sequence[str], Callable[[str], object]], object]


@dataclass
class Job:
    """The batches of one run, in a folder of their own: what an earlier run did is not taken for done.

    Attributes:
        lake: where they lie.
        folder: likewise.
        batches: their folders, in order.
    """

    lake: Lake
    folder: str
    batches: list[str] = field(default_factory=list)

    def add(self, kind: str, rows: pa.Table, told: Mapping[str, str]) -> str:
        """Write the manifest of one more batch: what is done with its rows, and what has to be told of that."""
        batch = f"{self.folder}/{len(self.batches):06}"
        self.lake.replace(f"{batch}/manifest.parquet", to_parquet(rows, {**told, KIND: kind}))
        self.batches.append(batch)
        return batch


@contextmanager
def open_job(lake: Lake) -> Iterator[Job]:
    """Have a folder for batches while the block runs; it goes with it. `gc` removes what a killed run leaves."""
    job = Job(lake, f"{FOLDER}/{uuid.uuid4().hex}")
    try:
        yield job
    finally:
        for info in list(lake.list(job.folder)):
            lake.remove(info.key)


def read_batch(lake: Lake, batch: str) -> tuple[pa.Table, dict[str, str]]:
    """Return the rows of a batch's manifest, and what is told of them.

    Raises:
        LookbookError: there is no such batch.
    """
    return from_parquet(_manifest(lake, batch))


def kind_of(lake: Lake, batch: str) -> str:
    """Return what is to be done with a batch: the kind that it was added as; raises as `read_batch`."""
    told: dict[bytes, bytes] = pq.read_schema(pa.BufferReader(_manifest(lake, batch))).metadata or {}
    return told.get(KIND.encode(), b"").decode()


def _manifest(lake: Lake, batch: str) -> bytes:
    try:
        return lake.get(f"{batch}/manifest.parquet")
    except ObjectNotFoundError as error:
        raise no_such_batch(lake, batch) from error


def no_such_batch(lake: Lake, batch: str) -> LookbookError:
    """Return the error of who was sent a batch that is not in the lake here."""
    return LookbookError(
        f"{batch}: no such batch in this worker's lake {lake.uri('x')[:-1]}.",
        "See that this worker sees the workspace's folder, or use a workspace whose lake is a bucket.",
    )


def finish_batch(lake: Lake, batch: str, part: pa.Table, counts: Mapping[str, int]) -> None:
    """Write the part, a batch's commit mark: what it tells of is there after a power cut."""
    lake.settle()
    lake.replace(f"{batch}/part.parquet", to_parquet(part, {COUNTS: json.dumps(counts)}))


def read_part(lake: Lake, batch: str) -> tuple[pa.Table, dict[str, int]] | None:
    """Return the part of a batch, and its counts; None where it has none yet, or one that cannot be read."""
    try:
        part, metadata = from_parquet(lake.get(f"{batch}/part.parquet"))
        counts: dict[str, int] = json.loads(metadata[COUNTS])
    except (ObjectNotFoundError, pa.ArrowException, OSError, KeyError, ValueError):
        return None
    return part, counts


def require_part(lake: Lake, batch: str) -> tuple[pa.Table, dict[str, int]]:
    """Return the part of a batch that is done.

    Raises:
        LookbookError: it is not there, or damaged.
    """
    found = read_part(lake, batch)
    if found is None:
        raise LookbookError(f"{batch}: its part is missing or damaged.", "Run it again.")
    return found


def do_here(lake: Lake, work: Work) -> DoBatches:
    """Return what does batches in this process, one after the other."""

    def do(batches: Sequence[str], done: Callable[[str], object]) -> None:
        for batch in batches:
            work(lake, batch)
            done(batch)

    return do


def tell(lake: Lake, batch: str) -> None:
    """Tell of a batch that another process did: those of this one tell of each of their images themselves."""
    found = read_part(lake, batch)
    if found is not None:
        progress.advance(found[1].get("images", 0))
        progress.wrote(found[1].get("bytes", 0))
