"""Loading: what a load task does with the rows that it is given, and rejects that are taken up again."""

from __future__ import annotations

import asyncio
import hashlib
import json
import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from itertools import groupby
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pyarrow as pa
import pyarrow.parquet as pq

from lookbook.blocks.errors import LookbookError
from lookbook.blocks.workspace import Workspace
from lookbook.tasks.tables.context import LENGTH, Context, Staged, load_id
from lookbook.tasks.tables.extract.files import is_delimited
from lookbook.tasks.tables.load.books import (
    LoadEntry,
    collect_rejects,
    note_load,
    open_rejects,
    put_in_lake,
    read_open_rejects,
    write_books,
)
from lookbook.tasks.tables.load.prepare import named
from lookbook.tasks.tables.load.writing import (
    LoadResult,
    LoadRows,
    destination,
    local_batch,
    of_rejects,
    prepare_rows,
    result_of,
    working_folder,
    write,
    writing,
)
from lookbook.tasks.tables.spec.tasks import ExtractTask, LoadSettings, LoadTask, SqlSource
from lookbook.tasks.tables.staging import INPUT, LINE, REJECT_SCHEMA, Stage

if TYPE_CHECKING:
    import asyncpg

    Connection = asyncpg.Connection[asyncpg.Record]

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
        entry = LoadEntry(context.pipeline.name, name, settings.target, settings.table, batch, context.run_id)
        results += _set_aside(context.workspace, entry, settings, further, read)
        further, read = [], 0
    for table, stages in table_stages(settings.table, inputs).items():
        entry = LoadEntry(context.pipeline.name, name, settings.target, table, batch, context.run_id)
        taken = {stage.rejects for stage in stages}
        others = [stage for stage in further if stage.rejects not in taken]
        with local_batch(context.workspace, stages, others) as rows:
            own = settings.model_copy(update={"table": table})
            results.append(load_rows(context.workspace, entry, own, rows, read))
        further, read = [], 0  # in the books once
    return results


def _set_aside(
    workspace: Workspace, entry: LoadEntry, settings: LoadSettings, stages: Sequence[Stage], read: int
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


def load_rows(
    workspace: Workspace, entry: LoadEntry, settings: LoadSettings, rows: LoadRows, read: int = 0
) -> LoadResult:
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


Reject = dict[str, Any]
#: So many rejects that are no rows are named.
MOST_NAMED = 20


def replay(context: Context, name: str | None = None) -> list[LoadResult]:
    """Take up the open rejects of a pipeline again, as rows of the loads that set them aside.

    Those that fit now are loaded, under an id of their own that is the same for the same rejects, and are rejects no
    more; the others stay, with the rule that they break now. Of a table that is replaced, they are added to what the
    last load brought. A merge lets them take the place of what stands under their key.

    Args:
        context: the run.
        name: of a load task; None: all.

    Returns:
        A result for each batch and table that had rejects.

    Raises:
        LookbookError: as `load`; or the table keeps its history, which only a whole snapshot can change.
    """
    found = open_rejects(context.workspace.registry, context.pipeline.name, name)
    results = []
    for (task, batch, table), rejects in groupby(sorted(found, key=_batch), key=_batch):
        spec = context.pipeline.tasks.get(task)
        if not isinstance(spec, LoadTask):
            continue  # the spec has lost this task; its rejects stay
        settings = settings_of(spec).model_copy(update={"table": table})
        entry = LoadEntry(context.pipeline.name, task, settings.target, table, batch, context.run_id)
        if EVENT in table:
            results.append(_of_no_table(entry, list(rejects)))
        else:
            sign = _decimal_sign(context, task)
            results.append(_replay_batch(context.workspace, entry, settings, list(rejects), sign))
    return results


def _batch(reject: Reject) -> tuple[str, str, str]:
    return reject["task"], reject["load_id"], reject["table_name"]


def _of_no_table(entry: LoadEntry, rejects: Sequence[Reject]) -> LoadResult:
    """Return rows that were of no group stay rejects: nothing says which table is theirs."""
    inputs = sorted({reject["input"] for reject in rejects if reject["input"]})
    return of_rejects(entry, len(rejects), inputs, _places(rejects))


def _places(rejects: Sequence[Reject]) -> list[str]:
    return [f"{reject['input']} line {reject['line']}" for reject in rejects[:MOST_NAMED]]


def _decimal_sign(context: Context, load: str) -> str:
    """Return the decimal sign of the delimited files that a load's rows come from; a point where they have several."""
    extracts = [context.pipeline.tasks[name] for name in context.pipeline.extracts(load)]
    sources = [task.source for task in extracts if isinstance(task, ExtractTask)]
    signs = {source.csv.decimal for source in sources if not isinstance(source, SqlSource)}
    return signs.pop() if len(signs) == 1 else "."


def _replay_batch(
    workspace: Workspace, entry: LoadEntry, settings: LoadSettings, rejects: list[Reject], decimal: str
) -> LoadResult:
    """Take up the rejects of one batch and table."""
    if settings.strategy == "scd2":
        raise LookbookError(
            f"{entry.table} keeps its history (scd2): rows alone cannot be added to a snapshot.",
            "Run the pipeline again for the whole of it.",
        )
    if settings.write_disposition == "replace":
        settings = settings.model_copy(update={"write_disposition": "append"})
    rows = {reject["reject_id"]: _row(reject["raw"]) for reject in rejects}
    readable = [reject for reject in rejects if rows[reject["reject_id"]] is not None]
    unreadable = [reject for reject in rejects if rows[reject["reject_id"]] is None]
    own = replace(entry, load_id=f"{entry.load_id}.{_digest(readable)}")
    with working_folder(workspace) as folder:
        staged = _stage(readable, rows, folder / "replayed.parquet")
        inputs = sorted({reject["input"] for reject in rejects if reject["input"]})
        columns = pq.read_schema(staged).names if inputs and all(map(is_delimited, inputs)) else []
        delimited = dict.fromkeys(columns, decimal)
        taken = LoadRows([staged], len(readable), [], inputs, folder, delimited)
        with writing(workspace, entry):
            place = destination(workspace, settings.target)
            prepared, loaded_at = prepare_rows(place, own, settings, taken)
            superseded = write(workspace, place, prepared, own, settings, loaded_at)
        still = pq.read_table(prepared.rejects).to_pylist() if prepared.rejects else []
        result = result_of(place, own, prepared, superseded, taken)
    _settle(workspace, entry, own, result, readable, {row[INPUT]: row for row in still})
    return replace(
        result,
        rows_in=len(rejects),
        rejected=result.rejected + len(unreadable),
        unreadable=tuple(_places(unreadable)),
    )


def _row(raw: str) -> dict[str, Any] | None:
    """Return a reject's row; None where what was kept is the text of a line that is none."""
    try:
        row = json.loads(raw, parse_float=str)
    except ValueError:
        return None
    return row if isinstance(row, dict) else None


def _digest(rejects: Sequence[Reject]) -> str:
    names = ",".join(sorted(reject["reject_id"] for reject in rejects))
    return hashlib.sha256(names.encode()).hexdigest()[:LENGTH]


def _stage(rejects: Sequence[Reject], rows: dict[str, dict[str, Any] | None], path: Path) -> Path:
    """Rejects as rows again. For `INPUT` each has its reject's id, by which it is found if it is set aside again."""
    found = [rows[reject["reject_id"]] or {} for reject in rejects]
    names = dict.fromkeys(name for row in found for name in row)
    columns = {name: _column([row.get(name) for row in found]) for name in names}
    columns[INPUT] = pa.array([reject["reject_id"] for reject in rejects], pa.string())
    columns[LINE] = pa.array([reject["line"] for reject in rejects], pa.int64())
    pq.write_table(pa.table(columns), path)
    return path


def _column(values: list[Any]) -> pa.Array:
    """Return values of JSON as one column: of one type, or as text, which can become any."""
    for kind, type_ in ((bool, pa.bool_()), (int, pa.int64())):
        if all(value is None or type(value) is kind for value in values):
            try:
                return pa.array(values, type_)
            except OverflowError:
                break
    return pa.array([value if value is None or isinstance(value, str) else json.dumps(value) for value in values])


def _settle(
    workspace: Workspace,
    entry: LoadEntry,
    own: LoadEntry,
    result: LoadResult,
    rejects: Sequence[Reject],
    still: dict[str, dict[str, Any]],
) -> None:
    """Write the books: what was loaded is no reject any more, what was not breaks the rule that it breaks now."""
    gone = [reject["reject_id"] for reject in rejects if reject["reject_id"] not in still]
    changed = [(row["rule"], row["message"], entry.pipeline, entry.task, name) for name, row in still.items()]

    async def work(connection: Connection) -> None:
        await connection.execute(
            "DELETE FROM feed_rejects WHERE pipeline = $1 AND task = $2 AND reject_id = ANY($3)",
            *(entry.pipeline, entry.task, gone),
        )
        for values in changed:
            await connection.execute(
                "UPDATE feed_rejects SET rule = $1, message = $2 WHERE pipeline = $3 AND task = $4 AND reject_id = $5",
                *values,
            )
        if gone:
            await note_load(connection, own, result.rows_loaded, 0, result.inputs)
        open_ = await read_open_rejects(connection, entry.pipeline, entry.task)
        mine = (entry.task, entry.load_id, entry.table)
        left = [reject for reject in open_ if _batch(reject) == mine]
        await asyncio.to_thread(put_in_lake, workspace, entry, _parquet(left) if left else None)

    workspace.registry.run(work)


def _parquet(found: Sequence[Reject]) -> bytes:
    """Return the rejects of a batch that are still open, as their file in the lake."""
    schema = pa.schema([pa.field("reject_id", pa.string()), *REJECT_SCHEMA])
    rows = [reject | {INPUT: reject["input"], LINE: reject["line"]} for reject in found]
    table = pa.table({name: [row[name] for row in rows] for name in schema.names}, schema=schema)
    sink = pa.BufferOutputStream()
    pq.write_table(table, sink, compression="zstd")
    return bytes(sink.getvalue().to_pybytes())
