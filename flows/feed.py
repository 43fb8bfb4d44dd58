"""One run of a pipeline's tasks: each in its turn or beside others, its books, its artifacts."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from datetime import datetime
from pathlib import Path
from queue import SimpleQueue
from typing import Any, Literal

from prefect import get_run_logger, runtime, task
from prefect.artifacts import create_markdown_artifact, create_table_artifact
from prefect.cache_policies import NO_CACHE
from prefect.client.schemas.objects import State
from prefect.futures import PrefectFuture
from prefect.states import Completed
from prefect.task_runners import TaskRunner, ThreadPoolTaskRunner
from pydantic import JsonValue

from lookbook.blocks.workspace import Workspace, load_workspace
from lookbook.flows.endings import is_no_interruption, is_worth_another_try, recorded_run
from lookbook.tasks.runs.announcements import announce_table
from lookbook.tasks.tables import ledger
from lookbook.tasks.tables.context import Context
from lookbook.tasks.tables.planning import Order, merged_params
from lookbook.tasks.tables.spec.pipeline import Pipeline
from lookbook.tasks.tables.spec.problems import read_config
from lookbook.tasks.tables.steps import Report, TaskOutcome, closing_writes, entries, outcome_of, run_step, states_of

#: Columns of the two tables.
TASKS = ("task", "kind", "outcome", "rows_in", "rows_out", "rejected", "seconds")


def describe(summary: Mapping[str, Any]) -> None:
    """Make the artifacts of a run."""
    key = f"pipeline-{summary['pipeline']}".replace("_", "-")
    create_markdown_artifact(markdown(summary), key=f"{key}-report", description="The run in short")
    create_table_artifact(list(summary["tasks"]), key=f"{key}-tasks", description="Rows of each task")
    if summary["tables"]:
        create_table_artifact(list(summary["tables"]), key=f"{key}-tables", description="Tables that were loaded")


def markdown(summary: Mapping[str, Any]) -> str:
    """Return a run in short."""
    lines = [f"# {summary['pipeline']}, {summary['date']}", "", summary["why"] or "All tasks are done.", ""]
    lines += _table(TASKS, summary["tasks"])
    if summary["tables"]:
        lines += ["", *_table(tuple(summary["tables"][0]), summary["tables"])]
    return "\n".join(lines)


def _table(columns: tuple[str, ...], rows: list[dict[str, Any]]) -> list[str]:
    head = [f"| {' | '.join(columns)} |", f"|{' --- |' * len(columns)}"]
    return head + [f"| {' | '.join(_cell(row.get(column)) for column in columns)} |" for row in rows]


def _cell(value: Any) -> str:  # noqa: ANN401 - any value of a summary
    text = "" if value is None else f"{value:,}" if isinstance(value, int) else str(value)
    return text.replace("|", "\\|").replace("\n", " ")


#: Tasks of one run that are under way at the same time.
AT_ONCE = 4


class TaskRuns:
    """The tasks of a run that wait, are under way, and are done.

    Args:
        context: of the run.
        again: go on with what is unchanged, too.
    """

    def __init__(self, context: Context, *, again: bool = False) -> None:
        self._context, self._again = context, again
        self._order = Order(context.pipeline)
        self._report = Report(context.pipeline)
        self._futures: dict[str, PrefectFuture[Any]] = {}
        self._ended: SimpleQueue[str] = SimpleQueue()
        self._faults: list[Exception] = []

    def to_end(self) -> Report:
        """Run all that is to be run. After a fault nothing more is started; what is under way ends first."""
        under_way = 0
        runner: TaskRunner[Any] = ThreadPoolTaskRunner(max_workers=AT_ONCE)
        with runner:
            while True:
                starting = [] if self._faults else self._order.ready()
                for name in starting:
                    self._start(name, runner)
                under_way += len(starting)
                if not under_way:
                    break
                self._finish(self._ended.get())
                under_way -= 1
        if self._faults:
            raise self._faults[0]
        self._report.left = self._order.left
        return self._report

    def _start(self, name: str, runner: TaskRunner[Any]) -> None:
        step = self._context.pipeline.tasks[name]
        made = task(
            name=name,
            task_run_name=name,
            retries=step.retries,
            retry_delay_seconds=step.retry_delay.total_seconds() if step.retry_delay is not None else 0,
            timeout_seconds=step.timeout.total_seconds() if step.timeout is not None else None,
            retry_condition_fn=is_worth_another_try,
            persist_result=False,
            cache_policy=NO_CACHE,
        )(self._work(name))
        future = runner.submit(made, parameters={}, wait_for=[self._futures[before] for before in step.after])
        self._futures[name] = future
        future.add_done_callback(lambda _: self._ended.put(name))

    def _work(self, name: str) -> Callable[[], TaskOutcome]:
        context, results = self._context, self._report.results
        inputs = {before: results[before] for before in context.pipeline.tasks[name].after}

        def work() -> TaskOutcome:  # results stay in this process: a closure hands them on, and no parameter
            began = time.monotonic()
            result = run_step(context, name, inputs, results)
            outcome = outcome_of(context, name, inputs, result, time.monotonic() - began)
            if self._again:
                outcome = replace(outcome, unchanged=False)
            get_run_logger().info("%s", outcome.line)
            return outcome

        return work

    def _finish(self, name: str) -> None:
        try:
            outcome: TaskOutcome = self._futures[name].result()
        except Exception as fault:  # noqa: BLE001 - raised at the end, once the other tasks have ended
            self._faults.append(fault)
            return
        self._report.outcomes[name] = outcome
        self._order.done(name, unchanged=outcome.unchanged)


@dataclass(frozen=True)
class Feed:
    """What is to be run.

    Attributes:
        spec: the pipeline.
        folder: to which the spec's files are relative; absolute.
        date: the logical date.
        params: in place of the spec's.
        workspace: name of the workspace.
        again: load what is unchanged, too.
    """

    spec: Pipeline
    folder: Path
    date: datetime
    params: dict[str, JsonValue]
    workspace: str
    again: bool = False


def run_feed(feed: Feed) -> dict[str, Any] | State[Any]:
    """Run a feed for its date, within a flow; returns its summary, or a state that says that nothing was new."""
    place = load_workspace(feed.workspace)
    merged_params(feed.spec, feed.params)
    registry, run_id, digest = place.registry, str(runtime.flow_run.id), ledger.params_digest(feed.params)
    with recorded_run(
        registry,
        f"pipeline/{feed.spec.name}",
        lambda: ledger.start_run(registry, feed.spec.name, feed.date, digest, run_id),
        lambda why: ledger.fail_run(registry, run_id, why),
        goes_on=True,
    ) as entry:
        context = _context(place, feed, entry)
        report = TaskRuns(context, again=feed.again).to_end()
        _publish(context, feed, report)
        summary = report.summary(context)
        status: Literal["completed", "skipped"] = "completed" if report.worked else "skipped"
        states, writes = states_of(report), closing_writes(context, report)
        ledger.commit_run(registry, entry, status, summary, states, writes, context.states)
    describe(summary)
    if not report.worked:
        get_run_logger().info("Skipped: %s", report.why)
        return Completed(name="Skipped", message=report.why, data=summary)
    return summary


def _context(place: Workspace, feed: Feed, entry: ledger.RunEntry) -> Context:
    spec = feed.spec
    return Context(
        workspace=place,
        pipeline=spec,
        folder=feed.folder,
        logical_date=feed.date,
        params=merged_params(spec, feed.params),
        config=read_config(feed.folder / spec.config) if spec.config else None,
        states=ledger.read_states(place.registry, spec.name),
        run_id=entry.run_id,
        generation=entry.generation,
    )


def _publish(context: Context, feed: Feed, report: Report) -> None:
    """Let others know of the tables: the catalogue, and whoever listens. Doing it twice is harmless."""
    from lookbook.tasks.runs.catalogue import register  # noqa: PLC0415 - needed only here

    if not report.worked:
        return
    register(context.workspace.registry, entries(context, report))
    announce_tables(feed.spec.name, feed.workspace, feed.date.isoformat(), report.tables)


@task(name="announce tables", retries=2, retry_delay_seconds=2, retry_condition_fn=is_no_interruption)
def announce_tables(pipeline: str, workspace: str, date: str, tables: list[dict[str, Any]]) -> None:
    """Send an event for each table that was loaded."""
    for table in tables:
        announce_table(table, pipeline, workspace, date, related=[str(runtime.flow_run.id)])
