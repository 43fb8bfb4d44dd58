"""Keys, scopes and rates: who is let in, and how often."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import anyio
import pytest
from starlette.types import Message

from lookbook.blocks.errors import UsageError
from lookbook.blocks.workspace import Workspace
from lookbook.deployments.api.access import KEY, Buckets, create_key, find_key, list_keys, revoke_key
from tests.deployments.api.conftest import forget_keys
from tests.support.api import Api, problem, running


@pytest.fixture
def guarded(shoes: Workspace) -> Iterator[Api]:
    """An app that reads its keys for each request."""
    forget_keys(shoes.registry)
    with running(shoes, key_seconds=0, refusals_at_once=5) as found:
        yield found
    forget_keys(shoes.registry)


def bearing(key: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {key}"}


def test_before_the_first_key_this_machine_is_let_in_and_from_then_on_nobody_without_one(guarded: Api) -> None:
    assert guarded.get("/datasets").status_code == 200
    key = create_key(guarded.workspace.registry, "page", ["read"])
    refused = guarded.get("/datasets")
    problem(refused, 401, "no-key")
    assert refused.headers["www-authenticate"].startswith("Bearer")
    assert guarded.get("/datasets", headers=bearing(key)).status_code == 200
    assert guarded.http.get("/health").status_code == 200
    problem(guarded.http.get("/metrics"), 401, "no-key")
    revoke_key(guarded.workspace.registry, "page")
    problem(guarded.get("/datasets", headers=bearing(key)), 401, "no-key")
    problem(guarded.get("/datasets"), 401, "no-key")  # a revoked key does not open the door for all


def test_a_service_for_other_machines_is_never_open(shoes: Workspace) -> None:
    forget_keys(shoes.registry)
    with running(shoes, host="0.0.0.0") as found:  # noqa: S104
        problem(found.get("/datasets"), 401, "no-key")


@pytest.mark.parametrize(
    ("scope", "allowed"),
    [("read", {"read"}), ("export", {"export"}), ("ingest", {"ingest"}), ("all", {"read", "export", "ingest"})],
)
def test_a_key_opens_what_its_scopes_say(guarded: Api, scope: str, allowed: set[str]) -> None:
    scopes = ["read", "export", "ingest"] if scope == "all" else [scope]
    headers = bearing(create_key(guarded.workspace.registry, scope, scopes))
    for needed, path in (("read", "/datasets"), ("export", "/exports"), ("ingest", f"/ingests/{'0' * 32}")):
        status = guarded.get(path, headers=headers).status_code
        assert (status != 403) is (needed in allowed), (needed, status)
    for needed, path in (("export", "/exports"), ("ingest", "/ingests")):
        status = guarded.http.post(f"/api/v1{path}", json={}, headers=headers).status_code
        assert status == (422 if needed in allowed else 403), (needed, status)


def test_a_key_is_told_once_and_kept_as_a_hash(guarded: Api) -> None:
    registry = guarded.workspace.registry
    key = create_key(registry, "one", ["read"])
    found = KEY.fullmatch(key)
    assert found
    assert len(found["secret"]) * 6 >= 256
    stored = list_keys(registry)[0]
    assert found["secret"] not in repr(stored)
    keys = {stored.key_id: stored}
    assert find_key(keys, key) == stored
    other = key[:-1] + ("A" if key[-1] != "A" else "B")
    for wrong in (other, key[:-1], key + "A", "", "x" * 100_000, key.replace(found["id"], "0" * 12), f" {key}"):
        assert find_key(keys, wrong) is None


def test_names_are_taken_once_and_scopes_are_known(guarded: Api) -> None:
    registry = guarded.workspace.registry
    create_key(registry, "one", ["read"])
    for name, scopes, told in (
        ("one", ["read"], "there is a key"),
        ("two", ["write"], "no such scope"),
        ("two", [], "without a scope"),
        ("a\nb", ["read"], "no name"),
    ):
        with pytest.raises(UsageError, match=told):
            create_key(registry, name, scopes)
    with pytest.raises(UsageError, match="no such key"):
        revoke_key(registry, "two")
    revoke_key(registry, "one")
    create_key(registry, "one", ["read"])
    with ThreadPoolExecutor(4) as pool:
        made = [pool.submit(create_key, registry, "same", ["read"]) for _ in range(4)]
    assert sum(each.exception() is None for each in made) == 1


def test_wrong_keys_are_tried_a_few_times_only(guarded: Api) -> None:
    key = create_key(guarded.workspace.registry, "right", ["read"])
    statuses = [guarded.get("/datasets", headers=bearing("guess")).status_code for _ in range(8)]
    assert statuses == [401] * 5 + [429] * 3
    assert int(guarded.get("/datasets", headers=bearing(key)).headers["retry-after"]) >= 1


def test_reads_and_submissions_have_rates_of_their_own(shoes: Workspace) -> None:
    forget_keys(shoes.registry)
    with running(shoes, reads_per_second=0.001, reads_at_once=4, submits_per_minute=0.001, submits_at_once=2) as found:
        body = {"source": "sample://5", "dataset": "few"}
        posted = [found.http.post("/api/v1/ingests", json=body).status_code for _ in range(3)]
        assert posted == [202, 202, 429]
        assert [found.get("/datasets").status_code for _ in range(2)] == [200, 429]


def test_a_bucket_fills_again_at_its_rate_and_no_further_than_full() -> None:
    now = [0.0]
    buckets = Buckets(2, 3, lambda: now[0])
    assert [buckets.take("a") for _ in range(3)] == [0, 0, 0]
    assert buckets.take("a") == pytest.approx(0.5)
    assert buckets.take("b") == 0
    now[0] = 0.5
    assert buckets.take("a") == 0
    assert buckets.take("a") > 0
    now[0] = 1000
    assert [buckets.take("a") > 0 for _ in range(4)] == [False, False, False, True]


def test_a_stranger_is_refused_before_its_body_is_read(guarded: Api) -> None:
    create_key(guarded.workspace.registry, "page", ["read"])
    answers: list[Message] = []

    async def receive() -> Message:
        raise AssertionError("the body was asked for")

    async def send(message: Message) -> None:
        answers.append(message)

    scope = {"type": "http", "method": "POST", "path": "/api/v1/exports", "headers": [(b"host", b"127.0.0.1")]}
    anyio.run(guarded.app, scope | {"query_string": b"", "client": ("127.0.0.1", 1)}, receive, send)
    assert answers[0]["status"] == 401
