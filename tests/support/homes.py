"""Homes for tests: their servers are stopped and all that they left is removed."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

from lookbook.blocks.embedded import postgres, prefect_server


def remove_home(home: Path) -> None:
    """Stop the servers of a home and remove it, with what lies outside of it."""
    prefect_server.stop(home)
    postgres.stop(home)
    if os.geteuid() == 0:
        shutil.rmtree(postgres.data_folder(home).parent, ignore_errors=True)
    shutil.rmtree(home, ignore_errors=True)
