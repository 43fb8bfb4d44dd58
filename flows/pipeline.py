"""The flow of a pipeline: what its YAML says, for one date."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime
from typing import Any
from uuid import UUID

from prefect import flow, get_run_logger, runtime
from prefect.client.schemas.objects import State
from prefect.context import FlowRunContext
from prefect.states import Completed

from blocks.errors import LookbookError
from blocks.settings import read_settings
from blocks.workspace import Workspace, load_workspace
from flows.feed import Feed, run_feed
from flows.feed_endings import end_feed, tell_crash, telling
from tasks.parameters import Again, LogicalDate, Params, PipelineName, WorkspaceName
from tasks.tables.ledger import date_of_run, done_dates, params_digest
from tasks.tables.planning import MOST_DATES, logical_date, missed_dates
from tasks.tables.spec.pipeline import Pipeline
from tasks.tables.spec.reading import find_spec, read_spec


def _run_name() -> str:
    """The run's name in the UI; where its spec cannot be read, the run itself says why."""
    given = runtime.flow_run.parameters
    try:
        spec = read_spec(find_spec(read_settings().pipelines, given["pipeline"]))
        date = _date(spec, given.get("date"))
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
        own = _date_of_earlier_try(place) or _date(spec, date)
        for missed in _missed(spec, place, own, params):
            if missed is None:
                return Completed(name="CatchingUp", message=f"{MOST_DATES} missed dates were run; more are to follow.")
            get_run_logger().info("Catching up: %s", missed.isoformat())
            _again(pipeline, date=missed, params=params, workspace=workspace)
        return run_feed(Feed(spec, path.parent.absolute(), own, dict(params or {}), workspace, again))


def _again(name: str, **parameters: Any) -> None:  # noqa: ANN401 - of the flow
    """Run the pipeline as a subflow."""
    pipeline(name, **parameters)


def _date(spec: Pipeline, given: datetime | str | None) -> datetime:
    run = FlowRunContext.get()
    scheduled = bool(run and run.flow_run and run.flow_run.auto_scheduled)
    wanted = datetime.fromisoformat(given) if isinstance(given, str) else given
    return logical_date(spec.schedule, wanted, runtime.flow_run.scheduled_start_time, scheduled=scheduled)


def _date_of_earlier_try(place: Workspace) -> datetime | None:
    """A run that is started once more is about the same date, whenever that is."""
    return date_of_run(place.registry, str(UUID(runtime.flow_run.id))) if runtime.flow_run.run_count > 1 else None


def _missed(
    spec: Pipeline, place: Workspace, own: datetime, params: dict[str, Any] | None
) -> Iterator[datetime | None]:
    """The dates to run before a scheduled run's own one; None at the end where there are more than one run takes."""
    run = FlowRunContext.get()
    scheduled = bool(run and run.flow_run and run.flow_run.auto_scheduled)
    if spec.schedule is None or not spec.schedule.catch_up or not scheduled:
        return
    missed = missed_dates(spec.schedule, done_dates(place.registry, spec.name, params_digest(params or {})), own)
    yield from missed
    if len(missed) >= MOST_DATES:
        yield None
