"""Whoever reads what a command prints may have had enough."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

SCRIPT = """
import sys
import lookbook.deployments.command.cli as cli

def app(**_):
    while True:
        print("a line of a long table", flush=True)

cli.app = app
cli.main()
"""


def test_a_reader_that_leaves_ends_the_command_without_a_word() -> None:
    command = subprocess.Popen(
        [sys.executable, "-c", SCRIPT],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env=os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)},
    )
    with command:
        assert command.stdout is not None
        assert command.stderr is not None
        command.stdout.readline()
        command.stdout.close()
        assert command.stderr.read() == b""
    assert command.returncode == 1


def test_a_run_whose_worker_died_goes_on_without_a_console(tmp_path: Path) -> None:
    ended = tmp_path / "ended"
    script = (
        "import sys, pathlib, lookbook.flows; from rich.console import Console; Console(stderr=True).print('a line');"
        "Console().print('another'); print('a third', flush=True); pathlib.Path(sys.argv[1]).touch()"
    )
    reader, writer = os.pipe()
    os.close(reader)
    variables = os.environ | {"PYTHONPATH": os.pathsep.join(sys.path), "PREFECT__FLOW_RUN_ID": "a run"}
    try:
        command = [sys.executable, "-c", script, str(ended)]
        assert subprocess.run(command, stdout=writer, stderr=writer, env=variables, check=False).returncode == 0
    finally:
        os.close(writer)
    assert ended.exists()
