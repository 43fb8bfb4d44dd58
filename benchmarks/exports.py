"""Exports: images a second against a plain loop, and the memory that more images take."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import replace
from pathlib import Path

from benchmarks import corpora
from benchmarks.processes import contend, discard, say, shell
from benchmarks.series import Aim, Series, aims_table

RUNS = 3
#: Images of the snapshots whose exports' memory is compared.
COUNTS = (25_000, 50_000, 100_000)
#: By the plain loop's time, wall; kilobytes for each image more.
AIM_SPEED, AIM_MEMORY = 2.0, 5.0

EXPLAINED = """## Exports

`square-224` into an image folder, split in three, with metadata, checksums, card and contact sheet, against a loop that
opens, cuts and saves (`benchmarks/peers/export_loop.py`, one thread, nothing else). Then `originals` of small photos
into WebDataset, from snapshots of more and more images: resident MB of the process at its peak, those that draw apart.
"""


def section(home: Path, photos: int | None = None) -> str:
    """Measure; with `photos`, so many of each, once, for a trial."""
    lines = [EXPLAINED, *speed(home, photos), "", *memory(home, photos)]
    return "\n".join(lines)


def speed(home: Path, photos: int | None) -> list[str]:
    """Ours and the loop in turn, on large photos."""
    corpus = replace(corpora.LARGE, count=photos or corpora.LARGE.count)
    folder = corpora.folder_of(corpus)
    build(home, "large", "LARGE", corpus.count)
    mine, loop = Series(), Series()
    for number in range(1 if photos else RUNS):
        say(f"exports: run {number + 1}")
        mine.add(export(home, "large", "square-224", "imagefolder"))
        loop.add(
            contend([sys.executable, "-m", "benchmarks.peers.export_loop", str(folder), str(home / "loop"), "1"], home)
        )
        discard(home / "loop")
    rates = {name: Series() for name in ("ours", "plain loop")}
    for series, measured in zip(rates.values(), (mine, loop), strict=True):
        for wall in measured.values["wall_ms"]:
            series.add({"rate": 1000 / wall})
    rows = [
        f"| {name} | {rates[name].cell('rate')} | {measured.cell('cpu_ms')} |"
        for name, measured in (("ours", mine), ("plain loop", loop))
    ]
    aim = Aim("images a second, ours by the loop's", rates["ours"].ratios("rate", rates["plain loop"]), AIM_SPEED, True)
    head = [
        f"| {corpus.count} photos of {corpus.width}×{corpus.height} | images/s | CPU ms an image |",
        "|---|---|---|",
    ]
    return [*head, *rows, "", aims_table([aim])]


def memory(home: Path, photos: int | None) -> list[str]:
    """The peak of exports of more and more images."""
    counts = [photos, 2 * photos, 4 * photos] if photos else list(COUNTS)
    rows, peaks = [], []
    for count in counts:
        name = f"small-{count}"
        build(home, name, "SMALL", count)
        say(f"exports: {count} images")
        measured = export(home, name, "originals", "webdataset")
        peaks.append(measured["peak_mb"])
        rate = measured["images"] / measured["seconds"]
        rows.append(f"| {count:,} | {measured['seconds']:.1f} | {rate:.0f} | {measured['peak_mb']:.0f} |")
    slope = 1024 * (peaks[-1] - peaks[0]) / (counts[-1] - counts[0])
    aim = Aim("KB of memory for each image more", [slope], AIM_MEMORY, digits=2)
    head = ["| images | seconds | images/s | peak MB |", "|---|---|---|---|"]
    return [*head, *rows, "", aims_table([aim])]


def build(home: Path, dataset: str, corpus: str, count: int) -> None:
    """Write a lake's dataset in a process of its own: what that holds is not the export's."""
    command = [sys.executable, "-m", "benchmarks.export_lake", str(home), dataset, corpus, str(count)]
    subprocess.run(command, env=shell(home), cwd=home, check=True)  # noqa: S603


def export(home: Path, dataset: str, recipe: str, format_: str) -> dict[str, float]:
    """Measure one export."""
    command = [sys.executable, "-m", "benchmarks.exporting", "-", str(home), dataset, recipe, format_]
    try:
        return contend(command, home)
    finally:
        discard(home / "out")
