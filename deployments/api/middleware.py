"""What every request passes: ids, headers, the log; bodies no larger and no deeper than they may be."""

from __future__ import annotations

import logging
import re
import time
import uuid
from dataclasses import dataclass, field

import anyio.to_thread
from starlette.datastructures import Headers, MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from lookbook.blocks.errors import LookbookError, TransientError
from lookbook.deployments.api.access import Gate, asker
from lookbook.deployments.api.config import ApiConfig
from lookbook.deployments.api.health import Metrics
from lookbook.deployments.api.problems import Problem, answer, problem_of
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


#: Methods with a body that somebody reads.
_WITH_BODY = {"POST", "PUT", "PATCH"}
#: Bodies that are looked through at the same time: Python lets one thread work, and answers to others wait for each.
_AT_ONCE = 1
#: Texts and brackets. Possessive (*+): each byte is looked at once, and nothing is kept to go back to.
_TOKENS = re.compile(rb'"[^"\\]*+(?:\\.[^"\\]*+)*+"?|[\[{]|[\]}]', re.DOTALL)
#: Half of a pair of surrogates: JSON can say it, UTF-8 cannot.
_ESCAPED = re.compile(rb"\\u(?P<first>[dD][89abAB][0-9a-fA-F]{2})(?:\\u(?P<second>[dD][c-fC-F][0-9a-fA-F]{2}))?")
_LONE_LOW = re.compile(rb"\\u[dD][c-fC-F][0-9a-fA-F]{2}")


class BodyCheck:
    """Middleware that reads a body whole, of who may come in, and refuses one too large, too deep, or of another type.

    The key is asked for first: FastAPI would read and parse the body before it looks at the key.
    """

    def __init__(self, app: ASGIApp, config: ApiConfig, gate: Gate) -> None:
        self._app, self._config, self._gate = app, config, gate
        self._looks = anyio.CapacityLimiter(_AT_ONCE)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer, or pass on."""
        if scope["type"] != "http" or scope["method"] not in _WITH_BODY:
            await self._app(scope, receive, send)
            return
        headers = Headers(scope=scope)
        try:
            await self._gate.identify(*asker(scope, headers))
            body = await self._read(headers, receive)
            if body:
                await anyio.to_thread.run_sync(self._check, headers, body, limiter=self._looks)
        except (Problem, LookbookError, TransientError) as error:
            await answer(problem_of(error), scope.get("request_id", ""))(scope, receive, send)
            return
        if body is not None:
            await self._app(scope, _again(body, receive), send)

    async def _read(self, headers: Headers, receive: Receive) -> bytes | None:
        """Return the body; None where who sent it has hung up."""
        length = headers.get("content-length", "0")
        if not length.isdecimal() or int(length[:20]) > self._config.body_bytes:
            raise self._too_large()
        body = bytearray()
        while True:
            message = await receive()
            if message["type"] == "http.disconnect":
                return None
            body += message.get("body", b"")
            if len(body) > self._config.body_bytes:
                raise self._too_large()
            if not message.get("more_body", False):
                return bytes(body)

    def _check(self, headers: Headers, body: bytes) -> None:
        kind = headers.get("content-type", "").partition(";")[0].strip().lower()
        if kind != "application/json":
            raise Problem(415, "no-json", "The body has to be JSON.", "Send it with Content-Type: application/json.")
        if is_deeper(body, self._config.body_levels):
            raise Problem(422, "too-deep", f"The JSON is deeper than {self._config.body_levels} levels.")
        if has_lone_surrogates(body):
            raise Problem(422, "no-text", "The JSON has half of a surrogate pair, which is no text.")

    def _too_large(self) -> Problem:
        # What is left of the body is not read: the connection has to go.
        return Problem(
            413,
            "too-large",
            f"The body has more than {self._config.body_bytes} bytes.",
            headers={"Connection": "close"},
        )


def is_deeper(document: bytes, levels: int) -> bool:
    """Tell whether arrays and objects nest deeper than `levels`; the document need not be valid JSON."""
    depth = 0
    for token in _TOKENS.finditer(document):
        first = document[token.start()]
        if first in b"[{":
            depth += 1
            if depth > levels:
                return True
        elif first in b"]}":
            depth -= 1
    return False


def has_lone_surrogates(document: bytes) -> bool:
    """Return whether an escape in a JSON document is half of a pair of surrogates."""
    if b"\\u" not in document:
        return False
    plain = document.replace(b"\\\\", b"")
    if any(found["second"] is None for found in _ESCAPED.finditer(plain)):
        return True
    return _LONE_LOW.search(_ESCAPED.sub(b"", plain)) is not None


def _again(body: bytes, receive: Receive) -> Receive:
    """Give a body that was read once more, then what comes behind it."""
    given = False

    async def give() -> Message:
        nonlocal given
        if given:
            return await receive()
        given = True
        return {"type": "http.request", "body": body, "more_body": False}

    return give
