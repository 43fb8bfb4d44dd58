"""One run of a feed for one date: its tasks in their order, then the one commit of what it knows."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any, Literal

from prefect import get_run_logger, runtime, task
from prefect.client.schemas.objects import State
from prefect.states import Completed
from pydantic import JsonValue

from lookbook.blocks.errors import LookbookError
from lookbook.blocks.workspace import Workspace, load_workspace
from lookbook.flows.feed_artifacts import describe
from lookbook.flows.feed_tasks import TaskRuns
from lookbook.flows.retrying import is_no_interruption
from lookbook.flows.waiting import patience
from lookbook.tasks.runs.announcements import announce_table
from lookbook.tasks.runs.lease import lease
from lookbook.tasks.tables import ledger
from lookbook.tasks.tables.context import Context
from lookbook.tasks.tables.planning import merged_params
from lookbook.tasks.tables.spec.pipeline import Pipeline
from lookbook.tasks.tables.spec.problems import read_config
from lookbook.tasks.tables.steps import Report, closing_writes, entries, states_of


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
    with _alone(place, feed.spec.name), _recorded(place, feed) as entry:
        context = _context(place, feed, entry)
        report = TaskRuns(context, again=feed.again).to_end()
        _publish(context, feed, report)
        summary = report.summary(context)
        status: Literal["completed", "skipped"] = "completed" if report.worked else "skipped"
        states, writes = states_of(report), closing_writes(context, report)
        ledger.commit_run(place.registry, entry, status, summary, states, writes, context.states)
    describe(summary)
    if not report.worked:
        get_run_logger().info("Skipped: %s", report.why)
        return Completed(name="Skipped", message=report.why, data=summary)
    return summary


@contextmanager
def _alone(place: Workspace, name: str) -> Iterator[None]:
    """The lease on the pipeline: a scheduled run waits for it, somebody who waits is told at once."""
    say = get_run_logger().info
    with lease(place.registry, f"pipeline/{name}", patience(), lambda who: say("Waiting: %s", who)):
        yield


@contextmanager
def _recorded(place: Workspace, feed: Feed) -> Iterator[ledger.Entry]:
    """Note the run in the ledger, and that it failed where the body raises; else the body notes how it ended."""
    run_id, digest = str(runtime.flow_run.id), ledger.params_digest(feed.params)
    entry = ledger.start_run(place.registry, feed.spec.name, feed.date, digest, run_id)
    try:
        yield entry
    except Exception as error:
        with suppress(LookbookError):  # a registry that fails too must not hide why the run failed
            ledger.fail_run(place.registry, run_id, str(error) or type(error).__name__)
        raise
    # One that is interrupted or killed says nothing more, and the next one goes on with what it staged.


def _context(place: Workspace, feed: Feed, entry: ledger.Entry) -> Context:
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
