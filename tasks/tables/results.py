"""The results of all kinds of tasks, as the run sees them: counts, states to commit, tables for the catalogue."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from tasks.tables.context import Context, Staged
from tasks.tables.ledger import Connection, Write
from tasks.tables.report import Outcome, Report, kind_of, rows_in, rows_of


def outcome_of(context: Context, name: str, inputs: Mapping[str, Any], result: Any, seconds: float) -> Outcome:  # noqa: ANN401 - results of all kinds
    """What a task did, in numbers."""
    kind = kind_of(context.pipeline.tasks[name])
    tables: tuple[dict[str, Any], ...] = ()
    rows_out, rejected = rows_of(result), 0
    if isinstance(result, Staged):
        rejected = sum(stage.rejected for stage in result.groups.values())
    return Outcome(name, kind, result, rows_in(inputs), rows_out, rejected, seconds, tables)


def states_of(report: Report) -> dict[str, dict[str, Any]]:
    """What each extract is to know at its next run, by the name of its task."""
    return {
        name: {key: value for stage in staged.groups.values() for key, value in stage.state.items()}
        for name, staged in report.staged().items()
        if any(stage.state for stage in staged.groups.values())
    }


def closing_writes(context: Context, report: Report) -> tuple[Write, ...]:
    """What else is written in the transaction that ends a run: the inputs that were taken."""
    return tuple(_taken(context, name, staged) for name, staged in report.staged().items())


def _taken(context: Context, name: str, staged: Staged) -> Write:
    from tasks.tables.extract import commit_inputs, taken_inputs  # noqa: PLC0415 - each run needs only some parts

    inputs = taken_inputs(context.workspace.lake, staged)

    async def write(connection: Connection) -> None:
        await commit_inputs(connection, context.pipeline.name, name, inputs)

    return write


def entries(context: Context, report: Report) -> list[Any]:
    """What the catalogue is to know of the tables."""
    return []
