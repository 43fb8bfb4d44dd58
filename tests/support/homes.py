"""Homes for tests: their servers are stopped and all that they left is removed."""

from __future__ import annotations

import os
import shutil
import tempfile
from pathlib import Path

from lookbook.blocks.embedded import postgres, prefect_server


def shared_folder() -> Path:
    """A folder of all processes of this run of the tests; removed at its end."""
    folder = Path(tempfile.gettempdir(), f"lookbook-tests-{os.environ['RUN_OF_TESTS']}")
    folder.mkdir(mode=0o700, exist_ok=True)
    return folder


def remove_home(home: Path) -> None:
    """Stop the servers of a home and remove it, with what lies outside of it."""
    prefect_server.stop(home)
    postgres.stop(home)
    if os.geteuid() == 0:
        shutil.rmtree(postgres.data_folder(home).parent, ignore_errors=True)
    shutil.rmtree(home, ignore_errors=True)
