"""The imaging alone into a bucket: ``SOURCE HOME URL``; without URL into the local folder."""

from __future__ import annotations

import sys
from dataclasses import replace
from pathlib import Path

from benchmarks.bare import draw, prepared, start_processes
from benchmarks.peers import clock
from benchmarks.peers.objects import BUCKET
from lookbook.blocks.gcs import GcsLake
from lookbook.blocks.workspace import local_workspace
from tests.support.gcp_credentials import AnonymousGcpCredentials


def main(source: str, home: Path, url: str) -> None:
    """Report the images of the batches, and their seconds of wall and CPU time."""
    workspace = local_workspace(home)
    if url:
        lake = GcsLake(bucket=BUCKET, prefix=home.name, credentials=AnonymousGcpCredentials(endpoint=url), threads=256)
        workspace = replace(workspace, lake=lake)
    batches = prepared(source, workspace)
    start_processes()
    clock.report(lambda: draw(workspace.lake, batches))


if __name__ == "__main__":
    main(sys.argv[1], Path(sys.argv[2]), sys.argv[3] if len(sys.argv) > 3 else "")  # noqa: PLR2004
