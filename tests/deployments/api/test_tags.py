"""Tags and restores by the API: set, moved, removed, and used wherever a snapshot's id is."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from lookbook.deployments.api.access import create_key
from lookbook.deployments.api.models import Restore, SnapshotPage, Tags
from lookbook.deployments.api.runs import RunState
from lookbook.tasks.datasets.tags import read_tags
from lookbook.tasks.exports.export import prepare
from lookbook.tasks.exports.request import request_of
from tests.support.api import Api, problem

TAGS = "/api/v1/datasets/shoes/tags"
ROOTS = "/api/v1/restores"


@pytest.fixture
def ids(api: Api) -> list[str]:
    """The ids of both snapshots, newest first."""
    return [each["id"] for each in api.json("/datasets/shoes/snapshots")["items"]]


def put(api: Api, tag: str, **body: Any) -> Any:
    return api.http.put(f"{TAGS}/{tag}", json=body)


def test_a_tag_is_set_moved_listed_and_removed(api: Api, ids: list[str]) -> None:
    assert api.json("/datasets/shoes/tags") == {"items": []}
    told = put(api, "v1.0", snapshot=ids[1])
    assert told.status_code == 200, told.text
    (tag,) = Tags.model_validate(told.json()).items
    assert (tag.tag, tag.snapshot, tag.href) == ("v1.0", ids[1], f"/api/v1/datasets/shoes/snapshots/{ids[1]}")
    assert put(api, "live").json() == api.json("/datasets/shoes/tags")
    page = SnapshotPage.model_validate(api.json("/datasets/shoes/snapshots"))
    assert [(each.tags, each.restored_from) for each in page.items] == [(["live"], None), (["v1.0"], None)]
    assert api.json("/datasets/shoes/snapshots/v1.0")["tags"] == ["v1.0"]
    refused = problem(put(api, "live", snapshot="v1.0"), 422, "invalid-request")
    assert f"live names {ids[0]} already" in refused["detail"]
    assert put(api, "live", snapshot="v1.0", move=True).status_code == 200
    assert api.json("/datasets/shoes/snapshots")["items"][1]["tags"] == ["live", "v1.0"]
    left = api.http.delete(f"{TAGS}/v1.0").json()
    assert [each["tag"] for each in left["items"]] == ["live"] == list(read_tags(api.workspace.lake, "shoes"))


def test_what_is_not_there_or_can_be_no_tag_is_named(api: Api, ids: list[str]) -> None:
    problem(put(api, "v1", snapshot="v9"), 404, "no-snapshot")
    problem(api.http.delete(f"{TAGS}/v1"), 404, "no-tag")
    boots = TAGS.replace("shoes", "boots")
    for answer in (api.http.get(boots), api.http.delete(f"{boots}/v1"), api.http.put(f"{boots}/v1", json={})):
        problem(answer, 404, "no-dataset")
    for tag in (ids[0], "current", ".x", "a%20b", "x" * 64):
        problem(put(api, tag), 422, "invalid-request")
    problem(put(api, "v1", snapshots=ids[0]), 422, "invalid-request")
    assert read_tags(api.workspace.lake, "shoes") == {}


def test_a_tag_works_wherever_an_id_does(api: Api, ids: list[str]) -> None:
    put(api, "v1.0", snapshot=ids[1])
    for path in ("products?limit=3&snapshot={}", "rejects?snapshot={}", "snapshots/{}", "diff?from={}"):
        assert api.json(f"/datasets/shoes/{path.format('v1.0')}") == api.json(f"/datasets/shoes/{path.format(ids[1])}")
    product = api.json("/datasets/shoes/products?limit=1&snapshot=v1.0")["items"][0]
    assert api.json(f"/datasets/shoes/products/{product['product_key']}?snapshot=v1.0")["snapshot"] == ids[1]
    answer = api.get(f"/datasets/shoes/images/{product['sha256']}/original?snapshot=v1.0")
    assert answer.status_code == 200
    diff = api.json("/datasets/shoes/diff?from=current&to=v1.0")
    assert (diff["from"], diff["to"]) == (ids[0], ids[1])
    problem(api.get("/datasets/shoes/products?snapshot=v2"), 404, "no-snapshot")


def test_pages_of_a_tag_that_is_moved_meanwhile_are_of_one_snapshot(api: Api, ids: list[str]) -> None:
    put(api, "live", snapshot=ids[1])
    page = api.json("/datasets/shoes/products?limit=1&snapshot=live")
    put(api, "live", snapshot=ids[0], move=True)
    further = api.json(f"/datasets/shoes/products?limit=1&snapshot=live&cursor={page['next']}")
    assert page["snapshot"] == further["snapshot"] == ids[1]
    for place in ("products", "rejects"):
        problem(api.get(f"/datasets/shoes/{place}?snapshot={ids[0]}&cursor={page['next']}"), 400, "bad-cursor")


def test_an_export_by_a_tag_is_of_the_snapshot_that_it_named_when_it_was_asked_for(api: Api, ids: list[str]) -> None:
    put(api, "v1", snapshot=ids[1])
    body = {"dataset": "shoes", "format": "csv", "snapshot": "v1"}
    told = api.http.post("/api/v1/exports", json=body, headers={"Idempotency-Key": "tagged"}).json()
    by_id = api.http.post("/api/v1/exports", json=body | {"snapshot": ids[1]}).json()
    assert (told["snapshot"], told["export_id"]) == (ids[1], by_id["export_id"])
    assert [parameters["snapshot"] for _, parameters in api.runs.submitted.values()] == [ids[1]] * 2
    put(api, "v1", snapshot=ids[0], move=True)
    again = api.http.post("/api/v1/exports", json=body, headers={"Idempotency-Key": "tagged"}).json()
    assert (again["id"], again["snapshot"]) == (told["id"], ids[1]), "the same request"
    defaults: dict[str, Any] = {"where": [], "text": None, "ids": [], "split": None, "columns": [], "filter": None}
    prepared = prepare(api.workspace.lake, request_of("shoes", defaults | {"snapshot": "v1"}))
    assert prepared.resolved.request.snapshot == ids[0]


def test_a_restore_is_asked_for_and_watched(api: Api, ids: list[str]) -> None:
    put(api, "v1", snapshot=ids[1])
    answer = api.http.post(ROOTS, json={"dataset": "shoes", "snapshot": "v1"}, headers={"Idempotency-Key": "back"})
    assert answer.status_code == 202, answer.text
    told = Restore.model_validate(answer.json())
    assert answer.headers["location"] == told.links["self"] == f"{ROOTS}/{told.id}"
    ((run, (deployment, parameters)),) = api.runs.submitted.items()
    assert deployment == "restore/local"
    assert parameters == {"dataset": "shoes", "snapshot": ids[1], "workspace": "local"}, "by the id: a tag may move"
    same = api.http.post(ROOTS, json={"dataset": "shoes", "snapshot": "v1"}, headers={"Idempotency-Key": "back"})
    assert same.json()["id"] == told.id
    api.runs.states[run] = RunState("completed", "", None, None)
    assert api.http.get(told.links["self"]).json()["state"] == "completed"


def test_a_restore_of_what_is_not_there_starts_nothing(api: Api, ids: list[str]) -> None:
    problem(api.http.post(ROOTS, json={"dataset": "shoes", "snapshot": "v1"}), 404, "no-snapshot")
    problem(api.http.post(ROOTS, json={"dataset": "boots", "snapshot": ids[0]}), 404, "no-dataset")
    for body in ({"dataset": "shoes"}, {"dataset": "shoes", "snapshot": ""}, {"dataset": "../x", "snapshot": "v1"}):
        problem(api.http.post(ROOTS, json=body), 422, "invalid-request")
    problem(api.http.get(f"{ROOTS}/{'0' * 32}"), 404, "no-restore")
    assert api.runs.submitted == {}


def test_who_may_only_read_changes_nothing(api: Api, ids: list[str]) -> None:
    registry = api.workspace.registry
    keys = {scope: {"Authorization": f"Bearer {create_key(registry, scope, [scope])}"} for scope in ("read", "ingest")}
    api.app.state.services.gate._ring._read_at = -float("inf")
    asks: list[Callable[[dict[str, str]], Any]] = [
        lambda headers: api.http.put(f"{TAGS}/v1", json={}, headers=headers),
        lambda headers: api.http.delete(f"{TAGS}/v1", headers=headers),
        lambda headers: api.http.post(ROOTS, json={"dataset": "shoes", "snapshot": ids[1]}, headers=headers),
    ]
    for ask in asks:
        problem(ask({}), 401, "no-key")
        problem(ask(keys["read"]), 403, "no-scope")
    assert (read_tags(api.workspace.lake, "shoes"), api.runs.submitted) == ({}, {})
    assert [ask(keys["ingest"]).status_code for ask in asks] == [200, 200, 202]
    assert api.http.get(TAGS, headers=keys["read"]).status_code == 200
