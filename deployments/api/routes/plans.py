"""Plans: what an ingest would do, asked for and read."""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import APIRouter, Path, Response

from lookbook.deployments.api import models
from lookbook.deployments.api.access import ANYBODY, IngestReader, IngestSubmitter
from lookbook.deployments.api.problems import problems
from lookbook.deployments.api.routes.ingests import started_on_source, told
from lookbook.deployments.api.services import Services, Shared
from lookbook.deployments.api.shown import json_answer
from lookbook.deployments.api.submissions import (
    IdempotencyKey,
    Submission,
    check_source,
    noted,
    owned,
)
from lookbook.tasks.datasets.estimate import PLAN_ARTIFACT, plan_lines

router = APIRouter(prefix="/plans", tags=["plans"])

DEPLOYMENT = "plan/local"

IdPath = Annotated[str, Path(pattern=r"^[0-9a-f]{32}$", description="Id of a plan that this key asked for.")]


@router.post("", status_code=202, response_model=models.Plan, responses=problems(400, 413, 415))
async def ask_for_plan(
    request: models.PlanRequest, shared: Shared, principal: IngestSubmitter, idempotency_key: IdempotencyKey = None
) -> Response:
    """Ask what an ingest would do; a worker looks at the source, and writes nothing to the lake."""
    source = check_source(request.source, shared.config, is_open=principal == ANYBODY)
    document = request.model_dump(mode="json") | {"source": source}
    submission = await noted(shared, "plan", principal, idempotency_key, document)
    answer = await _told(shared, await started_on_source(shared, submission, DEPLOYMENT))
    return json_answer(answer, 202, Location=answer["links"]["self"])


@router.get("/{id}", response_model=models.Plan, responses=problems(404))
async def show_plan(id: IdPath, shared: Shared, principal: IngestReader) -> Response:  # noqa: A002
    """Show a plan, once a worker has looked at the source."""
    submission = await owned(shared, "plan", principal, id)
    return json_answer(await _told(shared, await started_on_source(shared, submission, DEPLOYMENT)))


async def _told(shared: Services, submission: Submission) -> dict[str, Any]:
    answer = await told(shared, submission)
    answer.pop("summary")
    is_done = answer["state"] == "completed" and submission.run_id is not None
    plan = await shared.runs.artifact(str(submission.run_id), PLAN_ARTIFACT) if is_done else None
    return answer | {"plan": plan, "lines": plan_lines(plan) if plan else None}
