"""Memory that was freed is kept for the next image, but not without end."""

from __future__ import annotations

import os
import platform
import subprocess
import sys

import pytest

_SCRIPT = """
import psutil
from lookbook.tasks.images.allocation import give_back_beyond, keep_freed_memory
keep_freed_memory()
blocks = [bytearray(2**20) for _ in range(300)]
del blocks[:-1]
held = psutil.Process().memory_info().rss
give_back_beyond(2**40)
kept = psutil.Process().memory_info().rss
give_back_beyond(0)
left = psutil.Process().memory_info().rss
print(held - kept, held - left)
"""


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="only glibc is told what to keep")
def test_what_one_huge_image_took_is_given_back() -> None:
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)}
    said = subprocess.run([sys.executable, "-c", _SCRIPT], check=True, capture_output=True, env=environment, timeout=60)
    below, beyond = map(int, said.stdout.split())
    assert below < 2**20, "it is kept for the next one"
    assert beyond > 250 * 2**20
