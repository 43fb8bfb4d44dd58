"""The flow of a pipeline: one run for one date, its tasks in turn or beside each other, its books, its artifacts."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from pathlib import Path
from queue import SimpleQueue
from typing import Any, Literal
from uuid import UUID

from prefect import flow, get_run_logger, runtime, task
from prefect.artifacts import create_markdown_artifact, create_table_artifact
from prefect.cache_policies import NO_CACHE
from prefect.client.schemas.objects import State
from prefect.context import FlowRunContext
from prefect.futures import PrefectFuture
from prefect.states import Completed
from prefect.task_runners import TaskRunner, ThreadPoolTaskRunner
from pydantic import JsonValue

from lookbook.blocks.errors import LookbookError
from lookbook.blocks.registry import Registry
from lookbook.blocks.settings import read_settings
from lookbook.blocks.workspace import Workspace, load_workspace
from lookbook.flows.endings import (
    end_pipeline,
    is_no_interruption,
    is_worth_another_try,
    recorded_run,
    tell_crash,
    telling,
)
from lookbook.tasks.runs.announcements import announce_table
from lookbook.tasks.runs.lease import Hold
from lookbook.tasks.runs.parameters import Again, LogicalDate, Params, PipelineName, WorkspaceName
from lookbook.tasks.runs.removal import Amount, Rule
from lookbook.tasks.tables import ledger
from lookbook.tasks.tables.context import Context
from lookbook.tasks.tables.ledger import date_of_run, done_dates, params_digest
from lookbook.tasks.tables.planning import MOST_DATES, Order, logical_date, merged_params, missed_dates
from lookbook.tasks.tables.spec.pipeline import Pipeline, Schedule
from lookbook.tasks.tables.spec.problems import read_config
from lookbook.tasks.tables.spec.reading import find_spec, read_spec
from lookbook.tasks.tables.staging import remove_stages
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
#: In a home that tidies up by itself, rows that earlier runs of a pipeline staged go at this age.
HOME_KEEPS_STAGES = timedelta(days=7)


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
class PipelineRun:
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


def run_pipeline(run: PipelineRun) -> dict[str, Any] | State[Any]:
    """Run a pipeline for its date, within a flow; returns its summary, or a state that says that nothing was new."""
    place = load_workspace(run.workspace)
    merged_params(run.spec, run.params)
    registry, run_id, digest = place.registry, str(runtime.flow_run.id), ledger.params_digest(run.params)
    with recorded_run(
        registry,
        f"pipeline/{run.spec.name}",
        lambda: ledger.start_run(registry, run.spec.name, run.date, digest, run_id),
        lambda why: ledger.fail_run(registry, run_id, why),
        goes_on=True,
    ) as entry:
        context = _context(place, run, entry)
        report = TaskRuns(context, again=run.again).to_end()
        _publish(context, run, report)
        summary = report.summary(context)
        status: Literal["completed", "skipped"] = "completed" if report.worked else "skipped"
        states, writes = states_of(report), closing_writes(context, report)
        ledger.commit_run(registry, entry, status, summary, states, writes, context.states)
        if registry.is_embedded:
            hold = Hold(registry, f"pipeline/{run.spec.name}")
            remove_stages(place.lake, run.spec.name, Rule(1, HOME_KEEPS_STAGES), hold, Amount())
    describe(summary)
    if not report.worked:
        get_run_logger().info("Skipped: %s", report.why)
        return Completed(name="Skipped", message=report.why, data=summary)
    return summary


def _context(place: Workspace, run: PipelineRun, entry: ledger.RunEntry) -> Context:
    spec = run.spec
    return Context(
        workspace=place,
        pipeline=spec,
        folder=run.folder,
        logical_date=run.date,
        params=merged_params(spec, run.params),
        config=read_config(run.folder / spec.config) if spec.config else None,
        states=ledger.read_states(place.registry, spec.name),
        run_id=entry.run_id,
        generation=entry.generation,
    )


def _publish(context: Context, run: PipelineRun, report: Report) -> None:
    """Let others know of the tables: the catalogue, and whoever listens. Doing it twice is harmless."""
    from lookbook.tasks.runs.catalogue import register  # noqa: PLC0415 - needed only here

    if not report.worked:
        return
    register(context.workspace.registry, entries(context, report))
    announce_tables(run.spec.name, run.workspace, run.date.isoformat(), report.tables)


@task(name="announce tables", retries=2, retry_delay_seconds=2, retry_condition_fn=is_no_interruption)
def announce_tables(pipeline: str, workspace: str, date: str, tables: list[dict[str, Any]]) -> None:
    """Send an event for each table that was loaded."""
    for table in tables:
        announce_table(table, pipeline, workspace, date, related=[str(runtime.flow_run.id)])


def is_scheduled() -> bool:
    """Return whether a schedule started this run."""
    run = FlowRunContext.get()
    return bool(run is not None and run.flow_run is not None and run.flow_run.auto_scheduled)


def date_of_this_run(schedule: Schedule | None, given: datetime | None) -> datetime:
    """Return the date that this run is about, by what it was given and when it was to start."""
    planned = datetime.fromisoformat(runtime.flow_run.scheduled_start_time.isoformat())  # Prefect's class is its own
    return logical_date(schedule, given, planned, scheduled=is_scheduled())


def date_of_earlier_try(registry: Registry) -> datetime | None:
    """Return a run that is started once more is about the same date, whenever that is; None for one that is not."""
    return date_of_run(registry, str(UUID(runtime.flow_run.id))) if runtime.flow_run.run_count > 1 else None


def _run_name() -> str:
    """Return the run's name in the UI; where its spec cannot be read, the run itself says why."""
    given = runtime.flow_run.parameters
    try:
        spec = read_spec(find_spec(read_settings().pipelines, given["pipeline"]))
        date = date_of_this_run(spec.schedule, given.get("date"))
    except (LookbookError, ValueError):
        return f"pipeline-{given['pipeline']}"
    return f"pipeline-{spec.name}-{date.isoformat(timespec='minutes')}"


@flow(name="pipeline", flow_run_name=_run_name, on_cancellation=[end_pipeline], on_crashed=[tell_crash])
def pipeline(
    pipeline: PipelineName,
    date: LogicalDate = None,
    params: Params = None,
    workspace: WorkspaceName = "local",
    again: Again = False,
) -> dict[str, Any] | State[Any]:
    """Run a pipeline for one date: extract, transform, load, models, graph, as its spec says.

    Returns:
        The summary: the rows of each task, and of each table that was loaded. Where nothing was new, the run ends as
        Skipped, and says why.
    """
    path = find_spec(read_settings().pipelines, pipeline)
    spec = read_spec(path)
    with telling(spec.name, spec.notify):
        place = load_workspace(workspace)
        own = date_of_earlier_try(place.registry) or date_of_this_run(spec.schedule, date)
        for missed in _missed(spec, place, own, params):
            if missed is None:
                return Completed(name="CatchingUp", message=f"{MOST_DATES} missed dates were run; more are to follow.")
            get_run_logger().info("Catching up: %s", missed.isoformat())
            _again(pipeline, date=missed, params=params, workspace=workspace)
        return run_pipeline(PipelineRun(spec, path.parent.absolute(), own, dict(params or {}), workspace, again))


def _again(name: str, **parameters: Any) -> None:  # noqa: ANN401 - of the flow
    """Run the pipeline as a subflow."""
    pipeline(name, **parameters)


def _missed(
    spec: Pipeline, place: Workspace, own: datetime, params: dict[str, Any] | None
) -> Iterator[datetime | None]:
    """Return the dates to run before a scheduled run's own; None at the end where there are too many for one run."""
    if spec.schedule is None or not spec.schedule.catch_up or not is_scheduled():
        return
    missed = missed_dates(spec.schedule, done_dates(place.registry, spec.name, params_digest(params or {})), own)
    yield from missed
    if len(missed) >= MOST_DATES:
        yield None
