"""The real ``lookbook api`` for a real Prefect server, and what asks it."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import httpx

from lookbook.blocks.embedded.prefect_server import free_port
from lookbook.deployments.api.runs import FINAL
from tests.support.command import COMMAND
from tests.support.prefect_processes import Server, wait_for


@contextmanager
def api_of(server: Server) -> Iterator[httpx.Client]:
    """`lookbook api` for a server while the block runs; with a client."""
    port = free_port()
    command = [*COMMAND, "api", "--port", str(port)]
    log = server.home / "api.log"
    with log.open("wb") as sink:
        process = subprocess.Popen(command, env=server.environment(), stdout=sink, stderr=subprocess.STDOUT)
    try:
        with httpx.Client(base_url=f"http://127.0.0.1:{port}", timeout=120) as client:

            def answers() -> bool:
                assert process.poll() is None, log.read_text()
                try:
                    return client.get("/ready").is_success
                except httpx.TransportError:
                    return False

            wait_for("the API is ready", answers)
            yield client
    finally:
        process.terminate()
        process.wait(60)


def ended(client: httpx.Client, address: str) -> dict[str, Any]:
    """What is asked for, once it has ended."""

    def look() -> dict[str, Any] | None:
        answer = client.get(address)
        assert answer.is_success, answer.text
        told: dict[str, Any] = answer.json()
        return told if told["state"] in FINAL else None

    return wait_for(f"{address} ends", look)


def submitted(client: httpx.Client, kind: str, body: dict[str, Any], **headers: str) -> dict[str, Any]:
    answer = client.post(f"/api/v1/{kind}", json=body, headers=headers)
    assert answer.status_code == 202, answer.text
    told: dict[str, Any] = answer.json()
    assert answer.headers["location"] == told["links"]["self"]
    return told
