"""Who is spoken to, and from where: other sites in a browser of this machine are refused.

A name that is made to point to 127.0.0.1 (DNS rebinding) brings its own Host; a page of another site brings its Origin.
"""

from __future__ import annotations

from urllib.parse import urlsplit

from starlette.datastructures import Headers
from starlette.types import ASGIApp, Receive, Scope, Send

from deployments.api.config import ApiConfig, is_loopback
from deployments.api.problems import Problem, answer


class HostCheck:
    """Middleware that refuses what is meant for another host, or comes from another site."""

    def __init__(self, app: ASGIApp, config: ApiConfig) -> None:
        self._app, self._config = app, config

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer, or pass on."""
        problem = self._problem(Headers(scope=scope)) if scope["type"] == "http" else None
        if problem is None:
            await self._app(scope, receive, send)
        else:
            await answer(problem, scope.get("request_id", ""))(scope, receive, send)

    def _problem(self, headers: Headers) -> Problem | None:
        hosts = headers.getlist("host")
        name = host_name(hosts[0]) if len(hosts) == 1 else None
        if name is None or not self._is_ours(name):
            return Problem(
                421, "wrong-host", "The Host header names another server.", "LOOKBOOK_API_ALLOWED_HOSTS lists more."
            )
        if _is_foreign(headers, hosts[0].lower()):
            return Problem(403, "foreign-site", "Pages of other sites may not ask here.", "Ask from its own page.")
        return None

    def _is_ours(self, name: str) -> bool:
        if self._config.allowed_hosts:
            return name in self._config.allowed_hosts
        return is_loopback(name) if self._config.is_local else True


def _is_foreign(headers: Headers, host: str) -> bool:
    """Whether another site's page asks. To follow a link from there is no such thing: that page sees nothing of it."""
    origin = headers.get("origin")
    if origin is not None:
        return _place_of(origin) != host
    follows = headers.get("sec-fetch-mode") == "navigate" and headers.get("sec-fetch-dest") == "document"
    return not follows and headers.get("sec-fetch-site", "none") not in {"same-origin", "none"}


def host_name(header: str) -> str | None:
    """The name in a Host header, without its port; None where it is none."""
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
