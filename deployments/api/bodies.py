"""Bodies: no larger and no deeper than they may be, checked before anything reads them."""

from __future__ import annotations

import re

from starlette.datastructures import Headers
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from deployments.api.config import ApiConfig
from deployments.api.problems import Problem, answer

_TOKENS = re.compile(rb'"(?:[^"\\]|\\.)*"?|[\[{]|[\]}]', re.DOTALL)
#: Half of a pair of surrogates: JSON can say it, UTF-8 cannot.
_ESCAPED = re.compile(rb"\\u(?P<first>[dD][89abAB][0-9a-fA-F]{2})(?:\\u(?P<second>[dD][c-fC-F][0-9a-fA-F]{2}))?")
_LONE_LOW = re.compile(rb"\\u[dD][c-fC-F][0-9a-fA-F]{2}")


class BodyCheck:
    """Middleware that reads a body whole and refuses one that is too large, too deep, or of another type."""

    def __init__(self, app: ASGIApp, config: ApiConfig) -> None:
        self._app, self._config = app, config

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer, or pass on."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        try:
            body = await self._read(Headers(scope=scope), receive)
            if body:
                self._check(scope, body)
        except Problem as problem:
            await answer(problem, scope.get("request_id", ""))(scope, receive, send)
            return
        if body is not None:
            await self._app(scope, _again(body, receive), send)

    async def _read(self, headers: Headers, receive: Receive) -> bytes | None:
        """The body; None where who sent it has hung up."""
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

    def _check(self, scope: Scope, body: bytes) -> None:
        if scope["method"] not in {"POST", "PUT", "PATCH"}:
            return  # nothing reads it
        kind = Headers(scope=scope).get("content-type", "").partition(";")[0].strip().lower()
        if kind != "application/json":
            raise Problem(415, "no-json", "The body has to be JSON.", "Send it with Content-Type: application/json.")
        if levels(body) > self._config.body_levels:
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


def levels(document: bytes) -> int:
    """How deep arrays and objects lie in each other, also where it is no JSON."""
    depth = deepest = 0
    for token in _TOKENS.finditer(document):
        first = token[0][:1]
        if first in b"[{":
            depth += 1
            deepest = max(deepest, depth)
        elif first in b"]}":
            depth -= 1
    return deepest


def has_lone_surrogates(document: bytes) -> bool:
    """Whether an escape in a JSON document is half of a pair of surrogates."""
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
