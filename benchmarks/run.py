"""``make bench``: measures the sections that are named, or all, and writes docs/benchmarks.md."""

from __future__ import annotations

import argparse
import importlib
import importlib.util
import os
import shutil
import sys
import tempfile
from pathlib import Path

import PIL
from PIL import features

from benchmarks.document import assemble, read_sections
from benchmarks.processes import ROOT, forget, say

#: Each is a module of `benchmarks` with ``section(home) -> str``, in the order of the document.
SECTIONS = (
    "main_job",
    "executors",
    "work_pool",
    "workers",
    "imaging",
    "curated",
    "store",
    "gcs",
    "memory",
    "quality",
    "agreement",
    "damage",
    "near_duplicates",
    "exports",
    "scale",
    "api",
    "page",
    "graph",
    "demo",
    "feeds",
    "feeds_memory",
    "operations",
    "chaos",
)
#: Those that take hours, and are run by name alone: no other section's time is measured by them.
ASKED_FOR = ("chaos",)
#: Those that take a number of photos, for a trial.
TRIED = ("imaging", "curated", "store", "gcs", "memory", "quality", "agreement", "damage", "exports", "scale")
DOCUMENT = ROOT / "docs" / "benchmarks.md"


def main() -> None:
    """Measure, print and write down one section after the other."""
    told = parser().parse_args()
    for name in told.sections or [name for name in SECTIONS if exists(name) and name not in ASKED_FOR]:
        text = measure(name, told.photos)
        sys.stdout.write(text + "\n")
        sys.stdout.flush()
        if not told.photos:
            write(name, text)


def parser() -> argparse.ArgumentParser:
    """The command line."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.run", description=__doc__)
    parser.add_argument("sections", nargs="*", choices=SECTIONS, help="all where none is named")
    parser.add_argument("--photos", type=int, help=f"a trial with so many photos, of {TRIED}; nothing is written")
    return parser


def exists(name: str) -> bool:
    """Whether the section's module is there."""
    return importlib.util.find_spec(f"benchmarks.{name}") is not None


def measure(name: str, photos: int | None) -> str:
    """One section, in a home of its own."""
    say(f"section {name}")
    module = importlib.import_module(f"benchmarks.{name}")
    home = Path(tempfile.mkdtemp(prefix="lookbook-bench-"))
    try:
        text: str = module.section(home, photos) if photos and name in TRIED else module.section(home)
    finally:
        forget(home)
        shutil.rmtree(home, ignore_errors=True)
    return text.strip("\n") + "\n\n" + machine() + "\n"


def machine() -> str:
    """What this was measured on."""
    python, codec = sys.version.split()[0], features.version("libjpeg_turbo")
    return f"_{os.cpu_count()} cores, Python {python}, Pillow {PIL.__version__}, libjpeg-turbo {codec}._"


def write(name: str, text: str) -> None:
    """Put a section into docs/benchmarks.md; the others stay as they are."""
    before = DOCUMENT.read_text(encoding="utf-8") if DOCUMENT.exists() else ""
    DOCUMENT.write_text(assemble(read_sections(before, SECTIONS) | {name: text}, SECTIONS), encoding="utf-8")


if __name__ == "__main__":
    main()
