"""Prefect's server as a process, behind the check of hosts: ``python -m lookbook.blocks.embedded.guarded_server``.

By itself Prefect's server answers pages of every site, and every Host; its deployments run commands. Here it answers
its own pages and programs alone. Which key it asks for is Prefect's own setting, PREFECT_SERVER_API_AUTH_STRING.
"""

from __future__ import annotations

import argparse
import gc
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from pydantic_settings import BaseSettings, SettingsConfigDict
from starlette.datastructures import Headers
from starlette.responses import HTMLResponse, RedirectResponse, Response
from starlette.types import ASGIApp, Receive, Scope, Send

from lookbook.blocks.hosts import HostCheck

if TYPE_CHECKING:
    from prefect.settings import Settings

#: Where a browser signs in: the key stands behind ``#``, which browsers send to nobody.
SIGN_IN = "/sign-in"
_PAGE = """<!doctype html><meta charset="utf-8"><title>Sign in</title>
<p id="said">Signing in …</p>
<script>
const key = decodeURIComponent(location.hash.slice(1));
history.replaceState(null, "", location.pathname);
if (key) { localStorage.setItem("prefect-password", btoa(key)); location.replace("/"); }
else document.getElementById("said").textContent = "This address needs the key behind #, as lookbook serve prints it.";
</script>
"""


class Guard(BaseSettings):
    """Who the server is, from variables that start with ``LOOKBOOK_PREFECT_``."""

    model_config = SettingsConfigDict(env_prefix="LOOKBOOK_PREFECT_", env_ignore_empty=True, extra="ignore")

    #: Names in the Host header, as JSON; empty: this machine's.
    allowed_hosts: tuple[str, ...] = ()


class FrontDoor:
    """Middleware before Prefect's UI: signs a browser in, and leads it to the name that the UI itself calls.

    Args:
        app: what is behind it.
        home: scheme, host and port by which the UI calls its API; to pages under another name that would be a stranger.
    """

    def __init__(self, app: ASGIApp, home: str) -> None:
        self._app, self._home = app, home

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer, or pass on."""
        answer = self._answer(scope) if scope["type"] == "http" and scope["method"] == "GET" else None
        await (answer or self._app)(scope, receive, send)

    def _answer(self, scope: Scope) -> Response | None:
        headers = Headers(scope=scope)
        if "text/html" in headers.get("accept", "") and headers.get("host") != urlsplit(self._home).netloc:
            query = f"?{scope['query_string'].decode('latin-1')}" if scope["query_string"] else ""
            return RedirectResponse(f"{self._home}{scope['path']}{query}")  # browsers keep what is behind #
        if scope["path"] == SIGN_IN:
            guarded = {"Cache-Control": "no-store", "Referrer-Policy": "no-referrer", "X-Frame-Options": "DENY"}
            return HTMLResponse(_PAGE, headers=guarded)
        return None


def main() -> None:
    """Serve until a signal."""
    options = argparse.ArgumentParser(prog="python -m lookbook.blocks.embedded.guarded_server", description=__doc__)
    options.add_argument("--host", default="127.0.0.1")
    options.add_argument("--port", type=int, default=4200)
    given = options.parse_args()

    gc.set_threshold(10_000)  # at Python's own 700, to look through what is imported takes a tenth of the start
    import uvicorn  # noqa: PLC0415 - slow
    from prefect.server.api.server import create_app  # noqa: PLC0415
    from prefect.settings import get_current_settings  # noqa: PLC0415

    settings: Settings = get_current_settings()
    home = (settings.server.ui.api_url or f"http://{given.host}:{given.port}/api").removesuffix("/api")
    door = FrontDoor(create_app(final=True), home)
    app = HostCheck(door, allowed=Guard().allowed_hosts, setting="LOOKBOOK_PREFECT_ALLOWED_HOSTS")
    uvicorn.run(
        app,
        host=given.host,
        port=given.port,
        log_level=settings.server.logging_level.lower(),
        timeout_keep_alive=settings.server.api.keepalive_timeout,
        ws_ping_interval=settings.server.api.websocket_ping_interval,
        ws_ping_timeout=settings.server.api.websocket_ping_timeout,
    )


if __name__ == "__main__":
    main()
