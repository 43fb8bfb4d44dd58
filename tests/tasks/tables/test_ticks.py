"""Ticks are those of Prefect's own scheduler, clocks that are set included."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime, timedelta

import pytest
from prefect.server.schemas.schedules import CronSchedule, IntervalSchedule

from lookbook.blocks.errors import UsageError
from lookbook.deployments.server.pipeline_deploying import api_schedule
from lookbook.tasks.tables.planning import last_tick, read_date, span, ticks
from lookbook.tasks.tables.spec.pipeline import Schedule
from lookbook.tasks.tables.spec.values import read_length

SPANS = [
    (datetime(2026, 3, 6, tzinfo=UTC), datetime(2026, 4, 7, tzinfo=UTC)),
    (datetime(2026, 10, 2, tzinfo=UTC), datetime(2026, 11, 3, tzinfo=UTC)),
]


def of_prefect(schedule: Schedule, first: datetime, last: datetime) -> list[datetime]:
    """What Prefect's server makes of the schedule as it is deployed."""
    said = api_schedule(schedule)
    server = CronSchedule.model_validate(said) if "cron" in said else IntervalSchedule.model_validate(said)
    found: list[datetime] = []
    while True:
        page = [date.astimezone(UTC) for date in asyncio.run(server.get_dates(n=1000, start=first, end=last))]
        new = [date for date in page if not found or date > found[-1]]
        if not new:
            return found
        found += new
        first = found[-1] + timedelta(seconds=1)


@pytest.mark.parametrize("zone", ["UTC", "Europe/Berlin", "America/New_York", "Australia/Lord_Howe"])
@pytest.mark.parametrize("cron", ["0 9 * * *", "30 2 * * *", "*/20 * * * *", "0 * * * *", "0 0 1 * *", "15 1 * * 0"])
def test_ticks_of_cron_are_those_of_prefects_scheduler(cron: str, zone: str) -> None:
    schedule = Schedule.model_validate({"cron": cron, "timezone": zone})
    for first, last in SPANS:
        found = list(ticks(schedule, first, last))
        assert [tick.astimezone(UTC) for tick in found] == of_prefect(schedule, first, last)
        assert all(str(tick.tzinfo) == zone for tick in found)


@pytest.mark.parametrize("every", ["90s", "2m", "1h", "1d", "1w", 7000])
def test_ticks_of_intervals_are_those_of_prefects_scheduler(every: str | int) -> None:
    schedule = Schedule.model_validate({"every": every, "timezone": "Europe/Berlin"})
    for first, last in SPANS:
        end = min(last, first + 300 * read_length(every))
        assert list(ticks(schedule, first, end)) == of_prefect(schedule, first, end)


def test_before_the_anchor_intervals_tick_too() -> None:
    schedule = Schedule.model_validate({"every": "1d"})
    found = list(ticks(schedule, datetime(2025, 12, 30, 1, tzinfo=UTC), datetime(2026, 1, 2, tzinfo=UTC)))
    assert [tick.day for tick in found] == [31, 1, 2]


def test_without_a_schedule_each_midnight_ticks() -> None:
    found = list(ticks(None, datetime(2026, 2, 27, 5, tzinfo=UTC), datetime(2026, 3, 2, tzinfo=UTC)))
    assert [tick.isoformat() for tick in found] == [f"2026-{day}T00:00:00+00:00" for day in ("02-28", "03-01", "03-02")]


def test_the_last_tick_is_not_in_the_future() -> None:
    monthly = Schedule.model_validate({"cron": "0 6 2 * *", "timezone": "America/New_York"})
    assert last_tick(monthly, datetime(2026, 3, 1, tzinfo=UTC)).isoformat() == "2026-02-02T06:00:00-05:00"
    exact = datetime(2026, 2, 2, 11, tzinfo=UTC)
    assert last_tick(monthly, exact) == exact
    with pytest.raises(UsageError, match="no tick"):
        last_tick(Schedule.model_validate({"cron": "0 0 30 2 *"}), exact)


def test_dates_are_read_in_the_schedules_zone() -> None:
    berlin = Schedule.model_validate({"cron": "0 9 * * *", "timezone": "Europe/Berlin"})
    assert read_date("2026-07-01", berlin).isoformat() == "2026-07-01T00:00:00+02:00"
    assert read_date("2026-07-01T09:00", berlin).isoformat() == "2026-07-01T09:00:00+02:00"
    assert read_date("2026-07-01T09:00:00Z", berlin).isoformat() == "2026-07-01T11:00:00+02:00"
    assert read_date("2026-07-01", None).tzname() == "UTC"
    for text in ("yesterday", "2026-13-01", ""):
        with pytest.raises(UsageError, match="is no date"):
            read_date(text, berlin)


def test_the_last_date_of_a_span_is_a_whole_day() -> None:
    berlin = Schedule.model_validate({"cron": "0 9 * * *", "timezone": "Europe/Berlin"})
    assert len(list(ticks(berlin, *span("2026-03-28", "2026-03-30", berlin)))) == 3
    assert len(list(ticks(berlin, *span("2026-03-28", "2026-03-30T08:00", berlin)))) == 2
    with pytest.raises(UsageError, match="other way round"):
        span("2026-03-30", "2026-03-28", berlin)
