"""The command line and schedules as ways into a run, on a real server with a real worker."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from itertools import pairwise
from typing import Any

import httpx
import pytest

from tests.support.command import lookbook_json
from tests.support.prefect_processes import FINAL, Server, wait_for

pytestmark = pytest.mark.integration


def start(prefect: Server, *parameters: str) -> tuple[int, str]:
    """Start a run of ingest by ``prefect deployment run``: exit code, and what it says, in one line."""
    pairs = [word for parameter in parameters for word in ("-p", parameter)]
    done = prefect.prefect("deployment", "run", "ingest/local", *pairs, COLUMNS="200")
    return done.returncode, " ".join((done.stdout + done.stderr).split())


def named(prefect: Server, dataset: str) -> list[dict[str, Any]]:
    """The runs of ingest for a dataset."""
    return [run for run in prefect.runs("ingest") if run["parameters"].get("dataset") == dataset]


def test_from_the_command_line_to_a_published_snapshot(prefect: Server) -> None:
    done = prefect.prefect(
        *("deployment", "run", "ingest/local", "--watch", "--watch-timeout", "150"),
        *("-p", "source=sample://30", "-p", "dataset=by-command", "-p", "batch_size=10"),
        *("-p", 'recipe={"outputs": {"small": {"image_size": 64}}}'),
    )
    assert done.returncode == 0, done.stdout + done.stderr
    (run,) = named(prefect, "by-command")
    assert run["state_type"] == "COMPLETED"
    (dataset,) = [row for row in lookbook_json(prefect.home, "datasets") if row["dataset"] == "by-command"]
    assert dataset["images"] == 30
    found = lookbook_json(prefect.home, "verify", "by-command")
    assert (found["snapshot"], found["differences"]) == (dataset["snapshot"], [])
    sql = "SELECT DISTINCT output FROM warehouse.outputs WHERE dataset = 'by-command'"
    assert lookbook_json(prefect.home, "query", sql) == [{"output": "small"}]


@pytest.mark.parametrize(
    ("parameter", "said"),
    [
        ("dataset=Summer-Shoes", "field 'dataset'. Failure reason: 'Summer-Shoes' does not match"),
        pytest.param(
            'recipe={"speed": "slow"}',
            "field 'recipe.speed'. Failure reason: 'slow' is not one of ['fast', 'exact']",
            marks=pytest.mark.full,
        ),
        pytest.param("datset=shoes", "'datset'", marks=pytest.mark.full),
    ],
    ids=["capitals", "enum", "misspelt"],
)
def test_a_bad_parameter_on_the_command_line_is_refused_and_named(prefect: Server, parameter: str, said: str) -> None:
    before = len(prefect.runs("ingest"))
    code, output = start(prefect, "source=sample://30", "dataset=refused", parameter)
    assert code == 1
    assert said in output
    assert len(prefect.runs("ingest")) == before


@pytest.mark.parametrize(
    ("bad", "said"),
    [
        ({"batch_size": 0}, "field 'batch_size'. Failure reason: 0 is less than the minimum of 1"),
        ({"limit": 0}, "field 'limit'"),
        ({"reject_limit": 2}, "field 'reject_limit'. Failure reason: 2 is greater than the maximum of 1"),
        ({"source": ""}, "field 'source'"),
        ({"source": None}, "field 'source'"),
        ({"recipe": {"outputs": {}}}, "field 'recipe.outputs'"),
        ({"recipe": {"outputs": {"small": {"image_size": 0}}}}, "field 'recipe.outputs.small.image_size'"),
    ],
    ids=lambda value: "" if isinstance(value, str) else "-".join(value),
)
def test_a_bad_parameter_is_refused_at_creation_and_named(prefect: Server, bad: dict[str, Any], said: str) -> None:
    with pytest.raises(httpx.HTTPStatusError) as refused:
        prefect.start_run("ingest/local", **({"source": "sample://30", "dataset": "refused"} | bad))
    assert refused.value.response.status_code == httpx.codes.CONFLICT
    assert said in refused.value.response.json()["detail"]


def test_what_may_be_left_out_may_be_null(prefect: Server) -> None:
    """The form sends null for what nobody filled in."""
    run = prefect.start_run(
        "ingest/local", source="sample://30", dataset="nulls", limit=None, recipe={"max_aspect_ratio": None}
    )
    prefect.delete(f"/flow_runs/{run}")


@contextmanager
def scheduled(prefect: Server, name: str, interval: float, parameters: dict[str, Any]) -> Iterator[str]:
    """A copy of ``ingest/local`` that runs every `interval` seconds, one at a time, as prefect.yaml's watch does."""
    model = prefect.deployment("ingest/local")
    copied = ("flow_id", "entrypoint", "pull_steps", "path", "work_queue_name", "parameter_openapi_schema")
    body = {field: model[field] for field in copied} | {
        "name": name,
        "work_pool_name": "lookbook",
        "enforce_parameter_schema": True,
        "concurrency_limit": 1,
        "concurrency_options": {"collision_strategy": "CANCEL_NEW"},
        "parameters": parameters,
        "schedules": [{"schedule": {"interval": interval}, "active": True, "parameters": {"limit": 10}}],
    }
    deployment = str(prefect.post("/deployments/", body)["id"])
    try:
        yield deployment
    finally:
        prefect.delete(f"/deployments/{deployment}")


def runs_of(prefect: Server, deployment: str, *states: str) -> list[dict[str, Any]]:
    """The runs of a deployment in these states."""
    body = {
        "deployments": {"id": {"any_": [deployment]}},
        "flow_runs": {"state": {"type": {"any_": list(states)}}},
        "sort": "START_TIME_ASC",
    }
    found: list[dict[str, Any]] = prefect.post("/flow_runs/filter", body)
    return found


@pytest.mark.full
def test_a_schedule_fires_with_its_parameters_and_does_not_pile_up(prefect: Server) -> None:
    """Runs take longer than the interval: one runs, the firings that meet it are cancelled, and nothing queues."""
    waiting: list[int] = []

    with scheduled(prefect, "every-three-seconds", 3, {"source": "sample://30", "dataset": "on-schedule"}) as timed:

        def fired_twice() -> list[dict[str, Any]] | None:
            late = {"deployments": {"id": {"any_": [timed]}}, "flow_runs": {"state": {"name": {"any_": ["Late"]}}}}
            waiting.append(prefect.post("/flow_runs/count", late))
            assert len(runs_of(prefect, timed, "PENDING", "RUNNING")) <= 1
            completed = runs_of(prefect, timed, "COMPLETED")
            return completed if len(completed) >= 2 else None

        completed = wait_for("two firings complete", fired_twice)
        cancelled = runs_of(prefect, timed, "CANCELLED")
        wait_for("the last one has ended", lambda: not runs_of(prefect, timed, "PENDING", "RUNNING"))
    assert cancelled, "the runs were faster than the interval: nothing was tried"
    assert max(waiting) <= 5, "firings queue up"
    assert all(
        run["parameters"] == {"source": "sample://30", "dataset": "on-schedule", "limit": 10} for run in completed
    )
    assert all(run["auto_scheduled"] and run["state_type"] in FINAL for run in completed)
    assert all(one["end_time"] <= other["start_time"] for one, other in pairwise(completed))
    runs = lookbook_json(prefect.home, "runs", "on-schedule")
    assert [run["summary"]["images"]["found"] for run in runs if run["status"] == "completed"][:2] == [10, 10]
