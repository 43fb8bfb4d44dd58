"""Peak memory of the imaging on photos of 12 megapixels, two threads."""

from __future__ import annotations

import subprocess
import sys
import time
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path

import psutil

from benchmarks import corpora
from benchmarks.processes import discard, say, shell
from benchmarks.series import Aim, Series, aims_table

RUNS = 3
THREADS = 2
#: Seconds between two looks.
INTERVAL = 0.02
AIM_MB = 300


@dataclass
class Peak:
    """Most megabytes (resident) seen at once: of the parent, of its children together, and of any one child."""

    parent: float = 0
    children: float = 0
    child: float = 0

    def look(self, process: psutil.Process) -> None:
        """Take up what they hold now."""
        self.parent = max(self.parent, resident_mb(process))
        held = [resident_mb(child) for child in process.children(recursive=True)]
        self.children = max(self.children, sum(held))
        self.child = max([self.child, *held])


def resident_mb(process: psutil.Process) -> float:
    """Resident megabytes of a process; 0 of one that has ended."""
    with suppress(psutil.Error):
        return float(process.memory_info().rss) / 2**20
    return 0.0


def section(home: Path, photos: int | None = None) -> str:
    """Measure; with `photos`, so many of them, for a trial."""
    corpus = replace(corpora.TWELVE_MEGAPIXELS, count=photos or corpora.TWELVE_MEGAPIXELS.count)
    folder = corpora.folder_of(corpus)
    series = Series()
    for number in range(RUNS):
        say(f"memory: run {number + 1} of {RUNS}")
        series.add(vars(watched(folder, home)))
    # While no child draws, the imaging process is the parent.
    imaging = "children" if max(series.values["children"]) else "parent"
    aim = Aim("MB of the imaging process (all children together)", series.values[imaging], AIM_MB, digits=0)
    return f"""## Memory

{corpus.count} photos of {corpus.width}×{corpus.height}, imaging alone, {THREADS} threads. Resident MB, looked at every
{1000 * INTERVAL:.0f} ms; pages that processes share are counted in each.

| process | peak MB |
|---|---|
| parent | {series.cell("parent", 0)} |
| children together | {series.cell("children", 0)} |
| largest child | {series.cell("child", 0)} |

{aims_table([aim])}"""


def watched(folder: Path, home: Path) -> Peak:
    """The peak memory of one run of `benchmarks.bare`."""
    discard(home / "lake")
    command = [sys.executable, "-m", "benchmarks.bare", str(folder), str(home)]
    settings = shell(home) | {"LOOKBOOK_THREADS": str(THREADS)}
    peak = Peak()
    with psutil.Popen(command, env=settings, cwd=home, stdout=subprocess.DEVNULL) as process:
        while process.poll() is None:
            with suppress(psutil.NoSuchProcess):
                peak.look(process)
            time.sleep(INTERVAL)
    if process.returncode:
        sys.exit(f"{command} ended with {process.returncode}")
    return peak
