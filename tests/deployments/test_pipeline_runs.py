"""Parameters and sources as they are typed."""

from __future__ import annotations

from contextlib import nullcontext
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

import lookbook.blocks.workspace
import lookbook.flows.pipeline
from lookbook.blocks.errors import UsageError
from lookbook.blocks.workspace import Workspace
from lookbook.deployments.command import pipeline_work
from lookbook.deployments.command.pipeline_work import _absolute, read_params
from lookbook.tasks.tables.spec.pipeline import Pipeline, Schedule

SPEC = Pipeline.model_validate(
    {
        "name": "p",
        "params": {"shop": "north", "days": 3, "flags": []},
        "tasks": {"a": {"source": {"type": "file", "path": "a"}}},
    }
)


def test_values_are_as_yaml_understands_them_and_texts_stay_texts() -> None:
    given = ["shop=007", "days=5", "flags=[a, b]", "more=x=y"]
    assert read_params(given, SPEC) == {"shop": "007", "days": 5, "flags": ["a", "b"], "more": "x=y"}


@pytest.mark.parametrize("given", ["shop", "=x", "days=[1"])
def test_what_is_no_parameter_is_named(given: str) -> None:
    with pytest.raises(UsageError, match=r"--param"):
        read_params([given], SPEC)


def test_a_path_holds_in_any_folder_and_one_that_is_not_there_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "a.csv").touch()
    assert _absolute("a.csv") == str(tmp_path / "a.csv")
    assert _absolute("*.csv") == str(tmp_path / "*.csv")
    for source in ("https://host/a", "lake://a", "connector:b/c"):
        assert _absolute(source) == source
    with pytest.raises(UsageError, match="no such file"):
        _absolute("b.csv")


def test_a_backfill_ends_with_the_last_date_that_has_come(
    workspace: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    spec = SPEC.model_copy(update={"schedule": Schedule(every=timedelta(days=1))})
    ran: list[datetime] = []

    def run(_: str, date: datetime, **__: Any) -> dict[str, Any]:
        ran.append(date)
        return {}

    monkeypatch.setattr(pipeline_work, "read_named", lambda _: spec)
    monkeypatch.setattr(pipeline_work, "_prefect", lambda *_: nullcontext(lambda _: None))
    monkeypatch.setattr(lookbook.blocks.workspace, "load_workspace", lambda _: workspace)
    monkeypatch.setattr(lookbook.flows.pipeline, "pipeline", run)
    today = datetime.now(UTC).date()
    dates = (str(today - timedelta(days=2)), str(today + timedelta(days=2)))
    told = pipeline_work.backfill("p", dates, [], "local", again=False, debug=False)
    assert [tick.date() for tick in ran] == [today - timedelta(days=2), today - timedelta(days=1), today]
    assert told["dates"] == 3
