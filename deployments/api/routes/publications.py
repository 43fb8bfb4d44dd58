"""Publications by hand: candidates that checks kept back, published all the same; asked for, and watched."""

from __future__ import annotations

from typing import Annotated

import anyio.to_thread
from fastapi import APIRouter, Path, Response

from lookbook.deployments.api import models
from lookbook.deployments.api.access import IngestReader, IngestSubmitter
from lookbook.deployments.api.problems import Problem, problems
from lookbook.deployments.api.routes.ingests import told
from lookbook.deployments.api.services import Services, Shared
from lookbook.deployments.api.shown import json_answer
from lookbook.deployments.api.submissions import IdempotencyKey, Submission, noted, owned, started

router = APIRouter(prefix="/publications", tags=["publications"])

DEPLOYMENT = "publish/local"

IdPath = Annotated[str, Path(pattern=r"^[0-9a-f]{32}$", description="Id of a publication that this key asked for.")]


@router.post("", status_code=202, response_model=models.Publication, responses=problems(400, 404, 413, 415))
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
    answer = await told(shared, await _started(shared, submission))
    return json_answer(answer, 202, Location=answer["links"]["self"])


@router.get("/{id}", response_model=models.Publication, responses=problems(404))
async def show_publication(id: IdPath, shared: Shared, principal: IngestReader) -> Response:  # noqa: A002
    """Show how far a publication is."""
    submission = await owned(shared, "publication", principal, id)
    return json_answer(await told(shared, await _started(shared, submission)))


async def _started(shared: Services, submission: Submission) -> Submission:
    parameters = submission.request | {"candidate": submission.snapshot_id, "workspace": shared.workspace_name}
    return await started(shared, submission, DEPLOYMENT, parameters)
