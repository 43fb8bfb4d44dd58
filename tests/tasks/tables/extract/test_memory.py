"""Memory stays where it is when files grow: each size is extracted by a process of its own."""

from __future__ import annotations

import gzip
import json
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[4]
CODE = r"""
import re, sys
from pathlib import Path
from lookbook.blocks.workspace import local_workspace
from lookbook.tasks.tables.extract import extract
from tests.support.extracting import context_of
folder, name = Path(sys.argv[1]), sys.argv[2]
context = context_of(local_workspace(folder / "home"), folder, {"extract": {"source": {"type": "file", "path": name}}})
rows = extract(context, "extract").groups[""].rows
# Not ru_maxrss: Linux hands down that of the process that started this one.
print(rows, int(re.search(r"VmHWM:\s+(\d+)", Path("/proc/self/status").read_text())[1]) // 1024)
"""
ROWS = 10_000


def block(kind: str) -> bytes:
    if kind == "csv":
        return b"".join(b'%08d,name %d,"a note, %d",%d.50,%s\n' % (n, n, n, n, b"x" * 40) for n in range(ROWS))
    return b"".join(
        json.dumps({"n": n, "note": "x" * 60, "deep": {"a": [n], "b": n / 7}}).encode() for n in range(ROWS)
    )


def write(folder: Path, kind: str, blocks: int) -> tuple[str, float]:
    """A file of so many blocks, and its size in MB before it is packed."""
    name = f"{blocks}.{kind}.gz" if kind == "json" else f"{blocks}.{kind}"
    data = block(kind)
    with gzip.open(folder / name, "wb", compresslevel=1) if kind == "json" else (folder / name).open("wb") as file:
        file.write(b"id,name,note,price,more\n" if kind == "csv" else b"")
        for _ in range(blocks):
            file.write(data)
    return name, blocks * len(data) / 2**20


@pytest.mark.full
@pytest.mark.parametrize(("kind", "blocks"), [("csv", (10, 90)), ("json", (4, 24))])
def test_a_larger_file_takes_no_more_memory(tmp_path: Path, kind: str, blocks: tuple[int, int]) -> None:
    """Read whole, CSV takes at least twice its size, and JSON five times."""
    peaks, sizes = [], []
    for count in blocks:
        name, size = write(tmp_path, kind, count)
        command = [sys.executable, "-c", CODE, str(tmp_path), name]
        done = subprocess.run(command, check=True, capture_output=True, text=True, cwd=ROOT)
        rows, peak = map(int, done.stdout.split())
        assert rows == count * ROWS
        peaks.append(peak)
        sizes.append(size)
    whole = (2 if kind == "csv" else 5) * (sizes[1] - sizes[0])
    assert whole > 90
    assert peaks[1] - peaks[0] < 0.5 * whole, (peaks, sizes)
    assert peaks[1] < 700
