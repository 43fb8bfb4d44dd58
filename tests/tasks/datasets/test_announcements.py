"""Events: taken by the API when the call returns, or a fault that says so."""

from __future__ import annotations

import http.server
import json
import threading
from collections.abc import Iterator
from typing import Any

import pytest
from prefect.settings import PREFECT_API_URL, PREFECT_CLIENT_MAX_RETRIES, temporary_settings

from lookbook.blocks.embedded.prefect_server import free_port
from lookbook.blocks.errors import LookbookError
from lookbook.tasks.runs.announcements import announce_change, announce_snapshot


class Api(http.server.ThreadingHTTPServer):
    """A loopback server in the place of Prefect's: what was posted, and what it answers."""

    posted: list[tuple[str, Any]]
    status = 204


class Handler(http.server.BaseHTTPRequestHandler):
    server: Api

    def do_GET(self) -> None:
        self._answer(404, b"")  # no token against forged requests is needed here

    def do_POST(self) -> None:
        self.server.posted.append((self.path, json.loads(self.rfile.read(int(self.headers["Content-Length"])))))
        self._answer(self.server.status, b"")

    def _answer(self, status: int, body: bytes) -> None:
        self.send_response(status)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None: ...


@pytest.fixture
def api() -> Iterator[Api]:
    server = Api(("127.0.0.1", 0), Handler)
    server.posted = []
    threading.Thread(target=server.serve_forever, daemon=True).start()
    url = f"http://127.0.0.1:{server.server_port}/api"
    try:
        with temporary_settings({PREFECT_API_URL: url, PREFECT_CLIENT_MAX_RETRIES: 0}):
            yield server
    finally:
        server.shutdown()
        server.server_close()


def test_the_event_was_taken_when_the_call_returns(api: Api) -> None:
    announce_change("/photos/ü", "shoes", "production", related=["4f0c"])
    ((path, (event,)),) = api.posted
    assert path == "/api/events"
    assert event["event"] == "lookbook.source.changed"
    assert event["resource"]["prefect.resource.id"] == "lookbook.source.shoes"
    assert event["related"] == [{"prefect.resource.id": "prefect.flow-run.4f0c", "prefect.resource.role": "flow-run"}]
    assert event["payload"] == {"source": "/photos/ü", "dataset": "shoes", "workspace": "production"}


@pytest.mark.parametrize("status", [401, 422, 500, 503])
def test_an_event_that_was_refused_is_a_fault(api: Api, status: int) -> None:
    api.status = status
    with pytest.raises(LookbookError, match="did not take"):
        announce_change("/photos", "shoes", "local")


def test_a_server_that_does_not_answer_is_a_fault() -> None:
    nobody = {PREFECT_API_URL: f"http://127.0.0.1:{free_port()}/api", PREFECT_CLIENT_MAX_RETRIES: 0}
    with temporary_settings(nobody), pytest.raises(LookbookError, match="did not take"):
        announce_change("/photos", "shoes", "local")


def test_what_follows_a_snapshot_is_told_which_one(api: Api) -> None:
    announce_snapshot("shoes", "production", "2026-1", related=["4f0c"])
    ((_, (event,)),) = api.posted
    assert event["event"] == "lookbook.snapshot.published"
    assert event["resource"]["prefect.resource.id"] == "lookbook.dataset.shoes"
    assert event["payload"] == {"dataset": "shoes", "workspace": "production", "snapshot": "2026-1"}
