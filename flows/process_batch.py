"""The subflow of a batch: every image read once, decoded once, all outputs drawn, then the part."""

from __future__ import annotations

from typing import Annotated

from prefect import flow, get_run_logger

from blocks.settings import read_settings
from blocks.workspace import load_workspace
from tasks.images import batch as data_plane
from tasks.parameters import WorkspaceName, described

BatchKey = Annotated[str, described("Batch", "Folder of the lake that holds the batch's manifest.")]


@flow(name="process-batch", flow_run_name="{batch}")
def process_batch(workspace: WorkspaceName, batch: BatchKey) -> dict[str, int]:
    """Do one batch. Needs nothing but the workspace's lake; doing it twice is harmless.

    Returns:
        The number of ``images``, of those ``rejected``, and of outputs ``drawn``.
    """
    counts = data_plane.process_batch(load_workspace(workspace).lake, batch, read_settings().threads)
    get_run_logger().info("%d images, %d rejected, %d outputs", counts.images, counts.rejected, counts.drawn)
    return {"images": counts.images, "rejected": counts.rejected, "drawn": counts.drawn}
