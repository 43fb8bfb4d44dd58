"""Restores, and publications of candidates by hand: asked for, and watched."""

from __future__ import annotations

from typing import Annotated

import anyio.to_thread
from fastapi import APIRouter, Path, Response

from lookbook.deployments.api import models
from lookbook.deployments.api.access import IngestReader, IngestSubmitter
from lookbook.deployments.api.problems import Problem, problems
from lookbook.deployments.api.routes.ingests import accepted, told
from lookbook.deployments.api.services import Services, Shared
from lookbook.deployments.api.shown import json_answer
from lookbook.deployments.api.submissions import IdempotencyKey, Submission, noted, owned, started

router = APIRouter(prefix="/restores", tags=["restores"])
publications = APIRouter(prefix="/publications", tags=["publications"])

DEPLOYMENT, PUBLISH = "restore/local", "publish/local"

IdPath = Annotated[str, Path(pattern=r"^[0-9a-f]{32}$", description="Id of a restore or publication of this key.")]


@router.post("", status_code=202, response_model=models.Restore, responses=problems(400, 404, 413, 415))
async def ask_for_restore(
    request: models.RestoreRequest, shared: Shared, principal: IngestSubmitter, idempotency_key: IdempotencyKey = None
) -> Response:
    """Ask that an older snapshot be published again; a worker does it. A tag is looked up now, not when it is done."""
    found = await anyio.to_thread.run_sync(shared.snapshots.manifest, request.dataset, request.snapshot)
    document = request.model_dump(mode="json")
    submission = await noted(shared, "restore", principal, idempotency_key, document, found.snapshot_id)
    return await accepted(shared, await _started(shared, submission))


@router.get("/{id}", response_model=models.Restore, responses=problems(404))
async def show_restore(id: IdPath, shared: Shared, principal: IngestReader) -> Response:  # noqa: A002
    """Show how far a restore is."""
    submission = await owned(shared, "restore", principal, id)
    return json_answer(await told(shared, await _started(shared, submission)))


async def _started(shared: Services, submission: Submission) -> Submission:
    parameters = submission.request | {"snapshot": submission.snapshot_id, "workspace": shared.workspace_name}
    return await started(shared, submission, DEPLOYMENT, parameters)


@publications.post("", status_code=202, response_model=models.Publication, responses=problems(400, 404, 413, 415))
async def ask_for_publication(
    request: models.PublicationRequest,
    shared: Shared,
    principal: IngestSubmitter,
    idempotency_key: IdempotencyKey = None,
) -> Response:
    """Ask that a candidate be published although checks failed; a worker does it. Which one is looked up now."""
    found = await anyio.to_thread.run_sync(shared.snapshots.candidates, request.dataset)
    ids = [each.snapshot_id for each in found if request.candidate in {None, each.snapshot_id}]
    if not ids:
        raise Problem(
            404,
            "no-candidate",
            f"{request.dataset} has no such candidate.",
            f"See candidates in /api/v1/datasets/{request.dataset}/snapshots.",
        )
    document = request.model_dump(mode="json")
    submission = await noted(shared, "publication", principal, idempotency_key, document, ids[0])
    return await accepted(shared, await _published(shared, submission))


@publications.get("/{id}", response_model=models.Publication, responses=problems(404))
async def show_publication(id: IdPath, shared: Shared, principal: IngestReader) -> Response:  # noqa: A002
    """Show how far a publication is."""
    submission = await owned(shared, "publication", principal, id)
    return json_answer(await told(shared, await _published(shared, submission)))


async def _published(shared: Services, submission: Submission) -> Submission:
    parameters = submission.request | {"candidate": submission.snapshot_id, "workspace": shared.workspace_name}
    return await started(shared, submission, PUBLISH, parameters)
