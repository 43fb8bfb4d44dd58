"""Whether the parts that the service needs answer."""

from __future__ import annotations

import logging
import time
from collections.abc import Awaitable, Callable

import anyio
import anyio.to_thread
import asyncpg

from lookbook.blocks.workspace import Workspace

#: Seconds for which an answer holds, so that nobody keeps the parts busy by asking; and that each has.
HOLDS_SECONDS = 2.0
LONGEST_SECONDS = 10.0

logger = logging.getLogger("lookbook.api")


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
        async def work(connection: asyncpg.Connection[asyncpg.Record]) -> bool:
            return await connection.fetchval("SELECT true")  # type: ignore[no-any-return]

        return await anyio.to_thread.run_sync(lambda: self._workspace.registry.run(work))


async def _answers(name: str, ask: Callable[[], Awaitable[bool]]) -> bool:
    try:
        with anyio.fail_after(LONGEST_SECONDS):
            return await ask()
    except Exception as error:  # noqa: BLE001 - whatever it is, it is not ready
        logger.warning("%s is not ready: %s", name, ascii(str(error)))
        return False
