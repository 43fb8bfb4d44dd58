"""The queue of runs for the metrics, asked no more often than needed."""

from __future__ import annotations

import logging
import time
from collections import OrderedDict
from datetime import UTC, datetime, timedelta

import anyio

from lookbook.blocks.errors import LookbookError
from lookbook.deployments.api.metrics import Metrics
from lookbook.deployments.api.runs import Runs

FLOWS = ("ingest", "export-dataset")
#: Seconds for which an answer holds; ended runs are looked for so much further back, for those that were noted late.
HOLDS_SECONDS = 10.0
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
            if time.monotonic() - self._at < HOLDS_SECONDS:
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
