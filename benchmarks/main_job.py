"""The main job by the real command, against the imaging alone; and what a run costs that finds nothing to do."""

from __future__ import annotations

import subprocess
import time
from pathlib import Path

from benchmarks.processes import COMMAND, ROOT, discard, ours, say, shell, timed
from benchmarks.series import Series
from lookbook.tasks.datasets.sources.opening import open_source

REAL = ROOT.parent / "shared" / "data" / "fashion-small-1000.zip"
RUNS = 3
#: Of the source that has a minute of imaging in it.
LONG_RUNS = 1


def section(home: Path) -> str:
    """Both tables."""
    sources = {"sample-2000": ("sample://2000", RUNS), "sample-6000": ("sample://6000", LONG_RUNS)}
    if REAL.exists():
        sources["real-1000"] = (str(REAL), RUNS)
    return main_job_table(sources, home) + "\n" + again_table(home)


def whole(source: str, home: Path, name: str) -> dict[str, float]:
    """The whole run by the real command, into an empty lake, with the servers running."""
    discard(home / "lake")
    summary, used = timed([*COMMAND, "ingest", source, "--dataset", name, "--json"], home)
    return used | {"seconds": summary["seconds"], "images_per_second": summary["images_per_second"]}


def bare(source: str, home: Path) -> dict[str, float]:
    """The imaging alone, into an empty lake."""
    measured = ours("bare", source, home)
    return measured | {"images_per_second": measured["images"] / measured["seconds"]}


def interleaved(source: str, home: Path, label: str, count: int) -> tuple[Series, Series]:
    """Whole run and imaging alone in turn."""
    list(open_source(source, home / "scratch").files())  # a sample is drawn when it is first listed
    runs, images = Series(), Series()
    for number in range(count):
        say(f"{label}: pair {number + 1} of {count}")
        runs.add(whole(source, home, f"{label}-{number}"))
        images.add(bare(source, home))
    return runs, images


def main_job_table(sources: dict[str, tuple[str, int]], home: Path) -> str:
    """Images per second, memory, and the share of the run that is not imaging."""
    lines = [
        "## The main job",
        "",
        f"{RUNS} interleaved runs of each, {LONG_RUNS} of sample-6000.",
        "",
        "| source | whole run, images/s | imaging alone, images/s | whole run, s | imaging alone, s | not imaging |"
        " CPU s, process | peak memory, MB |",
        "|---|---|---|---|---|---|---|---|",
    ]
    whole("sample://100", home, "warm-up")  # starts the servers, and is not counted
    for label, (source, count) in sources.items():
        runs, images = interleaved(source, home, label, count)
        share = 1 - images.median("seconds") / runs.median("seconds")
        lines.append(
            f"| {label} | {runs.cell('images_per_second')} | {images.cell('images_per_second')} |"
            f" {runs.cell('seconds')} | {images.cell('seconds')} | {share:.0%} |"
            f" {runs.cell('process_cpu')} | {runs.cell('process_mb', 0)} |"
        )
    lines += [
        "",
        "Whole run: from the start of the flow to its summary (`seconds` of `lookbook ingest --json`): listing, the",
        "catalogue, subflows, snapshot, report, registry and warehouse; start-up of Python and Prefect apart.",
        "Imaging alone: the same batches done in one process without Prefect (`benchmarks/bare.py`).",
        "",
    ]
    return "\n".join(lines)


def again_table(home: Path) -> str:
    """What a run costs that finds nothing changed, and what help costs."""
    source = "sample://2000"
    whole(source, home, "again")
    again, usage = Series(), Series()
    for _ in range(RUNS):
        summary, used = timed([*COMMAND, "ingest", source, "--dataset", "again", "--json"], home)
        again.add(used | {"seconds": summary["seconds"]})
        start = time.perf_counter()
        subprocess.run([*COMMAND, "--help"], env=shell(home), cwd=home, check=True, stdout=subprocess.DEVNULL)  # noqa: S603
        usage.add({"seconds": time.perf_counter() - start})
    return "\n".join(
        [
            "## Again, and help",
            "",
            "| what | seconds |",
            "|---|---|",
            f"| `ingest sample://2000` once more, nothing changed: the flow | {again.cell('seconds')} |",
            f"| the same, the whole process | {again.cell('process_seconds')} |",
            f"| `lookbook --help` | {usage.cell('seconds', 2)} |",
            "",
        ]
    )
