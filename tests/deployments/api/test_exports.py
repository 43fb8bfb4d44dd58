"""Exports by the API, with a flow that runs here: asked for once, watched, taken home, nobody else's."""

from __future__ import annotations

import csv
import io
import json
import zipfile
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from lookbook.blocks.errors import OutOfReachError
from lookbook.blocks.workspace import Workspace
from lookbook.deployments.api.access import create_key
from lookbook.deployments.api.models import Export
from lookbook.deployments.api.runs import RunState
from lookbook.tasks.exports.export import prepare
from lookbook.tasks.exports.places import export_to_lake
from lookbook.tasks.exports.request import request_of
from tests.deployments.api.conftest import forget_keys
from tests.support.api import Api, problem, running

WOMEN = {"dataset": "shoes", "filter": {"column": "gender", "op": "=", "value": "Women"}, "format": "csv"}


def post(api: Api, body: Any, **headers: str) -> Any:
    return api.http.post("/api/v1/exports", json=body, headers=headers)


def work(api: Api) -> None:
    """Do what a worker does: make all exports that wait, from the parameters that their runs were given."""
    for run, (deployment, parameters) in api.runs.submitted.items():
        if deployment == "export-dataset/local" and api.runs.states[run].state == "waiting":
            values = dict(parameters)
            dataset = values.pop("dataset")
            assert values.pop("workspace") == "local"
            defaults: dict[str, Any] = {"where": [], "text": None, "ids": []}
            export_to_lake(api.workspace.lake, prepare(api.workspace.lake, request_of(dataset, defaults | values)))
            api.runs.states[run] = RunState("completed", "", None, None)


def asked(api: Api, **more: Any) -> dict[str, Any]:
    answer = post(api, WOMEN | more)
    assert answer.status_code == 202, answer.text
    told: dict[str, Any] = answer.json()
    Export.model_validate(told)
    assert answer.headers["location"] == told["links"]["self"]
    return told


def test_an_export_is_asked_for_made_and_taken_home(api: Api) -> None:
    told = asked(api, seed=1)
    assert told["state"] == "waiting"
    problem(api.http.get(f"{told['links']['self']}/archive"), 409, "not-done")
    work(api)
    done = api.http.get(told["links"]["self"]).json()
    assert done["state"] == "completed"
    rows = list(csv.DictReader(io.StringIO(api.http.get(done["links"]["metadata"]).text)))
    assert len(rows) == done["counts"]["exported"] > 0
    assert {row["gender"] for row in rows} == {"Women"}
    archive = zipfile.ZipFile(io.BytesIO(api.http.get(done["links"]["archive"]).content))
    assert archive.testzip() is None
    folder = f"shoes-{done['export_id'][:8]}/"
    for name in archive.namelist():
        assert name.startswith(folder)
        assert ".." not in name
        assert "\\" not in name
    assert archive.read(f"{folder}metadata.csv") == api.http.get(done["links"]["metadata"]).content


def test_the_same_request_is_answered_from_what_is_there(api: Api) -> None:
    asked(api, seed=2)
    work(api)
    submitted = len(api.runs.submitted)
    told = asked(api, seed=2)
    assert told["state"] == "completed"
    assert len(api.runs.submitted) == submitted
    assert set(told["links"]) == {"self", "metadata", "archive"}


def test_the_executor_reaches_the_run_and_is_no_part_of_what_is_exported(api: Api) -> None:
    pooled, here = asked(api, seed=5, executor="pool"), asked(api, seed=5)
    assert pooled["export_id"] == here["export_id"]
    assert [parameters["executor"] for _, parameters in api.runs.submitted.values()] == ["pool", "threads"]
    problem(post(api, WOMEN | {"executor": "moon"}), 422, "invalid-request")


def test_the_sides_of_a_split_stay_in_their_order_until_the_run(api: Api) -> None:
    """They decide who is in which: a request whose keys were sorted on the way would be another export."""
    told = asked(api, seed=3, split={"train": 0.7, "test": 0.2, "a": 0.1})
    work(api)
    done = api.http.get(told["links"]["self"]).json()
    assert done["state"] == "completed"
    assert list(done["request"]["split"]) == ["train", "test", "a"]
    key = {"Idempotency-Key": "sides"}
    assert post(api, WOMEN | {"split": {"train": 0.5, "test": 0.5}}, **key).status_code == 202
    problem(post(api, WOMEN | {"split": {"test": 0.5, "train": 0.5}}, **key), 422, "other-request")


def test_a_broken_download_goes_on_by_a_range(api: Api) -> None:
    told = asked(api, seed=3, format="imagefolder", recipe="thumb")
    work(api)
    path = f"{told['links']['self']}/archive"
    whole = api.http.get(path)
    etag = whole.headers["etag"]
    half = len(whole.content) // 2
    first = api.http.get(path, headers={"Range": f"bytes=0-{half - 1}"}).content
    rest = api.http.get(path, headers={"Range": f"bytes={half}-", "If-Range": etag})
    assert rest.status_code == 206
    assert first + rest.content == whole.content
    head = api.http.head(path)
    assert int(head.headers["content-length"]) == len(whole.content)
    assert api.http.get(path, headers={"If-None-Match": etag}).status_code == 304


def test_one_idempotency_key_is_one_request_however_often_it_is_sent(api: Api) -> None:
    headers = {"Idempotency-Key": "order-7"}
    with ThreadPoolExecutor(6) as pool:
        answers = list(pool.map(lambda _: post(api, WOMEN | {"seed": 4}, **headers), range(6)))
    assert {answer.status_code for answer in answers} == {202}
    assert len({answer.json()["id"] for answer in answers}) == 1
    assert len(api.runs.submitted) == 1
    problem(post(api, WOMEN | {"seed": 5}, **headers), 422, "other-request")
    problem(post(api, WOMEN, **{"Idempotency-Key": "a b"}), 422, "invalid-request")


def test_a_request_that_prefect_did_not_take_goes_on_when_it_is_sent_again(api: Api) -> None:
    api.runs.fault = OutOfReachError("Prefect does not answer at http://10.0.0.7:4200")
    document = problem(post(api, WOMEN | {"seed": 6}, **{"Idempotency-Key": "x"}), 503, "out-of-reach")
    assert "10.0.0.7" not in str(document)
    api.runs.fault = None
    assert post(api, WOMEN | {"seed": 6}, **{"Idempotency-Key": "x"}).json()["state"] == "waiting"
    assert len(api.runs.submitted) == 1
    assert len(api.json("/exports")["items"]) == 1


def test_a_cancelled_export_stays_cancelled(api: Api) -> None:
    told = asked(api, seed=7)
    cancelled = api.http.delete(told["links"]["self"])
    assert cancelled.status_code == 202
    assert cancelled.json()["state"] == "cancelled"
    assert api.http.delete(told["links"]["self"]).status_code == 200
    assert len(api.runs.cancelled) == 1
    problem(api.http.get(f"{told['links']['self']}/archive"), 410, "gone")


def test_a_failed_run_says_why(api: Api) -> None:
    told = asked(api, seed=8)
    api.runs.states[next(iter(api.runs.submitted))] = RunState("failed", "no space left", None, None)
    now = api.http.get(told["links"]["self"]).json()
    assert (now["state"], now["error"]) == ("failed", "no space left")
    api.runs.states.clear()
    assert api.http.get(told["links"]["self"]).json()["state"] == "failed"


def test_an_export_belongs_to_the_key_that_asked_for_it(shoes: Workspace) -> None:
    forget_keys(shoes.registry)
    keys = [create_key(shoes.registry, name, ["read", "export"]) for name in ("mine", "other")]
    mine, other = ({"Authorization": f"Bearer {key}"} for key in keys)
    with running(shoes) as api:
        told = post(api, WOMEN | {"seed": 9}, **mine).json()
        work(api)
        for end in ("", "/metadata.csv", "/archive"):
            assert api.http.get(told["links"]["self"] + end, headers=mine).status_code == 200
            stolen = problem(api.http.get(told["links"]["self"] + end, headers=other), 404, "no-export")
            unknown = problem(api.http.get(f"/api/v1/exports/{'0' * 32}{end}", headers=other), 404, "no-export")
            assert stolen | {"request_id": ""} == unknown | {"request_id": ""}, "nobody is told which"
        problem(api.http.delete(told["links"]["self"], headers=other), 404, "no-export")
        assert api.get("/exports", headers=other).json()["items"] == []
        assert [each["id"] for each in api.get("/exports", headers=mine).json()["items"]] == [told["id"]]
    forget_keys(shoes.registry)


def test_a_request_names_its_snapshot_when_it_is_made(api: Api) -> None:
    older = api.json("/datasets/shoes/snapshots")["items"][1]["id"]
    told = asked(api, snapshot=older)
    assert told["snapshot"] == older
    assert next(iter(api.runs.submitted.values()))[1]["snapshot"] == older
    now = asked(api)
    assert now["snapshot"] == api.json("/datasets/shoes")["snapshot"]
    assert now["export_id"] != told["export_id"]


def test_a_count_tells_what_the_export_holds(api: Api) -> None:
    count = api.http.post("/api/v1/exports/count", json=WOMEN | {"seed": 10}).json()
    told = asked(api, seed=10)
    assert (count["export_id"], count["ready"]) == (told["export_id"], False)
    work(api)
    done = api.http.get(told["links"]["self"]).json()["counts"]
    assert {name: count[name] for name in ("selected", "exported", "left_out")} == {
        name: done[name] for name in ("selected", "exported", "left_out")
    }


def test_short_conditions_words_and_ids_are_the_filter_that_they_mean(api: Api) -> None:
    long = {"and": [WOMEN["filter"], {"text": "shoes"}]}
    one = api.http.post("/api/v1/exports/count", json={"dataset": "shoes", "where": ["gender=Women"], "text": "shoes"})
    other = api.http.post("/api/v1/exports/count", json={"dataset": "shoes", "filter": long})
    assert one.json() == other.json()


def test_the_list_goes_on_page_by_page(api: Api) -> None:
    made = [asked(api, seed=100 + n)["id"] for n in range(5)]
    found: list[str] = []
    cursor = ""
    while True:
        page = api.json(f"/exports?limit=2{cursor}")
        found += [each["id"] for each in page["items"]]
        if not page["next"]:
            break
        cursor = f"&cursor={page['next']}"
    assert found == made[::-1]


@pytest.mark.parametrize(
    "change",
    [
        {"dataset": "../etc"},
        {"dataset": "none"},
        {"format": "exe"},
        {"recipe": "../../x"},
        {"recipe": "nothing"},
        {"filter": {"column": "gender; DROP TABLE x", "op": "=", "value": 1}},
        {"filter": {"column": "nothing", "op": "=", "value": 1}},
        {"filter": {"column": "gender", "op": "= 1 OR 1 = 1 --", "value": 1}},
        {"filter": {"not": {"not": {}}}},
        {"snapshot": "../../../CURRENT"},
        {"split": {"train": 0.5}},
        {"split": {"../x": 1}},
        {"columns": ["nothing"]},
        {"out": "/etc"},
        {"workspace": "other"},
        {"seed": -1},
        {"seed": 1e400},
        {"shard_size": 0},
        {"where": ["x" * 2000]},
        {"predictions": "../../x"},
    ],
)
def test_what_cannot_be_exported_is_refused_before_any_run(api: Api, change: dict[str, Any]) -> None:
    headers = {"Content-Type": "application/json"}  # Python writes a number that is none as Infinity
    answer = api.http.post("/api/v1/exports", content=json.dumps(WOMEN | change), headers=headers)
    assert answer.status_code in {404, 422}, answer.text
    assert answer.headers["content-type"] == "application/problem+json"
    assert api.runs.submitted == {}


def test_a_damaged_export_is_not_handed_out_and_is_made_anew_when_it_is_asked_for_again(api: Api) -> None:
    told = asked(api, seed=11)
    work(api)
    lake, folder = api.workspace.lake, f"exports/{told['export_id']}"
    metadata = lake.get(f"{folder}/files/metadata.csv")
    lake.replace(f"{folder}/files/metadata.csv", bytes(len(metadata)))
    problem(api.http.get(f"{told['links']['self']}/metadata.csv"), 500, "damaged")
    submitted = len(api.runs.submitted)
    assert asked(api, seed=11)["state"] == "waiting"
    assert len(api.runs.submitted) == submitted + 1
    work(api)
    assert api.http.get(f"{told['links']['self']}/metadata.csv").content == metadata

    lake.remove(f"{folder}/files.parquet")
    assert asked(api, seed=11)["state"] == "waiting"
    work(api)
    assert api.http.get(f"{told['links']['self']}/metadata.csv").content == metadata
