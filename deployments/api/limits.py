"""Rate limits: a bucket of tokens for each one who asks, filled at a steady rate."""

from __future__ import annotations

import time
from collections import OrderedDict
from collections.abc import Callable

#: Buckets that are remembered; the one that was not asked for the longest is forgotten first: it is full again.
MOST_BUCKETS = 20_000


class Buckets:
    """Token buckets, by name. Not for several threads: it is asked from the event loop alone.

    Args:
        rate: tokens that come back in a second.
        burst: tokens of a full bucket.
        clock: seconds that only grow.
    """

    def __init__(self, rate: float, burst: int, clock: Callable[[], float] = time.monotonic) -> None:
        self._rate, self._burst, self._clock = rate, burst, clock
        self._buckets: OrderedDict[str, tuple[float, float]] = OrderedDict()

    def take(self, name: str) -> float:
        """Take a token; 0 where there was one, else the seconds until there is."""
        left = self._left(name)
        taken = left >= 1
        self._buckets[name] = (left - 1 if taken else left, self._clock())
        self._buckets.move_to_end(name)
        while len(self._buckets) > MOST_BUCKETS:
            self._buckets.popitem(last=False)
        return 0.0 if taken else (1 - left) / self._rate

    def wait(self, name: str) -> float:
        """Return the seconds until there is a token; none is taken."""
        left = self._left(name)
        return 0.0 if left >= 1 else (1 - left) / self._rate

    def _left(self, name: str) -> float:
        left, since = self._buckets.get(name, (float(self._burst), self._clock()))
        return min(self._burst, left + (self._clock() - since) * self._rate)
