"""One batch: each image read once, decoded once, every output drawn from it; the part written last of all."""

from __future__ import annotations

import hashlib
import threading
from collections.abc import Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import pyarrow as pa
from pydantic import BaseModel

from lookbook.blocks.errors import ObjectConflictError, ObjectNotFoundError, SwapConflictError
from lookbook.tasks.images.allocation import keep_freed_memory
from lookbook.tasks.images.decode import Rejected
from lookbook.tasks.images.items import Drawn, Item, Locator, Outcome
from lookbook.tasks.images.jobs import no_such_batch
from lookbook.tasks.images.locators import UnreadableMemberError, check_within_reach, read_bytes
from lookbook.tasks.images.pacing import check_not_stopped, originals_in_memory, stoppable
from lookbook.tasks.images.parquet import from_parquet, manifest_items, part_table, to_parquet
from lookbook.tasks.images.recipe import Recipe
from lookbook.tasks.images.render import Rendered, RenderedFile
from lookbook.tasks.images.renderers import Renderers, shared
from lookbook.tasks.images.tombstones import FORGOTTEN, Tombstones, read_tombstones
from lookbook.tasks.runs import progress

if TYPE_CHECKING:
    from lookbook.blocks.lake import Lake

#: The extension under which an original is kept, by the format that its bytes have.
ORIGINAL_EXTENSIONS = {"JPEG": "jpg", "MPO": "jpg", "TIFF": "tif", "JPEG2000": "jp2"}


@dataclass(frozen=True)
class BatchCounts:
    """How many images of a batch ended how, and how many outputs were drawn."""

    images: int
    rejected: int
    drawn: int


def process_batch(lake: Lake, batch_key: str, threads: int) -> BatchCounts:
    """Do the batch under `batch_key` (a folder of the lake with a ``manifest.parquet``).

    Doing it twice is harmless: a batch with a part is done. What becomes of an image is a row of the part; a
    fault of store or network is no image's outcome and is raised.

    Args:
        lake: where everything is kept.
        batch_key: the batch's folder.
        threads: images that are drawn at the same time, each in a process; all batches of this process share them.

    Raises:
        StoppedError: `stoppable` ended meanwhile.
        SourceElsewhereError: the source was listed on another machine; the lake says so, too.
        LookbookError: the lake is out of reach, full or read-only.
        OSError: the source or the lake failed.
    """
    try:
        manifest, metadata = from_parquet(lake.get(f"{batch_key}/manifest.parquet"))
    except ObjectNotFoundError as error:
        raise no_such_batch(lake, batch_key) from error
    part = read_part(lake, batch_key)
    if part is not None:
        return _counts(part)
    sweep = read_sweep(lake)
    items, recipe = manifest_items(manifest), Recipe.model_validate_json(metadata["recipe"])
    check_within_reach(lake, batch_key, items, recipe, metadata)
    keep_freed_memory()
    renderers = shared(threads)
    batch = _Batch(lake, recipe, renderers, read_tombstones(lake, metadata.get("dataset", "")))
    with ThreadPoolExecutor(renderers.ahead.most, thread_name_prefix="image") as pool, stoppable():
        outcomes = list(pool.map(batch.do, items))
    lake.settle()  # the part is the batch's commit mark: what it names must be there after a power cut
    part = part_table(outcomes)
    lake.replace(f"{batch_key}/part.parquet", to_parquet(part, metadata | {SWEEP: str(sweep.number)}))
    return _counts(part)


def read_part(lake: Lake, batch_key: str) -> pa.Table | None:
    """Return the part of a batch, or None where it has none yet, or one that cannot be read or relied upon."""
    try:
        part, metadata = from_parquet(lake.get(f"{batch_key}/part.parquet"))
    except (ObjectNotFoundError, pa.ArrowException, OSError):
        return None
    return part if read_sweep(lake).spared(batch_key, metadata) else None


#: Under which a part's metadata names the sweep that its batch began after.
SWEEP = "sweep"
#: The object that says which sweep of the lake's objects was the last.
SWEEP_KEY = "sweep.json"


class Sweep(BaseModel):
    """A sweep: objects that nothing needed were removed, while no run was at work.

    A batch that outlived its run may have found an object in the lake right before it was removed. The part that it
    writes then has the number of before, or of the sweep itself, and nobody relies on it.

    Attributes:
        number: odd while objects are removed, also where that was killed; even before and after.
        batches: keys of those whose parts stood there, and were counted among what needs objects.
    """

    number: int = 0
    batches: list[str] = []

    def spared(self, batch_key: str, metadata: Mapping[str, str]) -> bool:
        """Return whether all that a part names is still there, by the part's metadata."""
        began = metadata.get(SWEEP, "0")
        return batch_key in self.batches or (began == str(self.number) and self.number % 2 == 0)

    def begun(self, batches: Sequence[str]) -> Sweep:
        """Return the next sweep, which begins; parts of these batches were counted."""
        return Sweep(number=self.number + 1 + self.number % 2, batches=sorted(batches))

    def ended(self) -> Sweep:
        """Return it as it is when nothing is removed any more."""
        return self.model_copy(update={"number": self.number + self.number % 2})


def end_sweep(lake: Lake) -> None:
    """End a sweep that was killed. The caller holds a lease beside which nothing is swept.

    Raises:
        LookbookError: its object is damaged.
    """
    sweep, version = version_of_sweep(lake)
    if sweep.ended() != sweep:
        with suppress(SwapConflictError):  # another run has ended it
            lake.swap(SWEEP_KEY, sweep.ended().model_dump_json().encode(), version)


def read_sweep(lake: Lake) -> Sweep:
    """Return the last sweep of a lake.

    Raises:
        LookbookError: its object is damaged.
    """
    return version_of_sweep(lake)[0]


def version_of_sweep(lake: Lake) -> tuple[Sweep, str | None]:
    """Return the last sweep of a lake, and the version of its object, None where there was none; raises likewise."""
    way_out = "Remove the folder batches of the lake, and then it: what earlier runs left off is done anew."
    found, version = lake.read_swapped(SWEEP_KEY, Sweep, "The last clean-up in", way_out)
    return found or Sweep(), version


def finished_counts(lake: Lake, batch_key: str) -> BatchCounts | None:
    """Return the counts of a batch that is done, else None."""
    part = read_part(lake, batch_key)
    return _counts(part) if part is not None else None


def _counts(part: pa.Table) -> BatchCounts:
    return BatchCounts(
        images=len(part),
        rejected=part.column("status").to_pylist().count("rejected"),
        drawn=sum(len(drawn or ()) for drawn in part.column("drawn").to_pylist()),
    )


def refused_unread(item: Item, recipe: Recipe) -> tuple[str, str] | None:
    """Return the rule and the message by which an image is refused before a byte of it is read, else None."""
    if item.refused is None and item.locator.size > recipe.max_file_bytes:
        return "too_large", f"{item.locator.size} bytes; the recipe's max_file_bytes is {recipe.max_file_bytes}"
    return item.refused


class _Batch:
    """What the threads of one batch share: the lake, the recipe, and which contents were drawn already."""

    def __init__(self, lake: Lake, recipe: Recipe, renderers: Renderers, tombstones: Tombstones) -> None:
        self.lake = lake
        self.tombstones = tombstones
        self.recipe = recipe
        self.renderers = renderers
        self.digests = {name: output.digest() for name, output in recipe.outputs.items()}
        self.lock = threading.Lock()
        self.by_content: dict[str, Future[Outcome]] = {}

    def do(self, item: Item) -> Outcome:
        """Return the outcome of one image."""
        check_not_stopped()
        try:
            if refused := refused_unread(item, self.recipe):
                if refused[0] == FORGOTTEN:
                    return Outcome(item.key, item.fingerprint, "forgotten")
                return Outcome(item.key, item.fingerprint, "rejected", *refused)
            with self.renderers.ahead.place(), originals_in_memory.taken(item.locator.size):
                check_not_stopped()  # it may have waited for long
                return self._do_bytes(item, self._read(item.locator))
        except UnreadableMemberError as error:
            return Outcome(item.key, item.fingerprint, "rejected", error.rule, error.message)
        finally:
            progress.advance(1)

    def _read(self, locator: Locator) -> bytes:
        return self.lake.get(locator.path.decode()) if locator.store == "lake" else read_bytes(locator)

    def _do_bytes(self, item: Item, data: bytes) -> Outcome:
        sha256 = hashlib.sha256(data).hexdigest()
        if self.tombstones.hold("content", sha256):  # before a byte of it is written
            return Outcome(item.key, item.fingerprint, "forgotten")
        wanted = set(self.recipe.outputs)
        known = next((content for content in item.known if content.sha256 == sha256), None)
        if known:
            wanted -= set(known.outputs)
            if not wanted and not item.measure_again:
                return Outcome(item.key, item.fingerprint, "same", sha256=sha256, bytes=len(data))
        with self.lock:
            first = sha256 not in self.by_content
            drawing = self.by_content.setdefault(sha256, Future())
        if not first:  # the same bytes under another key: drawn once, by whoever came first
            return replace(drawing.result(), key=item.key, fingerprint=item.fingerprint, drawn=[])
        try:
            outcome = self._draw(item, data, sha256, wanted)
        except BaseException as error:
            drawing.set_exception(error)
            raise
        drawing.set_result(outcome)
        return outcome

    def _draw(self, item: Item, data: bytes, sha256: str, wanted: set[str]) -> Outcome:
        try:
            rendered = self.renderers.render(data, self.recipe, wanted)
        except Rejected as reject:
            kept = f"rejected/{sha256[:2]}/{sha256}.bin"
            self._keep(kept, data, sha256)
            outcome = Outcome(item.key, item.fingerprint, "rejected", reject.rule, reject.message, sha256, len(data))
            return replace(outcome, asset={"original_key": kept})
        original = self._keep_original(data, sha256, rendered)
        drawn = [self._keep_output(sha256, name, file) for name, file in sorted(rendered.files.items())]
        asset = rendered.asset | {"original_key": original}
        return Outcome(item.key, item.fingerprint, "ok", sha256=sha256, bytes=len(data), asset=asset, drawn=drawn)

    def _keep_original(self, data: bytes, sha256: str, rendered: Rendered) -> str:
        kind = str(rendered.asset["format"])
        key = f"originals/{sha256[:2]}/{sha256}.{ORIGINAL_EXTENSIONS.get(kind, kind.lower())}"
        self._keep(key, data, sha256)
        return key

    def _keep(self, key: str, data: bytes, sha256: str) -> None:
        """Keep bytes under a key that names their checksum: what stands there with another one is damaged."""
        try:
            self.lake.put(key, data)
        except ObjectConflictError:
            if hashlib.sha256(self.lake.get(key)).hexdigest() == sha256:
                raise
            self.lake.replace(key, data)

    def _keep_output(self, sha256: str, name: str, file: RenderedFile) -> Drawn:
        digest = self.digests[name]
        key = f"derived/{digest}/{sha256[:2]}/{sha256}.{self.recipe.outputs[name].extension}"
        try:
            self.lake.put(key, file.data)
        except ObjectConflictError:
            if self.lake.get(key):
                raise
            self.lake.replace(key, file.data)  # a power cut leaves empty files of what was not yet durable
        return Drawn(name, digest, key, hashlib.sha256(file.data).hexdigest(), len(file.data), file.width, file.height)
