"""Checks and candidates by the API: set and removed, listed with what failed, published by hand."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from lookbook.deployments.api.access import create_key
from lookbook.deployments.api.models import ChecksBody, Publication, SnapshotDetail, SnapshotPage
from lookbook.tasks.datasets.candidates import candidate_ids, candidate_key
from lookbook.tasks.datasets.checks import read_checks, set_checks
from lookbook.tasks.datasets.manifest import batches_folder, snapshot_folder
from lookbook.tasks.datasets.publish import FailedChecksError
from tests.support.api import Api, problem
from tests.support.pipeline import photo, request, row, run, write_collection

CHECKS = "/api/v1/datasets/shoes/checks"
ROOTS = "/api/v1/publications"
NONE: dict[str, Any] = {"name": "none", "sql": "SELECT product_key FROM products", "says": None, "level": "stop"}


@pytest.fixture
def candidate(api: Api, tmp_path: Path) -> Iterator[str]:
    """A candidate for the dataset; gone at the end: tests of this folder share its lake."""
    lake = api.workspace.lake
    assert api.http.put(CHECKS, json={"checks": [NONE]}).status_code == 200
    source = write_collection(tmp_path / "source", {"1.jpg": photo(1)}, [row(1)])
    with pytest.raises(FailedChecksError):
        run(request(api.workspace, source, dataset="shoes"))
    (found,) = candidate_ids(lake, "shoes")
    api.app.state.services.snapshots._candidates.forget("shoes")  # it would believe for a second what it last read
    yield found
    set_checks(lake, "shoes", None)
    lake.remove(candidate_key("shoes", found))
    for info in [*lake.list(snapshot_folder("shoes", found)), *lake.list(batches_folder("shoes"))]:
        lake.remove(info.key)


def test_checks_are_set_shown_and_removed_also_before_the_first_ingest(api: Api) -> None:
    path = CHECKS.replace("shoes", "to-come")
    assert api.http.get(path).json() == {"checks": []}
    told = api.http.put(path, json={"checks": [{"name": "none", "sql": NONE["sql"]}]})
    assert told.status_code == 200, told.text
    assert told.json() == api.http.get(path).json() == {"checks": [NONE]}
    assert ChecksBody.model_validate(told.json()).checks == read_checks(api.workspace.lake, "to-come")
    twice, bad = {"checks": [NONE, NONE]}, {"checks": [NONE | {"sql": "SELECT * FROM read_csv('x')"}]}
    for body, why in ((twice, "none is there twice"), (bad, "only tables are read"), ({"checks": []}, "")):
        assert why in str(problem(api.http.put(path, json=body), 422, "invalid-request"))
    assert api.http.get(path).json() == {"checks": [NONE]}
    assert api.http.delete(path).json() == {"checks": []} == api.http.delete(path).json()


def test_a_candidate_is_listed_and_its_id_works_where_a_snapshots_does(api: Api, candidate: str) -> None:
    page = SnapshotPage.model_validate(api.json("/datasets/shoes/snapshots"))
    (listed,) = page.candidates
    assert (listed.id, listed.current, listed.checks[0].outcome, listed.checks[0].rows) == (
        candidate,
        False,
        "failed",
        1,
    )
    assert candidate not in {each.id for each in page.items}
    detail = SnapshotDetail.model_validate(api.json(f"/datasets/shoes/snapshots/{candidate}"))
    assert (detail.id, detail.products, detail.checks[0].first) == (candidate, 1, [{"product_key": "1"}])
    assert api.json(f"/datasets/shoes/products?snapshot={candidate}")["total"] == 1
    assert api.json(f"/datasets/shoes/rejects?snapshot={candidate}")["snapshot"] == candidate
    diff = api.json(f"/datasets/shoes/diff?to={candidate}")
    assert (diff["from"], diff["to"]) == (page.items[0].id, candidate)
    problem(api.http.put("/api/v1/datasets/shoes/tags/v1", json={"snapshot": candidate}), 422, "invalid-request")


def test_a_publication_is_asked_for_by_who_may_ingest_and_watched(api: Api, candidate: str) -> None:
    problem(api.http.post(ROOTS, json={"dataset": "boots"}), 404, "no-candidate")
    problem(api.http.post(ROOTS, json={"dataset": "shoes", "candidate": "x"}), 404, "no-candidate")
    told = Publication.model_validate(api.http.post(ROOTS, json={"dataset": "shoes"}).json())
    ((deployment, parameters),) = api.runs.submitted.values()
    assert deployment == "publish/local"
    assert parameters == {"dataset": "shoes", "candidate": candidate, "workspace": "local"}, "the one that was there"
    assert told.links["self"] == f"{ROOTS}/{told.id}"
    assert api.http.get(told.links["self"]).json()["state"] == "waiting"
    problem(api.http.get(f"{ROOTS}/{'0' * 32}"), 404, "no-publication")
    registry = api.workspace.registry
    key = {"Authorization": f"Bearer {create_key(registry, 'reader', ['read'])}"}
    api.app.state.services.gate._ring._read_at = -float("inf")
    asks: list[Callable[[], Any]] = [
        lambda: api.http.put(CHECKS, json={"checks": [NONE]}, headers=key),
        lambda: api.http.delete(CHECKS, headers=key),
        lambda: api.http.post(ROOTS, json={"dataset": "shoes"}, headers=key),
    ]
    for ask in asks:
        problem(ask(), 403, "no-scope")
