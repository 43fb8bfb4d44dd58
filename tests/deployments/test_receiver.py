"""The receiver on a real socket: Google's envelope in, one event out, and nothing lost when Prefect is away."""

from __future__ import annotations

import base64
import json
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest
import uvicorn
from pydantic import SecretStr

from lookbook.blocks.embedded.prefect_server import free_port
from lookbook.blocks.errors import LookbookError, UsageError
from lookbook.deployments.command.api import receive
from lookbook.deployments.receiver import ReceiverConfig, WatchedPrefix, check_guarded, make_app, read_config

TOKEN = "trömbone"  # noqa: S105 - not one of anybody
SPRING = WatchedPrefix(bucket="my-photos", prefix="spring/", dataset="spring", workspace="production")
WHOLE = WatchedPrefix(bucket="my-photos", dataset="whole", source="gs://my-photos")


def envelope(bucket: str = "my-photos", name: str = "spring/1.jpg", event: str = "OBJECT_FINALIZE") -> dict[str, Any]:
    """A push message of Cloud Storage, as Google documents it."""
    data = {"kind": "storage#object", "name": name, "bucket": bucket, "size": "12"}
    return {
        "message": {
            "attributes": {
                "notificationConfig": f"projects/_/buckets/{bucket}/notificationConfigs/3",
                "eventType": event,
                "payloadFormat": "JSON_API_V1",
                "bucketId": bucket,
                "objectId": name,
                "objectGeneration": "1614367635749000",
                "eventTime": "2021-02-26T19:13:55.749000Z",
            },
            "data": base64.b64encode(json.dumps(data).encode()).decode(),
            "messageId": "2070443601311540",
            "message_id": "2070443601311540",
            "publishTime": "2021-02-26T19:13:55.749Z",
            "publish_time": "2021-02-26T19:13:55.749Z",
        },
        "subscription": "projects/my-project/subscriptions/lookbook",
    }


class Receiver:
    """A receiver that runs, and what it announced."""

    def __init__(self, url: str) -> None:
        self.url = url
        self.announced: list[WatchedPrefix] = []
        self.begun = threading.Semaphore(0)
        self.gate = threading.Event()
        self.gate.set()
        self.fault: Exception | None = None

    def announce(self, prefix: WatchedPrefix) -> None:
        self.begun.release()
        self.gate.wait(60)
        if self.fault is not None:
            raise self.fault
        self.announced.append(prefix)

    def post(self, body: Any, **query: str) -> httpx.Response:
        content = body if isinstance(body, bytes) else json.dumps(body).encode()
        return httpx.post(self.url, content=content, params=query, timeout=30)


@contextmanager
def running(
    *watched: WatchedPrefix, quiet: float = 0.2, longest: float = 20, token: str | None = None
) -> Iterator[Receiver]:
    port = free_port()
    receiver = Receiver(f"http://127.0.0.1:{port}/")
    config = ReceiverConfig(
        watched=list(watched),
        quiet_seconds=quiet,
        longest_wait_seconds=longest,
        token=SecretStr(token) if token else None,
    )
    app = make_app(config, receiver.announce)
    server = uvicorn.Server(uvicorn.Config(app, host="127.0.0.1", port=port, log_level="critical"))
    thread = threading.Thread(target=server.run, daemon=True)
    thread.start()
    deadline = time.monotonic() + 30
    while not server.started:
        assert time.monotonic() < deadline
        thread.join(0.01)
    try:
        yield receiver
    finally:
        server.should_exit = True
        thread.join(30)


def test_a_new_object_is_announced_and_the_message_acknowledged() -> None:
    with running(SPRING) as receiver:
        assert httpx.get(receiver.url + "health").status_code == 200
        answer = receiver.post(envelope())
        assert (answer.status_code, answer.content) == (204, b"")
        assert receiver.announced == [SPRING]
    assert (SPRING.uri, WHOLE.uri) == ("gs://my-photos/spring/", "gs://my-photos")


def test_many_objects_within_seconds_are_one_event_and_each_message_waits_for_it() -> None:
    with running(SPRING, WHOLE, quiet=1) as receiver, ThreadPoolExecutor(40) as pool:
        answers = list(pool.map(lambda n: receiver.post(envelope(name=f"spring/{n}.jpg")).status_code, range(40)))
        assert answers == [204] * 40
        assert sorted(each.dataset for each in receiver.announced) == ["spring", "whole"], "each that holds them, once"
        assert receiver.post(envelope()).status_code == 204
        assert len(receiver.announced) == 4, "what comes later is announced again"


def test_a_change_that_comes_while_an_event_is_sent_is_told_by_the_next_one() -> None:
    with running(SPRING) as receiver, ThreadPoolExecutor(2) as pool:
        receiver.gate.clear()
        first = pool.submit(receiver.post, envelope())
        assert receiver.begun.acquire(timeout=30)
        second = pool.submit(receiver.post, envelope())
        told = receiver.begun.acquire(timeout=10)
        receiver.gate.set()
        assert [first.result().status_code, second.result().status_code] == [204, 204]
        assert told
        assert receiver.announced == [SPRING, SPRING]


@pytest.mark.full
def test_a_stream_of_objects_that_never_rests_is_announced_before_the_deadline() -> None:
    with running(SPRING, quiet=2, longest=2.5) as receiver, ThreadPoolExecutor(8) as pool:
        stop = threading.Event()

        def stream() -> None:
            while not stop.wait(0.5):
                pool.submit(receiver.post, envelope())

        feeding = threading.Thread(target=stream)
        feeding.start()
        answer = receiver.post(envelope())
        stop.set()
        feeding.join()
        assert answer.status_code == 204, "while others still came"


def test_an_event_that_prefect_did_not_take_leaves_the_messages_with_pubsub() -> None:
    with running(SPRING) as receiver, ThreadPoolExecutor(5) as pool:
        receiver.fault = LookbookError("Prefect's API did not take the event")
        answers = list(pool.map(lambda _: receiver.post(envelope()).status_code, range(5)))
        assert answers == [503] * 5
        receiver.fault = None
        assert receiver.post(envelope()).status_code == 204
        assert receiver.announced == [SPRING]


@pytest.mark.parametrize(
    ("message", "announced"),
    [
        (envelope(event="OBJECT_DELETE"), True),
        (envelope(event="OBJECT_ARCHIVE"), True),
        (envelope(event="OBJECT_METADATA_UPDATE"), False),
        (envelope(bucket="others"), False),
        (envelope(bucket="my-photos\n2021 forged line"), False),
        (envelope(name="winter/1.jpg"), False),
        (envelope(name="spring"), False),
    ],
)
def test_what_changes_no_image_of_a_watched_source_is_acknowledged_and_announced_to_nobody(
    message: dict[str, Any], announced: bool, caplog: pytest.LogCaptureFixture
) -> None:
    with running(SPRING) as receiver:
        assert receiver.post(message).status_code == 204
        assert bool(receiver.announced) is announced
    assert not any("\n" in record.getMessage() for record in caplog.records)


def without(*path: str) -> dict[str, Any]:
    """An envelope that lacks one thing."""
    message = envelope()
    place: dict[str, Any] = message
    for name in path[:-1]:
        place = place[name]
    del place[path[-1]]
    return message


@pytest.mark.parametrize(
    ("body", "reason"),
    [
        (b"", "Invalid JSON"),
        (b"{", "Invalid JSON"),
        (b"\xff\xfe", "Invalid JSON"),
        ([], "should be an object"),
        ({}, "message"),
        (without("message", "attributes"), "message.attributes"),
        (without("message", "attributes", "bucketId"), "bucketId"),
        (without("message", "attributes", "objectId"), "objectId"),
        (without("message", "attributes", "eventType"), "eventType"),
        ({"message": {"attributes": {"bucketId": 7, "objectId": "a", "eventType": "b"}}}, "bucketId"),
        (b"[" * 100_000, "Invalid JSON"),
    ],
)
def test_what_is_no_message_is_refused_with_the_reason(body: Any, reason: str) -> None:
    with running(SPRING) as receiver:
        answer = receiver.post(body)
        assert answer.status_code == 400
        assert reason in answer.json()["detail"]
        assert receiver.announced == []


def test_what_is_larger_than_any_message_is_refused() -> None:
    with running(SPRING) as receiver:
        assert receiver.post(b" " * (16 * 1024**2)).status_code == 413


def test_who_does_not_know_the_token_is_refused() -> None:
    with running(SPRING, token=TOKEN) as receiver:
        assert receiver.post(envelope()).status_code == 403
        assert receiver.post(envelope(), token=TOKEN[1:]).status_code == 403
        assert receiver.announced == []
        assert receiver.post(envelope(), token=TOKEN).status_code == 204
        assert receiver.announced == [SPRING]


CONFIG = """
watched:
  - bucket: my-photos
    prefix: spring/
    dataset: spring
    workspace: production
quiet_seconds: 3
"""


def test_the_file_and_the_token_of_the_environment_are_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "receiver.yaml").write_text(CONFIG)
    assert read_config(tmp_path / "receiver.yaml").token is None
    monkeypatch.setenv("LOOKBOOK_RECEIVER_TOKEN", "trombone")
    config = read_config(tmp_path / "receiver.yaml")
    assert config.watched == [SPRING]
    assert config.token is not None
    assert config.token.get_secret_value() == "trombone"
    assert "trombone" not in repr(config) + config.model_dump_json()


@pytest.mark.parametrize(
    ("content", "named"),
    [
        ("", "its content"),
        ("watched: [", "no YAML"),
        ("watched: []", "watched"),
        ("watched: [{bucket: my-photos}]", "watched.0.dataset"),
        ("watched: [{bucket: my-photos, dataset: UPPER}]", "watched.0.dataset"),
        ("watched: [{bucket: my-photos, dataset: a, path: b}]", "watched.0.path"),
        (CONFIG + "longest_wait_seconds: 1", "quiet_seconds is more"),
        (CONFIG + "token: trombone", "no place"),
    ],
)
def test_a_file_that_cannot_be_meant_is_refused_by_name(tmp_path: Path, content: str, named: str) -> None:
    path = tmp_path / "receiver.yaml"
    path.write_text(content)
    with pytest.raises(UsageError, match=r"receiver\.yaml") as caught:
        read_config(path)
    assert named in caught.value.problem
    assert "trombone" not in caught.value.problem


def test_a_file_that_is_not_there_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="cannot be read"):
        read_config(tmp_path / "none.yaml")


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "", "192.0.2.7", "receiver.example"])  # noqa: S104
def test_nobody_listens_for_other_machines_without_a_token_unless_told_so(
    host: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "receiver.yaml").write_text(CONFIG)
    monkeypatch.delenv("LOOKBOOK_RECEIVER_TOKEN", raising=False)
    with pytest.raises(UsageError, match="without a token") as caught:
        receive(tmp_path / "receiver.yaml", host=host)
    assert "LOOKBOOK_RECEIVER_TOKEN" in caught.value.way_out
    assert "--unauthenticated" in caught.value.way_out
    check_guarded(host, None, unauthenticated=True)
    check_guarded(host, SecretStr(TOKEN), unauthenticated=False)


@pytest.mark.parametrize("host", ["127.0.0.1", "127.0.0.2", "::1", "localhost"])
def test_this_machine_alone_needs_no_token(host: str) -> None:
    check_guarded(host, None, unauthenticated=False)
