"""The samples of an export: each image read, checked, drawn where there is a recipe, in the order of the plan."""

from __future__ import annotations

import hashlib
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from typing import TypeVar

from lookbook.blocks.errors import LookbookError, ObjectNotFoundError
from lookbook.blocks.lake import Lake
from lookbook.tasks.exports import draw_job
from lookbook.tasks.exports.draw_job import Drawing, Job
from lookbook.tasks.exports.plan import DIGEST, KEY, SIZE, Part, Plan, copies_of, is_augmented
from lookbook.tasks.exports.resolve import Resolved
from lookbook.tasks.images.decode import Rejected
from lookbook.tasks.images.pacing import check_not_stopped, originals_in_memory, stoppable

Given = TypeVar("Given")
Made = TypeVar("Made")

#: Images that are under way before the one that is waited for.
AHEAD = 32
#: Small pictures on a contact sheet, at the most.
SHEET = 64


@dataclass(frozen=True)
class Sample:
    """One file of an export.

    Attributes:
        row: of the plan's table.
        copy: number of the copy, from 0.
        extension: of the file, without the dot.
        width: in pixels.
        height: in pixels.
    """

    row: int
    copy: int
    data: bytes
    extension: str
    width: int
    height: int


@dataclass(frozen=True)
class RowResult:
    """What one row gave: samples, or the rule that it broke and a message."""

    row: int
    samples: list[Sample]
    thumbnail: bytes | None
    refused: tuple[str, str] | None = None


def make_samples(
    lake: Lake, resolved: Resolved, plan: Plan, parts: Iterable[Part]
) -> Iterator[tuple[Part, list[RowResult]]]:
    """Yield the samples of parts, part by part, many images at a time.

    Raises:
        LookbookError: the lake lacks an object, or has other bytes for it than its snapshot says.
        StoppedError: the run was interrupted.
    """
    maker = _Maker(lake, resolved, plan)
    work = ((part, row) for part in parts for row in range(part.start, part.stop))
    collected: list[RowResult] = []
    with ThreadPoolExecutor(AHEAD, thread_name_prefix="export") as pool, stoppable():
        for (part, row), made in in_order(pool, lambda each: maker.make(*each), work, AHEAD):
            collected.append(made)
            if row == part.stop - 1:
                yield part, collected
                collected = []


def in_order(
    pool: ThreadPoolExecutor, do: Callable[[Given], Made], given: Iterable[Given], ahead: int
) -> Iterator[tuple[Given, Made]]:
    """Yield what `do` makes of each, in order, with at most `ahead` of them begun and not yet taken."""
    begun: deque[tuple[Given, Future[Made]]] = deque()
    try:
        for each in given:
            begun.append((each, pool.submit(do, each)))
            if len(begun) > ahead:
                first, future = begun.popleft()
                yield first, future.result()
        while begun:
            first, future = begun.popleft()
            yield first, future.result()
    finally:
        for _, future in begun:
            future.cancel()


class _Maker:
    """What makes the samples of a row."""

    def __init__(self, lake: Lake, resolved: Resolved, plan: Plan) -> None:
        self._lake = lake
        self._resolved = resolved
        self._job = Job(recipe=resolved.recipe, limits=resolved.manifest.recipe, seed=resolved.request.seed)
        self._shown = set(shown_rows(plan.table.num_rows))
        names = ("sha256", KEY, DIGEST, SIZE, "width", "height")
        self._columns = {name: plan.table[name].combine_chunks() for name in names}
        self._renderers = draw_job.processes()

    def make(self, part: Part, row: int) -> RowResult:
        """Return the samples of a row."""
        check_not_stopped()
        content = {name: column[row].as_py() for name, column in self._columns.items()}
        recipe = self._resolved.recipe
        with originals_in_memory.taken(content[SIZE]):
            links_only = self._resolved.request.format == "csv" and row not in self._shown
            data = b"" if links_only else read_checked(self._lake, content[KEY], content[DIGEST])
            if recipe is None:
                stored = Sample(row, 0, data, extension_of(content[KEY]), content["width"], content["height"])
                return RowResult(row, [stored], self._small_picture(data, content["sha256"], row))
            try:
                drawn = self._drawn(data, content["sha256"], part, row)
            except Rejected as reject:
                return RowResult(row, [], None, (reject.rule, reject.message))
        files = [
            Sample(row, copy, file.data, recipe.extension, file.width, file.height)
            for copy, file in enumerate(drawn.files)
        ]
        return RowResult(row, files, drawn.thumbnail)

    def _drawn(self, data: bytes, sha256: str, part: Part, row: int) -> Drawing:
        copies = copies_of(self._resolved, part.side) if is_augmented(self._resolved, part.side) else 0
        return draw_job.ask(self._renderers, data, self._job, sha256, copies, small=row in self._shown)

    def _small_picture(self, data: bytes, sha256: str, row: int) -> bytes | None:
        if row not in self._shown:
            return None
        with suppress(Rejected):  # it is exported as it is stored, whatever the sheet can show of it
            return draw_job.ask(self._renderers, data, self._job, sha256, 0, small=True).thumbnail
        return None


def extension_of(key: str) -> str:
    """Return the extension in a lake's key, without the dot."""
    return key.rpartition(".")[2]


def shown_rows(rows: int) -> list[int]:
    """Return the rows that a contact sheet shows: spread evenly over all."""
    return sorted({place * rows // min(rows, SHEET) for place in range(min(rows, SHEET))})


def read_checked(lake: Lake, key: str, sha256: str) -> bytes:
    """Return an object's bytes.

    Raises:
        LookbookError: it is missing, or has other bytes than the snapshot says.
    """
    way_out = 'Run "lookbook verify NAME --repair", then export again: what is there already stays.'
    try:
        data = lake.get(key)
    except ObjectNotFoundError as error:
        raise LookbookError(f"{key}: the lake lacks it.", way_out) from error
    if hashlib.sha256(data).hexdigest() != sha256:
        raise LookbookError(f"{key}: the lake has other bytes for it than its snapshot says.", way_out)
    return data
