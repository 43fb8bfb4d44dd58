"""The flow of a pipeline: one run for one date."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime
from typing import Any
from uuid import UUID

from prefect import flow, get_run_logger, runtime
from prefect.client.schemas.objects import State
from prefect.context import FlowRunContext
from prefect.states import Completed

from lookbook.blocks.errors import LookbookError
from lookbook.blocks.registry import Registry
from lookbook.blocks.settings import read_settings
from lookbook.blocks.workspace import Workspace, load_workspace
from lookbook.flows.endings import end_feed, tell_crash, telling
from lookbook.flows.feed import Feed, run_feed
from lookbook.tasks.runs.parameters import Again, LogicalDate, Params, PipelineName, WorkspaceName
from lookbook.tasks.tables.ledger import date_of_run, done_dates, params_digest
from lookbook.tasks.tables.planning import MOST_DATES, logical_date, missed_dates
from lookbook.tasks.tables.spec.pipeline import Pipeline, Schedule
from lookbook.tasks.tables.spec.reading import find_spec, read_spec


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


@flow(name="pipeline", flow_run_name=_run_name, on_cancellation=[end_feed], on_crashed=[tell_crash])
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
        return run_feed(Feed(spec, path.parent.absolute(), own, dict(params or {}), workspace, again))


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
