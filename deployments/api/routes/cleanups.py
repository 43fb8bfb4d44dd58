"""Clean-ups, removals, renames and erasures: asked for, and watched."""

from __future__ import annotations

from typing import Annotated

import anyio.to_thread
from fastapi import APIRouter, Path, Response

from lookbook.deployments.api import models
from lookbook.deployments.api.access import IngestReader, IngestSubmitter
from lookbook.deployments.api.problems import DatasetPath, Problem, problems
from lookbook.deployments.api.routes.ingests import accepted, told
from lookbook.deployments.api.services import Services, Shared
from lookbook.deployments.api.shown import json_answer
from lookbook.deployments.api.submissions import IdempotencyKey, Submission, noted, owned, started

router = APIRouter(tags=["datasets"])

CLEAN_UP, REMOVE, RENAME, FORGET = "gc/local", "remove/local", "rename/local", "forget/local"

IdPath = Annotated[
    str, Path(pattern=r"^[0-9a-f]{32}$", description="Id of a removal, rename or erasure that this key asked for.")
]


@router.post("/cleanups", status_code=202, response_model=models.Cleanup, responses=problems(400, 404, 413, 415))
async def ask_for_cleanup(
    request: models.CleanupRequest, shared: Shared, principal: IngestSubmitter, idempotency_key: IdempotencyKey = None
) -> Response:
    """Ask that old snapshots be removed, and what nothing needs then; or, with dry_run, what that would be."""
    if request.dataset is not None:
        await anyio.to_thread.run_sync(shared.snapshots.current, request.dataset)
    document = request.model_dump(mode="json")
    submission = await noted(shared, "cleanup", principal, idempotency_key, document)
    return await accepted(shared, await _started(shared, submission, CLEAN_UP))


@router.get("/cleanups/{id}", response_model=models.Cleanup, responses=problems(404))
async def show_cleanup(id: IdPath, shared: Shared, principal: IngestReader) -> Response:  # noqa: A002
    """Show how far a clean-up is."""
    submission = await owned(shared, "cleanup", principal, id)
    return json_answer(await told(shared, await _started(shared, submission, CLEAN_UP)))


@router.delete("/datasets/{name}", status_code=202, response_model=models.Removal, responses=problems(400, 404))
async def ask_for_removal(
    name: DatasetPath, shared: Shared, principal: IngestSubmitter, idempotency_key: IdempotencyKey = None
) -> Response:
    """Ask that a dataset be removed, with all of its snapshots, tags and exports; nothing brings it back."""
    await anyio.to_thread.run_sync(shared.snapshots.current, name)
    submission = await noted(shared, "removal", principal, idempotency_key, {"dataset": name})
    return await accepted(shared, await _started(shared, submission, REMOVE))


@router.get("/removals/{id}", response_model=models.Removal, responses=problems(404))
async def show_removal(id: IdPath, shared: Shared, principal: IngestReader) -> Response:  # noqa: A002
    """Show how far a removal is."""
    submission = await owned(shared, "removal", principal, id)
    return json_answer(await told(shared, await _started(shared, submission, REMOVE)))


@router.post("/renames", status_code=202, response_model=models.Rename, responses=problems(400, 404, 413, 415))
async def ask_for_rename(
    request: models.RenameRequest, shared: Shared, principal: IngestSubmitter, idempotency_key: IdempotencyKey = None
) -> Response:
    """Ask that a dataset gets another name; its exports go, all else keeps its ids. A name that is taken is refused."""
    await anyio.to_thread.run_sync(shared.snapshots.current, request.dataset)
    if request.new_name in await anyio.to_thread.run_sync(shared.snapshots.datasets):
        raise Problem(422, "invalid-request", f"There is a dataset {request.new_name}.", "Choose another name.")
    submission = await noted(shared, "rename", principal, idempotency_key, request.model_dump(mode="json"))
    return await accepted(shared, await _started(shared, submission, RENAME))


@router.get("/renames/{id}", response_model=models.Rename, responses=problems(404))
async def show_rename(id: IdPath, shared: Shared, principal: IngestReader) -> Response:  # noqa: A002
    """Show how far a rename is."""
    submission = await owned(shared, "rename", principal, id)
    return json_answer(await told(shared, await _started(shared, submission, RENAME)))


@router.post("/erasures", status_code=202, response_model=models.Erasure, responses=problems(400, 404, 413, 415))
async def ask_for_erasure(
    request: models.ErasureRequest, shared: Shared, principal: IngestSubmitter, idempotency_key: IdempotencyKey = None
) -> Response:
    """Ask that products and images be forgotten: they go from all of a dataset, and no ingest takes them up again."""
    await anyio.to_thread.run_sync(shared.snapshots.current, request.dataset)
    if not request.keys and not request.where:
        raise Problem(422, "invalid-request", "Nothing is named that is to be forgotten.", "Give keys, or where.")
    submission = await noted(shared, "erasure", principal, idempotency_key, request.model_dump(mode="json"))
    return await accepted(shared, await _started(shared, submission, FORGET))


@router.get("/erasures/{id}", response_model=models.Erasure, responses=problems(404))
async def show_erasure(id: IdPath, shared: Shared, principal: IngestReader) -> Response:  # noqa: A002
    """Show how far an erasure is."""
    submission = await owned(shared, "erasure", principal, id)
    return json_answer(await told(shared, await _started(shared, submission, FORGET)))


async def _started(shared: Services, submission: Submission, deployment: str) -> Submission:
    return await started(shared, submission, deployment, submission.request | {"workspace": shared.workspace_name})
