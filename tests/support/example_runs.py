"""The shipped pipelines without Prefect: their tasks in order, and the commit at the end, in this process."""

from __future__ import annotations

import shutil
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from lookbook.blocks.workspace import Workspace
from lookbook.tasks.runs.catalogue import register
from lookbook.tasks.tables import ledger
from lookbook.tasks.tables.context import Context
from lookbook.tasks.tables.planning import Order
from lookbook.tasks.tables.query import query
from lookbook.tasks.tables.spec.problems import read_config
from lookbook.tasks.tables.spec.reading import find_spec, read_spec
from lookbook.tasks.tables.steps import Report, closing_writes, entries, outcome_of, run_step, states_of

SHIPPED = Path(__file__).parents[2] / "deployments" / "pipelines"


@dataclass
class Examples:
    """A copy of the shipped pipelines, whose files a test may change, and a workspace for them."""

    workspace: Workspace
    folder: Path

    def run(self, name: str, date: datetime = datetime(2026, 3, 1, tzinfo=UTC)) -> Report:
        """Run a pipeline for a date; what its extracts know is committed."""
        registry, spec = self.workspace.registry, read_spec(find_spec(self.folder, name))
        entry = ledger.start_run(registry, name, date, "", "test")
        context = Context(
            workspace=self.workspace,
            pipeline=spec,
            folder=self.folder,
            logical_date=date,
            params=spec.params,
            config=read_config(self.folder / spec.config) if spec.config else None,
            states=ledger.read_states(registry, name),
            run_id="test",
            generation=entry.generation,
        )
        report = _to_end(context)
        register(registry, entries(context, report))
        status: Any = "completed" if report.worked else "skipped"
        summary, states, writes = report.summary(context), states_of(report), closing_writes(context, report)
        ledger.commit_run(registry, entry, status, summary, states, writes, context.states)
        return report

    def rows(self, sql: str) -> list[dict[str, Any]]:
        """What a statement gives."""
        found: list[dict[str, Any]] = query(self.workspace, sql).to_pylist()
        return found


def examples(workspace: Workspace, folder: Path) -> Examples:
    """The examples, copied into a folder."""
    shutil.copytree(SHIPPED, folder)
    return Examples(workspace, folder)


def _to_end(context: Context) -> Report:
    order, report = Order(context.pipeline), Report(context.pipeline)
    while ready := order.ready():
        for name in ready:
            inputs = {before: report.results[before] for before in context.pipeline.tasks[name].after}
            outcome = outcome_of(context, name, inputs, run_step(context, name, inputs, report.results), 0.0)
            report.outcomes[name] = outcome
            order.done(name, unchanged=outcome.unchanged)
    report.left = order.left
    return report
