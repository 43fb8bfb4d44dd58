"""What a run of a pipeline is about: its date, its parameters, the dates before it that were missed."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from datetime import UTC, datetime
from itertools import islice

from pydantic import JsonValue

from lookbook.blocks.errors import UsageError
from lookbook.tasks.tables.spec.pipeline import Pipeline
from lookbook.tasks.tables.spec.problems import did_you_mean
from lookbook.tasks.tables.spec.schedules import Schedule
from lookbook.tasks.tables.ticks import in_zone, last_tick, ticks, zone_of

#: Dates that one run catches up with, its own included; what is left the next one takes.
MOST_DATES = 100


def logical_date(schedule: Schedule | None, given: datetime | None, planned: datetime, *, scheduled: bool) -> datetime:
    """Return the date that a run is about, in the schedule's time zone.

    Args:
        schedule: of the spec, if it has one.
        given: by whoever started the run; without a zone it is meant in the schedule's.
        planned: when the run was to start.
        scheduled: whether the schedule started it.
    """
    if given is not None:
        return in_zone(given, schedule)
    if schedule is None:
        return planned.astimezone(UTC).replace(hour=0, minute=0, second=0, microsecond=0)
    return planned.astimezone(zone_of(schedule)) if scheduled else last_tick(schedule, planned)


def missed_dates(schedule: Schedule, done: Collection[datetime], date: datetime) -> list[datetime]:
    """Return the ticks between the last date before `date` that was done and `date`, oldest first, bounded.

    Before the first run of all nothing is missed.
    """
    before = [one for one in done if one < date]
    if not before:
        return []
    found = (tick for tick in ticks(schedule, max(before), date) if max(before) < tick < date)
    return list(islice(found, MOST_DATES))


def merged_params(pipeline: Pipeline, given: Mapping[str, JsonValue]) -> dict[str, JsonValue]:
    """Return the parameters of a spec, with what a run gives in place of them.

    Raises:
        UsageError: one is given that the spec does not name.
    """
    for name in given:
        if name not in pipeline.params:
            known = f"it has {', '.join(pipeline.params)}" if pipeline.params else "it has none"
            raise UsageError(
                f"The pipeline {pipeline.name} has no parameter {name}{did_you_mean(name, pipeline.params) or '.'}",
                f"Its spec names them under params; {known}.",
            )
    return pipeline.params | dict(given)
