"""Plans and replays by the API: asked for once, done by a worker, and told as they are."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from lookbook.deployments.api.access import create_key
from lookbook.deployments.api.models import Plan, Replay
from lookbook.deployments.api.runs import RunState
from lookbook.tasks.datasets.estimate import PLAN_ARTIFACT, estimate, plan_lines
from tests.support.api import Api, problem
from tests.support.pipeline import photo, request, write_collection

PLANS, REPLAYS = "/api/v1/plans", "/api/v1/replays"


@pytest.fixture
def rules(api: Api) -> list[str]:
    """The rules by which the current snapshot refused images."""
    facets = api.json("/datasets/shoes/rejects?kind=image")["facets"]
    return [each["value"] for each in facets["rule"]["values"]]


def test_a_plan_is_asked_for_and_read_once_a_worker_made_it(api: Api, tmp_path: Path) -> None:
    source = write_collection(tmp_path / "source", {"1.jpg": photo(1)})
    made = estimate(request(api.workspace, source, dataset="shoes"))
    body = {"source": "sample://20", "dataset": "shoes", "limit": 5}
    answer = api.http.post(PLANS, json=body, headers={"Idempotency-Key": "once"})
    assert answer.status_code == 202, answer.text
    told = Plan.model_validate(answer.json())
    assert answer.headers["location"] == told.links["self"] == f"{PLANS}/{told.id}"
    ((run, (deployment, parameters)),) = api.runs.submitted.items()
    assert (deployment, parameters["source"], parameters["limit"]) == ("plan/local", "sample://20", 5)
    assert {"executor", "drop_download"}.isdisjoint(parameters)
    assert api.http.post(PLANS, json=body, headers={"Idempotency-Key": "once"}).json()["id"] == told.id
    api.runs.artifacts[run, PLAN_ARTIFACT] = made
    assert api.http.get(told.links["self"]).json()["plan"] is None, "it is not made yet"
    api.runs.states[run] = RunState("completed", "", None, None)
    read = Plan.model_validate(api.http.get(told.links["self"]).json())
    assert read.plan == made
    assert read.lines == [list(line) for line in plan_lines(made)]
    problem(api.http.post(PLANS, json=body | {"executor": "pool"}), 422, "invalid-request")
    problem(api.http.get(f"{PLANS}/{'0' * 32}"), 404, "no-plan")


def test_a_replay_is_asked_for_and_what_it_cannot_judge_starts_nothing(api: Api, rules: list[str]) -> None:
    refused = problem(api.http.post(REPLAYS, json={"dataset": "shoes", "rules": ["moonshine"]}), 422, "invalid-request")
    assert "moonshine" in refused["detail"]
    problem(api.http.post(REPLAYS, json={"dataset": "boots"}), 404, "no-dataset")
    problem(api.http.get(f"{REPLAYS}/{'0' * 32}"), 404, "no-replay")
    assert api.runs.submitted == {}
    answer = api.http.post(REPLAYS, json={"dataset": "shoes", "rules": rules[:1]})
    assert answer.status_code == 202, answer.text
    told = Replay.model_validate(answer.json())
    ((_, (deployment, parameters)),) = api.runs.submitted.items()
    assert (deployment, parameters["rules"], parameters["workspace"]) == ("replay/local", rules[:1], "local")
    assert api.http.get(told.links["self"]).json()["state"] == "waiting"


def test_who_may_only_read_asks_for_neither_and_no_key_reaches_a_source_beyond_the_roots(
    api: Api, monkeypatch: pytest.MonkeyPatch
) -> None:
    registry, snapshots = api.workspace.registry, api.app.state.services.snapshots
    elsewhere = snapshots.manifest("shoes", None).model_copy(update={"source": "/etc/shoes"})
    monkeypatch.setattr(snapshots, "manifest", lambda *_: elsewhere)
    keys = {scope: {"Authorization": f"Bearer {create_key(registry, scope, [scope])}"} for scope in ("read", "ingest")}
    api.app.state.services.gate._ring._read_at = -float("inf")
    asks: list[Callable[[dict[str, str]], Any]] = [
        lambda headers: api.http.post(PLANS, json={"source": "/etc", "dataset": "shoes"}, headers=headers),
        lambda headers: api.http.post(REPLAYS, json={"dataset": "shoes"}, headers=headers),
    ]
    for ask in asks:
        problem(ask({}), 401, "no-key")
        problem(ask(keys["read"]), 403, "no-scope")
        problem(ask(keys["ingest"]), 403, "no-source")
    assert api.runs.submitted == {}
