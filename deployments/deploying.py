"""Put the deployments of prefect.yaml on a Prefect server: pools, blocks, deployments."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

from blocks.errors import LookbookError

ROOT = Path(__file__).parents[1]
#: Work pools by name, one for each kind of infrastructure.
POOLS = {
    "lookbook": "process",
    "lookbook-docker": "docker",
    "lookbook-kubernetes": "kubernetes",
    "lookbook-cloud-run": "cloud-run-v2",
}


def deploy() -> None:
    """Make what is missing and update what differs, on the server of PREFECT_API_URL.

    Raises:
        LookbookError: the server refused something.
    """
    make_pools()
    register_blocks()
    deploy_all()


def make_pools() -> list[str]:
    """Make the work pools that are missing; returns their names. A pool that is there stays as it is."""
    from prefect.client.orchestration import get_client
    from prefect.client.schemas.actions import WorkPoolCreate
    from prefect.exceptions import ObjectAlreadyExists

    made = []
    with get_client(sync_client=True) as client:
        for name, kind in POOLS.items():
            try:
                client.create_work_pool(WorkPoolCreate(name=name, type=kind, base_job_template=job_template(kind)))
            except ObjectAlreadyExists:
                continue
            made.append(name)
    return made


def job_template(kind: str) -> dict[str, Any]:
    """The base job template of a kind of infrastructure."""
    template: dict[str, Any] = json.loads((ROOT / "infra" / "work-pools" / f"{kind}.json").read_text(encoding="utf-8"))
    return template


def register_blocks() -> None:
    """Register the block types that the UI offers."""
    from blocks.workspace import Workspace

    Workspace.register_type_and_schema()


def deploy_all() -> None:
    """Deploy all of prefect.yaml by Prefect's own command."""
    done = subprocess.run(
        [sys.executable, "-m", "prefect", "--no-prompt", "deploy", "--all", "--prefect-file", "prefect.yaml"],
        cwd=ROOT,
        env=os.environ | {"PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        raise LookbookError(f"prefect deploy failed: {done.stdout[-2000:]}{done.stderr[-2000:]}", "")
