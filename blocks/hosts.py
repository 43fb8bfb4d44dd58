"""Who is spoken to, and from where: other sites in a browser of this machine are refused.

A name that is made to point to 127.0.0.1 (DNS rebinding) brings its own Host; a page of another site brings its Origin.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Callable, Collection
from dataclasses import dataclass
from urllib.parse import urlsplit

from starlette.datastructures import Headers
from starlette.responses import PlainTextResponse
from starlette.types import ASGIApp, Receive, Scope, Send


@dataclass(frozen=True)
class Refusal:
    """Why a request is refused.

    Attributes:
        status: of HTTP.
        name: of the kind, such as ``wrong-host``.
        detail: what is wrong.
        way_out: what can be done about it.
    """

    status: int
    name: str
    detail: str
    way_out: str


def in_text(scope: Scope, refusal: Refusal) -> ASGIApp:  # noqa: ARG001 - other answers need it
    """Answer a refusal in a line of text."""
    return PlainTextResponse(f"{refusal.detail} {refusal.way_out}\n", refusal.status)


class HostCheck:
    """Middleware that refuses requests and WebSockets that are meant for another host, or come from another site.

    Args:
        app: what is behind it.
        allowed: the only names in the Host header; empty: this machine's.
        setting: what lists more of them.
        anywhere: take any name where `allowed` is empty.
        refuse: makes the answer to a request that is refused.
    """

    def __init__(
        self,
        app: ASGIApp,
        *,
        allowed: Collection[str],
        setting: str,
        anywhere: bool = False,
        refuse: Callable[[Scope, Refusal], ASGIApp] = in_text,
    ) -> None:
        self._app, self._allowed, self._anywhere = app, allowed, anywhere
        self._setting, self._refuse = setting, refuse

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer, or pass on."""
        refusal = None if scope["type"] == "lifespan" else self._refusal(scope, Headers(scope=scope))
        if refusal is None:
            await self._app(scope, receive, send)
        elif scope["type"] == "websocket":
            await send({"type": "websocket.close", "code": 1008, "reason": refusal.detail})
        else:
            await self._refuse(scope, refusal)(scope, receive, send)

    def _refusal(self, scope: Scope, headers: Headers) -> Refusal | None:
        hosts = headers.getlist("host")
        name = host_name(hosts[0]) if len(hosts) == 1 else None
        if name is None or not self._is_ours(name):
            return Refusal(
                421, "wrong-host", "The Host header names another server.", f"{self._setting} lists more of its names."
            )
        if _is_foreign(scope.get("method", ""), headers, hosts[0].lower()):
            return Refusal(403, "foreign-site", "Pages of other sites may not ask here.", "Ask from its own page.")
        return None

    def _is_ours(self, name: str) -> bool:
        if self._allowed:
            return name in self._allowed
        return self._anywhere or is_loopback(name)


def _is_foreign(method: str, headers: Headers, host: str) -> bool:
    """Tell whether another site's page asks. Following a link from there does not count: that page sees no answer."""
    origin = headers.get("origin")
    if origin is not None:
        return _place_of(origin) != host
    navigates = headers.get("sec-fetch-mode") == "navigate" and headers.get("sec-fetch-dest") == "document"
    follows = navigates and method == "GET"
    return not follows and headers.get("sec-fetch-site", "none") not in {"same-origin", "none"}


def is_loopback(host: str) -> bool:
    """Tell whether an address is a loopback address."""
    try:
        return ipaddress.ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return host == "localhost"


def host_name(header: str) -> str | None:
    """Read the name in a Host header, without its port; None where it is malformed."""
    try:
        return urlsplit(f"//{header}").hostname
    except ValueError:
        return None


def _place_of(origin: str) -> str | None:
    """Host and port of an Origin header; None where it names none, as ``null`` does."""
    try:
        return urlsplit(origin).netloc.lower() or None
    except ValueError:
        return None
