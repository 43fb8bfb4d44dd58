"""When a pipeline runs by itself."""

from __future__ import annotations

from datetime import timedelta
from typing import Annotated
from zoneinfo import available_timezones

from croniter import croniter
from pydantic import AfterValidator, Field, model_validator

from lookbook.tasks.tables.spec.values import Length, Strict

#: Minute, hour, day, month, weekday: no seconds.
CRON_FIELDS = 5


def _is_cron(text: str) -> str:
    if not croniter.is_valid(text) or len(text.split()) != CRON_FIELDS:
        raise ValueError("five fields of cron are asked for: minute hour day month weekday")
    return text


def _is_zone(name: str) -> str:
    if name not in available_timezones():
        raise ValueError("no time zone of this name; it looks like Europe/Berlin")
    return name


class Schedule(Strict):
    """By the clock.

    Attributes:
        cron: minute, hour, day, month, weekday.
        every: a length of time, in place of cron.
        timezone: in which cron counts.
        catch_up: dates that were missed since the last completed one are run first.
        active: whether it is switched on when it is first deployed.
    """

    cron: Annotated[str, AfterValidator(_is_cron)] | None = None
    every: Annotated[Length, Field(ge=timedelta(seconds=1))] | None = None
    timezone: Annotated[str, AfterValidator(_is_zone)] = "UTC"
    catch_up: bool = False
    active: bool = True

    @model_validator(mode="after")
    def _one_of_both(self) -> Schedule:
        if (self.cron is None) == (self.every is None):
            raise ValueError("a schedule says either cron or every")
        return self


class Trigger(Strict):
    """By an event.

    Attributes:
        arrival: a path of files as in a source; new ones that have come to rest start a run.
        event: the name of an event that Prefect's server hears, such as lookbook.snapshot.published.
    """

    arrival: str | None = None
    event: Annotated[str, Field(pattern=r"^[^*\s]+$")] | None = None

    @model_validator(mode="after")
    def _one_of_both(self) -> Trigger:
        if (self.arrival is None) == (self.event is None):
            raise ValueError("on says either arrival or event")
        return self
