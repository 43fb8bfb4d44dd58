"""The imaging alone: a source's batches done one after the other, without Prefect, registry or warehouse."""

from __future__ import annotations

import json
import resource
import sys
import time
from pathlib import Path

from blocks.settings import read_settings
from blocks.workspace import local_workspace
from tasks.datasets.survey import Request, take_stock
from tasks.images.batch import process_batch
from tasks.images.recipe import Recipe
from tasks.parameters import BATCH_SIZE


def main(source: str, home: Path) -> None:
    """Print the images, the seconds of wall and CPU time of the batches, and the peak memory of this process."""
    workspace = local_workspace(home)
    survey = take_stock(Request(workspace, source, "bare", Recipe(), None, BATCH_SIZE, 1.0))
    wall, cpu = time.perf_counter(), time.process_time()
    for batch in survey.batches:
        process_batch(workspace.lake, batch, read_settings().threads)
    measured = {
        "images": len(survey.images),
        "seconds": time.perf_counter() - wall,
        "cpu_seconds": time.process_time() - cpu,
        "peak_mb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024,
    }
    sys.stdout.write(json.dumps(measured))


if __name__ == "__main__":
    main(sys.argv[1], Path(sys.argv[2]))
