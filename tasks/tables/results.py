"""The results of all kinds of tasks, as the run sees them: counts, states to commit, tables for the catalogue."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any
from uuid import uuid4

from lookbook.blocks.errors import LookbookError
from lookbook.tasks.runs.catalogue import TableState
from lookbook.tasks.tables.batches import is_stateful
from lookbook.tasks.tables.context import Context, Staged
from lookbook.tasks.tables.ledger import Connection, Write
from lookbook.tasks.tables.report import Outcome, Report, kind_of, rows_in, rows_of
from lookbook.tasks.tables.spec.pipeline import Pipeline

if TYPE_CHECKING:
    from lookbook.blocks.workspace import Workspace
    from lookbook.tasks.runs.catalogue import TableEntry


def outcome_of(context: Context, name: str, inputs: Mapping[str, Any], result: Any, seconds: float) -> Outcome:  # noqa: ANN401 - results of all kinds
    """Return what a task did, in numbers.

    Raises:
        LookbookError: rows went in that neither were loaded nor set aside.
    """
    kind, taken = kind_of(context.pipeline.tasks[name]), rows_in(inputs)
    if kind == "load":
        tables = tuple(_loaded(one) for one in result)
        _balance(context, name, taken, tables)
        loaded, rejected = (sum(table[key] for table in tables) for key in ("loaded", "rejected"))
        note = ", ".join(told for one in result for told in _changed(one))
        return Outcome(name, kind, result, taken, loaded, rejected, seconds, tables, note)
    if kind == "models":
        tables = tuple({"place": "warehouse", "table": one.name, "rows": one.rows} for one in result)
        return Outcome(name, kind, result, None, sum(one.rows for one in result), 0, seconds, tables)
    if kind == "graph":
        counts = [*result.nodes.items(), *((f"{edge} edges", count) for edge, count in result.edges.items())]
        note = "; ".join([", ".join(f"{count:,} {what}" for what, count in counts), *result.problems])
        return Outcome(name, kind, result, taken, None, result.left_out, seconds, (), note)
    rejected = sum(stage.rejected for stage in result.groups.values()) if isinstance(result, Staged) else 0
    unchanged = _is_unchanged(context, name, result, rejected)
    return Outcome(name, kind, result, taken, rows_of(result), rejected, seconds, unchanged=unchanged)


def _is_unchanged(context: Context, name: str, result: Any, rejected: int) -> bool:  # noqa: ANN401 - results of all kinds
    """Return whether nothing needs to follow: the same as before, or nothing at all of what is new since then."""
    if context.pipeline.tasks[name].after or not isinstance(result, Staged):
        return False
    return result.unchanged or (is_stateful(context, name) and not rejected and not rows_of(result))


def _loaded(result: Any) -> dict[str, Any]:  # noqa: ANN401 - a LoadResult, whose module is slow to import
    return {
        "place": result.place,
        "table": result.table,
        "loaded": result.rows_loaded,
        "rejected": result.rejected,
        "superseded": result.superseded,
        "rows": result.rows,
    }


def _changed(result: Any) -> Iterator[str]:  # noqa: ANN401 - a LoadResult
    """Report the values that are not in the table as they came."""
    for column, number in result.discarded.items():
        yield f"{result.table}.{column}: discarded by the contract (values: {number:,})"
    for column, number in result.replaced.items():
        yield f"{result.table}.{column}: NUL became U+FFFD (values: {number:,})"


def _balance(context: Context, name: str, taken: int | None, tables: tuple[dict[str, Any], ...]) -> None:
    """The books of a load: each row that was staged is in a table, set aside, or gave way to another of its key."""
    ended = sum(table["loaded"] + table["rejected"] + table["superseded"] for table in tables)
    if taken is not None and ended < taken:
        raise LookbookError(
            f"{context.pipeline.name}: tasks.{name} took {taken:,} rows, and {ended:,} are accounted for.",
            "This is a fault of Lookbook: please report it. Nothing of what the extracts know was committed.",
        )


def states_of(report: Report) -> dict[str, dict[str, Any]]:
    """Return what each extract is to know at its next run, by the name of its task."""
    return {
        name: {key: value for stage in staged.groups.values() for key, value in stage.state.items()}
        for name, staged in report.staged().items()
        if any(stage.state for stage in staged.groups.values())
    }


def closing_writes(context: Context, report: Report) -> tuple[Write, ...]:
    """Return what else is written in the transaction that ends a run: the inputs that were taken."""
    return tuple(_taken(context, name, staged) for name, staged in report.staged().items())


def _taken(context: Context, name: str, staged: Staged) -> Write:
    from lookbook.tasks.tables.extract import commit_inputs, taken_inputs  # noqa: PLC0415 - each run needs only some parts

    inputs = taken_inputs(context.workspace.lake, staged)

    async def write(connection: Connection) -> None:
        await commit_inputs(connection, context.pipeline.name, name, inputs)

    return write


def entries(context: Context, report: Report) -> list[TableEntry]:
    """Return what the catalogue is to know of the tables that a run loaded or made."""
    found, now = [], datetime.now(UTC)
    for outcome in report.outcomes.values():
        if outcome.kind == "load":
            found += [_entry(context, one, now) for one in outcome.result if one.state is not None]
        elif outcome.kind == "models":
            found += [_model(context, one, now) for one in outcome.result]
    return found


def _entry(context: Context, result: Any, now: datetime) -> TableEntry:  # noqa: ANN401 - a LoadResult
    from lookbook.tasks.runs.catalogue import loaded_entry  # noqa: PLC0415

    more = {"run_id": context.run_id, "load_id": result.load_id, "inputs": list(result.inputs)}
    return loaded_entry(result.place, result.table, result.state, fresh_at=now, **more)


def _model(context: Context, result: Any, now: datetime) -> TableEntry:  # noqa: ANN401 - a ModelResult
    from lookbook.tasks.runs.catalogue import loaded_entry  # noqa: PLC0415

    state = TableState(result.columns, result.rows)
    run_id, inputs = context.run_id, list(result.inputs)
    return loaded_entry("warehouse", result.name, state, fresh_at=now, kind="model", run_id=run_id, inputs=inputs)


def replay_context(place: Workspace, spec: Pipeline, folder: Path, date: datetime) -> Context:
    """Return what taking up rejects knows of a run: there is none of Prefect's."""
    return Context(place, spec, folder, date, params=spec.params, run_id=f"replay-{uuid4().hex[:12]}")


def replayed(context: Context, results: Sequence[Any]) -> list[dict[str, Any]]:
    """Return what became of rejects that were taken up, by table; the catalogue hears of the tables."""
    from lookbook.tasks.runs.catalogue import register  # noqa: PLC0415

    now = datetime.now(UTC)
    register(context.workspace.registry, [_entry(context, one, now) for one in results if one.state is not None])
    return [_loaded(one) | {"taken_up": one.rows_in, "unreadable": list(one.unreadable)} for one in results]
