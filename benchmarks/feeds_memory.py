"""Peak memory of an extract and of a transform by SQL, on CSV files that grow: the slope says what 20 GB would take."""

from __future__ import annotations

import random
import sys
import time
from datetime import UTC, datetime
from pathlib import Path

import numpy as np

from benchmarks.peers import clock
from benchmarks.processes import discard, say, timed
from benchmarks.series import Aim, aims_table
from lookbook.blocks.workspace import local_workspace
from lookbook.tasks.tables.context import Context
from lookbook.tasks.tables.spec.pipeline import Pipeline

#: Sizes of the files, in MB.
SIZES = (600, 2000, 6000)
AIM_MB = 1000
TASKS = {
    "extract": {"source": {"type": "file", "path": "rows.csv"}},
    "clean": {"after": ["extract"], "sql": "clean.sql"},
}
SQL = "SELECT sku, shop, TRY_CAST(price AS DECIMAL(10, 2)) AS price, day, note FROM extract WHERE price <> ''"


def section(home: Path) -> str:
    """Measure each size once."""
    folder = home / "feed"
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "clean.sql").write_text(SQL)
    rows = []
    for size in SIZES:
        say(f"feeds_memory: {size} MB")
        write(folder / "rows.csv", size)
        rows.append(measured(folder, home, size))
    (folder / "rows.csv").unlink()
    peaks = [row["mb"] for row in rows]
    slope = float(np.polyfit([row["size"] for row in rows], peaks, 1)[0]) * 1000
    expected = peaks[-1] + max(0.0, slope) * (20 - SIZES[-1] / 1000)
    aim = Aim("MB of memory for 20 GB of CSV, by the slope", [expected], AIM_MB, digits=0)
    table = "\n".join(
        f"| {row['size']:.0f} MB | {row['rows']:,.0f} | {row['extract_seconds']:.1f} | {row['clean_seconds']:.1f} | "
        f"{row['mb']:.0f} |"
        for row in rows
    )
    return f"""## Memory of feeds

A CSV of five columns, a fifth of its lines with quotes, is extracted into the lake and cleaned by SQL, in one process.
The peak grows by {slope:.0f} MB for each GB of CSV.

| CSV | rows | extract, s | SQL, s | peak MB |
|---|---|---|---|---|
{table}

{aims_table([aim])}"""


def measured(folder: Path, home: Path, size: int) -> dict[str, float]:
    """One run in a process of its own."""
    discard(home / "lake")
    printed, _ = timed([sys.executable, "-m", "benchmarks.feeds_memory", str(folder)], home)
    return {"size": float(size), "mb": printed["peak_mb"], **printed}


def write(path: Path, size: int) -> None:
    """Write rows until the file has so many MB."""
    chance = random.Random(7)  # noqa: S311
    block = "".join(
        f"{number:08d},shop {number % 97},{chance.uniform(1, 500):.2f},2026-0{number % 9 + 1}-1{number % 9},"
        + (f'"a note, with ""quotes"" {chance.random()}"\n' if number % 5 == 0 else f"a note {chance.random()}\n")
        for number in range(20_000)
    )
    with path.open("w", encoding="utf-8") as file:
        file.write("sku,shop,price,day,note\n")
        while file.tell() < size * 1_000_000:
            file.write(block)


def main(folder: Path) -> None:
    """What is measured: an extract and a transform."""
    from lookbook.tasks.tables.extract import extract  # noqa: PLC0415 - measured with what it imports
    from lookbook.tasks.tables.transform import run_sql  # noqa: PLC0415

    pipeline = Pipeline.model_validate({"name": "memory", "tasks": TASKS})
    context = Context(local_workspace(folder.parent), pipeline, folder, datetime(2026, 1, 1, tzinfo=UTC))
    started = time.perf_counter()
    staged = extract(context, "extract")
    extracted = time.perf_counter()
    cleaned = run_sql(context, "clean", {"extract": staged})
    told = {
        "rows": cleaned.groups[""].rows,
        "extract_seconds": extracted - started,
        "clean_seconds": time.perf_counter() - extracted,
        "peak_mb": clock.peak_mb(),
    }
    clock.write(told)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
