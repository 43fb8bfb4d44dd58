"""What the tasks of a run did, in numbers: the books of one run of a feed."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from lookbook.tasks.tables.context import Context, Staged
from lookbook.tasks.tables.spec.pipeline import Pipeline
from lookbook.tasks.tables.spec.tasks import ExtractTask, GraphTask, LoadTask, ModelsTask, SqlTask, Task


@dataclass(frozen=True)
class Outcome:
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
    outcomes: dict[str, Outcome] = field(default_factory=dict)
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
        """Whether there was anything new."""
        return any(not outcome.unchanged for outcome in self.outcomes.values())

    @property
    def why(self) -> str:
        """Why nothing was done."""
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
