"""What date a flow run is about."""

from __future__ import annotations

from datetime import datetime
from uuid import UUID

from prefect import runtime
from prefect.context import FlowRunContext

from lookbook.blocks.registry import Registry
from lookbook.tasks.tables.ledger import date_of_run
from lookbook.tasks.tables.planning import logical_date
from lookbook.tasks.tables.spec.pipeline import Schedule


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
