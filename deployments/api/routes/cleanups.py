"""Clean-ups: asked for, and watched."""

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

router = APIRouter(prefix="/cleanups", tags=["cleanups"])

DEPLOYMENT = "gc/local"

IdPath = Annotated[str, Path(pattern=r"^[0-9a-f]{32}$", description="Id of a clean-up that this key asked for.")]


@router.post("", status_code=202, response_model=models.Cleanup, responses=problems(400, 404, 413, 415))
async def ask_for_cleanup(
    request: models.CleanupRequest, shared: Shared, principal: IngestSubmitter, idempotency_key: IdempotencyKey = None
) -> Response:
    """Ask that old snapshots be removed, and what nothing needs then; or, with dry_run, what that would be."""
    if request.dataset is not None:
        await anyio.to_thread.run_sync(shared.snapshots.current, request.dataset)
    document = request.model_dump(mode="json")
    submission = await noted(shared, "cleanup", principal, idempotency_key, document)
    answer = await told(shared, await _started(shared, submission))
    return json_answer(answer, 202, Location=answer["links"]["self"])


@router.get("/{id}", response_model=models.Cleanup, responses=problems(404))
async def show_cleanup(id: IdPath, shared: Shared, principal: IngestReader) -> Response:  # noqa: A002
    """Show how far a clean-up is."""
    submission = await owned(shared, "cleanup", principal, id)
    return json_answer(await told(shared, await _started(shared, submission)))


async def _started(shared: Services, submission: Submission) -> Submission:
    return await started(shared, submission, DEPLOYMENT, submission.request | {"workspace": shared.workspace_name})
