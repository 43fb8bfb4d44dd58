"""The results of all kinds of tasks, as the run sees them: counts, states to commit, tables for the catalogue."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from blocks.errors import LookbookError
from tasks.tables.context import Context, Staged
from tasks.tables.ledger import Connection, Write
from tasks.tables.report import Outcome, Report, kind_of, rows_in, rows_of


def outcome_of(context: Context, name: str, inputs: Mapping[str, Any], result: Any, seconds: float) -> Outcome:  # noqa: ANN401 - results of all kinds
    """What a task did, in numbers.

    Raises:
        LookbookError: rows went in that neither were loaded nor set aside.
    """
    kind, taken = kind_of(context.pipeline.tasks[name]), rows_in(inputs)
    if kind == "load":
        tables = tuple(_loaded(one) for one in result)
        _balance(context, name, taken, tables)
        loaded, rejected = (sum(table[key] for table in tables) for key in ("loaded", "rejected"))
        return Outcome(name, kind, result, taken, loaded, rejected, seconds, tables)
    if kind == "models":
        tables = tuple({"place": "warehouse", "table": one.name, "rows": one.rows} for one in result)
        return Outcome(name, kind, result, None, sum(one.rows for one in result), 0, seconds, tables)
    if kind == "graph":
        counts = [*result.nodes.items(), *((f"{edge} edges", count) for edge, count in result.edges.items())]
        note = ", ".join(f"{count:,} {what}" for what, count in counts)
        return Outcome(name, kind, result, taken, None, len(result.problems), seconds, (), note)
    rejected = sum(stage.rejected for stage in result.groups.values()) if isinstance(result, Staged) else 0
    return Outcome(name, kind, result, taken, rows_of(result), rejected, seconds)


def _loaded(result: Any) -> dict[str, Any]:  # noqa: ANN401 - a LoadResult, whose module is slow to import
    return {
        "place": result.place,
        "table": result.table,
        "loaded": result.rows_loaded,
        "rejected": result.rejected,
        "superseded": result.superseded,
        "rows": result.rows,
    }


def _balance(context: Context, name: str, taken: int | None, tables: tuple[dict[str, Any], ...]) -> None:
    """The books of a load: each row that was staged is in a table, set aside, or gave way to another of its key."""
    ended = sum(table["loaded"] + table["rejected"] + table["superseded"] for table in tables)
    if taken is not None and ended < taken:
        raise LookbookError(
            f"{context.pipeline.name}: tasks.{name} took {taken:,} rows, and {ended:,} are accounted for.",
            "This is a fault of Lookbook: please report it. Nothing of what the extracts know was committed.",
        )


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
