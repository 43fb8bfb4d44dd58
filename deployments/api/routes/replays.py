"""Replays: rejected images judged again; asked for, and watched."""

from __future__ import annotations

from typing import Annotated, Any

import anyio.to_thread
from fastapi import APIRouter, Path, Response

from lookbook.deployments.api import models
from lookbook.deployments.api.access import ANYBODY, IngestReader, IngestSubmitter
from lookbook.deployments.api.problems import problems
from lookbook.deployments.api.routes.ingests import accepted, told
from lookbook.deployments.api.services import Services, Shared
from lookbook.deployments.api.shown import json_answer
from lookbook.deployments.api.submissions import (
    IdempotencyKey,
    Submission,
    check_source,
    noted,
    owned,
    run_roots,
    started,
)
from lookbook.tasks.datasets.replay import find_rejects

router = APIRouter(prefix="/replays", tags=["replays"])

DEPLOYMENT = "replay/local"

IdPath = Annotated[str, Path(pattern=r"^[0-9a-f]{32}$", description="Id of a replay that this key asked for.")]


@router.post("", status_code=202, response_model=models.Replay, responses=problems(400, 404, 413, 415))
async def ask_for_replay(
    request: models.ReplayRequest, shared: Shared, principal: IngestSubmitter, idempotency_key: IdempotencyKey = None
) -> Response:
    """Ask that rejected images of a dataset be judged again; a worker does it, from the source of its snapshot."""

    def work() -> str:
        manifest = shared.snapshots.manifest(request.dataset, None)
        find_rejects(shared.workspace, request.dataset, request.rules)
        check_source(manifest.source, shared.config, is_open=principal == ANYBODY)
        return manifest.snapshot_id

    snapshot = await anyio.to_thread.run_sync(work, limiter=shared.queries)
    document = request.model_dump(mode="json")
    submission = await noted(shared, "replay", principal, idempotency_key, document, snapshot)
    return await accepted(shared, await _started(shared, submission))


@router.get("/{id}", response_model=models.Replay, responses=problems(404))
async def show_replay(id: IdPath, shared: Shared, principal: IngestReader) -> Response:  # noqa: A002
    """Show how far a replay is."""
    submission = await owned(shared, "replay", principal, id)
    return json_answer(await told(shared, await _started(shared, submission)))


async def _started(shared: Services, submission: Submission) -> Submission:
    parameters: dict[str, Any] = submission.request | {"workspace": shared.workspace_name}
    if shared.config.source_roots:
        parameters["within"] = await anyio.to_thread.run_sync(_roots, shared, submission.request["dataset"])
    return await started(shared, submission, DEPLOYMENT, parameters)


def _roots(shared: Services, dataset: str) -> list[str]:
    return run_roots(shared.snapshots.manifest(dataset, None).source, shared.config)
