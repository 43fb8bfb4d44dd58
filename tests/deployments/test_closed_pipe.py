"""Whoever reads what a command prints may have had enough."""

from __future__ import annotations

import os
import subprocess
import sys

SCRIPT = """
import sys
import lookbook.deployments.cli as cli

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
