"""The tasks of a run: each done by the part that knows its kind, its result, and the books of the run."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any
from uuid import uuid4

from lookbook.blocks.errors import LookbookError
from lookbook.tasks.runs.catalogue import TableState
from lookbook.tasks.tables.context import Context, Staged, is_stateful
from lookbook.tasks.tables.ledger import Connection, Write
from lookbook.tasks.tables.spec.pipeline import Pipeline
from lookbook.tasks.tables.spec.tasks import ExtractTask, GraphTask, LoadTask, ModelsTask, PythonTask, SqlTask, Task

if TYPE_CHECKING:
    from lookbook.blocks.workspace import Workspace
    from lookbook.tasks.runs.catalogue import TableEntry


@dataclass(frozen=True)
class TaskOutcome:
    """What a task did.

    Attributes:
        result: for the tasks after it.
        rows_in: of the stages that it took; None where it took none.
        rows_out: that it staged or loaded; None where it brings no rows.
        rejected: rows that were set aside.
        tables: that it loaded or made, each with its counts.
        note: what else is to be said of it.
        unchanged: an extract that brought what the last run brought, or nothing that is new.
    """

    task: str
    kind: str
    result: Any
    rows_in: int | None
    rows_out: int | None
    rejected: int
    seconds: float
    tables: tuple[dict[str, Any], ...] = ()
    note: str = ""
    unchanged: bool = False

    @property
    def row(self) -> dict[str, Any]:
        """In numbers and words alone."""
        return {
            "task": self.task,
            "kind": self.kind,
            "outcome": "unchanged" if self.unchanged else "done",
            "rows_in": self.rows_in,
            "rows_out": self.rows_out,
            "rejected": self.rejected,
            "seconds": round(self.seconds, 2),
            "note": self.note,
        }

    @property
    def line(self) -> str:
        """In one line, for the log."""
        counts = {"rows in": self.rows_in, "rows out": self.rows_out, "rejected": self.rejected or None}
        said = [f"{count:,} {name}" for name, count in counts.items() if count is not None]
        said += filter(None, [self.note, "unchanged" if self.unchanged else ""])
        return ", ".join(said) or "done"


@dataclass
class Report:
    """What a run did so far.

    Attributes:
        outcomes: of the tasks that are done, by name.
        left: tasks that nothing new reached.
    """

    pipeline: Pipeline
    outcomes: dict[str, TaskOutcome] = field(default_factory=dict)
    left: list[str] = field(default_factory=list)

    @property
    def results(self) -> dict[str, Any]:
        """The results of the tasks that are done."""
        return {name: outcome.result for name, outcome in self.outcomes.items()}

    @property
    def tables(self) -> list[dict[str, Any]]:
        """All tables that were loaded or made."""
        return [table for outcome in self.outcomes.values() for table in outcome.tables]

    @property
    def worked(self) -> bool:
        """Return whether there was anything new."""
        return any(not outcome.unchanged for outcome in self.outcomes.values())

    @property
    def why(self) -> str:
        """Return why nothing was done."""
        names = ", ".join(name for name, outcome in self.outcomes.items() if outcome.unchanged)
        return f"Nothing new: {names} brought what is loaded already."

    def staged(self) -> dict[str, Staged]:
        """Return what the extracts brought, by the names of their tasks."""
        return {
            name: outcome.result
            for name, outcome in self.outcomes.items()
            if not self.pipeline.tasks[name].after and isinstance(outcome.result, Staged)
        }

    def summary(self, context: Context) -> dict[str, Any]:
        """Return all of it, as JSON can say it."""
        rows = {name: outcome.row for name, outcome in self.outcomes.items()}
        blank = dict.fromkeys(("rows_in", "rows_out"))
        skipped = {"outcome": "skipped", **blank, "rejected": 0, "seconds": 0.0, "note": ""}
        for name in self.left:
            rows[name] = {"task": name, "kind": kind_of(self.pipeline.tasks[name]), **skipped}
        return {
            "pipeline": self.pipeline.name,
            "date": context.logical_date.isoformat(),
            "status": "completed" if self.worked else "skipped",
            "why": "" if self.worked else self.why,
            "tasks": [rows[name] for name in self.pipeline.in_order()],
            "tables": self.tables,
            "run_id": context.run_id,
        }


def kind_of(task: Task) -> str:
    """Return the kind of a task in one word."""
    kinds = {ExtractTask: "extract", SqlTask: "sql", LoadTask: "load", ModelsTask: "models", GraphTask: "graph"}
    return kinds.get(type(task), "python")


def rows_of(result: Any) -> int | None:  # noqa: ANN401 - results of all kinds
    """Return the rows of a stage; None of anything else."""
    return sum(stage.rows for stage in result.groups.values()) if isinstance(result, Staged) else None


def rows_in(inputs: Mapping[str, Any]) -> int | None:
    """Return the rows of all stages that a task takes."""
    counts = [count for count in map(rows_of, inputs.values()) if count is not None]
    return sum(counts) if counts else None


def outcome_of(context: Context, name: str, inputs: Mapping[str, Any], result: Any, seconds: float) -> TaskOutcome:  # noqa: ANN401 - results of all kinds
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
        return TaskOutcome(name, kind, result, taken, loaded, rejected, seconds, tables, note)
    if kind == "models":
        tables = tuple({"place": "warehouse", "table": one.name, "rows": one.rows} for one in result)
        return TaskOutcome(name, kind, result, None, sum(one.rows for one in result), 0, seconds, tables)
    if kind == "graph":
        counts = [*result.nodes.items(), *((f"{edge} edges", count) for edge, count in result.edges.items())]
        note = "; ".join([", ".join(f"{count:,} {what}" for what, count in counts), *result.problems])
        return TaskOutcome(name, kind, result, taken, None, result.left_out, seconds, (), note)
    rejected = sum(stage.rejected for stage in result.groups.values()) if isinstance(result, Staged) else 0
    unchanged = _is_unchanged(context, name, result, rejected)
    return TaskOutcome(name, kind, result, taken, rows_of(result), rejected, seconds, unchanged=unchanged)


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
    """Check a load's books: each staged row is in a table, set aside, or gave way to another of its key."""
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


def run_step(context: Context, name: str, inputs: Mapping[str, Any], results: Mapping[str, Any]) -> Any:  # noqa: ANN401 - results of all kinds
    """Do the task `name`.

    Args:
        context: of the run.
        name: of the task.
        inputs: the results of the tasks in its `after`, by their names.
        results: those of all tasks upstream.
    """
    match task := context.pipeline.tasks[name]:
        case ExtractTask():
            from lookbook.tasks.tables.extract import extract  # noqa: PLC0415 - each run needs only some of the parts

            return extract(context, name)
        case SqlTask():
            from lookbook.tasks.tables.transform import run_sql  # noqa: PLC0415

            return run_sql(context, name, inputs)
        case PythonTask():
            from lookbook.tasks.tables.transform import run_python  # noqa: PLC0415

            return run_python(context, name, inputs)
        case LoadTask():
            from lookbook.tasks.tables.load import load  # noqa: PLC0415

            own = _own_extracts(context.pipeline, name, results)
            return load(context, name, _rows(context.pipeline, name, inputs, split="{event}" in task.table), own)
        case ModelsTask():
            from lookbook.tasks.tables.star import build as build_models  # noqa: PLC0415

            return build_models(context, name)
        case GraphTask():
            from lookbook.tasks.tables.graph import build as build_graph  # noqa: PLC0415

            return build_graph(context, name, inputs)


def _rows(pipeline: Pipeline, name: str, inputs: Mapping[str, Any], *, split: bool) -> list[Staged]:
    """Return the tables that a load takes.

    Raises:
        LookbookError: a function returned none.
    """
    found = []
    for before in pipeline.rows_before(name):
        if not isinstance(inputs[before], Staged):
            raise LookbookError(
                f"{pipeline.name}: tasks.{name} takes rows from {before}, which returned no table.",
                "A function returns a DataFrame or an Arrow table, or is not named in the after of a load.",
            )
        found.append(_of_groups(inputs[before], split=split))
    return found


def _of_groups(staged: Staged, *, split: bool) -> Staged:
    """Rows that were split lie in their groups: the stage of the whole has none, and names no table."""
    groups = {name: stage for name, stage in staged.groups.items() if name or (stage.rows and not stage.groups)}
    return Staged(groups, staged.unchanged) if split or groups else staged


def _own_extracts(pipeline: Pipeline, load: str, results: Mapping[str, Any]) -> list[Staged]:
    """Return the extracts whose unreadable rows stand in this load's books: it is the first that takes from them."""
    loads = [name for name in pipeline.in_order() if isinstance(pipeline.tasks[name], LoadTask)]
    found = []
    for extract in pipeline.extracts(load):
        first = next(name for name in loads if extract in pipeline.extracts(name))
        if first == load and isinstance(results[extract], Staged):
            found.append(results[extract])
    return found
