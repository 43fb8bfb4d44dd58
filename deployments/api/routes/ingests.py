"""Ingests, and plans of what one would do: asked for, and watched."""

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
from lookbook.tasks.datasets.estimate import PLAN_ARTIFACT, plan_lines

router = APIRouter(prefix="/ingests", tags=["ingests"])
plans = APIRouter(prefix="/plans", tags=["plans"])

DEPLOYMENT, PLAN = "ingest/local", "plan/local"

IdPath = Annotated[str, Path(pattern=r"^[0-9a-f]{32}$", description="Id of an ingest or a plan of this key.")]


@router.post("", status_code=202, response_model=models.Ingest, responses=problems(400, 413, 415))
async def ask_for_ingest(
    request: models.IngestRequest, shared: Shared, principal: IngestSubmitter, idempotency_key: IdempotencyKey = None
) -> Response:
    """Ask that a source be ingested; a worker does it."""
    source = check_source(request.source, shared.config, is_open=principal == ANYBODY)
    document = request.model_dump(mode="json") | {"source": source}
    submission = await noted(shared, "ingest", principal, idempotency_key, document)
    return await accepted(shared, await started_on_source(shared, submission, DEPLOYMENT))


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


async def accepted(shared: Services, submission: Submission) -> Response:
    """Return the answer to a request for a run: how far it is, and where that is told later."""
    answer = await told(shared, submission)
    return json_answer(answer, 202, Location=answer["links"]["self"])


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


@plans.post("", status_code=202, response_model=models.Plan, responses=problems(400, 413, 415))
async def ask_for_plan(
    request: models.PlanRequest, shared: Shared, principal: IngestSubmitter, idempotency_key: IdempotencyKey = None
) -> Response:
    """Ask what an ingest would do; a worker looks at the source, and writes nothing to the lake."""
    source = check_source(request.source, shared.config, is_open=principal == ANYBODY)
    document = request.model_dump(mode="json") | {"source": source}
    submission = await noted(shared, "plan", principal, idempotency_key, document)
    answer = await _told_plan(shared, await started_on_source(shared, submission, PLAN))
    return json_answer(answer, 202, Location=answer["links"]["self"])


@plans.get("/{id}", response_model=models.Plan, responses=problems(404))
async def show_plan(id: IdPath, shared: Shared, principal: IngestReader) -> Response:  # noqa: A002
    """Show a plan, once a worker has looked at the source."""
    submission = await owned(shared, "plan", principal, id)
    return json_answer(await _told_plan(shared, await started_on_source(shared, submission, PLAN)))


async def _told_plan(shared: Services, submission: Submission) -> dict[str, Any]:
    answer = await told(shared, submission)
    answer.pop("summary")
    is_done = answer["state"] == "completed" and submission.run_id is not None
    plan = await shared.runs.artifact(str(submission.run_id), PLAN_ARTIFACT) if is_done else None
    return answer | {"plan": plan, "lines": plan_lines(plan) if plan else None}
