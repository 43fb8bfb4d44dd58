"""The real ``lookbook`` command as a process, with a home of its own."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from tests.support.forking import TIMEOUT, run_python

ROOT = Path(__file__).parents[2]
MAIN = "from lookbook.deployments.command.cli import main; main()"
#: The command. Where tests run in the background, SIGINT is ignored by inheritance; in a terminal it is listened to.
COMMAND = [
    sys.executable,
    "-c",
    f"import signal; signal.signal(signal.SIGINT, signal.default_int_handler);{MAIN}",
]


def environment(home: Path, **more: str) -> dict[str, str]:
    """What a new user's shell holds: nothing of Prefect's, and where the home lies."""
    kept = {k: v for k, v in os.environ.items() if not k.startswith(("PREFECT_", "LOOKBOOK_", "DISPLAY"))}
    return kept | {"LOOKBOOK_HOME": str(home), "PYTHONPATH": str(ROOT)} | more


def lookbook(home: Path, *arguments: str, **more: str) -> subprocess.CompletedProcess[str]:
    """Run the command to its end: in a fork, unless `more` says something to Python itself."""
    if more.get("PYTHONPATH", str(ROOT)) == str(ROOT):
        return run_python(MAIN, *arguments, env=environment(home, **more), cwd=home.parent)
    return subprocess.run(
        [*COMMAND, *arguments],
        env=environment(home, **more),
        cwd=home.parent,
        capture_output=True,
        text=True,
        check=False,
        timeout=TIMEOUT,
        stdin=subprocess.DEVNULL,
    )


#: Runs the command several times within one process, which spares each the imports: prints a code and what was printed.
_SEVERAL = """
import io, json, sys
from contextlib import redirect_stdout
from lookbook.deployments.command.cli import main
told = []
for arguments in json.loads(sys.stdin.read()):
    sys.argv[1:] = arguments
    with redirect_stdout(io.StringIO()) as said:
        try:
            main()
        except SystemExit as end:
            told.append((end.code, said.getvalue()))
json.dump(told, sys.stdout)
"""


def lookbook_several(home: Path, *commands: Sequence[str]) -> list[tuple[int, str]]:
    """Run the command's entry point for each of `commands` in turn; the exit code and the standard output of each."""
    done = run_python(_SEVERAL, env=environment(home), cwd=home.parent, given=json.dumps(commands))
    assert done.returncode == 0, done.stderr
    told: list[tuple[int, str]] = json.loads(done.stdout)
    return told


def lookbook_json(home: Path, *arguments: str, **more: str) -> Any:
    """Run the command with --json, which has to succeed and print one document."""
    done = lookbook(home, *arguments, "--json", **more)
    assert done.returncode == 0, done.stderr + done.stdout
    return json.loads(done.stdout)
