"""Many messages within seconds become one event: a copy of ten thousand objects is one change."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Hashable
from dataclasses import dataclass
from typing import Generic, TypeVar

Key = TypeVar("Key", bound=Hashable)


@dataclass
class _Burst:
    """Calls that wait together: when the first and the last of them came."""

    first: float
    last: float


class Debounce(Generic[Key]):
    """Holds calls with the same key until none came for a while, then announces them all at once.

    Args:
        announce: called in a thread, once for all that waited; what it raises, each of them raises.
        quiet: seconds without a further call after which it is called.
        longest: seconds after which it is called however many still come.
    """

    def __init__(self, announce: Callable[[Key], None], quiet: float, longest: float) -> None:
        self._announce = announce
        self._quiet = quiet
        self._longest = longest
        self._bursts: dict[Key, tuple[_Burst, asyncio.Task[None]]] = {}

    async def told(self, key: Key) -> None:
        """Return once `key` was announced after this call began."""
        now = asyncio.get_running_loop().time()
        if key not in self._bursts:
            burst = _Burst(now, now)
            self._bursts[key] = burst, asyncio.create_task(self._announced(key, burst))
        burst, announced = self._bursts[key]
        burst.last = now
        await asyncio.shield(announced)  # who hangs up must not take the others' event along

    async def _announced(self, key: Key, burst: _Burst) -> None:
        loop = asyncio.get_running_loop()
        while (left := min(burst.last + self._quiet, burst.first + self._longest) - loop.time()) > 0:
            await asyncio.sleep(left)
        del self._bursts[key]  # whoever comes from here on is not covered by the event that is sent now
        await asyncio.to_thread(self._announce, key)
