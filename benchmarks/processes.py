"""Running what is measured: each contender is a process of its own that prints JSON."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import time
import uuid
from pathlib import Path
from typing import Any

from lookbook.blocks.embedded import postgres, prefect_server

ROOT = Path(__file__).parents[1]
COMMAND = [sys.executable, "-c", "from lookbook.deployments.command.cli import main; main()"]


class ContenderError(Exception):
    """A contender ended with an error; its own words went to standard error."""


def say(text: str) -> None:
    """Tell what is done now."""
    sys.stderr.write(text + "\n")


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


def contend(command: list[str], home: Path) -> dict[str, float]:
    """Run a contender: what it prints on its last line, and milliseconds of wall time and CPU for each photo.

    Raises:
        ContenderError: it ended with an error.
    """
    os.sync()  # what others wrote is not written back on its time
    done = subprocess.run(command, env=shell(home), cwd=home, stdout=subprocess.PIPE, check=False)  # noqa: S603
    if done.returncode:
        raise ContenderError(f"it ended with {done.returncode}")
    measured: dict[str, float] = json.loads(done.stdout.splitlines()[-1])
    return measured | {
        "wall_ms": 1000 * measured["seconds"] / measured["images"],
        "cpu_ms": 1000 * measured["cpu_seconds"] / measured["images"],
    }


def discard(path: Path) -> None:
    """Put a folder aside until the section ends: ext4 creates files several times slower right after many went."""
    if path.exists():
        path.rename(path.with_name(f"discarded-{uuid.uuid4().hex}"))


def ours(module: str, source: Path | str, home: Path, *more: object) -> dict[str, float]:
    """Run a contender of ours into an empty lake."""
    discard(home / "lake")
    return contend([sys.executable, "-m", f"benchmarks.{module}", str(source), str(home), *map(str, more)], home)


def forget(home: Path) -> None:
    """Stop the servers of a home and remove what lies outside of it."""
    prefect_server.stop(home)
    postgres.stop(home)
    if os.geteuid() == 0:
        shutil.rmtree(postgres.data_folder(home).parent, ignore_errors=True)
