"""Loading: what a load task does with the rows that it is given."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pyarrow.parquet as pq

from lookbook.blocks.errors import LookbookError
from lookbook.blocks.workspace import Workspace
from lookbook.tasks.tables.batches import load_id
from lookbook.tasks.tables.context import Context, Staged
from lookbook.tasks.tables.load.books import Entry, collect_rejects, write_books
from lookbook.tasks.tables.load.naming import named
from lookbook.tasks.tables.load.writing import (
    LoadResult,
    Rows,
    destination,
    local_batch,
    of_rejects,
    prepare_rows,
    result_of,
    write,
    writing,
)
from lookbook.tasks.tables.spec.loading import LoadSettings
from lookbook.tasks.tables.spec.tasks import LoadTask
from lookbook.tasks.tables.staging import INPUT, LINE, Stage

#: What is replaced in a table's name by the value that rows were split by.
EVENT = "{event}"
_TABLE = re.compile(r"[a-z][a-z0-9_]{0,62}")

#: Rejects named in an error, at the most.
NAMED = 5


def load(context: Context, name: str, inputs: Sequence[Staged], extracted: Sequence[Staged] = ()) -> list[LoadResult]:
    """Load what the tasks before a load task made: one table, or one for each group.

    Done twice, it changes nothing the second time.

    Args:
        context: the run.
        name: of the load task.
        inputs: results of the tasks in its `after`; several are put one behind the other.
        extracted: results of extracts further up, whose unreadable rows are to stand in this load's books.

    Raises:
        LookbookError: more rejects than reject_limit allows, rows that the contract freezes, names that collide, a
            table's name that is none, or a place that refuses. Tables of groups before that one are loaded; it has what
            it had before.
    """
    task = context.pipeline.tasks[name]
    assert isinstance(task, LoadTask)  # noqa: S101 - the caller goes by the kind
    settings = settings_of(task)
    batch = load_id(context, name)
    partly = [staged for staged in extracted if any(stage.rejects for stage in staged.groups.values())]
    further = [stage for staged in partly for stage in staged.groups.values() if stage.rejects]
    read = sum(stage.rows + stage.rejected for staged in partly for stage in staged.groups.values())
    results = []
    if EVENT in settings.table:  # a row that cannot be read, or is of no group, is none of any group's table
        entry = Entry(context.pipeline.name, name, settings.target, settings.table, batch, context.run_id)
        results += _set_aside(context.workspace, entry, settings, further, read)
        further, read = [], 0
    for table, stages in table_stages(settings.table, inputs).items():
        entry = Entry(context.pipeline.name, name, settings.target, table, batch, context.run_id)
        taken = {stage.rejects for stage in stages}
        others = [stage for stage in further if stage.rejects not in taken]
        with local_batch(context.workspace, stages, others) as rows:
            own = settings.model_copy(update={"table": table})
            results.append(load_rows(context.workspace, entry, own, rows, read))
        further, read = [], 0  # in the books once
    return results


def _set_aside(
    workspace: Workspace, entry: Entry, settings: LoadSettings, stages: Sequence[Stage], read: int
) -> list[LoadResult]:
    """Return the books of rejects that no table can be named for; they stand under the pattern of the tables' names."""
    whole = settings.write_disposition == "replace"
    with local_batch(workspace, [], stages) as rows:
        check_reject_limit(entry.table, settings.reject_limit, rows.rejects, read)
        path = rows.folder / "all-rejects.parquet"
        rejected = collect_rejects(entry, rows.rejects, path, rows.folder)
        write_books(workspace, entry, 0, path if rejected else None, rejected, rows.inputs, whole=whole)
        found = of_rejects(entry, rejected, rows.inputs)
    return [found] if rejected else []


def settings_of(task: LoadTask) -> LoadSettings:
    """Return what a task says of its table, with columns as the table names them."""
    return named(LoadSettings.model_construct(**{key: getattr(task, key) for key in LoadSettings.model_fields}))


def table_stages(pattern: str, inputs: Sequence[Staged]) -> dict[str, list[Stage]]:
    """Return the stages of each table.

    Raises:
        LookbookError: the table's name asks for groups and there are none, or a group makes no name of a table.
    """
    if EVENT not in pattern:
        return {pattern: [stage for staged in inputs for stage in staged.groups.values()]}
    groups = list(dict.fromkeys(group for staged in inputs for group in staged.groups))
    if "" in groups:
        raise LookbookError(
            f"The table {pattern} is one for each event, and the rows are not split.",
            "Name a column in split_by of the extract.",
        )
    tables = {pattern.replace(EVENT, group): group for group in groups}
    for table in tables:
        if not _TABLE.fullmatch(table):
            raise LookbookError(f"{table!r} is no name of a table: lower-case letters, digits and _, at most 63.")
    return {
        table: [staged.groups[group] for staged in inputs if group in staged.groups] for table, group in tables.items()
    }


def load_rows(workspace: Workspace, entry: Entry, settings: LoadSettings, rows: Rows, read: int = 0) -> LoadResult:
    """Load the rows of one table, and write the books.

    Args:
        workspace: where.
        entry: the load.
        settings: of it.
        rows: that are staged, and what could not be read.
        read: rows of the extracts that could not read all of theirs; a sql task may have made fewer of them.

    Raises:
        LookbookError: as `load`.
    """
    with writing(workspace, entry):
        place = destination(workspace, settings.target)
        prepared, loaded_at = prepare_rows(place, entry, settings, rows)
        misfits = [prepared.rejects] if prepared.rejects else []
        every = [*rows.rejects, *misfits]
        unread = sum(pq.ParquetFile(path).metadata.num_rows for path in rows.rejects)
        check_reject_limit(settings.table, settings.reject_limit, every, max(rows.staged + unread, read))
        check_reject_limit(settings.table, settings.reject_limit, misfits, rows.staged)
        superseded = write(workspace, place, prepared, entry, settings, loaded_at)
    rejects = rows.folder / "all-rejects.parquet"
    rejected = collect_rejects(entry, every, rejects, rows.folder)
    loaded = prepared.rows - superseded
    write_books(
        workspace,
        entry,
        loaded,
        rejects if rejected else None,
        rejected,
        rows.inputs,
        whole=settings.write_disposition == "replace",
    )
    result = result_of(place, entry, prepared, superseded, rows)
    return replace(result, rows_in=rows.staged + unread, rejected=rejected)


def check_reject_limit(table: str, limit: float, rejects: Sequence[Path], rows: int) -> None:
    """Fail a load of which a larger share of the rows is rejected than it allows.

    Args:
        table: its name.
        limit: the share, 0 to 1.
        rejects: files of `REJECT_SCHEMA`.
        rows: all of them, those that are rejected included.

    Raises:
        LookbookError: more are rejected; the message counts them by rule and names the first.
    """
    rejected = sum(pq.ParquetFile(path).metadata.num_rows for path in rejects)
    if rejected <= limit * rows:
        return
    by_rule, named = _rejects_by_rule(rejects)
    more = f" and {rejected - len(named)} more" if rejected > len(named) else ""
    raise LookbookError(
        f"{table}: {rejected} of {rows} rows ({rejected / rows:.1%}) were rejected: "
        f"{', '.join(f'{count} {rule}' for rule, count in sorted(by_rule.items()))} ({'; '.join(named)}{more}); "
        f"reject_limit is {limit:g}. Nothing was loaded, and the table stays as it was.",
        "Mend the source or what the load says of its columns, or allow more with reject_limit (of an import, "
        '--reject-limit): 1 loads the rest all the same, and "lookbook pipeline rejects" then lists them.',
    )


def _rejects_by_rule(files: Sequence[Path]) -> tuple[Counter[str], list[str]]:
    """Count the rejects of each rule, and name the first ones with their places."""
    by_rule: Counter[str] = Counter()
    named: list[str] = []
    for path in files:
        with pq.ParquetFile(path) as file:
            for chunk in file.iter_batches(columns=["rule", "message", INPUT, LINE]):
                by_rule.update(chunk.column("rule").to_pylist())
                named += [_reject_line(row) for row in chunk.slice(0, NAMED - len(named)).to_pylist()]
    return by_rule, named


def _reject_line(reject: dict[str, object]) -> str:
    line = f" line {reject[LINE]}" if reject[LINE] is not None else ""
    return f"{reject[INPUT]}{line}: {reject['message']}" if reject[INPUT] else str(reject["message"])
