"""Ingests: asked for, and watched."""

from __future__ import annotations

from typing import Annotated, Any

import anyio.to_thread
from fastapi import APIRouter, Path, Response

from lookbook.deployments.api import models, submissions
from lookbook.deployments.api.access import ANYBODY, IngestReader, IngestSubmitter
from lookbook.deployments.api.problems import problems
from lookbook.deployments.api.runs import FINAL
from lookbook.deployments.api.services import Services, Shared
from lookbook.deployments.api.shown import ROOT, dataset_path, json_answer
from lookbook.deployments.api.submissions import (
    IdempotencyKey,
    Submission,
    check_source,
    noted,
    owned,
    run_roots,
    started,
    state_of,
)

router = APIRouter(prefix="/ingests", tags=["ingests"])

DEPLOYMENT = "ingest/local"

IdPath = Annotated[str, Path(pattern=r"^[0-9a-f]{32}$", description="Id of an ingest that this key asked for.")]


@router.post("", status_code=202, response_model=models.Ingest, responses=problems(400, 413, 415))
async def ask_for_ingest(
    request: models.IngestRequest, shared: Shared, principal: IngestSubmitter, idempotency_key: IdempotencyKey = None
) -> Response:
    """Ask that a source be ingested; a worker does it."""
    source = check_source(request.source, shared.config, is_open=principal == ANYBODY)
    document = request.model_dump(mode="json") | {"source": source}
    submission = await noted(shared, "ingest", principal, idempotency_key, document)
    answer = await told(shared, await started_on_source(shared, submission, DEPLOYMENT))
    return json_answer(answer, 202, Location=answer["links"]["self"])


@router.get("/{id}", response_model=models.Ingest, responses=problems(404))
async def show_ingest(id: IdPath, shared: Shared, principal: IngestReader) -> Response:  # noqa: A002
    """Show how far an ingest is."""
    submission = await owned(shared, "ingest", principal, id)
    return json_answer(await told(shared, await started_on_source(shared, submission, DEPLOYMENT)))


async def started_on_source(shared: Services, submission: Submission, deployment: str) -> Submission:
    """Return a request with its run, which is told in which folders the source has to lie."""
    roots = run_roots(submission.request["source"], shared.config)
    parameters = submission.request | {"workspace": shared.workspace_name} | ({"within": roots} if roots else {})
    return await started(shared, submission, deployment, parameters)


async def told(shared: Services, submission: Submission) -> dict[str, Any]:
    """Return an ingest, or another run whose summary is in the books, as it is now."""
    dataset = submission.request["dataset"]
    state = await state_of(shared, submission)
    summary = None
    if state.state in FINAL:
        given = (shared.workspace.registry, str(submission.run_id))
        summary = await anyio.to_thread.run_sync(submissions.ingest_summary, *given)
    return {
        "id": submission.id,
        "state": state.state,
        "percent": state.percent,
        "progress": state.progress,
        "error": state.message or None,
        "created_at": submission.created_at,
        "started_at": state.started_at,
        "ended_at": state.ended_at,
        "request": submission.request,
        "dataset": dataset,
        # Where the report lies is a path of another machine.
        "summary": {name: value for name, value in summary.items() if name != "report"} if summary else None,
        "links": {"self": f"{ROOT}/{submission.kind}s/{submission.id}"}
        | ({"dataset": dataset_path(dataset)} if dataset else {}),
    }
