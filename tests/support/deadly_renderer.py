"""A drawing process whose decoder dies of some files and hangs on others: what they hold says which."""

from __future__ import annotations

import os
import re
import signal
import sys
from pathlib import Path
from typing import Any

from lookbook.tasks.images import render_process
from lookbook.tasks.images.render import render

DEADLY = b"kills its decoder"
HANGING = b"makes its decoder hang"
BROKEN = b"finds a fault in our code"
HUNGRY = b"takes all memory"
#: Followed by the path of a file: it is deadly until that file is there.
DEADLY_ONCE = b"kills one decoder:"


def deadly(data: bytes, *arguments: Any) -> Any:
    """As `render`, but for the files that are not meant well."""
    if DEADLY in data:
        os.kill(os.getpid(), signal.SIGSEGV)
    if HANGING in data:
        re.match(r"(a|a)+$", "a" * 200 + "b")  # in C, and never back in Python
    if BROKEN in data:
        raise ZeroDivisionError("a fault in our code")
    if HUNGRY in data:
        raise MemoryError
    if DEADLY_ONCE in data:
        mark = Path(os.fsdecode(data.split(DEADLY_ONCE)[1]))
        if not mark.exists():
            mark.touch()
            os.kill(os.getpid(), signal.SIGKILL)
    return render(data, *arguments)


if __name__ == "__main__":
    setattr(render_process, "render", deadly)  # noqa: B010 - mypy holds that nobody does this
    render_process.main(int(sys.argv[1]), int(sys.argv[2]))
