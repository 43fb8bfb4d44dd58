"""The subflow of a batch: every image read once, decoded once, all outputs drawn, then the part."""

from __future__ import annotations

import os
from typing import Annotated

from prefect import flow, get_run_logger
from prefect.client.schemas.objects import State
from prefect.states import Cancelled

from lookbook.blocks.settings import read_settings, this_host
from lookbook.blocks.workspace import load_workspace
from lookbook.flows.endings import ends_as_cancelled
from lookbook.tasks.images import batch as data_plane
from lookbook.tasks.images.pacing import StoppedError
from lookbook.tasks.runs.parameters import WorkspaceName, described

BatchKey = Annotated[str, described("Batch", "Folder of the lake that holds the batch's manifest.")]


@flow(name="process-batch", flow_run_name="{batch}")
def process_batch(workspace: WorkspaceName, batch: BatchKey) -> dict[str, int] | State[None]:
    """Do one batch. Needs nothing but the workspace's lake; doing it twice is harmless.

    Returns:
        The number of ``images``, of those ``rejected``, and of outputs ``drawn``; or that it was cancelled, where
        the run that it belongs to was interrupted.
    """
    try:
        with ends_as_cancelled():
            counts = data_plane.process_batch(load_workspace(workspace).lake, batch, read_settings().threads)
    except StoppedError as stop:
        return Cancelled(message=stop.problem)
    get_run_logger().info(
        "%d images, %d rejected, %d outputs; process %d on %s",
        counts.images,
        counts.rejected,
        counts.drawn,
        os.getpid(),
        this_host(),
    )
    return {"images": counts.images, "rejected": counts.rejected, "drawn": counts.drawn}
