"""When a schedule ticks, and the dates that runs are about: the same instants as Prefect's scheduler."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime, time, timedelta
from heapq import heappop, heappush
from zoneinfo import ZoneInfo

from croniter import CroniterBadDateError, croniter

from lookbook.blocks.errors import UsageError
from lookbook.tasks.tables.spec.schedules import Schedule

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
    """A clock's time as an instant: of two, the first; one that the clock skips counts as if it were set already."""
    found = wall.replace(tzinfo=zone).astimezone(UTC)
    skipped = found.astimezone(zone).replace(tzinfo=None) != wall
    return wall.replace(tzinfo=zone, fold=1).astimezone(UTC) if skipped else found
