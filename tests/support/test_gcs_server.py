"""The stand-in for Google Cloud Storage, asked by the official client and by bare requests."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import requests
from google.api_core import exceptions
from google.cloud.storage import Bucket

from lookbook.blocks.gcs import storage_client
from tests.support.gcp_credentials import AnonymousGcpCredentials
from tests.support.gcs_listing import only_fields
from tests.support.gcs_server import GcsServer, serving_gcs


@pytest.fixture
def server() -> Iterator[GcsServer]:
    with serving_gcs("bucket") as server:
        yield server


@pytest.fixture
def bucket(server: GcsServer) -> Bucket:
    return storage_client(AnonymousGcpCredentials(endpoint=server.url), 4).bucket("bucket")


def put(bucket: Bucket, *names: str) -> None:
    for name in names:
        bucket.blob(name).upload_from_string(name.encode())


def test_a_generation_precondition_holds_or_the_write_is_refused(bucket: Bucket) -> None:
    blob = bucket.blob("a")
    blob.upload_from_string(b"1", if_generation_match=0)
    first = blob.generation
    with pytest.raises(exceptions.PreconditionFailed):
        bucket.blob("a").upload_from_string(b"2", if_generation_match=0)
    bucket.blob("a").upload_from_string(b"2", if_generation_match=first)
    with pytest.raises(exceptions.PreconditionFailed):
        bucket.blob("a").upload_from_string(b"3", if_generation_match=first)
    with pytest.raises(exceptions.PreconditionFailed):
        bucket.blob("b").upload_from_string(b"3", if_generation_not_match=0)
    with pytest.raises(exceptions.PreconditionFailed):
        bucket.blob("a").delete(if_generation_match=first)
    with pytest.raises(exceptions.NotFound):
        bucket.blob("a", generation=first).reload()
    assert bucket.get_blob("a").generation > first
    assert bucket.blob("a").download_as_bytes() == b"2"


def test_metadata_has_its_own_generation(bucket: Bucket) -> None:
    put(bucket, "a")
    blob = bucket.get_blob("a")
    assert blob.metageneration == 1
    blob.cache_control = "no-store"
    blob.patch(if_metageneration_match=1)
    assert (blob.metageneration, blob.cache_control) == (2, "no-store")
    with pytest.raises(exceptions.PreconditionFailed):
        blob.patch(if_metageneration_match=1)


def test_what_did_not_change_is_not_sent_again(server: GcsServer, bucket: Bucket) -> None:
    put(bucket, "a")
    address = f"{server.url}/storage/v1/b/bucket/o/a"
    found = requests.get(address, timeout=5)
    etag, generation = found.json()["etag"], found.json()["generation"]
    assert requests.get(address, headers={"If-None-Match": etag}, timeout=5).status_code == 304
    assert requests.get(address, params={"ifGenerationNotMatch": generation}, timeout=5).status_code == 304
    assert requests.get(address, headers={"If-None-Match": "other"}, timeout=5).status_code == 200
    assert requests.get(address, headers={"If-Match": "other"}, timeout=5).status_code == 412


@pytest.mark.parametrize(
    ("asked", "status", "body"),
    [
        ("bytes=0-2", 206, b"012"),
        ("bytes=7-", 206, b"789"),
        ("bytes=-2", 206, b"89"),
        ("bytes=8-99", 206, b"89"),
        ("bytes=10-", 416, None),
    ],
)
def test_ranges(server: GcsServer, bucket: Bucket, asked: str, status: int, body: bytes | None) -> None:
    bucket.blob("a").upload_from_string(b"0123456789")
    address = f"{server.url}/download/storage/v1/b/bucket/o/a?alt=media"
    found = requests.get(address, headers={"Range": asked}, timeout=5)
    assert found.status_code == status
    assert body is None or found.content == body


def test_hashes_are_those_of_the_whole_object(bucket: Bucket) -> None:
    bucket.blob("a").upload_from_string(b"0123456789")
    blob = bucket.blob("a")
    blob.download_as_bytes(start=2, end=3)
    # https://crccalc.com gives 280c069e for CRC-32/ISCSI of 0123456789; RFC 1321's MD5
    assert (blob.crc32c, blob.md5_hash) == ("KAwGng==", "eB5eJF1ptWaXm4bijSPyxw==")


@pytest.mark.parametrize("checksum", ["crc32c", "md5"])
def test_wrong_checksums_are_refused(server: GcsServer, checksum: str) -> None:
    name = {"crc32c": "crc32c", "md5": "md5Hash"}[checksum]
    body = f'--x\r\n\r\n{{"name": "a", "{name}": "AAAAAA=="}}\r\n--x\r\ncontent-type: text/plain\r\n\r\ndata\r\n--x--'
    address = f"{server.url}/upload/storage/v1/b/bucket/o?uploadType=multipart"
    headers = {"Content-Type": 'multipart/related; boundary="x"'}
    assert requests.post(address, body, headers=headers, timeout=5).status_code == 400


def test_listings_have_pages_bounds_and_folders(server: GcsServer, bucket: Bucket) -> None:
    put(bucket, "a/1", "a/2", "a/b/3", "a/b/4", "a/c/5", "b")
    server.store.most_results = 2

    def names(**asked: str) -> list[str]:
        return [blob.name for blob in bucket.list_blobs(**asked)]

    assert names() == ["a/1", "a/2", "a/b/3", "a/b/4", "a/c/5", "b"]
    assert server.calls["objects.list"] == 3
    assert names(prefix="a/b") == ["a/b/3", "a/b/4"]
    assert names(start_offset="a/2", end_offset="a/c/5") == ["a/2", "a/b/3", "a/b/4"]
    found = bucket.list_blobs(prefix="a/", delimiter="/")
    assert [blob.name for blob in found] == ["a/1", "a/2"]
    assert found.prefixes == {"a/b/", "a/c/"}


def test_unknown_options_of_a_listing_are_refused(bucket: Bucket) -> None:
    with pytest.raises(exceptions.MethodNotImplemented):
        list(bucket.list_blobs(match_glob="**", retry=None))


def test_only_the_fields_that_are_asked_for() -> None:
    content = {
        "items": [{"name": "a", "size": "1", "owner": {"id": "x", "kind": "y"}}],
        "nextPageToken": "t",
        "kind": "k",
    }
    assert only_fields(content, "items(name,size),nextPageToken") == {
        "items": [{"name": "a", "size": "1"}],
        "nextPageToken": "t",
    }
    assert only_fields(content, "items/name") == {"items": [{"name": "a"}]}
    assert only_fields(content, "items(owner(id))") == {"items": [{"owner": {"id": "x"}}]}


def test_objects_are_composed_copied_and_rewritten(bucket: Bucket) -> None:
    put(bucket, "a", "b")
    whole = bucket.blob("whole")
    whole.content_type = "text/plain"
    whole.compose([bucket.blob("a"), bucket.blob("b")], if_generation_match=0)
    assert (whole.download_as_bytes(), whole.component_count, whole.md5_hash) == (b"ab", 2, None)
    with pytest.raises(exceptions.PreconditionFailed):
        whole.compose([bucket.blob("a")], if_generation_match=0)
    copy = bucket.copy_blob(bucket.blob("a"), bucket, "copy", if_generation_match=0)
    assert copy.download_as_bytes() == b"a"
    token, written, size = bucket.blob("rewritten").rewrite(bucket.blob("whole"))
    assert (token, written, size) == (None, 2, 2)
    assert bucket.blob("rewritten").download_as_bytes() == b"ab"


def test_a_batch_holds_many_requests(server: GcsServer, bucket: Bucket) -> None:
    put(bucket, "a", "b", "c")
    client = bucket.client
    with client.batch():
        bucket.delete_blob("a")
        bucket.delete_blob("b")
    assert sorted(server.store.buckets["bucket"]) == ["c"]
    assert (server.calls["batch"], server.calls["objects.delete"]) == (1, 2)
    refused = client.batch()
    refused.__enter__()
    bucket.delete_blob("a")
    bucket.delete_blob("c")
    with pytest.raises(exceptions.NotFound):
        refused.__exit__(None, None, None)
    assert server.store.buckets["bucket"] == {}


def test_a_batch_has_its_bound(bucket: Bucket) -> None:
    batch = bucket.client.batch()
    batch.__enter__()
    for number in range(101):
        bucket.delete_blob(str(number))
    with pytest.raises(exceptions.BadRequest, match="at most 100"):
        batch.__exit__(None, None, None)


def test_buckets_are_made_once(bucket: Bucket) -> None:
    bucket.client.create_bucket("another-bucket")
    assert bucket.client.get_bucket("another-bucket").name == "another-bucket"
    with pytest.raises(exceptions.Conflict):
        bucket.client.create_bucket("another-bucket")
    with pytest.raises(exceptions.NotFound, match="bucket does not exist"):
        bucket.client.get_bucket("no-bucket")
    with pytest.raises(exceptions.BadRequest):
        bucket.client.create_bucket("Bad_Name")


def test_a_resumable_upload_is_taken_up_where_it_was_left(server: GcsServer) -> None:
    quantum = 256 * 1024
    data = bytes(quantum) + b"end"
    begun = requests.post(f"{server.url}/upload/storage/v1/b/bucket/o?uploadType=resumable&name=a", timeout=5)
    place, total = begun.headers["Location"], len(data)

    def send(content: bytes, span: str) -> requests.Response:
        return requests.put(place, content, headers={"Content-Range": f"bytes {span}/{total}"}, timeout=5)

    assert "Range" not in send(b"", "*").headers
    assert send(data[:1000], "0-999").status_code == 400, "parts are multiples of 256 KiB"
    assert send(data[:quantum], f"0-{quantum - 1}").headers["Range"] == f"bytes=0-{quantum - 1}"
    assert send(data[:quantum], f"0-{quantum - 1}").status_code == 308, "what has arrived is ignored"
    assert send(b"end", f"{quantum + 5}-{quantum + 7}").status_code == 400, "no gaps"
    done = send(b"end", f"{quantum}-{quantum + 2}")
    assert (done.status_code, done.json()["size"]) == (200, str(total))
    assert send(b"", "*").json()["generation"] == done.json()["generation"], "whoever lost the answer asks again"
    assert requests.put(place[:-3], b"", headers={"Content-Range": "bytes */3"}, timeout=5).status_code == 410


def test_without_a_token_nothing_is_told(server: GcsServer) -> None:
    server.require_tokens()
    assert requests.get(f"{server.url}/storage/v1/b/bucket", timeout=5).status_code == 401
    assert requests.post(f"{server.url}/token", data={"assertion": "x.y.z"}, timeout=5).status_code == 400
