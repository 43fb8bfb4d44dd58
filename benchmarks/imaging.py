"""The imaging against others: one interleaved run over two corpora, each contender a process of its own."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

from benchmarks import corpora
from benchmarks.corpora import Corpus
from benchmarks.environment import peer
from benchmarks.imaging_text import FLOORS, KEEPING, Result, section_text
from benchmarks.processes import ContenderError, contend, discard, ours, say
from benchmarks.series import Series
from lookbook.blocks.embedded import prefect_server

#: Runs of those that are quick, and of those that take several times as long.
RUNS, LONG_RUNS = 3, 2


@dataclass(frozen=True)
class Contender:
    """One that does the work.

    Attributes:
        name: what it is called in the table.
        run: does the photos of a folder once; None where it cannot run.
        runs: how often, at the most.
        every: it does every n-th photo only: its time for a photo does not depend on their number.
    """

    name: str
    run: Callable[[], dict[str, float] | None]
    runs: int = RUNS
    every: int = 1


def section(home: Path, photos: int | None = None) -> str:
    """Measure both corpora; with `photos`, that many of each, once, for a trial."""
    prefect_server.start(home)  # by this process: its CPU is not the contender's
    results = []
    for corpus, every in ((corpora.LARGE, 3), (corpora.SMALL, 4)):
        chosen = replace(corpus, count=photos or corpus.count)
        results.append(measure(chosen, home, every, 1 if photos else RUNS))
    return section_text(*results)


def measure(corpus: Corpus, home: Path, every: int, rounds: int) -> Result:
    """All contenders in turn, round by round."""
    say(f"{corpus.name}: drawing {corpus.count} photos, unless they are there")
    folder = corpora.folder_of(corpus)
    found = contenders(folder, home, every)
    series = {contender.name: Series() for contender in found}
    faults: dict[str, str] = {}
    for number in range(rounds):
        for contender in found:
            if number < contender.runs and contender.name not in faults:
                say(f"{corpus.name}: run {number + 1} of {contender.runs}: {contender.name}")
                _add(contender, series, faults)
            discard(home / "out")
    return Result(corpus, _bytes_each(folder), series, faults, {c.name: c.every for c in found})


def _add(contender: Contender, series: dict[str, Series], faults: dict[str, str]) -> None:
    try:
        measured = contender.run()
    except ContenderError as error:
        faults[contender.name] = str(error)
        return
    if measured is None:
        faults[contender.name] = "it could not be installed"
    else:
        series[contender.name].add(measured)


def contenders(folder: Path, home: Path, every: int) -> list[Contender]:
    """Who takes part, in turn."""

    def other(module: str, step: int, *more: str) -> Callable[[], dict[str, float] | None]:
        command = peer(module, folder, home / "out", step, *more)
        return lambda: contend(command, home) if command else None

    return [
        Contender("ours, bare", lambda: ours("bare", folder, home)),
        *(Contender(name, other("floor", 1, way)) for way, name in FLOORS.items()),
        Contender(KEEPING, other("floor", 1, "keeping")),
        Contender("ours, under a flow", lambda: ours("under_flow", folder, home)),
        Contender("plain loop", other("plain_loop", every), LONG_RUNS, every),
        Contender("img2dataset, three calls", other("img2dataset_resizer", every, "all"), LONG_RUNS, every),
        Contender("img2dataset, standard only", other("img2dataset_resizer", every, "standard"), LONG_RUNS, every),
    ]


def _bytes_each(folder: Path) -> int:
    sizes = [path.stat().st_size for path in folder.iterdir()]
    return round(sum(sizes) / len(sizes))
