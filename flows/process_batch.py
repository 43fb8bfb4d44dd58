"""The subflow of a batch of whatever a run has to do: its images drawn, exported or predicted, its objects verified."""

from __future__ import annotations

import os
from typing import Annotated

from prefect import flow, get_run_logger
from prefect.client.schemas.objects import State
from prefect.states import Cancelled

from lookbook.blocks.errors import LookbookError
from lookbook.blocks.lake import Lake
from lookbook.blocks.settings import read_settings, this_host
from lookbook.blocks.workspace import load_workspace
from lookbook.flows.endings import ends_as_cancelled
from lookbook.tasks.datasets import verify
from lookbook.tasks.exports import build, predictions
from lookbook.tasks.images import batch as data_plane
from lookbook.tasks.images import jobs
from lookbook.tasks.images.jobs import Work
from lookbook.tasks.images.pacing import StoppedError
from lookbook.tasks.runs.parameters import WorkspaceName, described

BatchKey = Annotated[str, described("Batch", "Folder of the lake that holds the batch's manifest.")]


#: What is done with a batch, by what its manifest says. Those of ingests say nothing: there were no others once.
WORK: dict[str, Work] = {
    build.KIND: build.do_batch,
    predictions.KIND: predictions.do_batch,
    verify.KIND: verify.do_batch,
}


@flow(name="process-batch", flow_run_name="{batch}")
def process_batch(workspace: WorkspaceName, batch: BatchKey) -> dict[str, int] | State[None]:
    """Do one batch. Needs nothing but the workspace's lake; doing it twice is harmless.

    Returns:
        What there was of what, such as ``images``, of those ``rejected``, and outputs ``drawn``; or that it was
        cancelled, where the run that it belongs to was interrupted.
    """
    try:
        with ends_as_cancelled():
            counts = do_batch(load_workspace(workspace).lake, batch)
    except StoppedError as stop:
        return Cancelled(message=stop.problem)
    told = ", ".join(f"{count} {'outputs' if name == 'drawn' else name}" for name, count in counts.items())
    get_run_logger().info("%s; process %d on %s", told, os.getpid(), this_host())
    return counts


def do_batch(lake: Lake, batch: str) -> dict[str, int]:
    """Do one batch in this process, without a run of its own.

    Raises:
        LookbookError: there is no such batch, or this version does not know what is to be done with it; or as those
            of `WORK`, and `lookbook.tasks.images.batch.process_batch`, do.
    """
    if not batch.startswith(f"{jobs.FOLDER}/"):
        drawn = data_plane.process_batch(lake, batch, read_settings().threads)
        return {"images": drawn.images, "rejected": drawn.rejected, "drawn": drawn.drawn}
    kind = jobs.kind_of(lake, batch)
    if kind not in WORK:
        raise LookbookError(
            f"{batch}: this worker's version of Lookbook does not know batches of the kind {kind}.",
            "Install the same version on the workers as where the run was started.",
        )
    return WORK[kind](lake, batch)
