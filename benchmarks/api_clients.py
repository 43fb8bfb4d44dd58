"""Clients of an HTTP server: many at once, each with a connection of its own, one request after the other."""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field


@dataclass
class Load:
    """What many clients saw.

    Attributes:
        seconds: of each request, from sending it to the last byte of its answer.
        statuses: how often each came; 0 is a broken connection.
        wall: seconds in all.
    """

    seconds: list[float] = field(default_factory=list)
    statuses: Counter[int] = field(default_factory=Counter)
    wall: float = 0.0

    def quantile(self, share: float) -> float:
        """Seconds in which this share of the requests was answered."""
        ordered = sorted(self.seconds)
        return ordered[min(len(ordered) - 1, int(share * len(ordered)))]


def ask(port: int, paths: Sequence[str], clients: int, requests: int) -> Load:
    """Let clients ask for paths in turn, each from another one on."""
    load = Load()
    start = time.perf_counter()
    asyncio.run(_all(port, paths, clients, requests, load))
    load.wall = time.perf_counter() - start
    return load


async def _all(port: int, paths: Sequence[str], clients: int, requests: int, load: Load) -> None:
    await asyncio.gather(*(_client(port, paths, number, requests, load) for number in range(clients)))


async def _client(port: int, paths: Sequence[str], number: int, requests: int, load: Load) -> None:
    try:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        for turn in range(requests):
            path = paths[(number * 7 + turn) % len(paths)]
            start = time.perf_counter()
            writer.write(f"GET {path} HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\n\r\n".encode())
            head = await reader.readuntil(b"\r\n\r\n")
            lines = head.decode("latin-1").lower().split("\r\n")
            length = next(int(line.partition(":")[2]) for line in lines if line.startswith("content-length"))
            await reader.readexactly(length)
            load.seconds.append(time.perf_counter() - start)
            load.statuses[int(lines[0].split()[1])] += 1
        writer.close()
    except (OSError, asyncio.IncompleteReadError, StopIteration):
        load.statuses[0] += 1
