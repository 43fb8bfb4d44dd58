"""Rejects are taken up again, with the spec as it stands now."""

from __future__ import annotations

import asyncio
import hashlib
import json
from collections.abc import Sequence
from dataclasses import replace
from itertools import groupby
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pyarrow as pa
import pyarrow.parquet as pq

from lookbook.blocks.errors import LookbookError
from lookbook.blocks.workspace import Workspace
from lookbook.tasks.tables.batches import LENGTH
from lookbook.tasks.tables.context import Context
from lookbook.tasks.tables.extract.kinds import is_delimited
from lookbook.tasks.tables.load.books import Entry, note_load, open_rejects, put_in_lake, read_open_rejects
from lookbook.tasks.tables.load.loading import EVENT, settings_of
from lookbook.tasks.tables.load.writing import (
    LoadResult,
    Rows,
    destination,
    of_rejects,
    prepare_rows,
    result_of,
    working_folder,
    write,
    writing,
)
from lookbook.tasks.tables.spec.loading import LoadSettings
from lookbook.tasks.tables.spec.sources import SqlSource
from lookbook.tasks.tables.spec.tasks import ExtractTask, LoadTask
from lookbook.tasks.tables.staging import INPUT, LINE, REJECT_SCHEMA

if TYPE_CHECKING:
    import asyncpg

    Connection = asyncpg.Connection[asyncpg.Record]

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
        entry = Entry(context.pipeline.name, task, settings.target, table, batch, context.run_id)
        if EVENT in table:
            results.append(_of_no_table(entry, list(rejects)))
        else:
            sign = _decimal_sign(context, task)
            results.append(_replay_batch(context.workspace, entry, settings, list(rejects), sign))
    return results


def _batch(reject: Reject) -> tuple[str, str, str]:
    return reject["task"], reject["load_id"], reject["table_name"]


def _of_no_table(entry: Entry, rejects: Sequence[Reject]) -> LoadResult:
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
    workspace: Workspace, entry: Entry, settings: LoadSettings, rejects: list[Reject], decimal: str
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
        taken = Rows([staged], len(readable), [], inputs, folder, delimited)
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
    entry: Entry,
    own: Entry,
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
