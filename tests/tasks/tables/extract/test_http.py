"""HTTP: conditional, resumed, bounded, and only to where it may."""

from __future__ import annotations

import gzip
import ipaddress
import json
import logging
import socket
import ssl
import subprocess
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import httpx
import pytest

from lookbook.blocks.downloading import Retries
from lookbook.blocks.errors import LookbookError, OutOfReachError, TransientError
from lookbook.blocks.workspace import Workspace
from lookbook.tasks.tables.extract import extract, http_source
from lookbook.tasks.tables.extract.http_source import FetchRequest, fetch, is_public
from tests.support.extracting import context_of, run_and_commit, values_of
from tests.support.loopback import Fault, Request, Response, Route, serving

CSV = b"a,b\n" + b"".join(b"%d,%d\n" % (number, number * 7) for number in range(200_000))
Answer = Callable[[Request], Response]


@pytest.fixture(autouse=True)
def retries(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """Nothing waits; what would have been waited."""
    waited: list[float] = []
    monkeypatch.setattr(http_source, "RETRIES", Retries(tries=3, sleep=waited.append))
    return waited


def file_answer(data: bytes, **headers: str) -> Answer:
    """Answers as a server of files does: ranges, conditions."""

    def answer(request: Request) -> Response:
        etag = headers.get("ETag")
        if etag and request.headers.get("if-none-match") == etag:
            return Response(304, b"", headers)
        modified = headers.get("Last-Modified")
        if not etag and modified and request.headers.get("if-modified-since") == modified:
            return Response(304, b"", headers)
        wanted, unless = request.headers.get("range"), request.headers.get("if-range")
        if wanted and unless in (etag, modified):
            start = int(wanted.removeprefix("bytes=").removesuffix("-"))
            told = headers | {"Content-Range": f"bytes {start}-{len(data) - 1}/{len(data)}"}
            return Response(206, data[start:], told)
        return Response(200, data, headers)

    return answer


def one_after_the_other(answers: Iterator[Answer]) -> Answer:
    """Each request gets the next answer."""

    def answer(request: Request) -> Response:
        return next(answers)(request)

    return answer


def context(workspace: Workspace, folder: Path, url: str, states: Any = None, **source: Any) -> Any:
    skip = source.pop("skip_unchanged", False)
    task = {
        "source": {"type": "http", "url": url, "allow_private": True, **source},
        "skip_unchanged": skip,
    }
    return context_of(workspace, folder, {"extract": task}, states, generation=1 if states else 0)


def one_route(answer: Answer) -> Any:
    return serving(Route("file", "GET", r"/(.*)", answer))


def test_a_file_is_fetched_and_its_address_has_no_secret(
    workspace: Workspace, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    seen: list[Request] = []

    def answer(request: Request) -> Response:
        seen.append(request)
        return Response(200, b"a,b\n1,2\n3\n")

    caplog.set_level(logging.INFO)
    with one_route(answer) as server:
        url = server.url.replace("//", "//me:hunter2@") + "/prices/{year}-{month}.csv?key=hunter3"
        staged = extract(context(workspace, tmp_path, url, skip_unchanged=True), "extract")
    assert values_of(workspace, staged) == [{"a": "1", "b": "2"}]
    assert staged.groups[""].inputs == (f"{server.url}/prices/2026-03.csv",)
    assert (seen[0].query, seen[0].headers["authorization"]) == ({"key": "hunter3"}, "Basic bWU6aHVudGVyMg==")
    kept = b"".join(path.read_bytes() for path in (tmp_path / "home").rglob("*") if path.is_file())
    assert b"hunter" not in kept
    assert "hunter" not in caplog.text
    assert not list(workspace.scratch.glob("http-*"))


@pytest.mark.parametrize(
    ("path", "headers", "options", "data"),
    [
        ("x.json", {}, {}, b'{"a":1}'),
        ("x", {"Content-Type": "application/json; charset=utf-8"}, {}, b'{"a":1}'),
        ("x", {}, {"format": "json"}, b'{"a":1}'),
        ("x.json.gz", {}, {}, gzip.compress(b'{"a":1}', mtime=0)),
        ("x.json", {"Content-Encoding": "gzip"}, {}, gzip.compress(b'{"a":1}', mtime=0)),
    ],
)
def test_the_format_is_that_of_the_address_or_what_the_server_says(
    workspace: Workspace, tmp_path: Path, path: str, headers: dict[str, str], options: Any, data: bytes
) -> None:
    with one_route(lambda _: Response(200, data, headers)) as server:
        staged = extract(context(workspace, tmp_path, f"{server.url}/{path}", **options), "extract")
    assert values_of(workspace, staged) == [{"a": 1}]


@pytest.mark.parametrize("validator", [{"ETag": '"v1"'}, {"Last-Modified": "Sun, 01 Mar 2026 00:00:00 GMT"}])
def test_what_did_not_change_is_not_sent_again(workspace: Workspace, tmp_path: Path, validator: Any) -> None:
    with one_route(file_answer(CSV, **validator)) as server:
        url = f"{server.url}/f.csv"
        first, states = run_and_commit(context(workspace, tmp_path, url, skip_unchanged=True))
        moved = server.moved["file"]
        second, after = run_and_commit(context(workspace, tmp_path, url, states, skip_unchanged=True))
        assert (first.unchanged, second.unchanged) == (False, True)
        assert (server.moved["file"], after) == (moved, states)
        again = extract(context(workspace, tmp_path, url, states, skip_unchanged=True), "extract")
        assert again.unchanged, "a run that goes on knows it from the stage"
        assert server.calls["file"] == 2


def test_without_skip_unchanged_it_is_always_fetched(workspace: Workspace, tmp_path: Path) -> None:
    with one_route(file_answer(b"a\n1\n", ETag='"v1"')) as server:
        url = f"{server.url}/f.csv"
        _, states = run_and_commit(context(workspace, tmp_path, url))
        second, _ = run_and_commit(context(workspace, tmp_path, url, states | {"extract": {"x": 1}}))
        assert values_of(workspace, second) == [{"a": "1"}]


def test_validators_of_another_address_are_not_asked_with(workspace: Workspace, tmp_path: Path) -> None:
    with one_route(file_answer(b"a\n1\n", ETag='"v1"')) as server:
        _, states = run_and_commit(context(workspace, tmp_path, f"{server.url}/f.csv", skip_unchanged=True))
        other = context(workspace, tmp_path, f"{server.url}/f.csv?x=2", states, skip_unchanged=True)
        assert extract(other, "extract").groups[""].rows == 1


def test_the_same_content_under_another_validator_is_unchanged(workspace: Workspace, tmp_path: Path) -> None:
    answers = iter([file_answer(b"a\n1\n", ETag='"v1"'), file_answer(b"a\n1\n", ETag='"v2"')])
    with one_route(one_after_the_other(answers)) as server:
        url = f"{server.url}/f.csv"
        _, states = run_and_commit(context(workspace, tmp_path, url, skip_unchanged=True))
        second, after = run_and_commit(context(workspace, tmp_path, url, states, skip_unchanged=True))
    assert second.unchanged
    assert after["extract"]["http"]["etag"] == '"v2"'


@pytest.mark.parametrize("validator", [{"ETag": '"v1"'}, {"Last-Modified": "Sun, 01 Mar 2026 00:00:00 GMT"}])
def test_a_download_that_is_cut_goes_on_where_it_broke_off(
    workspace: Workspace, tmp_path: Path, validator: Any, retries: list[float]
) -> None:
    with one_route(file_answer(CSV, **validator)) as server:
        for cut in (900_000, 500_000, 300_000):
            server.inject(Fault("file", cut=True, cut_after=cut, count=1))
        staged = extract(context(workspace, tmp_path, f"{server.url}/f.csv"), "extract")
        assert (staged.groups[""].rows, server.calls["file"]) == (200_000, 4)
        assert server.moved["file"] < 1.2 * len(CSV), "what was there is not sent again"
    assert retries == [1.0, 1.0, 1.0]


@pytest.mark.parametrize("validator", [{}, {"ETag": 'W/"weak"'}])
def test_without_a_strong_validator_it_starts_anew(workspace: Workspace, tmp_path: Path, validator: Any) -> None:
    with one_route(file_answer(CSV, **validator)) as server:
        server.inject(Fault("file", cut=True, cut_after=900_000, count=1))
        staged = extract(context(workspace, tmp_path, f"{server.url}/f.csv"), "extract")
        assert staged.groups[""].rows == 200_000
        assert server.moved["file"] > len(CSV) + 800_000


def test_a_file_that_changed_in_between_starts_anew(workspace: Workspace, tmp_path: Path) -> None:
    new = CSV.replace(b"a,b", b"x,y")
    answers = iter([file_answer(CSV, ETag='"1"'), file_answer(new, ETag='"2"')])
    with one_route(one_after_the_other(answers)) as server:
        server.inject(Fault("file", cut=True, cut_after=900_000, count=1))
        staged = extract(context(workspace, tmp_path, f"{server.url}/f.csv"), "extract")
    assert values_of(workspace, staged)[:1] == [{"x": "0", "y": "0"}]
    assert staged.groups[""].rows == 200_000


@pytest.mark.parametrize(
    "wrong",
    [
        Response(206, b"no", {"Content-Range": "bytes 7-8/9", "ETag": '"1"'}),
        Response(206, b"no", {"ETag": '"1"'}),
        Response(416, b""),
    ],
)
def test_a_wrong_range_starts_anew(workspace: Workspace, tmp_path: Path, wrong: Response) -> None:
    right = file_answer(CSV, ETag='"1"')
    answers: Iterator[Answer] = iter([right, lambda _: wrong, right])
    with one_route(one_after_the_other(answers)) as server:
        server.inject(Fault("file", cut=True, cut_after=900_000, count=1))
        staged = extract(context(workspace, tmp_path, f"{server.url}/f.csv"), "extract")
    assert staged.groups[""].rows == 200_000


def test_a_range_that_ends_too_early_is_not_the_whole_rest(workspace: Workspace, tmp_path: Path) -> None:
    def short(request: Request) -> Response:
        start = int(request.headers["range"].removeprefix("bytes=").removesuffix("-"))
        told = {"ETag": '"1"', "Content-Range": f"bytes {start}-{start + 9_999}/{len(CSV)}"}
        return Response(206, CSV[start : start + 10_000], told)

    right = file_answer(CSV, ETag='"1"')
    with one_route(one_after_the_other(iter([right, short, right]))) as server:
        server.inject(Fault("file", cut=True, cut_after=900_000, count=1))
        staged = extract(context(workspace, tmp_path, f"{server.url}/f.csv"), "extract")
    assert staged.groups[""].rows == 200_000


def test_faults_that_may_pass_are_borne_so_often(workspace: Workspace, tmp_path: Path, retries: list[float]) -> None:
    with one_route(file_answer(b"a\n1\n")) as server:
        server.inject(Fault("file", status=503, count=1))
        server.inject(Fault("file", status=429, count=1, headers={"Retry-After": "7"}))
        assert extract(context(workspace, tmp_path, f"{server.url}/f.csv"), "extract").groups[""].rows == 1
        assert retries == [1.0, 7.0]
        server.inject(Fault("file", status=503))
        with pytest.raises(OutOfReachError, match="503; 3 tries"):
            extract(context(workspace, tmp_path, f"{server.url}/g.csv?key=hunter2"), "extract")
    with pytest.raises(OutOfReachError, match="ConnectError") as caught:
        extract(context(workspace, tmp_path, f"{server.url}/h.csv?key=hunter2"), "extract")
    assert "hunter2" not in str(caught.value)


@pytest.mark.parametrize("status", [400, 401, 403, 404, 410])
def test_other_answers_are_errors_at_once(workspace: Workspace, tmp_path: Path, status: int) -> None:
    with one_route(lambda _: Response(status, b"a\n1\n")) as server:
        with pytest.raises(LookbookError, match=f"f.csv answers {status}"):
            extract(context(workspace, tmp_path, f"{server.url}/f.csv?key=secret"), "extract")
        assert server.calls["file"] == 1


def test_a_file_that_is_too_large_is_refused(workspace: Workspace, tmp_path: Path) -> None:
    def endless(_: Request) -> Response:
        return Response(200, (b"x" * 65536 for _ in range(10**6)), {"Connection": "close"})

    let_go = threading.Event()

    def announced(_: Request) -> Response:
        def body() -> Iterator[bytes]:
            yield b"x" * 200_000
            let_go.wait(60)

        return Response(200, body(), {"Content-Length": "1000001"})

    with one_route(announced) as server:
        with pytest.raises(LookbookError, match="max_bytes"):
            extract(context(workspace, tmp_path, f"{server.url}/f.csv", max_bytes=10**6), "extract")
        assert not let_go.is_set(), "none of it was waited for"
        let_go.set()
    with one_route(endless) as server, pytest.raises(LookbookError, match="max_bytes"):
        extract(context(workspace, tmp_path, f"{server.url}/f.csv", max_bytes=10**6), "extract")


def test_redirects_are_followed_so_far_and_credentials_stay_behind(workspace: Workspace, tmp_path: Path) -> None:
    seen: list[Request] = []

    def elsewhere(request: Request) -> Response:
        seen.append(request)
        return Response(200, b"a\n1\n")

    with one_route(elsewhere) as other:

        def answer(request: Request) -> Response:
            seen.append(request)
            hop = request.parts[0]
            return Response(302, b"", {"Location": {"a": "/b", "b": f"{other.url}/c.csv"}.get(hop, "/loop")})

        with one_route(answer) as server:
            url = server.url.replace("//", "//me:secret@")
            assert extract(context(workspace, tmp_path, f"{url}/a"), "extract").groups[""].rows == 1
            assert ["authorization" in request.headers for request in seen] == [True, True, False]
            with pytest.raises(LookbookError, match="redirects more than 5 times"):
                extract(context(workspace, tmp_path, f"{url}/loop"), "extract")


@pytest.mark.parametrize("target", ["file:///etc/passwd", "ftp://host/x.csv", "gopher://x", "http://[::1"])
def test_redirects_lead_to_http_only(workspace: Workspace, tmp_path: Path, target: str) -> None:
    with (
        one_route(lambda _: Response(301, b"", {"Location": target})) as server,
        pytest.raises(LookbookError, match="redirects to"),
    ):
        extract(context(workspace, tmp_path, f"{server.url}/f.csv"), "extract")


@pytest.mark.parametrize(
    "host",
    [
        "127.0.0.1", "localhost", "10.1.2.3", "172.16.0.1", "192.168.1.1", "169.254.169.254", "0.0.0.0", "100.64.0.1",  # noqa: S104
        "224.0.0.1", "240.0.0.1", "255.255.255.255", "[::1]", "[fe80::1]", "[fc00::1]", "[ff02::1]", "[::]",
        "[::ffff:127.0.0.1]", "[64:ff9b::7f00:1]", "[2002:7f00:1::]", "2130706433", "0x7f.1",
        "[fec0::1]", "[feff::1]", "192.88.99.1", "[2002:c058:6301::]", "[::ffff:192.88.99.1]", "[3fff::1]",
    ],
)  # fmt: skip
def test_private_addresses_are_refused(workspace: Workspace, tmp_path: Path, host: str) -> None:
    with pytest.raises(LookbookError, match="not public"):
        extract(context(workspace, tmp_path, f"http://{host}:9/f.csv", allow_private=False), "extract")


def test_public_addresses_are_not() -> None:
    for text in (
        "93.184.216.34",
        "2606:2800:220:1::1",
        "8.8.8.8",
        "::ffff:8.8.8.8",
        "64:ff9b::808:808",
        "192.88.98.1",
        "2a00::1",
    ):
        assert is_public(ipaddress.ip_address(text)), text


@pytest.mark.parametrize(
    "told",
    [b"HTTP/1.1 200 OK\r\nContent-Le", b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\na", b"HTTP/1.1 200 OK\r\n\r\na,b"],
    ids=["headers", "body", "body without a length"],
)
def test_a_server_that_never_comes_to_an_end_is_left(tmp_path: Path, told: bytes) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener, ExitStack() as held:

        def serve() -> None:
            connection = held.enter_context(listener.accept()[0])  # or it would be closed, which ends a body
            connection.sendall(told)

        threading.Thread(target=serve, daemon=True).start()
        url = httpx.URL(f"http://127.0.0.1:{listener.getsockname()[1]}/f.csv?token=secret")
        with pytest.raises(LookbookError, match=r"/f.csv took longer than max_seconds \(0.2\)") as raised:
            fetch(FetchRequest(url, 1000, True, 0.2), tmp_path / "file", {})
    assert "secret" not in str(raised.value)


class Names:
    """Names that resolve as they are told to, one answer after the other."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, **answers: list[list[str]]) -> None:
        self.asked: list[str] = []
        real = socket.getaddrinfo

        def getaddrinfo(host: Any, port: Any, *arguments: Any, **more: Any) -> Any:
            name = host.decode() if isinstance(host, bytes) else host
            if name not in answers:
                return real(host, port, *arguments, **more)
            self.asked.append(name)
            found = answers[name].pop(0) if len(answers[name]) > 1 else answers[name][0]
            return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (address, port)) for address in found]

        monkeypatch.setattr(socket, "getaddrinfo", getaddrinfo)


def test_a_name_that_resolves_otherwise_a_moment_later_is_no_way_in(
    workspace: Workspace, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """DNS rebinding: the first answer is public, the next ones are this machine; it is connected to the first."""
    names = Names(monkeypatch, rebinding=[["203.0.114.7"], ["127.0.0.1"]])
    connected: list[str] = []

    def connect(address: Any, *_: Any, **__: Any) -> Any:
        connected.append(address[0])
        raise OSError("no way there")

    monkeypatch.setattr(socket, "create_connection", connect)
    monkeypatch.setattr(http_source, "RETRIES", Retries(tries=1))
    with pytest.raises(OutOfReachError):
        extract(context(workspace, tmp_path, "http://rebinding/f.csv", allow_private=False), "extract")
    assert connected == ["203.0.114.7"]
    assert names.asked == ["rebinding"]


def test_one_private_address_among_public_ones_is_enough(
    workspace: Workspace, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    Names(monkeypatch, mixed=[["203.0.114.7", "10.0.0.1"]])
    with pytest.raises(LookbookError, match=r"10\.0\.0\.1, which is not public"):
        extract(context(workspace, tmp_path, "http://mixed/f.csv", allow_private=False), "extract")


def test_the_name_is_told_to_the_server_that_was_checked(
    workspace: Workspace, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And redirects are checked like the first address: here to one that is private."""
    monkeypatch.setattr(http_source, "is_public", lambda address: str(address) == "127.0.0.1")
    Names(monkeypatch, shop=[["127.0.0.1"]], inside=[["10.0.0.1"]])
    hosts: list[str] = []

    def answer(request: Request) -> Response:
        hosts.append(request.headers["host"])
        if request.parts[0] == "away.csv":
            return Response(302, b"", {"Location": "http://inside/secret.csv"})
        return Response(200, b"a\n1\n")

    with one_route(answer) as server:
        port = httpx.URL(server.url).port
        url = f"http://shop:{port}/"
        staged = extract(context(workspace, tmp_path, url + "f.csv", allow_private=False), "extract")
        assert (staged.groups[""].rows, hosts) == (1, [f"shop:{port}"])
        with pytest.raises(LookbookError, match="inside has the address"):
            extract(context(workspace, tmp_path, url + "away.csv", allow_private=False), "extract")


def test_a_name_without_address_may_have_one_later(monkeypatch: pytest.MonkeyPatch) -> None:
    def fails(*_: Any, **__: Any) -> Any:
        raise socket.gaierror(-2, "Name or service not known")

    monkeypatch.setattr(socket, "getaddrinfo", fails)
    with pytest.raises(TransientError, match="nowhere"):
        http_source.resolve("nowhere", 80)


def test_json_that_is_no_file_of_the_format_says_so(workspace: Workspace, tmp_path: Path) -> None:
    with one_route(lambda _: Response(200, json.dumps({}).encode())) as server, pytest.raises(LookbookError) as caught:
        extract(context(workspace, tmp_path, f"{server.url}/f"), "extract")
    assert "unknown_format" in str(caught.value)


def certificate(folder: Path, name: str) -> tuple[Path, Path]:
    """A certificate for a name, signed by itself, and its key."""
    made, key = folder / "certificate.pem", folder / "key.pem"
    asked = ["-subj", f"/CN={name}", "-addext", f"subjectAltName=DNS:{name}", "-out", str(made), "-keyout", str(key)]
    command = ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-batch", *asked]
    subprocess.run(command, check=True, capture_output=True, timeout=60)
    return made, key


@pytest.mark.parametrize(("host", "trusted"), [("shop.test", True), ("other.test", False)])
def test_the_certificate_is_that_of_the_name_and_not_of_the_address(
    workspace: Workspace, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, host: str, trusted: bool
) -> None:
    monkeypatch.setattr(http_source, "is_public", lambda address: str(address) == "127.0.0.1")
    Names(monkeypatch, **{"shop.test": [["127.0.0.1"]], "other.test": [["127.0.0.1"]]})
    signed, key = certificate(tmp_path, "shop.test")
    monkeypatch.setenv("SSL_CERT_FILE", str(signed))
    secure = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    secure.load_cert_chain(signed, key)
    with one_route(lambda _: Response(200, b"a\n1\n")) as server:
        server._http.socket = secure.wrap_socket(server._http.socket, server_side=True)
        url = f"https://{host}:{httpx.URL(server.url).port}/f.csv"
        run = context(workspace, tmp_path, url, allow_private=False)
        if trusted:
            assert extract(run, "extract").groups[""].rows == 1
        else:
            with pytest.raises(OutOfReachError, match="ConnectError"):
                extract(run, "extract")


PAGE = b"<!doctype html>\n<html><head><title>Sign in</title></head><body>Please sign in.</body></html>\n"


@pytest.mark.parametrize(
    "page", [PAGE, b"\n<!-- , -->\n<HTML lang=en>\n<body>a,b", b"\xef\xbb\xbf<?xml version='1.0'?>" + PAGE]
)
@pytest.mark.parametrize("name", ["prices.csv", "prices.json", "prices.jsonl.gz"])
def test_a_web_page_is_no_table(workspace: Workspace, tmp_path: Path, page: bytes, name: str) -> None:
    data = gzip.compress(page, mtime=0) if name.endswith("gz") else page
    answer = Response(200, data, {"Content-Type": "text/html"})
    with one_route(lambda _: answer) as server, pytest.raises(LookbookError, match=r"cannot be read \(web_page\)"):
        extract(context(workspace, tmp_path, f"{server.url}/{name}"), "extract")


def test_text_with_tags_in_it_is_a_table(workspace: Workspace, tmp_path: Path) -> None:
    data = b"<b>,<html>\n1,2\n"
    with one_route(lambda _: Response(200, data, {"Content-Type": "text/html"})) as server:
        staged = extract(context(workspace, tmp_path, f"{server.url}/prices.csv"), "extract")
    assert values_of(workspace, staged) == [{"<b>": "1", "<html>": "2"}]
