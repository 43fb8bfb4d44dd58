"""The imaging on a store that takes 50 ms a request, against the local folder."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from benchmarks import corpora
from benchmarks.processes import ours, say
from benchmarks.series import Aim, Series, aims_table

RUNS = 3
DELAY = 0.05
#: Photos of the small corpus: each of them is five requests.
SMALL_PHOTOS = 1500
AIM = 1.2

EXPLAINED = f"""## A store with {1000 * DELAY:.0f} ms a request

Imaging alone, into a local folder and into one whose every request first sleeps {1000 * DELAY:.0f} ms, as does every
read of the source: five requests a photo (the photo, its original, three outputs). Runs in turn.
"""


def section(home: Path, photos: int | None = None) -> str:
    """Measure; with `photos`, so many of each corpus, for a trial."""
    small = replace(corpora.SMALL, count=photos or SMALL_PHOTOS)
    chosen = [replace(corpora.LARGE, count=photos or corpora.LARGE.count), small]
    rows, aims = [], []
    for corpus in chosen:
        folder = corpora.folder_of(corpus)
        series = {delay: Series() for delay in (0.0, DELAY)}
        for number in range(RUNS):
            for delay, measured in series.items():
                say(f"store, {corpus.name}: run {number + 1} of {RUNS}, {1000 * delay:.0f} ms")
                measured.add(ours("delayed", folder, home, delay))
        local, late = series.values()
        rows.append(
            f"| {corpus.name}, {corpus.count} photos | {local.cell('wall_ms', 2)} | {late.cell('wall_ms', 2)} |"
        )
        aims.append(Aim(f"{corpus.name}: wall time, late by local", late.ratios("wall_ms", local), AIM))
    head = ["| corpus | local, ms a photo | late, ms a photo |", "|---|---|---|"]
    return "\n".join([EXPLAINED, *head, *rows, "", aims_table(aims)])
