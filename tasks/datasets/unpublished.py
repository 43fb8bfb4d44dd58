"""What a run refused that published nothing: noted in the lake until a run publishes, or finds all as it was."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from datetime import UTC, datetime

import pyarrow as pa
import pyarrow.compute as pc
from pydantic import BaseModel, ValidationError

from lookbook.blocks.errors import LeaseLostError, LookbookError, ObjectNotFoundError
from lookbook.blocks.lake import Lake
from lookbook.blocks.workspace import Workspace
from lookbook.tasks.datasets.books import RefusedRunError
from lookbook.tasks.datasets.catalogue_types import SourceReject
from lookbook.tasks.datasets.desk import Desk
from lookbook.tasks.datasets.inventory import Inventory, Request
from lookbook.tasks.datasets.manifest import read_published
from lookbook.tasks.datasets.report.data import ReportTable
from lookbook.tasks.datasets.report.page import render_unpublished
from lookbook.tasks.datasets.snapshot import image_rejects, reject_table
from lookbook.tasks.images.batch import read_part
from lookbook.tasks.images.parquet import from_parquet, to_parquet
from lookbook.tasks.runs.lease import living_owners

#: Under which the note's own words stand in its Parquet file, as JSON.
_RUN = "run"


def report_key(dataset: str) -> str:
    """Return the object that shows the rejects of the last run that published nothing."""
    return f"datasets/{dataset}/unpublished/report.html"


def note_key(dataset: str) -> str:
    """Return the object with what the last run refused that published nothing."""
    return f"datasets/{dataset}/unpublished/rejects.parquet"


class UnpublishedRun(BaseModel):
    """A run that published nothing.

    Attributes:
        run_id: as "lookbook runs" names it.
        source: as the run was asked for it.
        why: it published nothing; None where it broke off without a word.
        before: the snapshot that was published when it began, if any; once there is another, the note is out of date.
        batches: lake keys of batches whose parts tell of further rejects.
        has_report: whether an object stands under `report_key`.
    """

    run_id: str
    source: str
    started_at: datetime
    why: str | None = None
    before: str | None = None
    batches: Sequence[str] = ()
    has_report: bool = False

    @property
    def facts(self) -> dict[str, object]:
        """Return what its report says first."""
        return {"Run": self.run_id, "Begun": self.started_at, "Source": self.source}

    @property
    def told(self) -> str:
        """Say in one line that it published nothing, and why."""
        why = (self.why or "It broke off.").partition("\n")[0].removesuffix(" Nothing was published.")
        when = self.started_at.astimezone(UTC).isoformat(" ", "seconds")
        return f"Nothing was published by the last run ({self.run_id}, begun {when}): {why}"


def read_unpublished(place: Workspace, dataset: str, current: str | None) -> tuple[UnpublishedRun, pa.Table] | None:
    """Return the last run that ended and its rejects, where it published nothing; None where a snapshot has them.

    Args:
        place: whose lake holds the note; its registry is asked whether a run that says nothing is still at work.
        dataset: of which.
        current: id of the snapshot that is published now, if any.
    """
    lake = place.lake
    try:
        table, metadata = from_parquet(lake.get(note_key(dataset)))
        run = UnpublishedRun.model_validate_json(metadata[_RUN])
    except (ObjectNotFoundError, pa.ArrowException, KeyError, ValidationError):
        return None
    if run.before != current or (run.why is None and f"dataset/{dataset}" in living_owners(place.registry)):
        return None
    parts = [image_rejects(_refused(part)) for key in run.batches if (part := read_part(lake, key))]
    if parts:
        found = reject_table([reject for rejects in parts for reject in rejects])
        table = pa.concat_tables([found.sort_by("locator"), table])
    return (run, table) if table.num_rows or current is None else None


def rejects_so_far(lake: Lake, inventory: Inventory) -> list[SourceReject]:
    """Return what is known to be refused before a snapshot is put together, by the parts that batches have by now."""
    tables = [_refused(part) for key in inventory.batches if (part := read_part(lake, key))]
    columns = "key, rule, error_message, original_key"
    tables.append(
        inventory.desk.table(
            f"SELECT {columns} FROM published SEMI JOIN held USING (key) WHERE outcome = 'rejected' UNION ALL"  # noqa: S608
            f" SELECT {columns} FROM parts SEMI JOIN taken ON parts.rowid = taken.row WHERE status = 'rejected'"
        )
    )
    images = [reject for table in tables for reject in image_rejects(table)]
    images.sort(key=lambda reject: reject.locator)
    return [*images, *inventory.catalogue.rejects, *inventory.ignored]


def _refused(part: pa.Table) -> pa.Table:
    return part.filter(pc.equal(part.column("status"), "rejected"))


class RejectNotes:
    """Keeps the rejects of one run where they can be read, as long as it has published nothing."""

    def __init__(self, request: Request, run_id: str, started: datetime) -> None:
        self._request = request
        self._run = UnpublishedRun(run_id=run_id, source=request.source, started_at=started)
        self._inventory: Inventory | None = None
        self._ended = False

    def found(self, inventory: Inventory) -> None:
        """Note what is refused already: of a run that is killed, nobody else tells. Its parts tell the rest."""
        self._inventory = inventory
        self._run.before = inventory.published.manifest.snapshot_id if inventory.published else None
        if inventory.batches:
            self._write(rejects_so_far(self._request.workspace.lake, inventory), batches=inventory.batches)

    def ended(self, why: str) -> None:
        """Forget it all where the rejects stand in the snapshot that is published; else note why they do not.

        Args:
            why: the run ended well, and yet published nothing of what it found; "" where it did, or found no change.
        """
        self._ended = True
        if why:
            self._keep(why, [])
            return
        for key in (note_key(self._request.dataset), report_key(self._request.dataset)):
            self._request.workspace.lake.remove(key)

    def failed(self, error: Exception) -> None:
        """Note why the run failed, draw the report, and have the error say how both are found."""
        if self._ended:
            return
        told = error.rejects if isinstance(error, RefusedRunError) else ()
        if self._inventory is None:  # it has not come far: what the last run noted stays, unless this one knows more
            if not told:
                return
            published = read_published(self._request.workspace.lake, self._request.dataset)
            self._run.before = published.manifest.snapshot_id if published else None
        why = error.problem if isinstance(error, LookbookError) else str(error) or type(error).__name__
        kept = self._keep(why, told)
        if kept and isinstance(error, LookbookError):
            more = f'"lookbook rejects {self._request.dataset}" lists what was rejected, with a report that shows it.'
            error.way_out = f"{error.way_out} {more}".strip()

    def _keep(self, why: str, told: Sequence[SourceReject]) -> int:
        lake, dataset = self._request.workspace.lake, self._request.dataset
        rejects = list(told)
        if not told and self._inventory is not None:
            rejects = rejects_so_far(lake, self._inventory)
        self._write(rejects, why=why)
        if rejects:
            shown = ReportTable(Desk(self._request.workspace.scratch), reject_table(rejects))
            page = render_unpublished(dataset, self._run.facts, self._run.told, shown, lake.get)
            lake.replace(report_key(dataset), page.encode())
            self._write(rejects, has_report=True)
        return len(rejects)

    def _write(self, rejects: Sequence[SourceReject], **said: object) -> None:
        self._run = self._run.model_copy(update={"batches": ()} | said)
        text = to_parquet(reject_table(rejects), {_RUN: self._run.model_dump_json()})
        self._request.workspace.lake.replace(note_key(self._request.dataset), text)


@contextmanager
def noting_rejects(request: Request, run_id: str, started: datetime) -> Iterator[RejectNotes]:
    """Have the rejects of a run noted where the block fails; the error is raised on, whatever becomes of the note.

    Args:
        request: what the run is asked for.
        run_id: its id.
        started: when it began, in UTC.
    """
    notes = RejectNotes(request, run_id, started)
    try:
        yield notes
    except LeaseLostError:  # another run works on this dataset: the note is its own now
        raise
    except Exception as error:
        with suppress(Exception):
            notes.failed(error)
        raise
