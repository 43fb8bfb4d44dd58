"""What a lake in a bucket asks of its server, and how it stands the server's faults."""

from __future__ import annotations

import os
import pickle
import signal
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from functools import partial
from pathlib import Path

import pytest
from prefect_gcp import GcpCredentials

from lookbook.blocks import gcs
from lookbook.blocks.errors import (
    LookbookError,
    ObjectConflictError,
    ObjectNotFoundError,
    OutOfReachError,
    SwapConflictError,
)
from lookbook.blocks.gcs import GcsLake
from tests.support.gcp_credentials import AnonymousGcpCredentials
from tests.support.gcs_server import Answer, GcsServer, serving_gcs
from tests.support.gcs_store import crc32c
from tests.support.loopback import Fault, Request, Response

WAYS_TO_FAIL = [
    pytest.param({"status": 429}, id="429"),
    pytest.param({"status": 500}, id="500"),
    pytest.param({"status": 503}, id="503"),
    pytest.param({"cut": True}, id="reset"),
    pytest.param({"cut": True, "cut_after": 1}, id="done, but its answer is lost"),
]


@pytest.fixture
def server() -> Iterator[GcsServer]:
    with serving_gcs("bucket") as server:
        yield server


@pytest.fixture
def lake(server: GcsServer) -> GcsLake:
    return lake_of(server)


def lake_of(server: GcsServer, **changes: object) -> GcsLake:
    values: dict[str, object] = {"bucket": "bucket", "credentials": AnonymousGcpCredentials(endpoint=server.url)}
    return GcsLake(**(values | changes))


def change(server: GcsServer, route: str, by: Callable[[Answer, Request], Response]) -> None:
    """Let `by` answer requests of a route; it is told how the server would."""
    server.routes = [
        replace(one, answer=partial(by, one.answer)) if one.name == route else one for one in server.routes
    ]


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gcs, "RETRY_SECONDS", 0.5)


def test_a_write_is_one_request_and_a_read_another(lake: GcsLake, server: GcsServer) -> None:
    lake.put("originals/aa/x.jpg", b"x")
    assert dict(server.calls) == {"objects.insert": 1}
    lake.get("originals/aa/x.jpg")
    assert dict(server.calls) == {"objects.insert": 1, "objects.download": 1}


def test_listing_is_a_request_a_page(lake: GcsLake, server: GcsServer) -> None:
    for number in range(7):
        lake.put(f"a/{number}", b"x")
    server.store.most_results = 3
    assert len(list(lake.list("a"))) == 7
    assert server.calls["objects.list"] == 3


def test_objects_say_what_they_are(lake: GcsLake, server: GcsServer) -> None:
    lake.put("derived/d/aa/x.jpg", b"x")
    lake.put("datasets/d/images.parquet", b"x")
    lake.put("rejected/aa/x.bin", b"x")
    lake.swap("datasets/d/CURRENT", b"x", None)
    told = {name: found.settings for name, found in server.store.buckets["bucket"].items()}
    assert told["derived/d/aa/x.jpg"]["contentType"] == "image/jpeg"
    assert told["datasets/d/images.parquet"]["contentType"] == "application/vnd.apache.parquet"
    assert told["rejected/aa/x.bin"]["contentType"] == "application/octet-stream"
    assert "immutable" in told["derived/d/aa/x.jpg"]["cacheControl"]
    assert told["datasets/d/CURRENT"]["cacheControl"] == "no-store"


@pytest.mark.parametrize("fault", WAYS_TO_FAIL)
def test_a_put_survives_a_fault_and_knows_its_own_write(
    lake: GcsLake, server: GcsServer, fault: dict[str, object]
) -> None:
    injected = server.inject(Fault("objects.insert", count=2, **fault))  # type: ignore[arg-type]
    assert lake.put("a/b", b"bytes") is True
    assert injected.fired > 0
    assert lake.put("a/b", b"bytes") is False
    assert lake.get("a/b") == b"bytes"


@pytest.mark.parametrize("fault", WAYS_TO_FAIL)
def test_a_swap_survives_a_fault_and_knows_its_own_write(
    lake: GcsLake, server: GcsServer, fault: dict[str, object]
) -> None:
    lake.swap("CURRENT", b"one", None)
    version = (lake.read_version("CURRENT") or (b"", ""))[1]
    injected = server.inject(Fault("objects.insert", count=1, **fault))  # type: ignore[arg-type]
    lake.swap("CURRENT", b"two", version)
    assert injected.fired == 1
    assert lake.get("CURRENT") == b"two"


def test_a_swap_whose_answer_is_lost_loses_to_another_of_the_same_bytes(lake: GcsLake, server: GcsServer) -> None:
    lake.swap("CURRENT", b"same", None)
    server.inject(Fault("objects.insert", cut=True, count=1))
    with pytest.raises(SwapConflictError):
        lake.swap("CURRENT", b"same", None)


@pytest.mark.parametrize("fault", [*WAYS_TO_FAIL, pytest.param({"cut": True, "cut_after": 150_000}, id="half")])
def test_a_read_survives_a_fault(lake: GcsLake, server: GcsServer, fault: dict[str, object], tmp_path: Path) -> None:
    data = os.urandom(300_000)
    lake.put("a/b", data)
    server.inject(Fault("objects.download", count=1, **fault))  # type: ignore[arg-type]
    assert lake.get("a/b") == data
    server.inject(Fault("objects.download", count=1, **fault))  # type: ignore[arg-type]
    assert lake.local_copy("a/b", tmp_path).read_bytes() == data
    assert server.fired["objects.download"] == 2


def test_a_local_copy_comes_in_parts(
    lake: GcsLake, server: GcsServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(gcs, "DOWNLOADED_PART_BYTES", 256 * 1024)
    for name, size, parts in (("a/empty", 0, 1), ("a/one", 1, 1), ("a/three", 2 * 256 * 1024 + 1, 3)):
        data = os.urandom(size)
        lake.put(name, data)
        server.calls.clear()
        assert lake.local_copy(name, tmp_path).read_bytes() == data
        assert (server.calls["objects.get"], server.calls["objects.download"]) == (1, parts)


def test_a_refusal_that_arrives_in_part_is_asked_for_again(lake: GcsLake, server: GcsServer, tmp_path: Path) -> None:
    lake.put("a/b", b"bytes")
    faults = [
        server.inject(Fault(f"objects.{kind}", cut=True, cut_after=9, count=2)) for kind in ("insert", "download")
    ]
    assert lake.put("a/b", b"bytes") is False
    with pytest.raises(ObjectNotFoundError):
        lake.get("no/such")
    with pytest.raises(ObjectNotFoundError):
        lake.local_copy("no/such", tmp_path)
    assert [fault.fired for fault in faults] == [2, 2]


@pytest.mark.parametrize("fault", [{"status": 503}, {"cut": True}])
def test_listing_and_removing_survive_a_fault(lake: GcsLake, server: GcsServer, fault: dict[str, object]) -> None:
    lake.put("a/b", b"x")
    server.inject(Fault("objects.list", count=1, **fault))  # type: ignore[arg-type]
    server.inject(Fault("objects.delete", count=1, **fault))  # type: ignore[arg-type]
    assert [info.key for info in lake.list("a")] == ["a/b"]
    lake.remove("a/b")
    assert list(lake.list("a")) == []
    assert server.fired == {"objects.list": 1, "objects.delete": 1}


@pytest.mark.parametrize("fault", WAYS_TO_FAIL[:-1])
def test_a_fault_in_a_large_upload_costs_one_part(lake: GcsLake, server: GcsServer, fault: dict[str, object]) -> None:
    data = os.urandom(3 * gcs.PART_BYTES + 5)
    server.inject(Fault("objects.resume", count=1, **fault))  # type: ignore[arg-type]
    assert lake.put("big", data) is True
    assert (server.calls["objects.insert"], server.calls["objects.resume"]) == (1, 5)
    assert server.store.buckets["bucket"]["big"].data == data


def test_a_large_upload_whose_answer_is_lost_is_known_again(
    lake: GcsLake, server: GcsServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(gcs, "PART_BYTES", 16 * 2**20)  # one part, and its answer has a body to be cut
    fault = server.inject(Fault("objects.resume", cut=True, cut_after=1, count=1))
    assert lake.put("big", os.urandom(9 * 2**20)) is True
    assert (fault.fired, server.calls["objects.resume"]) == (1, 2)


def test_a_large_upload_that_the_service_forgot_begins_again(lake: GcsLake, server: GcsServer) -> None:
    data = os.urandom(gcs.PART_BYTES + 5)
    server.inject(Fault("objects.resume", status=410, count=1))
    assert lake.put("big", data) is True
    assert lake.get("big") == data


def test_a_large_upload_of_which_less_is_kept_than_was_sent_begins_again(lake: GcsLake, server: GcsServer) -> None:
    data = os.urandom(2 * gcs.PART_BYTES)
    server.uploads.keep_only = 256 * 1024
    assert lake.put("big", data) is True
    assert lake.get("big") == data


def test_a_large_object_that_appears_meanwhile_is_not_overwritten(lake: GcsLake, server: GcsServer) -> None:
    data = os.urandom(2 * gcs.PART_BYTES)

    def meanwhile(answer: Answer, request: Request) -> Response:
        if "big" not in server.store.buckets["bucket"]:
            server.store.write("bucket", "big", b"other", {}, {})
        return answer(request)

    change(server, "objects.resume", meanwhile)
    with pytest.raises(ObjectConflictError, match="big"):
        lake.put("big", data)


def test_other_bytes_of_the_same_size_are_a_conflict(lake: GcsLake) -> None:
    lake.put("derived/d/x.jpg", b"first")
    with pytest.raises(ObjectConflictError, match=r"derived/d/x\.jpg"):
        lake.put("derived/d/x.jpg", b"other")
    assert lake.get("derived/d/x.jpg") == b"first"


def test_an_object_that_is_removed_while_it_is_put_is_put(lake: GcsLake, server: GcsServer) -> None:
    lake.put("a/b", b"old")
    server.inject(Fault("objects.get", status=404, count=1))
    server.store.buckets["bucket"]["a/b"].settings["metadata"] = {}
    assert lake.put("a/b", b"old") is False  # 412, and then there is none: as if it were removed in between
    assert server.calls["objects.insert"] == 3


def test_bytes_damaged_on_their_way_up_are_refused(lake: GcsLake, server: GcsServer) -> None:

    def damage(answer: Answer, request: Request) -> Response:
        return answer(replace(request, body=request.body.replace(b"picture", b"pixture")))

    change(server, "objects.insert", damage)
    with pytest.raises(LookbookError, match="a/b"):
        lake.put("a/b", b"a picture")
    assert server.store.buckets["bucket"] == {}


def test_bytes_damaged_on_their_way_down_are_read_again(lake: GcsLake, server: GcsServer, tmp_path: Path) -> None:
    lake.put("a/b", b"a picture")
    stored = server.store.buckets["bucket"]["a/b"]
    arriving = iter([b"a pixture", b"a picture", b"a pixture", b"a picture"])

    def damage(answer: Answer, request: Request) -> Response:
        stored.data = next(arriving, b"a pixture")
        return answer(request)

    change(server, "objects.download", damage)
    assert lake.get("a/b") == b"a picture"
    assert lake.local_copy("a/b", tmp_path).read_bytes() == b"a picture"
    assert stored.crc32c == crc32c(b"a picture")
    with pytest.raises(OutOfReachError, match="another checksum"):
        lake.get("a/b")
    with pytest.raises(OutOfReachError, match="another checksum"):
        lake.local_copy("a/b", tmp_path / "new")
    assert [path.name for path in (tmp_path / "new").rglob("*") if path.is_file()] == []


def test_damage_is_seen_in_a_download_that_was_taken_up_again(lake: GcsLake, server: GcsServer) -> None:
    lake.put("a/b", os.urandom(300_000))
    stored = server.store.buckets["bucket"]["a/b"]
    stored.data = stored.data[:-1] + bytes([stored.data[-1] ^ 1])
    server.inject(Fault("objects.download", cut=True, cut_after=150_000, count=1))
    with pytest.raises(OutOfReachError, match="another checksum"):
        lake.get("a/b")


def test_a_missing_bucket_is_named(server: GcsServer, tmp_path: Path) -> None:
    lake = lake_of(server, bucket="not-there")
    for attempt in (
        lambda: lake.put("a", b"x"),
        lambda: lake.replace("a", b"x"),
        lambda: lake.get("a"),
        lambda: list(lake.list("a")),
        lambda: lake.remove("a"),
        lambda: lake.swap("a", b"x", None),
        lambda: lake.read_version("a"),
        lambda: lake.local_copy("a", tmp_path),
    ):
        with pytest.raises(LookbookError, match="bucket not-there does not exist") as raised:
            attempt()
        assert not isinstance(raised.value, ObjectNotFoundError)


@pytest.mark.parametrize("status", [401, 403])
def test_refused_credentials_are_named_and_not_tried_again(lake: GcsLake, server: GcsServer, status: int) -> None:
    server.inject(Fault(status=status))
    for attempt in (lambda: lake.put("a", b"x"), lambda: lake.get("a"), lambda: list(lake.list("a"))):
        before = sum(server.calls.values())
        with pytest.raises(LookbookError, match="gs://bucket") as raised:
            attempt()
        assert not isinstance(raised.value, OutOfReachError)
        assert sum(server.calls.values()) - before == 1


@pytest.mark.usefixtures("impatient")
def test_a_service_that_has_faults_for_too_long_is_out_of_reach(lake: GcsLake, server: GcsServer) -> None:
    server.inject(Fault(status=503))
    for attempt in (lambda: lake.put("a", b"x"), lambda: lake.get("a"), lambda: list(lake.list("a"))):
        with pytest.raises(OutOfReachError, match="gs://bucket is out of reach: status 503"):
            attempt()


@pytest.mark.usefixtures("impatient")
def test_a_network_that_is_not_there_is_out_of_reach(server: GcsServer) -> None:
    lake = lake_of(server)
    server.close()
    for attempt in (lambda: lake.put("a", b"x"), lambda: lake.get("a"), lambda: list(lake.list("a"))):
        with pytest.raises(OutOfReachError, match="gs://bucket is out of reach"):
            attempt()


def test_a_disk_of_this_machine_that_is_full_is_not_the_service_out_of_reach(
    lake: GcsLake, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    lake.put("a/b", b"x")
    plain = Path.open
    monkeypatch.setattr(Path, "open", lambda path, mode: plain(Path("/dev/full") if mode == "wb" else path, mode))
    with pytest.raises(LookbookError, match="No space left") as raised:
        lake.local_copy("a/b", tmp_path)
    assert not isinstance(raised.value, OutOfReachError)


def test_threads_at_once_keep_their_connections(server: GcsServer, caplog: pytest.LogCaptureFixture) -> None:
    lake = lake_of(server, threads=32)
    server.inject(Fault(latency=0.02))
    with ThreadPoolExecutor(32) as pool:
        assert all(pool.map(lambda number: lake.put(f"a/{number}", b"x"), range(200)))
    assert "Connection pool is full" not in caplog.text
    assert len(server.store.buckets["bucket"]) == 200


def test_a_lake_travels_to_another_process(lake: GcsLake) -> None:
    lake.put("a/b", b"x")
    assert pickle.loads(pickle.dumps(lake)).get("a/b") == b"x"  # noqa: S301 - our own


def test_a_forked_process_has_connections_of_its_own(lake: GcsLake) -> None:
    lake.put("a/b", b"x")
    child = os.fork()
    if child == 0:
        signal.alarm(30)
        os._exit(0 if lake.get("a/b") == b"x" else 1)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0


def test_a_service_accounts_key_is_used_and_never_shown(server: GcsServer) -> None:
    tokens = server.require_tokens()
    key = tokens.account(server.url)
    os.environ["STORAGE_EMULATOR_HOST"] = server.url
    try:
        lake = GcsLake(bucket="bucket", credentials=GcpCredentials(service_account_info=key))
        lake.put("a/b", b"x")
        assert server.calls["token"] == 1
        server.inject(Fault("objects.download", status=403))
        with pytest.raises(LookbookError) as raised:
            lake.get("a/b")
    finally:
        del os.environ["STORAGE_EMULATOR_HOST"]
    secret = key["private_key"].split("\n")[2]
    assert secret not in repr(lake) + str(lake.model_dump()) + str(raised.value)
    assert not any(token in str(raised.value) for token in tokens.given)


def test_a_key_that_the_service_does_not_accept_is_named(server: GcsServer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("STORAGE_EMULATOR_HOST", server.url)
    key = server.require_tokens().account(server.url)
    server.require_tokens()
    lake = GcsLake(bucket="bucket", credentials=GcpCredentials(service_account_info=key))
    with pytest.raises(LookbookError, match="the credentials cannot be used"):
        lake.get("a")


@pytest.mark.parametrize("bucket", ["", "UPPER", "with/slash", "gs://bucket"])
def test_a_bucket_has_a_buckets_name(server: GcsServer, bucket: str) -> None:
    with pytest.raises(ValueError, match="bucket"):
        lake_of(server, bucket=bucket)


def test_addresses_are_those_of_google_cloud(server: GcsServer) -> None:
    assert lake_of(server).uri("a/b") == "gs://bucket/a/b"
    assert lake_of(server, prefix="/some/where/").uri("a/b") == "gs://bucket/some/where/a/b"


def test_it_is_a_block_whose_form_explains_itself() -> None:
    schema = GcsLake.model_json_schema()
    assert set(schema["required"]) == {"bucket", "credentials"}
    assert all(field.get("description") for name, field in schema["properties"].items() if name != "credentials")
