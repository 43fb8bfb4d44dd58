"""The flow of a pipeline: its date, and the dates before it that it catches up with."""

from __future__ import annotations

import logging
from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

import lookbook.flows.pipeline
from lookbook.blocks.workspace import Workspace
from lookbook.flows.pipeline import PipelineRun
from lookbook.tasks.tables import ledger
from lookbook.tasks.tables.planning import MOST_DATES
from tests.support.pipelines import write_spec

START = datetime(2026, 6, 1, 7, tzinfo=UTC)
SPEC = """
    schedule: {cron: "0 9 * * *", timezone: Europe/Berlin, catch_up: true}
    tasks: {extract: {source: {type: file, path: a.csv}}}
"""


def tick(day: int) -> datetime:
    return START + timedelta(days=day)


class Runs:
    """What the flow starts, in place of running it.

    Attributes:
        own: dates that it ran itself.
        below: dates that it ran as subflows.
    """

    def __init__(self, workspace: Workspace) -> None:
        self.workspace = workspace
        self.own: list[datetime] = []
        self.below: list[datetime] = []
        self.planned, self.scheduled = tick(5), True

    def feed(self, feed: PipelineRun) -> dict[str, Any]:
        self.own.append(feed.date.astimezone(UTC))
        return {"status": "completed"}

    def again(self, _: str, *, date: datetime, **__: Any) -> None:
        self.below.append(date.astimezone(UTC))

    def done(self, *days: int) -> None:
        for day in days:
            entry = ledger.start_run(self.workspace.registry, "daily", tick(day), "", f"run-{day}")
            ledger.commit_run(self.workspace.registry, entry, "completed", {}, {})


@pytest.fixture
def runs(workspace: Workspace, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Runs:
    found = Runs(workspace)
    write_spec(tmp_path / "specs", "daily", SPEC)
    settings = SimpleNamespace(pipelines=tmp_path / "specs")
    flow_run = SimpleNamespace(name="run", ui_url=None, run_count=1)
    for name, value in {
        "read_settings": lambda: settings,
        "load_workspace": lambda _: workspace,
        "run_pipeline": found.feed,
        "_again": found.again,
        "get_run_logger": lambda: logging.getLogger("tests"),
        "runtime": SimpleNamespace(flow_run=flow_run),
        "is_scheduled": lambda: found.scheduled,
        "date_of_this_run": lambda _, given: given or found.planned,
        "date_of_earlier_try": lambda _: None,
    }.items():
        monkeypatch.setattr(lookbook.flows.pipeline, name, value)
    return found


def test_a_scheduled_run_first_runs_the_dates_that_were_missed_oldest_first(runs: Runs) -> None:
    runs.done(0, 2)
    lookbook.flows.pipeline.pipeline.fn("daily")
    assert (runs.below, runs.own) == ([tick(3), tick(4)], [tick(5)])


def test_a_run_by_hand_catches_up_with_nothing(runs: Runs) -> None:
    runs.done(0)
    runs.scheduled = False
    lookbook.flows.pipeline.pipeline.fn("daily")
    assert (runs.below, runs.own) == ([], [tick(5)])


def test_a_missed_date_that_fails_keeps_the_later_ones_back(runs: Runs, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object, **__: object) -> None:
        raise ValueError("no")

    runs.done(0)
    monkeypatch.setattr(lookbook.flows.pipeline, "_again", fail)
    with pytest.raises(ValueError, match="no"):
        lookbook.flows.pipeline.pipeline.fn("daily")
    assert runs.own == []


def test_after_a_long_pause_a_run_takes_the_oldest_dates_and_leaves_its_own_to_the_next(runs: Runs) -> None:
    runs.done(0)
    runs.planned = tick(MOST_DATES + 50)
    state: Any = lookbook.flows.pipeline.pipeline.fn("daily")
    assert (len(runs.below), runs.own) == (MOST_DATES, [])
    assert (state.type.value, state.name) == ("COMPLETED", "CatchingUp")
