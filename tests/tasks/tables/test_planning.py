"""What a run is about: its date, the dates that were missed, its parameters."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from lookbook.blocks.errors import UsageError
from lookbook.tasks.tables.planning import MOST_DATES, logical_date, merged_params, missed_dates
from lookbook.tasks.tables.spec.pipeline import Pipeline, Schedule

DAILY = Schedule.model_validate({"cron": "0 9 * * *", "timezone": "Europe/Berlin"})
NOW = datetime(2026, 7, 3, 10, 30, tzinfo=UTC)


def test_the_date_is_given_or_planned_or_the_last_tick_or_today() -> None:
    def found(*given: Any, **more: Any) -> str:
        return logical_date(*given, **more).isoformat()

    assert found(DAILY, datetime(2026, 1, 1, 9), NOW, scheduled=True) == "2026-01-01T09:00:00+01:00"  # noqa: DTZ001
    assert found(DAILY, None, NOW, scheduled=True) == "2026-07-03T12:30:00+02:00"
    assert found(DAILY, None, NOW, scheduled=False) == "2026-07-03T09:00:00+02:00"
    assert found(None, None, NOW, scheduled=False) == "2026-07-03T00:00:00+00:00"


def tick(day: int) -> datetime:
    return datetime(2026, 6, 1, 7, tzinfo=UTC) + timedelta(days=day)


def test_dates_are_missed_since_the_last_that_was_done() -> None:
    assert missed_dates(DAILY, set(), tick(5)) == [], "before the first run nothing is missed"
    assert missed_dates(DAILY, {tick(4)}, tick(5)) == []
    assert missed_dates(DAILY, {tick(0), tick(2)}, tick(5)) == [tick(3), tick(4)]
    assert missed_dates(DAILY, {tick(2), tick(9)}, tick(5)) == [tick(3), tick(4)], "what was run ahead counts not"
    assert missed_dates(DAILY, {tick(0) + timedelta(hours=5)}, tick(2)) == [tick(1)], "run by hand, off the schedule"


def test_a_run_catches_up_with_a_bounded_number_of_dates_the_oldest_first() -> None:
    found = missed_dates(DAILY, {tick(0)}, tick(1000))
    assert len(found) == MOST_DATES
    assert found[0] == tick(1)


def test_parameters_are_those_of_the_spec_with_what_the_run_gives() -> None:
    spec = Pipeline.model_validate(
        {"name": "p", "params": {"shop": "north", "days": 3}, "tasks": {"a": {"source": {"type": "file", "path": "a"}}}}
    )
    assert merged_params(spec, {"days": 5}) == {"shop": "north", "days": 5}
    with pytest.raises(UsageError, match="no parameter shp; did you mean shop"):
        merged_params(spec, {"shp": 1})
