"""Which methods an address takes."""

from __future__ import annotations

from fastapi import Request
from starlette.routing import Match

_ASKED = ("DELETE", "GET", "PATCH", "POST", "PUT")


def allowed_methods(request: Request) -> list[str]:
    """Return the methods of all routes that match a request's path, sorted."""
    found = {
        method
        for method in _ASKED
        for route in request.app.routes
        if route.matches({**request.scope, "method": method})[0] is Match.FULL
    }
    return sorted(found | ({"HEAD"} if "GET" in found else set()))
