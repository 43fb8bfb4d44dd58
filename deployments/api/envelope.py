"""What every answer has: a request id, headers that protect, a line in the log, a place in the metrics."""

from __future__ import annotations

import logging
import re
import time
import uuid
from dataclasses import dataclass, field

from starlette.datastructures import Headers, MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from lookbook.deployments.api.metrics import Metrics
from lookbook.deployments.api.problems import answer, problem_of
from lookbook.deployments.api.shown import ROOT

#: Longer or stranger ones are replaced: they go into logs and headers.
REQUEST_ID = re.compile(r"[A-Za-z0-9._-]{1,64}")
#: Of data: nothing in it may run, wherever it is shown.
DATA_POLICY = "default-src 'none'; frame-ancestors 'none'; sandbox"
#: Of pages: all they need comes from here; pictures that are fetched with a key are blobs.
PAGE_POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' blob: data:; connect-src 'self'; "
    "font-src 'self'; manifest-src 'self'; form-action 'self'; base-uri 'none'; frame-ancestors 'none'"
)
PROTECTING = {
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Permissions-Policy": "camera=(), geolocation=(), microphone=(), payment=(), usb=()",
}

logger = logging.getLogger("lookbook.api")


@dataclass
class _Seen:
    """What became of a request."""

    start: float = field(default_factory=time.perf_counter)
    status: int = 0
    sent: int = 0


class Envelope:
    """The outermost middleware. A HEAD is answered as a GET whose body is left away."""

    def __init__(self, app: ASGIApp, metrics: Metrics) -> None:
        self._app, self._metrics = app, metrics

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        scope["request_id"] = _request_id(Headers(scope=scope))
        scope["is_head"] = scope["method"] == "HEAD"
        method = scope["method"]
        if scope["is_head"]:
            scope["method"] = "GET"
        seen = _Seen()
        with self._metrics.in_progress.track_inprogress():
            await self._guarded(scope, receive, _wrapped(scope, send, seen), seen)
        self._told(scope, method, seen)

    async def _guarded(self, scope: Scope, receive: Receive, send: Send, seen: _Seen) -> None:
        try:
            await self._app(scope, receive, send)
        except Exception as error:
            logger.exception("%s failed", scope["request_id"])
            if seen.status:  # the half of an answer is out: only a cut connection tells that it is one
                raise
            await answer(problem_of(error), scope["request_id"])(scope, receive, send)

    def _told(self, scope: Scope, method: str, seen: _Seen) -> None:
        seconds = time.perf_counter() - seen.start
        route = getattr(scope.get("route"), "path", "none").removeprefix(ROOT)
        self._metrics.answered(method, route, seen.status, seconds, seen.sent)
        # The path alone: a query may hold anything. Escaped, so that no request writes lines of its own.
        path, who = ascii(scope["path"][:200])[1:-1], scope.get("principal", "-")
        told = (scope["request_id"], method[:10], path, seen.status, seen.sent, seconds * 1e3, who)
        logger.info("%s %s %s %d %d bytes %.1f ms key=%s", *told)


def _wrapped(scope: Scope, send: Send, seen: _Seen) -> Send:
    async def sending(message: Message) -> None:
        if message["type"] == "http.response.start":
            seen.status = message["status"]
            _complete(MutableHeaders(scope=message), scope["request_id"])
        elif message["type"] == "http.response.body":
            if scope["is_head"]:
                message = {"type": "http.response.body", "body": b"", "more_body": message.get("more_body", False)}
            seen.sent += len(message.get("body", b""))
        await send(message)

    return sending


def _complete(headers: MutableHeaders, request_id: str) -> None:
    headers["X-Request-ID"] = request_id
    is_page = headers.get("content-type", "").startswith("text/html")
    for name, value in PROTECTING.items():
        headers.setdefault(name, value)
    headers.setdefault("Content-Security-Policy", PAGE_POLICY if is_page else DATA_POLICY)
    headers.setdefault("Cache-Control", "no-store")


def _request_id(headers: Headers) -> str:
    given = headers.get("x-request-id", "")
    return given if REQUEST_ID.fullmatch(given) else uuid.uuid4().hex
