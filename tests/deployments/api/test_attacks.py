"""What is thrown at a service: paths, bodies, headers, hosts. Nothing gets out, and nothing breaks it."""

from __future__ import annotations

import json
import logging
import re
import threading
import tracemalloc
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any
from urllib.parse import quote

import httpx
import pytest

from lookbook.blocks.errors import UsageError
from lookbook.blocks.hosts import host_name
from lookbook.deployments.api import middleware
from lookbook.deployments.api.app import make_app
from lookbook.deployments.api.config import ApiConfig
from lookbook.deployments.api.middleware import has_lone_surrogates, is_deeper
from lookbook.tasks.datasets.inventory import take_inventory
from tests.deployments.api.conftest import forget_keys
from tests.support.api import Api, FakeRuns, problem, running, serving
from tests.support.pipeline import request
from tests.support.prefect_processes import HANG

PATHS = (
    "../../etc/passwd",
    "..%2f..%2fetc%2fpasswd",
    "..%252f..%252fetc%252fpasswd",
    "%2e%2e/%2e%2e/etc/passwd",
    "....//....//etc/passwd",
    "..\\..\\windows",
    "%2fetc%2fpasswd",
    "C:%5c",
    "%00",
    "a%00.jpg",
    "%c0%ae%c0%ae/",
    "%ff",
    "'%20OR%201=1--",
    "${jndi:ldap://x}",
    "{{7*7}}",
    "a" * 5000,
)
TEMPLATES = (
    "/datasets/{}",
    "/datasets/{}/snapshots",
    "/datasets/{}/products",
    "/datasets/shoes/snapshots/{}",
    "/datasets/shoes/products/{}",
    "/datasets/shoes/products?snapshot={}",
    "/datasets/shoes/products?cursor={}",
    "/datasets/shoes/diff?from={}&to={}",
    "/datasets/shoes/images/{}/original",
    "/datasets/shoes/images/" + "0" * 64 + "/{}",
    "/datasets/shoes/images/" + "0" * 64 + "/thumb?v={}",
    "/datasets/shoes/rejects?snapshot={}",
    "/exports/{}",
    "/exports/{}/archive",
    "/exports/{}/metadata.csv",
    "/exports?cursor={}",
    "/ingests/{}",
)


@pytest.mark.parametrize("template", TEMPLATES)
def test_no_path_leads_out_of_what_is_listed(api: Api, template: str) -> None:
    for path in PATHS:
        answer = api.get(template.replace("{}", path))
        assert answer.status_code in {307, 400, 404, 422}, (path, answer.text)
        assert "root:" not in answer.text
        assert answer.status_code == 307 or answer.headers["content-type"] == "application/problem+json"


def test_a_product_may_be_called_like_a_path(api: Api) -> None:
    for key in ("../../etc/passwd", "a/b", "%2e", "ü/☃", "?x=1#y"):
        problem(api.get(f"/datasets/shoes/products/{quote(key, safe='')}"), 404, "no-product")


@pytest.mark.parametrize(
    ("body", "status", "name"),
    [
        (b"{", 400, "no-json"),
        (b"\xff\xfe{}", 400, "no-json"),
        (b'{"dataset": "shoes", "seed": ' + b"9" * 5000 + b"}", 400, "no-json"),
        (b"[" * 100_000, 422, "too-deep"),
        (b'{"a":' * 50_000 + b"1" + b"}" * 50_000, 422, "too-deep"),
        (b'"' + b"[" * 1000 + b'"', 422, "invalid-request"),
        (b'{"dataset": "\\ud800"}', 422, "no-text"),
        (b'{"\\udc00\\ud800": 1}', 422, "no-text"),
        (b'{"dataset": "shoes", "seed": NaN}', 422, "invalid-request"),
        (b'{"dataset": "shoes", "dataset\\u0000": 1}', 422, "invalid-request"),
        (b"null", 422, "invalid-request"),
        (b"", 422, "invalid-request"),
    ],
)
def test_a_body_that_is_no_request_is_refused_by_name(api: Api, body: bytes, status: int, name: str) -> None:
    for path in ("/api/v1/exports", "/api/v1/ingests", "/api/v1/exports/count"):
        problem(api.http.post(path, content=body, headers={"Content-Type": "application/json"}), status, name)
    assert api.runs.submitted == {}


def test_a_body_too_large_is_refused_whether_it_says_so_or_not(api: Api) -> None:
    large = b" " * (9 * 2**20)
    headers = {"Content-Type": "application/json"}
    problem(api.http.post("/api/v1/exports", content=large, headers=headers), 413, "too-large")
    pieces = iter([large[: 2**20]] * 9)
    problem(api.http.post("/api/v1/exports", content=pieces, headers=headers), 413, "too-large")
    problem(
        api.http.post("/api/v1/exports", content=b"{}", headers=headers | {"Content-Length": "-1"}), 413, "too-large"
    )


@pytest.mark.parametrize("kind", ["text/plain", "application/x-www-form-urlencoded", "multipart/form-data", "", "*/*"])
def test_what_another_sites_form_could_send_is_not_taken(api: Api, kind: str) -> None:
    body = json.dumps({"dataset": "shoes"}).encode()
    problem(api.http.post("/api/v1/exports", content=body, headers={"Content-Type": kind}), 415, "no-json")


@pytest.mark.parametrize(
    "host", ["evil.example", "evil.example:4201", "127.0.0.1.evil.example", "10.0.0.1", "", "[", "a@127.0.0.1@b"]
)
def test_another_name_for_this_machine_is_refused(api: Api, host: str) -> None:
    for path in ("/health", "/api/v1/datasets", "/metrics"):
        problem(api.http.get(path, headers={"Host": host}), 421, "wrong-host")


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost:4201", "[::1]:4201", "127.0.0.2:1"])
def test_this_machines_own_names_are_taken(api: Api, host: str) -> None:
    assert api.http.get("/health", headers={"Host": host}).status_code == 200


@pytest.mark.parametrize(
    "headers",
    [
        {"Origin": "https://evil.example"},
        {"Origin": "null"},
        {"Origin": "http://127.0.0.1:9999"},
        {"Origin": "["},
        {"Sec-Fetch-Site": "cross-site"},
        {"Sec-Fetch-Site": "same-site", "Sec-Fetch-Mode": "cors"},
    ],
)
def test_a_page_of_another_site_is_refused(api: Api, headers: dict[str, str]) -> None:
    problem(api.get("/datasets", headers=headers), 403, "foreign-site")
    problem(
        api.http.post("/api/v1/ingests", json={"source": "sample://1", "dataset": "a"}, headers=headers),
        403,
        "foreign-site",
    )
    assert "access-control-allow-origin" not in api.get("/datasets", headers=headers).headers


def test_its_own_page_and_a_followed_link_are_taken(api: Api) -> None:
    own = {"Origin": "http://127.0.0.1:4201", "Sec-Fetch-Site": "same-origin"}
    link = {"Sec-Fetch-Site": "cross-site", "Sec-Fetch-Mode": "navigate", "Sec-Fetch-Dest": "document"}
    for headers in (own, link, {"Sec-Fetch-Site": "none"}):
        assert api.get("/datasets", headers=headers).status_code == 200


@pytest.mark.parametrize("given", ["a" * 65, "a b", "x\ty", "<script>", "ü".encode().decode("latin-1"), ""])
def test_a_strange_request_id_is_replaced(api: Api, given: str) -> None:
    answer = api.get("/datasets", headers={b"X-Request-ID": given.encode("latin-1")})
    assert re.fullmatch(r"[0-9a-f]{32}", answer.headers["x-request-id"])


def test_a_request_id_goes_through_and_the_log_has_it_with_no_secret_and_no_line_of_others(
    api: Api, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "lookbook.api")
    headers = {"X-Request-ID": "mine-1", "Authorization": "Bearer trombone"}
    answer = api.get("/datasets/a%0AINFO%20forged?q=trombone", headers=headers)
    assert answer.headers["x-request-id"] == "mine-1"
    lines = [record.getMessage() for record in caplog.records if record.name == "lookbook.api"]
    assert any(line.startswith("mine-1 GET /api/v1/datasets/a\\nINFO forged ") for line in lines), lines
    assert not any("trombone" in line or "\n" in line for line in lines)


def test_headers_protect_every_answer(api: Api) -> None:
    answers: list[Any] = [
        api.get("/datasets"),
        api.get("/none"),
        api.get("/docs"),
        api.http.options("/health"),
        api.http.get("/metrics"),
    ]
    for answer in answers:
        assert answer.headers["x-content-type-options"] == "nosniff"
        assert "default-src 'none'" in answer.headers["content-security-policy"]
        assert "frame-ancestors 'none'" in answer.headers["content-security-policy"]
        assert answer.headers["cross-origin-resource-policy"] == "same-origin"
        assert answer.headers["cache-control"] == "no-store"
        assert "unsafe" not in answer.headers["content-security-policy"]


@pytest.mark.parametrize(
    ("path", "allowed"),
    [
        ("/api/v1/datasets", "GET, HEAD"),
        ("/api/v1/exports", "GET, HEAD, POST"),
        (f"/api/v1/exports/{'0' * 32}", "DELETE, GET, HEAD"),
        ("/api/v1/ingests", "POST"),
    ],
)
def test_other_methods_are_refused_with_those_that_there_are(api: Api, path: str, allowed: str) -> None:
    for method in ("OPTIONS", "PUT", "PATCH", "TRACE", "FOO"):
        answer = api.http.request(method, path)
        problem(answer, 405, "method-not-allowed")
        assert answer.headers["allow"] == allowed


def test_a_fault_of_the_inside_says_nothing_of_it(api: Api, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: Any) -> None:
        raise RuntimeError("/home/me/secret and password=hush")

    monkeypatch.setattr(api.app.state.services.snapshots, "datasets", fail)
    document = problem(api.get("/datasets"), 500, "internal")
    assert "secret" not in str(document)
    assert "hush" not in str(document)


@pytest.mark.parametrize(
    ("source", "status"),
    [
        ("sample://5", 202),
        ("inbox://", 202),
        ("kaggle://owner/name", 202),
        ("kaggle://../../etc", 403),
        ("relative/folder", 403),
        ("../up", 403),
        ("http://169.254.169.254/", 403),
        ("ftp://x", 403),
        ("/etc\n", 422),
        ("", 422),
        ("x" * 2001, 422),
    ],
)
def test_only_named_sources_are_ingested(api: Api, source: str, status: int) -> None:
    answer = api.http.post("/api/v1/ingests", json={"source": source, "dataset": "new"})
    assert answer.status_code == status, answer.text


def test_folders_are_ingested_below_the_roots_alone(shoes: Any) -> None:
    from lookbook.deployments.api.problems import Problem  # noqa: PLC0415
    from lookbook.deployments.api.submissions import check_source, run_roots  # noqa: PLC0415

    rooted, bare = ApiConfig(source_roots=("/srv/photos",)), ApiConfig()
    assert check_source("/srv/photos/new", rooted, is_open=True) == "/srv/photos/new"
    assert check_source("/home/me/photos", bare, is_open=True) == "/home/me/photos"
    for path, config, is_open in (
        ("/srv/photos/../../etc", rooted, True),
        ("/srv/photos2", rooted, True),
        ("/home/me/photos", bare, False),
        ("file:///etc", rooted, False),
    ):
        with pytest.raises(Problem, match="may not be ingested"):
            check_source(path, config, is_open=is_open)
    assert make_app(shoes, "local", rooted, FakeRuns())
    assert run_roots("/srv/photos/new", rooted) == ["/srv/photos"]
    assert run_roots("/home/me/photos", bare) == run_roots("sample://5", rooted) == []


def test_the_run_is_told_the_roots_and_follows_the_links(shoes: Any, tmp_path: Path) -> None:
    forget_keys(shoes.registry)
    with running(shoes, source_roots=(str(tmp_path),)) as found:
        answer = found.http.post("/api/v1/ingests", json={"source": f"{tmp_path}/new", "dataset": "new"})
        assert answer.status_code == 202, answer.text
        ((_, parameters),) = found.runs.submitted.values()
    (tmp_path / "new").symlink_to("/")
    assert parameters["within"] == [str(tmp_path)]
    with pytest.raises(UsageError, match="leads out of them by a link"):
        take_inventory(request(shoes, parameters["source"], within=parameters["within"]))


def test_depth_is_counted_outside_of_texts() -> None:
    nested = b'{"a": [{"b": "]]]]{{{{\\"[["}]}'
    assert is_deeper(nested, 2)
    assert not is_deeper(nested, 3)
    assert is_deeper(b"[[[", 2)
    assert not is_deeper(b'"[[[', 0)
    assert not is_deeper(b"", 0)


def test_others_are_answered_while_a_body_is_looked_through(api: Api, monkeypatch: pytest.MonkeyPatch) -> None:
    looking, done = threading.Event(), threading.Event()

    def look(_: bytes) -> bool:
        looking.set()
        return not done.wait(HANG)

    monkeypatch.setattr(middleware, "has_lone_surrogates", look)
    with serving(api.app) as url, ThreadPoolExecutor(1) as pool:
        sent = pool.submit(httpx.post, f"{url}/api/v1/exports", json={}, timeout=HANG)
        assert looking.wait(HANG)
        assert httpx.get(f"{url}/health", timeout=HANG).is_success
        done.set()
        assert sent.result().status_code == 422


@pytest.mark.parametrize("part", [b'"' + b"\\" * 2, b'"",', b"[]", b'"a', b'\\ud83d"', b'"' + b"a" * 100_000])
def test_looking_through_a_body_keeps_nothing_of_it(part: bytes) -> None:
    body = part * (1_000_000 // len(part))

    def most() -> int:
        tracemalloc.start()
        try:
            is_deeper(body, 40)
            return tracemalloc.get_traced_memory()[1]
        finally:
            tracemalloc.stop()

    # Going back would keep a note for each byte, each time; other threads of the process take memory now and then.
    assert any(most() < 100_000 for _ in range(5))


@pytest.mark.parametrize("text", ["plain", "☃", "\U0001f600", "\\ud800", '"', "\\\\u"])
def test_only_half_pairs_are_no_text(text: str) -> None:
    assert not has_lone_surrogates(json.dumps({"a": text}).encode())
    assert has_lone_surrogates(json.dumps({"a": text + "\udc00"}).encode())
    assert has_lone_surrogates(json.dumps({"a": "\ud83d" + text}).encode())


def test_host_names() -> None:
    assert host_name("[::1]:80") == "::1"
    assert host_name("LOCALHOST:1") == "localhost"
    assert host_name("[") is None
