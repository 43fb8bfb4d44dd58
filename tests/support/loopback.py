"""HTTP servers on the loopback that stand in for services, with faults that are injected route by route."""

from __future__ import annotations

import json
import random
import re
import socket
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, cast
from urllib.parse import parse_qs, unquote, urlsplit


@dataclass(frozen=True)
class Request:
    """What a client asks.

    Attributes:
        path: without the query, percent signs as they were sent.
        parts: the groups of the route's pattern, percent signs resolved.
        headers: names in lower case.
    """

    method: str
    path: str
    parts: tuple[str, ...]
    query: Mapping[str, str]
    headers: Mapping[str, str]
    body: bytes

    def json(self) -> Any:
        """The body as JSON; an empty one is an empty object."""
        return json.loads(self.body or b"{}")


@dataclass(frozen=True)
class Response:
    """What it gets. A body in pieces needs its own Content-Length header."""

    status: int = 200
    body: bytes | Iterable[bytes] = b""
    headers: Mapping[str, str] = field(default_factory=dict)


def json_response(content: object, status: int = 200, **headers: str) -> Response:
    """JSON, as the services send it."""
    return Response(status, json.dumps(content).encode(), {"Content-Type": "application/json"} | headers)


@dataclass(frozen=True)
class Route:
    """Requests whose method and whole path match the patterns; the first route that matches answers."""

    name: str
    method: str
    path: str
    answer: Callable[[Request], Response]


@dataclass
class Fault:
    """What goes wrong with requests of a route (``*``: of any).

    Attributes:
        status: answered in place of the service; None lets it answer.
        latency: seconds that the answer waits.
        cut: the connection is cut in place of an answer; with `cut_after`, behind so many bytes of its body.
        share: of the requests, by chance.
        count: how often, at the most; None for ever.
        fired: how often so far.
    """

    route: str = "*"
    status: int | None = None
    latency: float = 0.0
    cut: bool = False
    cut_after: int = 0
    share: float = 1.0
    count: int | None = None
    headers: Mapping[str, str] = field(default_factory=dict)
    fired: int = 0


class LoopbackServer:
    """Serves `routes` on a free port until `close`.

    Attributes:
        calls: requests so far, by route.
        fired: faults so far, by route.
        moved: bytes of bodies so far, both ways, by route.
    """

    def __init__(self, routes: Iterable[Route], seed: int = 0) -> None:
        self.routes = list(routes)
        self.faults: list[Fault] = []
        self.calls: Counter[str] = Counter()
        self.fired: Counter[str] = Counter()
        self.moved: Counter[str] = Counter()
        self.lock = threading.RLock()
        self._chance = random.Random(seed)  # noqa: S311 - for faults
        self._http = _Http(("127.0.0.1", 0), _Handler)
        self._http.service = self
        self._thread = threading.Thread(target=self._http.serve_forever, args=(0.05,), daemon=True)
        self._thread.start()

    @property
    def url(self) -> str:
        """Where it listens, without a slash at the end."""
        return f"http://127.0.0.1:{self._http.server_port}"

    def inject(self, fault: Fault) -> Fault:
        """Let a fault happen from now on."""
        with self.lock:
            self.faults.append(fault)
        return fault

    def close(self) -> None:
        """Stop listening."""
        self._http.shutdown()
        self._http.server_close()
        self._thread.join(10)

    def due(self, route: str) -> list[Fault]:
        """The faults that happen to a request of `route`; all latencies, and the first of the others."""
        with self.lock:
            self.calls[route] += 1
            due: list[Fault] = []
            for fault in self.faults:
                deadly = fault.status is not None or fault.cut
                if fault.route not in ("*", route) or (deadly and any(one.status or one.cut for one in due)):
                    continue
                if fault.count is not None and fault.fired >= fault.count:
                    continue
                if fault.share >= 1 or self._chance.random() < fault.share:
                    fault.fired += 1
                    self.fired[route] += 1
                    due.append(fault)
            return due


@contextmanager
def serving(*routes: Route) -> Iterator[LoopbackServer]:
    """A server while the block runs."""
    server = LoopbackServer(routes)
    try:
        yield server
    finally:
        server.close()


class _Http(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 256
    service: LoopbackServer

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A client that leaves is no error of the server's."""


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    wbufsize = 1 << 16

    def answer(self) -> None:
        """Find the route, let its faults happen, answer."""
        service = cast("_Http", self.server).service
        address = urlsplit(self.path)
        body = self._body()
        found = self._route(service, address.path)
        faults = service.due(found[0].name if found else "unknown")
        time.sleep(sum(fault.latency for fault in faults))
        deadly = next((fault for fault in faults if fault.status is not None or fault.cut), None)
        if deadly and not deadly.cut:
            self._send(Response(deadly.status or 500, b'{"error": {"message": "injected"}}', deadly.headers))
            return
        if deadly and not deadly.cut_after:
            self._cut()
            return
        if found is None:
            self._send(Response(404, f"no route for {self.command} {address.path}".encode()))
            return
        route, parts = found
        query = {name: values[-1] for name, values in parse_qs(address.query, keep_blank_values=True).items()}
        headers = {name.lower(): value for name, value in self.headers.items()}
        request = Request(self.command, address.path, parts, query, headers, body)
        sent = self._send(route.answer(request), cut_after=deadly.cut_after if deadly else None)
        with service.lock:
            service.moved[route.name] += len(body) + sent

    do_GET = do_HEAD = do_POST = do_PUT = do_PATCH = do_DELETE = answer  # noqa: N815 - names of the base class

    def _route(self, service: LoopbackServer, path: str) -> tuple[Route, tuple[str, ...]] | None:
        for route in service.routes:
            matched = re.fullmatch(route.path, path) if re.fullmatch(route.method, self.command) else None
            if matched:
                return route, tuple(unquote(part or "") for part in matched.groups())
        return None

    def _body(self) -> bytes:
        if self.headers.get("Transfer-Encoding", "").lower() != "chunked":
            return self.rfile.read(int(self.headers.get("Content-Length") or 0))
        pieces = []
        while size := int(self.rfile.readline().split(b";")[0], 16):
            pieces.append(self.rfile.read(size))
            self.rfile.readline()
        self.rfile.readline()
        return b"".join(pieces)

    def _send(self, response: Response, cut_after: int | None = None) -> int:
        """Send an answer; how many bytes its body had."""
        whole = response.body if isinstance(response.body, bytes) else None
        self.send_response(response.status)
        for name, value in response.headers.items():
            self.send_header(name, value)
        if whole is not None and "Content-Length" not in response.headers:
            self.send_header("Content-Length", str(len(whole)))
        self.end_headers()
        if self.command == "HEAD":
            return 0
        sent = 0
        for piece in (whole,) if whole is not None else cast("Iterable[bytes]", response.body):
            if cut_after is not None and sent + len(piece) >= cut_after:
                self.wfile.write(piece[: cut_after - sent])
                self._cut()
                return cut_after
            self.wfile.write(piece)
            sent += len(piece)
        return sent

    def _cut(self) -> None:
        self.close_connection = True
        with suppress(OSError):
            self.wfile.flush()
            self.connection.shutdown(socket.SHUT_RDWR)

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 - the name of the base class
        """Nothing is logged."""
