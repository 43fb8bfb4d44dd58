"""Clean-ups, removals, renames and erasures by the API: asked for, and watched; what can't be meant starts nothing."""

from __future__ import annotations

from typing import Any

from lookbook.deployments.api.access import create_key
from lookbook.deployments.api.models import Cleanup, Erasure, Removal, Rename
from lookbook.deployments.api.runs import RunState
from lookbook.tasks.runs.records import end_run, start_run
from tests.support.api import Api, problem

ROOT = "/api/v1/cleanups"


def test_a_cleanup_is_asked_for_and_watched(api: Api) -> None:
    rule: dict[str, Any] = {"keep": 3, "older_than": "12h"}
    registry = api.workspace.registry
    for body in ({"keep": 0}, {"older_than": "1y"}, {"dataset": "../x"}, {"older": "1d"}):
        problem(api.http.post(ROOT, json=body), 422, "invalid-request")
    problem(api.http.post(ROOT, json=rule | {"dataset": "boots"}), 404, "no-dataset")
    problem(api.http.get(f"{ROOT}/{'0' * 32}"), 404, "no-cleanup")
    assert api.runs.submitted == {}
    answer = api.http.post(ROOT, json=rule, headers={"Idempotency-Key": "nightly"})
    assert answer.status_code == 202, answer.text
    told = Cleanup.model_validate(answer.json())
    assert answer.headers["location"] == told.links["self"] == f"{ROOT}/{told.id}"
    ((run, (deployment, parameters)),) = api.runs.submitted.items()
    assert deployment == "gc/local"
    assert parameters == rule | {"dataset": None, "dry_run": False, "workspace": "local"}
    assert api.http.post(ROOT, json=rule, headers={"Idempotency-Key": "nightly"}).json()["id"] == told.id
    start_run(registry, run, "*", "gc:*")
    end_run(registry, run, {"objects": 7}, None)
    api.runs.states[run] = RunState("completed", "", None, None)
    assert Cleanup.model_validate(api.http.get(told.links["self"]).json()).summary == {"objects": 7}
    key = {"Authorization": f"Bearer {create_key(registry, 'reader', ['read'])}"}
    api.app.state.services.gate._ring._read_at = -float("inf")
    problem(api.http.post(ROOT, json=rule, headers=key), 403, "no-scope")


def test_a_removal_is_asked_for_and_watched(api: Api) -> None:
    problem(api.http.delete("/api/v1/datasets/boots"), 404, "no-dataset")
    problem(api.http.get(f"/api/v1/removals/{'0' * 32}"), 404, "no-removal")
    answer = api.http.delete("/api/v1/datasets/shoes")
    assert answer.status_code == 202, answer.text
    told = Removal.model_validate(answer.json())
    assert api.http.get(told.links["self"]).json()["dataset"] == "shoes"
    ((deployment, parameters),) = api.runs.submitted.values()
    assert (deployment, parameters) == ("remove/local", {"dataset": "shoes", "workspace": "local"})
    key = {"Authorization": f"Bearer {create_key(api.workspace.registry, 'reader', ['read'])}"}
    api.app.state.services.gate._ring._read_at = -float("inf")
    problem(api.http.delete("/api/v1/datasets/shoes", headers=key), 403, "no-scope")


def test_a_rename_is_asked_for_and_watched(api: Api) -> None:
    root, body = "/api/v1/renames", {"dataset": "shoes", "new_name": "boots"}
    problem(api.http.post(root, json=body | {"dataset": "boots"}), 404, "no-dataset")
    for wrong in (body | {"new_name": "shoes"}, body | {"new_name": "../x"}, {"dataset": "shoes"}):
        problem(api.http.post(root, json=wrong), 422, "invalid-request")
    problem(api.http.get(f"{root}/{'0' * 32}"), 404, "no-rename")
    assert api.runs.submitted == {}
    answer = api.http.post(root, json=body)
    assert answer.status_code == 202, answer.text
    told = Rename.model_validate(answer.json())
    assert answer.headers["location"] == told.links["self"] == f"{root}/{told.id}"
    assert api.http.get(told.links["self"]).json()["dataset"] == "shoes"
    assert list(api.runs.submitted.values()) == [("rename/local", body | {"workspace": "local"})]


def test_an_erasure_is_asked_for_and_watched(api: Api) -> None:
    root, body = "/api/v1/erasures", {"dataset": "shoes", "keys": ["1163"]}
    problem(api.http.post(root, json=body | {"dataset": "boots"}), 404, "no-dataset")
    for wrong in ({"dataset": "shoes"}, body | {"keys": [""]}, body | {"everything": True}):
        problem(api.http.post(root, json=wrong), 422, "invalid-request")
    problem(api.http.get(f"{root}/{'0' * 32}"), 404, "no-erasure")
    assert api.runs.submitted == {}
    answer = api.http.post(root, json=body)
    assert answer.status_code == 202, answer.text
    told = Erasure.model_validate(answer.json())
    assert api.http.get(told.links["self"]).json()["dataset"] == "shoes"
    parameters = body | {"where": [], "dry_run": False, "workspace": "local"}
    assert list(api.runs.submitted.values()) == [("forget/local", parameters)]
