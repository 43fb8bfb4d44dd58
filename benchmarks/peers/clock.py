"""The clock of every contender: wall and CPU seconds of its work alone, printed as one line of JSON."""

from __future__ import annotations

import json
import re
import resource
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import psutil


def report(work: Callable[[], int]) -> None:
    """Do the work and print its measurements."""
    write(measured(work))


def measured(work: Callable[[], int]) -> dict[str, float]:
    """Do the work: its ``images`` (what it returns), ``seconds`` and ``cpu_seconds``."""
    wall, cpu = time.perf_counter(), cpu_seconds()
    images = work()
    return {"images": images, "seconds": time.perf_counter() - wall, "cpu_seconds": cpu_seconds() - cpu}


def write(measurements: dict[str, float]) -> None:
    """Print measurements as the last line."""
    sys.stdout.write("\n" + json.dumps(measurements) + "\n")


def cpu_seconds() -> float:
    """User and system seconds so far: of this process, of its children that ended, and of those that live."""
    ended = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(used.ru_utime + used.ru_stime for used in ended) + sum(
        tree_seconds(child) for child in psutil.Process().children(recursive=True)
    )


def tree_seconds(process: psutil.Process) -> float:
    """User and system seconds of a living process and of its children that ended; 0 of one that is gone."""
    with suppress(psutil.Error):
        used = process.cpu_times()
        return float(used.user + used.system + getattr(used, "children_user", 0) + getattr(used, "children_system", 0))
    return 0.0


def peak_mb() -> float:
    """The most megabytes that this process held so far; resource's ru_maxrss begins at what its parent held."""
    status = Path("/proc/self/status").read_text(encoding="utf-8")
    found = re.search(r"^VmHWM:\s+(\d+) kB", status, re.MULTILINE)
    return int(found[1]) / 1024 if found else float("nan")


def photos(source: Path, every: int) -> list[Path]:
    """Every n-th file of a corpus, in the order of names."""
    return sorted(source.iterdir())[::every]


def arguments() -> tuple[list[Path], Path]:
    """What a contender is told on its command line: ``SOURCE TARGET EVERY``; its photos and where they go.

    The folders of the three outputs exist below the target afterwards.
    """
    target = Path(sys.argv[2])
    for name in ("standard", "grey", "thumb"):
        (target / name).mkdir(parents=True, exist_ok=True)
    return photos(Path(sys.argv[1]), int(sys.argv[3])), target
