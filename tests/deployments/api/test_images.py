"""Images: the very bytes that the lake holds, in whole and in part; and nothing else of the lake."""

from __future__ import annotations

import hashlib
from typing import Any

import pytest

from tests.support.api import Api, problem


@pytest.fixture
def links(api: Api) -> dict[str, str]:
    """The addresses of one image."""
    page = api.json("/datasets/shoes/products?image_outcome=loaded&limit=1")
    found: dict[str, str] = page["items"][0]["images"]
    return found


def test_each_file_comes_with_its_type_its_checksum_and_for_ever(api: Api, links: dict[str, str]) -> None:
    assert set(links) == {"original", "standard", "grey", "thumb"}
    for href in links.values():
        answer = api.http.get(href)
        assert answer.headers["etag"] == f'"{hashlib.sha256(answer.content).hexdigest()}"'
        assert answer.headers["content-type"] == "image/jpeg"
        assert answer.headers["cache-control"] == "private, max-age=31536000, immutable"
        assert answer.headers["x-content-type-options"] == "nosniff"
        assert answer.content.startswith(b"\xff\xd8")


def test_without_its_version_an_output_is_asked_for_again(api: Api, links: dict[str, str]) -> None:
    bare = links["thumb"].partition("?")[0]
    assert api.http.get(bare).headers["cache-control"] == "private, no-cache"
    assert api.http.get(bare).content == api.http.get(links["thumb"]).content
    problem(api.http.get(f"{bare}?v=00000000"), 404, "no-image")


@pytest.mark.parametrize(
    ("asked", "start", "stop"),
    [("bytes=0-9", 0, 10), ("bytes=5-", 5, None), ("bytes=-7", -7, None), ("bytes=10-99999999", 10, None)],
)
def test_a_range_is_a_part_of_the_whole(
    api: Api, links: dict[str, str], asked: str, start: int, stop: int | None
) -> None:
    whole = api.http.get(links["original"]).content
    part = api.http.get(links["original"], headers={"Range": asked})
    assert part.status_code == 206
    assert part.content == whole[start:stop]
    first = start % len(whole)
    assert part.headers["content-range"] == f"bytes {first}-{first + len(part.content) - 1}/{len(whole)}"


@pytest.mark.parametrize(
    "asked", ["bytes=a-b", "bytes=5-2", "bytes=", "bytes=-", "chapters=1-2", "bytes=0-1,4-5", "bytes=٣-٤"]
)
def test_what_is_no_single_range_gives_the_whole(api: Api, links: dict[str, str], asked: str) -> None:
    assert api.http.get(links["thumb"], headers={b"Range": asked.encode()}).status_code == 200


def test_a_range_behind_the_end_is_refused_with_the_size(api: Api, links: dict[str, str]) -> None:
    size = len(api.http.get(links["thumb"]).content)
    for asked in (f"bytes={size}-", "bytes=-0"):
        refused = api.http.get(links["thumb"], headers={"Range": asked})
        problem(refused, 416, "no-range")
        assert refused.headers["content-range"] == f"bytes */{size}"


def test_who_has_it_already_gets_nothing_and_another_one_gets_no_part(api: Api, links: dict[str, str]) -> None:
    etag = api.http.get(links["thumb"]).headers["etag"]
    for given in (etag, f"W/{etag}", f'"a", {etag}', "*"):
        known = api.http.get(links["thumb"], headers={"If-None-Match": given})
        assert (known.status_code, known.content) == (304, b"")
        assert known.headers["etag"] == etag
    assert api.http.get(links["thumb"], headers={"If-None-Match": '"other"'}).status_code == 200
    changed = {"Range": "bytes=0-3", "If-Range": '"other"'}
    assert api.http.get(links["thumb"], headers=changed).status_code == 200
    assert api.http.get(links["thumb"], headers=changed | {"If-Range": etag}).status_code == 206


def test_a_head_says_all_but_the_bytes(api: Api, links: dict[str, str]) -> None:
    got, head = api.http.get(links["original"]), api.http.head(links["original"])
    assert (head.status_code, head.content) == (200, b"")
    for name in ("content-length", "etag", "content-type", "cache-control"):
        assert head.headers[name] == got.headers[name]


def test_a_rejected_file_is_no_image_and_is_not_shown_as_one(api: Api) -> None:
    row = api.json("/datasets/shoes/products?image_outcome=rejected&columns=*&limit=1")["items"][0]
    assert row["images"] == {}
    if row["sha256"] and row["values"]["original_key"]:
        answer = api.get(f"/datasets/shoes/images/{row['sha256']}/original")
        assert answer.headers["content-type"] == "application/octet-stream"
        assert answer.headers["content-disposition"] == "attachment"


def test_an_object_that_no_manifest_lists_does_not_exist(api: Api) -> None:
    data = b"not listed"
    sha256 = hashlib.sha256(data).hexdigest()
    api.workspace.lake.put(f"originals/{sha256[:2]}/{sha256}.jpg", data)
    problem(api.get(f"/datasets/shoes/images/{sha256}/original"), 404, "no-image")


def test_an_object_that_is_not_as_it_is_listed_is_never_sent(api: Api, links: dict[str, str]) -> None:
    sha256 = links["original"].split("/")[-2]
    row = api.json("/datasets/shoes/products?columns=*&image_outcome=loaded&limit=1")["items"][0]
    key = row["values"]["original_key"]
    whole = api.workspace.lake.get(key)
    assert sha256 in key
    try:
        api.workspace.lake.replace(key, whole[:-1])
        problem(api.http.get(links["original"]), 500, "damaged")
        api.workspace.lake.remove(key)
        problem(api.http.get(links["original"]), 500, "damaged")
    finally:
        api.workspace.lake.replace(key, whole)


def test_metrics_count_the_images_and_their_bytes(api: Api, links: dict[str, str]) -> None:
    before = figures(api)
    size = len(api.http.get(links["thumb"]).content)
    after = figures(api)
    name = 'lookbook_api_image_bytes_total{kind="output"}'
    assert after[name] - before.get(name, 0) == size


def figures(api: Api) -> dict[str, Any]:
    lines = (line for line in api.http.get("/metrics").text.splitlines() if not line.startswith("#"))
    return {name: float(value) for name, _, value in (line.rpartition(" ") for line in lines)}
