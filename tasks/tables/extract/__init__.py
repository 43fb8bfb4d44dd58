"""Bringing rows in: from files, the lake, the web, databases, into the folder ``raw`` of the lake."""

from __future__ import annotations

from collections.abc import Iterator

from lookbook.blocks.errors import LookbookError
from lookbook.tasks.tables.context import Context, Staged, incremental_of, is_stateful, stage_batch
from lookbook.tasks.tables.extract.cursor import Cursor
from lookbook.tasks.tables.extract.file_sources import read_files, read_objects
from lookbook.tasks.tables.extract.pieces import Notes, Piece, TakenInput
from lookbook.tasks.tables.extract.stage_rows import (
    StagingPlan,
    commit_inputs,
    stage_pieces,
    staged_before,
    taken_inputs,
)
from lookbook.tasks.tables.spec.tasks import ExtractTask, FileSource, HttpSource, ObjectsSource

__all__ = ["TakenInput", "commit_inputs", "extract", "extract_plan", "taken_inputs"]


def extract(context: Context, name: str) -> Staged:
    """Bring in what the source of an extract has, or has that is new; a batch that was staged before is not again.

    Args:
        context: of the run.
        name: of the task.

    Returns:
        Its stage, under ``""``. With `split_by` that one has no rows: they are in further ones, one for each value.
        Rejects, inputs and the state for the next run are those of ``""``.

    Raises:
        LookbookError: the source cannot be read.
        OutOfReachError: it may be readable later.
    """
    task = context.pipeline.tasks[name]
    if not isinstance(task, ExtractTask):
        raise LookbookError(f"tasks.{name} has no source.", "Name a task that extracts.")
    plan = extract_plan(context, name, skip_unchanged=task.skip_unchanged, split_by=task.split_by)
    before = staged_before(context, name, plan)
    if before is not None:
        return before
    notes = Notes()
    return stage_pieces(context, name, plan, _read(context, name, task, plan, notes), notes)


def extract_plan(context: Context, name: str, *, skip_unchanged: bool, split_by: str | None = None) -> StagingPlan:
    """Return how the rows of a task that extracts are staged."""
    incremental = incremental_of(context, name)
    cursor = Cursor(incremental, context.states.get(name, {})) if incremental else None
    return StagingPlan(
        "raw",
        stage_batch(context, name),
        skip_unchanged=skip_unchanged,
        takes_new=is_stateful(context, name),
        split_by=split_by,
        cursor=cursor,
    )


def _read(context: Context, name: str, task: ExtractTask, plan: StagingPlan, notes: Notes) -> Iterator[Piece]:
    context.workspace.scratch.mkdir(parents=True, exist_ok=True)
    source = task.source
    if isinstance(source, FileSource):
        return read_files(context, source, notes)
    if isinstance(source, ObjectsSource):
        return read_objects(context, name, source, notes)
    if isinstance(source, HttpSource):
        from lookbook.tasks.tables.extract.http_source import read_http  # noqa: PLC0415 - each run needs only some of them

        return read_http(context, name, source, notes, skip_unchanged=task.skip_unchanged)
    from lookbook.tasks.tables.extract.sql_source import read_sql  # noqa: PLC0415 - imports SQLAlchemy

    return read_sql(context, source, plan.cursor, notes)
