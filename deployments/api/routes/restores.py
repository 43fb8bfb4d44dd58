"""Restores: asked for, and watched."""

from __future__ import annotations

from typing import Annotated

import anyio.to_thread
from fastapi import APIRouter, Path, Response

from lookbook.deployments.api import models
from lookbook.deployments.api.access import IngestReader, IngestSubmitter
from lookbook.deployments.api.problems import problems
from lookbook.deployments.api.routes.ingests import told
from lookbook.deployments.api.services import Services, Shared
from lookbook.deployments.api.shown import json_answer
from lookbook.deployments.api.submissions import IdempotencyKey, Submission, noted, owned, started

router = APIRouter(prefix="/restores", tags=["restores"])

DEPLOYMENT = "restore/local"

IdPath = Annotated[str, Path(pattern=r"^[0-9a-f]{32}$", description="Id of a restore that this key asked for.")]


@router.post("", status_code=202, response_model=models.Restore, responses=problems(400, 404, 413, 415))
async def ask_for_restore(
    request: models.RestoreRequest, shared: Shared, principal: IngestSubmitter, idempotency_key: IdempotencyKey = None
) -> Response:
    """Ask that an older snapshot be published again; a worker does it. A tag is looked up now, not when it is done."""
    found = await anyio.to_thread.run_sync(shared.snapshots.manifest, request.dataset, request.snapshot)
    document = request.model_dump(mode="json")
    submission = await noted(shared, "restore", principal, idempotency_key, document, found.snapshot_id)
    answer = await told(shared, await _started(shared, submission))
    return json_answer(answer, 202, Location=answer["links"]["self"])


@router.get("/{id}", response_model=models.Restore, responses=problems(404))
async def show_restore(id: IdPath, shared: Shared, principal: IngestReader) -> Response:  # noqa: A002
    """Show how far a restore is."""
    submission = await owned(shared, "restore", principal, id)
    return json_answer(await told(shared, await _started(shared, submission)))


async def _started(shared: Services, submission: Submission) -> Submission:
    parameters = submission.request | {"snapshot": submission.snapshot_id, "workspace": shared.workspace_name}
    return await started(shared, submission, DEPLOYMENT, parameters)
