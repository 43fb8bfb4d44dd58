"""``make bench``: measures the main job in interleaved runs and writes docs/benchmarks.md."""

from __future__ import annotations

import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from blocks.embedded import postgres, prefect_server
from tasks.datasets.sources.opening import open_source

ROOT = Path(__file__).parents[1]
REAL = ROOT.parent / "shared" / "data" / "fashion-small-1000.zip"
RUNS = 3
#: Of the source that has a minute of imaging in it.
LONG_RUNS = 2

HEAD = """# Benchmarks

Made by `make bench` alone ({runs} interleaved runs of each, {long_runs} of sample-6000; median, with minimum and
maximum). Machine: {cores} cores, Python {python}. The absolute figures are this machine's; the ratios travel.

"""


@dataclass
class Series:
    """The measurements of one thing, one number a run."""

    values: dict[str, list[float]] = field(default_factory=dict)

    def add(self, measured: dict[str, float]) -> None:
        """Take up the numbers of one run."""
        for name, value in measured.items():
            self.values.setdefault(name, []).append(value)

    def median(self, name: str) -> float:
        """The median of one number."""
        return statistics.median(self.values[name])

    def cell(self, name: str, digits: int = 1) -> str:
        """Median, minimum and maximum, as a table's cell."""
        low, high = min(self.values[name]), max(self.values[name])
        return f"{self.median(name):.{digits}f} ({low:.{digits}f}–{high:.{digits}f})"


def shell(home: Path) -> dict[str, str]:
    """An environment without settings of the user's own."""
    kept = {k: v for k, v in os.environ.items() if not k.startswith(("PREFECT_", "LOOKBOOK_"))}
    return kept | {"LOOKBOOK_HOME": str(home), "PYTHONPATH": str(ROOT)}


def timed(command: list[str], home: Path) -> tuple[dict[str, Any], dict[str, float]]:
    """Run a command that prints JSON; with the wall and CPU seconds and the peak memory of its process."""
    start = time.perf_counter()
    with subprocess.Popen(command, env=shell(home), cwd=home, stdout=subprocess.PIPE) as process:  # noqa: S603
        output = process.stdout.read() if process.stdout else b""
        _, status, used = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        sys.exit(f"{command} ended with {process.returncode}")
    cpu = used.ru_utime + used.ru_stime
    return json.loads(output), {
        "process_seconds": time.perf_counter() - start,
        "process_cpu": cpu,
        "process_mb": used.ru_maxrss / 1024,
    }


def whole(source: str, home: Path, name: str) -> dict[str, float]:
    """The whole run by the real command, into an empty lake, with the servers running."""
    shutil.rmtree(home / "lake", ignore_errors=True)
    command = [sys.executable, "-c", "from deployments.cli import main; main()"]
    summary, used = timed([*command, "ingest", source, "--dataset", name, "--json"], home)
    return used | {"seconds": summary["seconds"], "images_per_second": summary["images_per_second"]}


def bare(source: str, home: Path) -> dict[str, float]:
    """The imaging alone, into an empty lake."""
    shutil.rmtree(home / "lake", ignore_errors=True)
    measured, _ = timed([sys.executable, "-m", "benchmarks.bare", source, str(home)], home)
    rate = {"images_per_second": measured["images"] / measured["seconds"]}
    return {name: float(value) for name, value in measured.items()} | rate


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
    command = [sys.executable, "-c", "from deployments.cli import main; main()"]
    for _ in range(RUNS):
        summary, used = timed([*command, "ingest", source, "--dataset", "again", "--json"], home)
        again.add(used | {"seconds": summary["seconds"]})
        start = time.perf_counter()
        subprocess.run([*command, "--help"], env=shell(home), cwd=home, check=True, stdout=subprocess.DEVNULL)  # noqa: S603
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


def demo_table() -> str:
    """From `make demo` in a fresh clone to the summary, with a warm package cache."""
    with tempfile.TemporaryDirectory() as folder:
        clone = Path(folder, "lookbook")
        subprocess.run(["git", "clone", "--quiet", str(ROOT), str(clone)], check=True)  # noqa: S603, S607
        start = time.perf_counter()
        subprocess.run(["make", "demo"], cwd=clone, env=clean(), check=True, stdout=subprocess.DEVNULL)  # noqa: S607
        seconds = time.perf_counter() - start
        forget(clone / ".lookbook")
    return (
        f"## `make demo`\n\nIn a fresh clone, with a warm package cache, to the summary: {seconds:.0f} s (one run).\n"
    )


def clean() -> dict[str, str]:
    """The environment without a virtual one around it."""
    return {
        k: v for k, v in os.environ.items() if not k.startswith(("PREFECT_", "LOOKBOOK_", "VIRTUAL_ENV", "PYTHONPATH"))
    }


def forget(home: Path) -> None:
    """Stop the servers of a home and remove what lies outside of it."""
    prefect_server.stop(home)
    postgres.stop(home)
    if os.geteuid() == 0:
        shutil.rmtree(postgres.data_folder(home).parent, ignore_errors=True)


def say(text: str) -> None:
    """Tell what is done now."""
    sys.stderr.write(text + "\n")


def main() -> None:
    """Measure everything and write docs/benchmarks.md."""
    home = Path(tempfile.mkdtemp(prefix="lookbook-bench-"))
    sources = {"sample-2000": ("sample://2000", RUNS), "sample-6000": ("sample://6000", LONG_RUNS)}
    if REAL.exists():
        sources["real-1000"] = (str(REAL), RUNS)
    head = HEAD.format(runs=RUNS, long_runs=LONG_RUNS, cores=os.cpu_count(), python=sys.version.split()[0])
    parts: list[Callable[[], str]] = [
        lambda: main_job_table(sources, home),
        lambda: again_table(home),
        demo_table,
    ]
    try:
        text = head + "\n".join(part() for part in parts)
    finally:
        forget(home)
        shutil.rmtree(home, ignore_errors=True)
    (ROOT / "docs" / "benchmarks.md").write_text(text, encoding="utf-8")
    sys.stdout.write(text)


if __name__ == "__main__":
    main()
