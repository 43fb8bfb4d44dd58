"""The imaging alone: a source's batches done one after the other, without Prefect, registry or warehouse."""

from __future__ import annotations

import sys
from concurrent.futures import ThreadPoolExecutor
from io import BytesIO
from pathlib import Path

from PIL import Image

from benchmarks.peers import clock
from lookbook.blocks.lake import Lake
from lookbook.blocks.settings import read_settings
from lookbook.blocks.workspace import Workspace, local_workspace
from lookbook.tasks.datasets.inventory import Request, take_inventory
from lookbook.tasks.images.batch import process_batch
from lookbook.tasks.images.recipe import Recipe
from lookbook.tasks.images.renderers import shared
from lookbook.tasks.runs.parameters import BATCH_SIZE


def prepared(source: str, workspace: Workspace) -> list[str]:
    """The batches of a source, their manifests written."""
    return take_inventory(Request(workspace, source, "bare", Recipe(), None, BATCH_SIZE, 1.0)).batches


def draw(lake: Lake, batches: list[str]) -> int:
    """Do the batches; how many images they held."""
    return sum(process_batch(lake, batch, read_settings().threads).images for batch in batches)


def start_processes() -> None:
    """Start the processes that draw, as a run of many batches has them: start-up is no contender's time."""
    threads = read_settings().threads
    file = BytesIO()
    Image.new("RGB", (8, 8)).save(file, "JPEG")
    with ThreadPoolExecutor(threads) as pool:  # they start slowly enough for each of these to start one
        list(pool.map(lambda _: shared(threads).render(file.getvalue(), Recipe(), ()), range(threads)))


def main(source: str, home: Path) -> None:
    """Report the images of the batches, and their seconds of wall and CPU time."""
    workspace = local_workspace(home)
    batches = prepared(source, workspace)
    start_processes()
    clock.report(lambda: draw(workspace.lake, batches))


if __name__ == "__main__":
    main(sys.argv[1], Path(sys.argv[2]))
