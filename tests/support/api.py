"""The API's app in this process, with a real lake and registry, and runs that a test decides about."""

from __future__ import annotations

import threading
import uuid
from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

import uvicorn
from fastapi import FastAPI
from fastapi.testclient import TestClient

from lookbook.blocks.embedded.prefect_server import free_port
from lookbook.blocks.workspace import Workspace
from lookbook.deployments.api.app import make_app
from lookbook.deployments.api.config import ApiConfig
from lookbook.deployments.api.runs import EndedRun, RunState
from tests.support.prefect_processes import wait_for

HOST = "http://127.0.0.1:4201"


@dataclass
class FakeRuns:
    """What Prefect would do, as a test says.

    Attributes:
        submitted: deployments with the parameters of their runs, by the runs' ids.
        states: of runs.
        artifacts: that runs made, by run and kind.
        fault: raised by whatever is asked.
    """

    submitted: dict[str, tuple[str, dict[str, Any]]] = field(default_factory=dict)
    tokens: dict[str, str] = field(default_factory=dict)
    states: dict[str, RunState] = field(default_factory=dict)
    artifacts: dict[tuple[str, str], Any] = field(default_factory=dict)
    cancelled: list[str] = field(default_factory=list)
    finished: list[EndedRun] = field(default_factory=list)
    fault: Exception | None = None

    @asynccontextmanager
    async def opened(self) -> AsyncIterator[None]:
        yield

    async def submit(self, deployment: str, parameters: Mapping[str, Any], token: str) -> str:
        self._fail()
        if token not in self.tokens:
            run_id = str(uuid.uuid4())
            self.tokens[token] = run_id
            self.submitted[run_id] = (deployment, dict(parameters))
            self.states[run_id] = RunState("waiting", "", None, None)
        return self.tokens[token]

    async def look(self, run_id: str) -> RunState | None:
        self._fail()
        return self.states.get(run_id)

    async def artifact(self, run_id: str, kind: str) -> Any:
        self._fail()
        return self.artifacts.get((run_id, kind))

    async def cancel(self, run_id: str) -> None:
        self._fail()
        self.cancelled.append(run_id)
        self.states[run_id] = RunState("cancelled", "", None, datetime.now(UTC))

    async def answers(self) -> bool:
        self._fail()
        return True

    async def waiting(self, flow: str) -> dict[str, int]:
        self._fail()
        name = f"{flow}/local"
        states = [self.states[run].state for run, (deployment, _) in self.submitted.items() if deployment == name]
        return {state: states.count(state) for state in ("waiting", "running", "cancelling")}

    async def ended(self, flow: str, since: datetime) -> list[EndedRun]:
        return [run for run in self.finished if run.flow == flow and run.ended_at > since]

    def _fail(self) -> None:
        if self.fault is not None:
            raise self.fault


@dataclass
class Api:
    """A client of an app.

    Attributes:
        http: asks it, as a browser of this machine would.
        runs: decide what becomes of what is submitted.
    """

    http: TestClient
    app: FastAPI
    runs: FakeRuns
    workspace: Workspace

    def get(self, path: str, **options: Any) -> Any:
        """Ask for something below the API's root."""
        return self.http.get(f"/api/v1{path}", **options)

    def json(self, path: str, **options: Any) -> Any:
        """Something that has to be there, as JSON."""
        answer = self.get(path, **options)
        assert answer.status_code == 200, answer.text
        return answer.json()


@contextmanager
def running(workspace: Workspace, **settings: Any) -> Iterator[Api]:
    """An app while the block runs; `settings` are those of `ApiConfig`."""
    runs = FakeRuns()
    config = ApiConfig.model_validate(settings)
    app = make_app(workspace, "local", config, runs)
    with TestClient(app, base_url=HOST, raise_server_exceptions=False) as client:
        yield Api(client, app, runs, workspace)


@contextmanager
def serving(app: FastAPI) -> Iterator[str]:
    """An app on a port of this machine while the block runs; gives its address."""
    server = uvicorn.Server(uvicorn.Config(app, port=free_port(), log_level="warning", access_log=False))
    thread = threading.Thread(target=server.run, daemon=True)
    thread.start()
    wait_for("the API listens", lambda: server.started)
    try:
        yield f"http://127.0.0.1:{server.config.port}"
    finally:
        server.should_exit = True
        thread.join(30)


def problem(answer: Any, status: int, name: str) -> dict[str, Any]:
    """The problem document that an answer has to be."""
    assert answer.status_code == status, answer.text
    assert answer.headers["content-type"] == "application/problem+json"
    document: dict[str, Any] = answer.json()
    assert document["type"] == f"urn:lookbook:problem:{name}", document
    assert document["status"] == status
    assert document["request_id"] == answer.headers["x-request-id"]
    return document
