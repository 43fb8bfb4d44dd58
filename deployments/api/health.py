"""Whether the parts that the service needs answer; figures for Prometheus, the queue of runs among them."""

from __future__ import annotations

import logging
import time
from collections import OrderedDict
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime, timedelta

import anyio
import anyio.to_thread
from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest

from lookbook.blocks.errors import LookbookError
from lookbook.blocks.workspace import Workspace
from lookbook.deployments.api.runs import Runs

METHODS = {"GET", "HEAD", "POST", "DELETE", "PUT", "PATCH", "OPTIONS"}
_RUN_SECONDS = (1, 5, 15, 30, 60, 120, 300, 600, 1800, 3600, 7200, 14400)
_REQUEST_SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30)


class Metrics:
    """The figures of one app. Labels have few values: routes by their pattern, never by what was asked."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self.requests = Counter(
            "lookbook_api_requests", "Requests answered.", ("method", "route", "status"), registry=self.registry
        )
        self.seconds = Histogram(
            "lookbook_api_request_seconds",
            "Time to the end of the answer.",
            ("method", "route"),
            buckets=_REQUEST_SECONDS,
            registry=self.registry,
        )
        self.in_progress = Gauge("lookbook_api_requests_in_progress", "Requests under way.", registry=self.registry)
        self.sent = Counter("lookbook_api_sent_bytes", "Bytes of bodies sent.", ("route",), registry=self.registry)
        self.images = Counter("lookbook_api_images", "Images sent.", ("kind",), registry=self.registry)
        self.image_bytes = Counter("lookbook_api_image_bytes", "Bytes of images.", ("kind",), registry=self.registry)
        self.runs = Gauge("lookbook_runs", "Runs that have not ended.", ("flow", "state"), registry=self.registry)
        self.ended = Counter("lookbook_runs_ended", "Runs that ended.", ("flow", "state"), registry=self.registry)
        self.run_seconds = Histogram(
            "lookbook_run_seconds",
            "Time that runs took, from their start.",
            ("flow",),
            buckets=_RUN_SECONDS,
            registry=self.registry,
        )
        self.snapshots = Gauge("lookbook_api_snapshots_held", "Snapshots in memory.", registry=self.registry)

    def answered(self, method: str, route: str, status: int, seconds: float, sent: int) -> None:
        """Count a request."""
        method = method if method in METHODS else "other"
        self.requests.labels(method, route, str(status)).inc()
        self.seconds.labels(method, route).observe(seconds)
        self.sent.labels(route).inc(sent)

    def text(self) -> bytes:
        """Return all of them, as Prometheus reads them."""
        return generate_latest(self.registry)


FLOWS = ("ingest", "export-dataset")
#: Seconds for which an answer holds; ended runs are looked for so much further back, for those that were noted late.
QUEUE_HOLDS_SECONDS = 10.0
OVERLAP = timedelta(minutes=2)
MOST_REMEMBERED = 5000

logger = logging.getLogger("lookbook.api")


class Queue:
    """Writes into the metrics how many runs wait and run, and how long those took that have ended."""

    def __init__(self, runs: Runs, metrics: Metrics) -> None:
        self._runs, self._metrics = runs, metrics
        self._at, self._since = -float("inf"), datetime.now(UTC)
        self._counted: OrderedDict[str, None] = OrderedDict()
        self._asking = anyio.Lock()

    async def update(self) -> None:
        """Ask Prefect, if the last answer is old; what it does not tell stays as it was."""
        async with self._asking:
            if time.monotonic() - self._at < QUEUE_HOLDS_SECONDS:
                return
            self._at = time.monotonic()
            asked = datetime.now(UTC)
            try:
                for flow in FLOWS:
                    await self._update(flow)
                self._since = asked
            except LookbookError as error:
                logger.warning("the queue is not known: %s", ascii(str(error)))

    async def _update(self, flow: str) -> None:
        for state, number in (await self._runs.waiting(flow)).items():
            self._metrics.runs.labels(flow, state).set(number)
        for run in await self._runs.ended(flow, self._since - OVERLAP):
            if run.run_id in self._counted:
                continue
            self._counted[run.run_id] = None
            self._metrics.ended.labels(flow, run.state).inc()
            self._metrics.run_seconds.labels(flow).observe(run.seconds)
        while len(self._counted) > MOST_REMEMBERED:
            self._counted.popitem(last=False)


#: Seconds for which an answer holds, so that nobody keeps the parts busy by asking; and that each has.
HOLDS_SECONDS = 2.0
LONGEST_SECONDS = 10.0


class Readiness:
    """Asks lake, registry and Prefect whether they are there."""

    def __init__(self, workspace: Workspace, prefect_answers: Callable[[], Awaitable[bool]]) -> None:
        self._workspace, self._prefect_answers = workspace, prefect_answers
        self._found: dict[str, bool] = {}
        self._at = -float("inf")
        self._asking = anyio.Lock()

    async def parts(self) -> dict[str, bool]:
        """Return which of them answer."""
        async with self._asking:
            if time.monotonic() - self._at > HOLDS_SECONDS:
                self._found = {
                    "lake": await _answers("lake", self._lake),
                    "registry": await _answers("registry", self._registry),
                    "prefect": await _answers("prefect", self._prefect_answers),
                }
                self._at = time.monotonic()
            return dict(self._found)

    async def _lake(self) -> bool:
        await anyio.to_thread.run_sync(lambda: self._workspace.lake.read_version("datasets/none/CURRENT"))
        return True

    async def _registry(self) -> bool:
        return bool(await anyio.to_thread.run_sync(lambda: self._workspace.registry.fetchval("SELECT true")))


async def _answers(name: str, ask: Callable[[], Awaitable[bool]]) -> bool:
    try:
        with anyio.fail_after(LONGEST_SECONDS):
            return await ask()
    except Exception as error:  # noqa: BLE001 - whatever it is, it is not ready
        logger.warning("%s is not ready: %s", name, ascii(str(error)))
        return False
