"""A real Prefect server and real workers as processes: free ports, a home of their own, stopped by their ids."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
import uuid
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

import httpx
import psutil

from lookbook.blocks.embedded import prefect_server
from lookbook.deployments.server.deploying import job_template
from tests.support.command import ROOT, environment, lookbook_json
from tests.support.forking import run_python

Found = TypeVar("Found")

FINAL = {"COMPLETED", "FAILED", "CRASHED", "CANCELLED"}


#: Asks servers on loopback. One for all: each would read the certificates of the whole world first.
CLIENT = httpx.Client(timeout=120, limits=httpx.Limits(max_keepalive_connections=0))
#: Seconds that only a hang reaches, however busy the machine is.
HANG = 300.0


def wait_for(what: str, look: Callable[[], Found | None], seconds: float = HANG) -> Found:
    """Look until it gives something, with a deadline; a look takes time from what is tested: each comes a bit later."""
    deadline, pause = time.monotonic() + seconds, 0.1
    while time.monotonic() < deadline:
        found = look()
        if found:
            return found
        time.sleep(pause)
        pause = min(1.2 * pause, 1.0)
    raise AssertionError(f"not within {seconds} s: {what}")


@dataclass
class Server:
    """A Prefect server with the deployments of this checkout.

    Attributes:
        home: LOOKBOOK_HOME, with the server's own home and database in it.
        url: of its API.
        database: the URL of its PostgreSQL, where it is not on SQLite.
        pipelines: the folder of the specs that are deployed on it.
        made: what the first deploy to it said.
    """

    home: Path
    url: str
    database: str = ""
    pipelines: Path = ROOT / "deployments" / "pipelines"
    made: dict[str, Any] = field(default_factory=dict)

    def environment(self, **more: str) -> dict[str, str]:
        """The environment of a process that talks to this server."""
        own = prefect_server.environment(self.home) | {"PREFECT_API_URL": self.url, "PYTHONUNBUFFERED": "1"}
        own["LOOKBOOK_PIPELINES"] = str(self.pipelines)
        own["PATH"] = os.pathsep.join((str(Path(sys.executable).parent), os.environ["PATH"]))
        return environment(self.home, **(own | more))

    def auth(self) -> tuple[str, str]:
        """Who asks it, as user and password."""
        user, _, password = (prefect_server.auth_string(self.home) or ":").partition(":")
        return user, password

    @property
    def access(self) -> dict[str, str]:
        """What leads a process of another home here."""
        return {"PREFECT_API_URL": self.url, "PREFECT_API_AUTH_STRING": ":".join(self.auth())}

    @property
    def settings(self) -> dict[Any, Any]:
        """What leads this process here, by `temporary_settings`."""
        from prefect import settings  # noqa: PLC0415 - whoever starts processes needs no Prefect

        return {getattr(settings, name): value for name, value in self.access.items()}

    def prefect(self, *arguments: str, **more: str) -> subprocess.CompletedProcess[str]:
        """Run the ``prefect`` command to its end."""
        return subprocess.run(
            [sys.executable, "-m", "prefect", *arguments],
            env=self.environment(**more),
            cwd=ROOT,
            capture_output=True,
            text=True,
            check=False,
            timeout=HANG,
            stdin=subprocess.DEVNULL,
        )

    def python(self, code: str, *arguments: str, given: str = "", **more: str) -> subprocess.CompletedProcess[str]:
        """Run a program to its end; `given` is its standard input."""
        return run_python(code, *arguments, env=self.environment(**more), cwd=ROOT, given=given, timeout=HANG)

    def post(self, path: str, body: dict[str, Any] | list[Any] | None = None) -> Any:
        """Ask the API."""
        return self._ask("POST", path, body or {})

    def get(self, path: str) -> Any:
        """Read from the API."""
        return self._ask("GET", path)

    def put(self, path: str, body: dict[str, Any]) -> None:
        """Replace something by the API."""
        self._ask("PUT", path, body)

    def patch(self, path: str, body: dict[str, Any]) -> None:
        """Change something by the API."""
        self._ask("PATCH", path, body)

    def delete(self, path: str) -> None:
        """Remove something by the API."""
        self._ask("DELETE", path)

    def _ask(self, method: str, path: str, body: dict[str, Any] | list[Any] | None = None) -> Any:
        """As Prefect's own client, ask again on a 503: so ends a write that met another one in SQLite."""

        def ask() -> httpx.Response | None:
            answer = CLIENT.request(method, f"{self.url}{path}", json=body, auth=self.auth())
            return None if answer.status_code == httpx.codes.SERVICE_UNAVAILABLE else answer

        answer = wait_for(f"{method} {path} is answered", ask)
        answer.raise_for_status()
        return answer.json() if answer.content else None

    def events(self, *names: str) -> list[dict[str, Any]]:
        """The events of these names, or all, newest first."""
        wanted = {"occurred": {"since": "2020-01-01T00:00:00Z"}} | ({"event": {"name": names}} if names else {})
        page = self.post("/events/filter", {"filter": wanted, "limit": 50})
        found: list[dict[str, Any]] = page["events"]
        while page["next_page"]:
            page = self.get(page["next_page"].removeprefix(self.url))
            found += page["events"]
        return found

    def deployment(self, name: str) -> dict[str, Any]:
        """A deployment by the name ``flow/deployment``."""
        found: dict[str, Any] = self.get(f"/deployments/name/{name}")
        return found

    def rest(self, deployment: str) -> None:
        """Switch a deployment's schedules off: a process that looks each minute takes time from what is tested."""
        found = self.deployment(deployment)
        for schedule in found["schedules"]:
            self.patch(f"/deployments/{found['id']}/schedules/{schedule['id']}", {"active": False})

    def switch(self, automation: str, *, on: bool) -> None:
        """Switch an automation on or off."""
        (found,) = self.post("/automations/filter", {"automations": {"name": {"any_": [automation]}}})
        self.patch(f"/automations/{found['id']}", {"enabled": on})

    def start_run(self, deployment: str, job_variables: dict[str, Any] | None = None, /, **parameters: Any) -> str:
        """Start a run of a deployment; returns the run's id."""
        body = {"parameters": parameters, "job_variables": job_variables}
        run = self.post(f"/deployments/{self.deployment(deployment)['id']}/create_flow_run", body)
        return str(run["id"])

    def run(self, run_id: str) -> dict[str, Any]:
        """A flow run as it is now."""
        found: dict[str, Any] = self.get(f"/flow_runs/{run_id}")
        return found

    def runs(self, flow: str, **filters: Any) -> list[dict[str, Any]]:
        """The runs of a flow by its name, oldest first; `filters` are the API's for flow runs."""
        body = {"flows": {"name": {"any_": [flow]}}, "flow_runs": filters or None, "sort": "START_TIME_ASC"}
        found: list[dict[str, Any]] = self.post("/flow_runs/filter", body)
        return found

    def children(self, run_id: str) -> list[dict[str, Any]]:
        """The subflow runs of a run."""
        body = {"flow_runs": {"parent_flow_run_id": {"any_": [run_id]}}}
        found: list[dict[str, Any]] = self.post("/flow_runs/filter", body)
        return found

    def finished(self, run_id: str) -> dict[str, Any]:
        """Wait until a run has ended, however."""

        def look() -> dict[str, Any] | None:
            found = self.run(run_id)
            return found if found["state_type"] in FINAL else None

        return wait_for(f"run {run_id} ends", look)

    def cancel(self, run_id: str) -> None:
        """Ask that a run be cancelled, as the UI's button does."""
        self.post(f"/flow_runs/{run_id}/set_state", {"state": {"type": "CANCELLING", "name": "Cancelling"}})

    def logs(self, run_id: str) -> str:
        """The messages that a run logged."""
        rows = self.post("/logs/filter", {"logs": {"flow_run_id": {"any_": [run_id]}}, "sort": "TIMESTAMP_ASC"})
        return "\n".join(row["message"] for row in rows)

    @contextmanager
    def worker(
        self,
        pool: str = "lookbook",
        name: str | None = None,
        limit: int | None = None,
        within: Sequence[str] = (),
        **more: str,
    ) -> Iterator[Worker]:
        """A worker of a pool while the block runs; with a `limit` it takes so many runs at once.

        `within` is a command that runs the one behind it: in other namespaces, with less memory …
        """
        name = name or f"worker-{uuid.uuid4().hex[:8]}"
        log = self.home / f"{name}.log"
        with log.open("wb") as sink:
            process = subprocess.Popen(
                [
                    *(*within, sys.executable, "-m", "prefect", "worker", "start", "--pool", pool, "--name", name),
                    *(["--limit", str(limit)] if limit else []),
                ],
                env=self.environment(PREFECT_WORKER_QUERY_SECONDS="1", **more),
                cwd=self.home,
                stdout=sink,
                stderr=subprocess.STDOUT,
                stdin=subprocess.DEVNULL,
                start_new_session=True,
            )
        worker = Worker(name, process, log)
        try:
            yield worker
        finally:
            worker.stop()


@dataclass
class Worker:
    """A worker's process."""

    name: str
    process: subprocess.Popen[bytes]
    log: Path

    def family(self) -> list[psutil.Process]:
        """Its process, and all that it started."""
        try:
            own = psutil.Process(self.process.pid)
            return [own, *own.children(recursive=True)]
        except psutil.Error:
            return []

    def kill(self) -> None:
        """End it and all that it started at once, as a machine that loses its power does."""
        for process in self.family():
            try:
                process.kill()
            except psutil.Error:
                continue
        self.process.wait()

    def stop(self) -> None:
        """End it as Ctrl-C does; what is left of it after a while is killed."""
        if self.process.poll() is None:
            family = self.family()
            self.process.send_signal(signal.SIGINT)
            _, left = psutil.wait_procs(family, timeout=15)
            for process in left:
                process.kill()
        self.process.wait()


def start_server(home: Path, **more: str) -> Server:
    """Start a server in `home`; `more` is its environment."""
    home.mkdir(parents=True, exist_ok=True)
    before = {name: os.environ.get(name) for name in more}
    os.environ.update(more)
    try:
        return Server(home, prefect_server.start(home))
    finally:
        for name, value in before.items():
            os.environ.pop(name, None) if value is None else os.environ.__setitem__(name, value)


def deploy(server: Server) -> dict[str, Any]:
    """Put pools, blocks and deployments of this checkout on a server; what the command says of it.

    Runs start as they do where `lookbook serve` has made the pool: in half of the time.
    """
    said: dict[str, Any] = lookbook_json(server.home, "deploy", **server.environment())
    server.patch("/work_pools/lookbook", {"base_job_template": job_template("process", at_once=True)})
    return said
