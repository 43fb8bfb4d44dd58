"""How far the issue flags agree with CleanVision's: the same files, those of the corpora with known faults made."""

from __future__ import annotations

import csv
import statistics
import subprocess
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from PIL import Image, ImageFilter, ImageOps

from benchmarks import corpora
from benchmarks.environment import peer
from benchmarks.processes import say, shell
from lookbook.tasks.datasets.snapshot import THRESHOLDS, UsualSize, issue_columns
from lookbook.tasks.images.measure import SCORES
from lookbook.tasks.images.recipe import Recipe
from lookbook.tasks.images.render import render

#: Of each corpus.
PHOTOS = 40

EXPLAINED = """## Issue flags, and CleanVision's

Both looked at the same files: {files} photos of each corpus, and each of them darkened, lightened, blurred, made flat,
grey, and cut to a strip. Sizes are odd among all files of a corpus. Scores are of 0 to 1.

| corpus | issue | mean difference of scores | largest | CleanVision's flags | ours | both | precision | recall |
|---|---|---:|---:|---:|---:|---:|---:|---:|"""

FAULTS: dict[str, Callable[[Image.Image], Image.Image]] = {
    "as-it-is": lambda photo: photo,
    "dark": lambda photo: photo.point(lambda level: level * 0.15),
    "light": lambda photo: photo.point(lambda level: 240 + level * 0.05),
    # Only a broad histogram lets CleanVision call an image blurry.
    "blurred": lambda photo: ImageOps.autocontrast(photo.filter(ImageFilter.GaussianBlur(max(photo.size) / 24))),
    "flat": lambda photo: photo.filter(ImageFilter.BoxBlur(max(photo.size))),
    "grey": lambda photo: photo.convert("L"),
    "strip": lambda photo: photo.crop((0, 0, photo.width, photo.height // 5)),
}

Rows = dict[str, dict[str, Any]]


def section(home: Path, photos: int | None = None) -> str:
    """Compare; with `photos`, so many of each corpus, for a trial."""
    count = photos or PHOTOS
    lines = [EXPLAINED.format(files=count)]
    for corpus in (corpora.LARGE, corpora.SMALL):
        say(f"flags of {corpus.name}")
        folder = corpora.folder_of(replace(corpus, count=count) if photos else corpus)
        files = home / "files" / corpus.name
        files.mkdir(parents=True)
        for path in sorted(folder.iterdir())[:count]:
            make_faults(path, files)
        theirs = cleanvision(files, home)
        if theirs is None:
            lines.append(f"| {corpus.name} | not measured: CleanVision could not run |" + " |" * 7)
            continue
        lines += [f"| {corpus.name} | {row}" for row in compared(ours(files), theirs)]
    return "\n".join([*lines, ""])


def make_faults(path: Path, target: Path) -> None:
    """One photo with each of the `FAULTS`."""
    with Image.open(path) as photo:
        photo.load()
        for name, make in FAULTS.items():
            make(photo).save(target / f"{path.stem}-{name}.jpg", quality=92)


def cleanvision(files: Path, home: Path) -> Rows | None:
    """CleanVision's scores and flags, by name of the file; None where it cannot run."""
    command = peer("cleanvision_issues", files, home / "out", 1)
    if command is None or subprocess.run(command, env=shell(home), cwd=home, stdout=subprocess.DEVNULL).returncode:  # noqa: PLW1510, S603
        return None
    with (home / "out" / "issues.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    return {Path(row[""]).name: dict(_typed(row)) for row in rows}


def _typed(row: dict[str, str]) -> Iterator[tuple[str, float | bool]]:
    for name, value in row.items():
        if name.endswith("_score"):
            yield name, float(value)
        elif name.endswith("_issue"):
            yield name, value == "True"


def ours(files: Path) -> Rows:
    """Our scores and flags, by name of the file."""
    paths = sorted(files.iterdir())
    with ThreadPoolExecutor() as pool:
        assets = list(pool.map(lambda path: render(path.read_bytes(), Recipe(), ()).asset, paths))
    names = [*SCORES, "original_width", "original_height", "decode_warnings"]
    table = pa.table({name: [asset[name] for asset in assets] for name in names})
    sizes = np.sqrt(np.array([asset["original_width"] * asset["original_height"] for asset in assets], float))
    judged = issue_columns(table, Recipe(), UsualSize.of(sizes))
    columns = {name: column.to_pylist() for name, column in judged.items()}
    columns |= {name: table.column(name).to_pylist() for name in SCORES}
    return {path.name: {name: column[row] for name, column in columns.items()} for row, path in enumerate(paths)}


def compared(ours: Rows, theirs: Rows) -> Iterator[str]:
    """A row of the table for each issue."""
    for issue in (*THRESHOLDS, "odd_size"):
        score, flag = f"{issue}_score", f"is_{issue}_issue"
        gaps = [abs(ours[name][score] - row[score]) for name, row in theirs.items()]
        found = {name for name, row in theirs.items() if row[flag]}
        flagged = {name for name, row in ours.items() if row[flag]}
        both = len(found & flagged)
        cells = [
            issue,
            f"{statistics.mean(gaps):.4f}",
            f"{max(gaps):.4f}",
            str(len(found)),
            str(len(flagged)),
            str(both),
        ]
        yield " | ".join([*cells, _share(both, len(flagged)), _share(both, len(found))]) + " |"


def _share(part: int, whole: int) -> str:
    return f"{part / whole:.3f}" if whole else ""
