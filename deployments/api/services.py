"""What the endpoints share: the workspace's parts, the keys, what is held in memory."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

import anyio
from fastapi import Depends, Request

from lookbook.blocks.workspace import Workspace
from lookbook.deployments.api.access import Gate, KeyRing
from lookbook.deployments.api.config import ApiConfig
from lookbook.deployments.api.health import Metrics, Queue, Readiness
from lookbook.deployments.api.runs import Runs
from lookbook.deployments.api.snapshots import Snapshots


@dataclass(frozen=True)
class Services:
    """One of each for an app.

    Attributes:
        workspace_name: what runs are told.
        queries: how many queries are answered at once: more would only share the same processors.
    """

    workspace: Workspace
    workspace_name: str
    config: ApiConfig
    gate: Gate
    metrics: Metrics
    snapshots: Snapshots
    queries: anyio.CapacityLimiter
    runs: Runs
    readiness: Readiness
    queue: Queue

    @classmethod
    def made(cls, workspace: Workspace, name: str, config: ApiConfig, runs: Runs) -> Services:
        """Return those of a new app."""
        metrics = Metrics()
        return cls(
            workspace=workspace,
            workspace_name=name,
            config=config,
            gate=Gate(config, KeyRing(workspace.registry, config.key_seconds)),
            metrics=metrics,
            snapshots=Snapshots(workspace.lake, config.snapshots, config.snapshot_bytes),
            queries=anyio.CapacityLimiter(config.query_threads),
            runs=runs,
            readiness=Readiness(workspace, runs.answers),
            queue=Queue(runs, metrics),
        )


def _services(request: Request) -> Services:
    found: Services = request.app.state.services
    return found


Shared = Annotated[Services, Depends(_services)]
