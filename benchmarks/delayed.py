"""The imaging alone on a store that answers late: ``SOURCE HOME SECONDS``. The source is read as late."""

from __future__ import annotations

import sys
import time
from pathlib import Path

from benchmarks.peers import clock
from lookbook.tasks.images import locators
from lookbook.tasks.images.items import Locator

read_now = locators.read_bytes


def read_late(locator: Locator) -> bytes:
    """See `locators.read_bytes`."""
    Late.wait()
    return read_now(locator)


class Late:
    """How long a request waits, in seconds."""

    seconds = 0.0

    @classmethod
    def wait(cls) -> None:
        """Let the time pass."""
        time.sleep(cls.seconds)


# Before anything else of ours is imported: modules that take the function by name then take this one.
locators.read_bytes = read_late

from benchmarks.bare import draw, prepared  # noqa: E402
from lookbook.blocks.lake import FolderLake  # noqa: E402
from lookbook.blocks.workspace import local_workspace  # noqa: E402


class LateLake(FolderLake):
    """A folder that waits before each request."""

    _block_type_slug = "benchmark-late-lake"

    def put(self, key: str, data: bytes) -> bool:
        """See `Lake.put`."""
        Late.wait()
        return super().put(key, data)

    def replace(self, key: str, data: bytes) -> None:
        """See `Lake.replace`."""
        Late.wait()
        super().replace(key, data)

    def get(self, key: str) -> bytes:
        """See `Lake.get`."""
        Late.wait()
        return super().get(key)

    def remove(self, key: str) -> None:
        """See `Lake.remove`."""
        Late.wait()
        super().remove(key)


def main(source: str, home: Path, seconds: float) -> None:
    """Report the images of the batches, and their seconds of wall and CPU time."""
    workspace = local_workspace(home)
    batches = prepared(source, workspace)
    lake = LateLake(root=home / "lake")
    Late.seconds = seconds
    clock.report(lambda: draw(lake, batches))


if __name__ == "__main__":
    main(sys.argv[1], Path(sys.argv[2]), float(sys.argv[3]))
