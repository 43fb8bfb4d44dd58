"""What a run of a pipeline is about: its date, the dates before it, and which of its tasks can run now."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from datetime import UTC, datetime, time, timedelta
from heapq import heappop, heappush
from itertools import islice
from zoneinfo import ZoneInfo

from croniter import CroniterBadDateError, croniter
from pydantic import JsonValue

from lookbook.blocks.errors import UsageError
from lookbook.tasks.tables.spec.pipeline import Pipeline, Schedule
from lookbook.tasks.tables.spec.problems import did_you_mean
from lookbook.tasks.tables.spec.tasks import ExtractTask, PythonTask

#: What intervals are counted from.
ANCHOR = datetime(2026, 1, 1, tzinfo=UTC)
#: Clocks are set by no more than this.
_SHIFT = timedelta(hours=3)


def zone_of(schedule: Schedule | None) -> ZoneInfo:
    """Return the time zone of a schedule; UTC where there is none."""
    return ZoneInfo(schedule.timezone if schedule is not None else "UTC")


def ticks(schedule: Schedule | None, first: datetime, last: datetime) -> Iterator[datetime]:
    """Return the ticks from `first` to `last`, both included; without a schedule, each midnight in UTC.

    They are in the schedule's time zone. To be compared for equality they belong in UTC: Python holds times of an hour
    that comes twice for unequal to those of any other zone.
    """
    if schedule is not None and schedule.every is not None:
        return _intervals(schedule.every, first, last)
    return _crons(schedule.cron or "" if schedule is not None else "0 0 * * *", zone_of(schedule), first, last)


def last_tick(schedule: Schedule, now: datetime) -> datetime:
    """Return the last tick that is not in the future.

    Raises:
        UsageError: there is none within the last five years, as with a 30th of February.
    """
    for days in (1, 2, 8, 32, 367, 5 * 366):
        found = list(ticks(schedule, now - timedelta(days=days), now))
        if found:
            return found[-1]
    raise UsageError(f"The schedule {schedule.cron} has no tick within the last five years.", "Give a date.")


def read_date(text: str, schedule: Schedule | None) -> datetime:
    """Return a date, or a date with a time, in ISO's form; in the schedule's time zone where it names none.

    Raises:
        UsageError: it is neither.
    """
    try:
        found = datetime.fromisoformat(text)
    except ValueError:
        raise UsageError(f"{text} is no date.", "Dates look like 2026-03-01 or 2026-03-01T09:00.") from None
    return in_zone(found, schedule)


def in_zone(date: datetime, schedule: Schedule | None) -> datetime:
    """Return a date in the schedule's time zone; one that names no zone is meant in that."""
    zone = zone_of(schedule)
    return _instant(date, zone).astimezone(zone) if date.tzinfo is None else date.astimezone(zone)


def span(first: str, last: str, schedule: Schedule | None) -> tuple[datetime, datetime]:
    """From a date to a date, both included: one without a time stands for its whole day.

    Raises:
        UsageError: one of them is no date, or they stand the wrong way round.
    """
    start, end = read_date(first, schedule), read_date(last, schedule)
    if "T" not in last and " " not in last:
        end = in_zone(datetime.combine(end.date(), time.max), schedule)
    if end < start:
        raise UsageError(f"--from {first} is after --to {last}.", "Give them the other way round.")
    return start, end


def _intervals(every: timedelta, first: datetime, last: datetime) -> Iterator[datetime]:
    tick = ANCHOR + every * -((ANCHOR - first) // every)
    while tick <= last:
        if tick >= first:
            yield tick
        tick += every


def _crons(cron: str, zone: ZoneInfo, first: datetime, last: datetime) -> Iterator[datetime]:
    walls = croniter(cron, (first.astimezone(zone) - _SHIFT).replace(tzinfo=None))
    until = (last.astimezone(zone) + _SHIFT).replace(tzinfo=None)
    near: list[datetime] = []  # where a clock is set, its times come in another order than the instants
    given = datetime.min.replace(tzinfo=UTC)
    while True:
        wall = _next(walls)
        if wall <= until:
            heappush(near, _instant(wall, zone))
        while near and (wall > until or near[0] < _instant(wall, zone) - _SHIFT):
            tick = heappop(near)
            if first <= tick <= last and tick > given:
                given = tick
                yield tick.astimezone(zone)
        if wall > until:
            return


def _next(walls: croniter) -> datetime:
    """Return the next time of a clock; the end of time where there is none, as of a 30th of February."""
    try:
        found: datetime = walls.get_next(datetime)
    except CroniterBadDateError:
        return datetime.max - 2 * _SHIFT  # noqa: DTZ901 - a clock's time
    return found


def _instant(wall: datetime, zone: ZoneInfo) -> datetime:
    """Return a clock's time as an instant: of two, the first; one that is skipped counts as if the clock were set."""
    found = wall.replace(tzinfo=zone).astimezone(UTC)
    skipped = found.astimezone(zone).replace(tzinfo=None) != wall
    return wall.replace(tzinfo=zone, fold=1).astimezone(UTC) if skipped else found


class Order:
    """The tasks of one run, as far as they have come.

    A task is wanted when one of its extracts has something new; so is, then, all that it takes from. What is wanted
    by nothing is skipped.
    """

    def __init__(self, pipeline: Pipeline) -> None:
        self._pipeline = pipeline
        self._waiting = pipeline.in_order()
        self._done: set[str] = set()
        roots = {name for name, task in pipeline.tasks.items() if not task.after}
        self._wanted = set(roots)
        for name in roots:
            if not isinstance(pipeline.tasks[name], ExtractTask | PythonTask):
                self._want_what_follows(name)

    def ready(self) -> list[str]:
        """Return the tasks to start now; each is named once."""
        found = [name for name in self._waiting if name in self._wanted and self._done.issuperset(self._after(name))]
        self._waiting = [name for name in self._waiting if name not in found]
        return found

    def done(self, name: str, *, unchanged: bool = False) -> None:
        """Note that a task has ended; `unchanged`: what it brought is what the last run brought."""
        self._done.add(name)
        if not unchanged and not self._after(name):
            self._want_what_follows(name)

    @property
    def left(self) -> list[str]:
        """The tasks that were not started."""
        return list(self._waiting)

    def _after(self, name: str) -> tuple[str, ...]:
        return self._pipeline.tasks[name].after

    def _want_what_follows(self, root: str) -> None:
        for name in self._pipeline.tasks:
            upstream = set(self._pipeline.upstream(name))
            if root in upstream:
                self._wanted |= {name, *upstream}


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
