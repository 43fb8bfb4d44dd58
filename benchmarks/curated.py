"""One tool for what takes three: CleanVision, imagededup and img2dataset side by side with ours, on the same files."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path

from benchmarks import corpora
from benchmarks.corpora import Corpus
from benchmarks.environment import peer
from benchmarks.processes import ContenderError, contend, discard, ours, say
from benchmarks.series import Series, spread
from lookbook.blocks.embedded import prefect_server

RUNS = 1
PEERS = {
    "img2dataset's resizer, standard output only": ("img2dataset_resizer", "standard"),
    "CleanVision, its default issues": ("cleanvision_issues",),
    "imagededup, PHash and its search": ("imagededup_hashes",),
}

EXPLAINED = """## Curated: one tool or three

Resized copies, issue flags and near duplicates of the same files: by img2dataset, CleanVision and imagededup one after
the other, each as it comes, on all cores; and by ours. Seconds, start-up and imports apart. CPU of the process and its
children. Ours alone draws all three outputs, keeps the originals and writes the snapshot, the registry, the warehouse
and the report (whole run); imaging alone is its part that touches pixels. The CPU of Prefect's and PostgreSQL's servers
is not in it.
"""


def section(home: Path, photos: int | None = None) -> str:
    """Measure both corpora; with `photos`, that many of each, for a trial."""
    prefect_server.start(home)
    chosen = [replace(corpus, count=photos or corpus.count) for corpus in (corpora.LARGE, corpora.SMALL)]
    ours("whole_flow", corpora.folder_of(chosen[0]), home)  # starts PostgreSQL, and is not counted
    return "\n".join([EXPLAINED, *(table(corpus, home, 1 if photos else RUNS) for corpus in chosen)])


def table(corpus: Corpus, home: Path, rounds: int) -> str:
    """All of them in turn, round by round, on one corpus."""
    folder = corpora.folder_of(corpus)
    peers = {name: peer(module, folder, home / "out", 1, *more) for name, (module, *more) in PEERS.items()}
    runs: dict[str, Callable[[], dict[str, float]]] = {
        "ours, the whole run": partial(ours, "whole_flow", folder, home),
        "ours, imaging alone": partial(ours, "bare", folder, home),
    }
    runs |= {name: partial(contend, command, home) for name, command in peers.items() if command}
    series = {name: Series() for name in [*runs, *PEERS]}
    faults = {name: "it could not be installed" for name, command in peers.items() if not command}
    for number in range(rounds):
        for name, run in runs.items():
            say(f"{corpus.name}: run {number + 1} of {rounds}: {name}")
            discard(home / "out")
            try:
                series[name].add(run())
            except ContenderError as error:
                faults[name] = str(error)
    return _table(corpus, series, faults)


def _table(corpus: Corpus, series: dict[str, Series], faults: dict[str, str]) -> str:
    lines = [f"### {corpus.name}: {corpus.count} photos", "", "| tool | seconds | CPU s |", "|---|---|---|"]
    for name, measured in series.items():
        if name in faults:
            lines.append(f"| {name} | not measured: {faults[name]} | |")
        else:
            lines.append(f"| {name} | {measured.cell('seconds')} | {measured.cell('cpu_seconds')} |")
    if not faults:
        wall, cpu = (_sums([series[name].values[kind] for name in PEERS]) for kind in ("seconds", "cpu_seconds"))
        lines.append(f"| the three together | {spread(wall, 1)} | {spread(cpu, 1)} |")
    return "\n".join([*lines, ""])


def _sums(columns: list[list[float]]) -> list[float]:
    """The sum of the three, round by round."""
    return [sum(row) for row in zip(*columns, strict=True)]
