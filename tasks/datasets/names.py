"""Where a dataset's files lie in the lake."""

from __future__ import annotations

from lookbook.blocks.lake import snapshots_folder


def current_key(dataset: str) -> str:
    """Return the one mutable object: which snapshot readers see."""
    return f"datasets/{dataset}/CURRENT"


def snapshot_folder(dataset: str, snapshot_id: str) -> str:
    """Return the folder of a snapshot's files."""
    return f"{snapshots_folder(dataset)}/{snapshot_id}"


def batches_folder(dataset: str) -> str:
    """Return the folder of a dataset's batches that are not published yet."""
    return f"batches/{dataset}"
