"""The environment of the contenders that are not ours: made by uv, kept in the user's cache."""

from __future__ import annotations

import hashlib
import shutil
import subprocess
import sys
from functools import cache
from pathlib import Path

from uv import find_uv_bin

from benchmarks.corpora import cache_folder
from benchmarks.processes import say

REQUIREMENTS = Path(__file__).with_name("requirements-peers.txt")


@cache
def peers_python() -> Path | None:
    """The interpreter of the peers' environment, made now unless it is there; None where that fails."""
    digest = hashlib.sha256(REQUIREMENTS.read_bytes() + sys.version.encode()).hexdigest()[:12]
    folder = cache_folder() / f"peers-{digest}"
    python, ready = folder / "bin" / "python", folder / "ready"
    if ready.exists():
        return python
    say("installing the peers")
    shutil.rmtree(folder, ignore_errors=True)
    uv = find_uv_bin()
    install = [uv, "pip", "install", "--quiet", "--no-deps", "--compile-bytecode", "--python", str(python)]
    try:
        subprocess.run([uv, "venv", "--quiet", "--python", sys.executable, str(folder)], check=True)  # noqa: S603
        subprocess.run([*install, "-r", str(REQUIREMENTS)], check=True)  # noqa: S603
    except subprocess.CalledProcessError as error:
        say(f"the peers cannot be installed: uv ended with {error.returncode}")
        return None
    ready.touch()
    return python


def peer(module: str, source: Path, target: Path, every: int, *more: str) -> list[str] | None:
    """The command of a contender of `benchmarks.peers`; None where its environment cannot be made."""
    python = peers_python()
    if python is None:
        return None
    return [str(python), "-m", f"benchmarks.peers.{module}", str(source), str(target), str(every), *more]
