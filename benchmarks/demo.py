"""`make demo` in a fresh clone."""

from __future__ import annotations

import os
import subprocess
import tempfile
import time
from pathlib import Path

from benchmarks.processes import ROOT, forget


def section(home: Path) -> str:  # noqa: ARG001 - it makes one of its own
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
