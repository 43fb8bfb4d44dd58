"""Exports: asked for, watched, cancelled, taken home."""

from __future__ import annotations

from typing import Annotated, Any

import anyio.to_thread
from fastapi import APIRouter, Path, Query, Request, Response
from fastapi.responses import StreamingResponse

from lookbook.deployments.api import models, submissions
from lookbook.deployments.api.access import ExportReader, ExportSubmitter, Reader
from lookbook.deployments.api.objects import is_known, object_answer, wanted_part
from lookbook.deployments.api.problems import ListLimit, Problem, problems
from lookbook.deployments.api.runs import FINAL, RunState
from lookbook.deployments.api.services import Services, Shared
from lookbook.deployments.api.shown import ROOT, json_answer
from lookbook.deployments.api.submissions import (
    DEPLOYMENT,
    IdempotencyKey,
    Submission,
    counted,
    finished_already,
    noted,
    owned,
    prepared_request,
    run_parameters,
    started,
    state_of,
)
from lookbook.tasks.exports.finished import Finished, find_finished
from lookbook.tasks.exports.request import ExportRequest

router = APIRouter(prefix="/exports", tags=["exports"])

IdPath = Annotated[str, Path(pattern=r"^[0-9a-f]{32}$", description="Id of an export that this key asked for.")]
_ENDED: dict[int | str, dict[str, Any]] = {
    200: {"description": "It had ended before.", "model": models.Export},
    **problems(404),
}
_FILE: dict[int | str, dict[str, Any]] = {206: {"description": "A part of it."}, 304: {"description": "It is known."}}


@router.post("", status_code=202, response_model=models.Export, responses=problems(400, 404, 413, 415))
async def ask_for_export(
    body: models.ExportBody, shared: Shared, principal: ExportSubmitter, idempotency_key: IdempotencyKey = None
) -> Response:
    """Ask for an export; a worker makes it. One that was made already is answered from what is there."""
    request = body.request()
    prepared = await anyio.to_thread.run_sync(prepared_request, shared.snapshots, request, limiter=shared.queries)
    document = request.model_dump(mode="json", by_alias=True)
    if body.executor != "threads":  # requests from before there was a choice stay the same ones
        document["executor"] = body.executor
    of = (prepared.resolved.manifest.snapshot_id, prepared.id)
    submission = await _started(shared, await noted(shared, "export", principal, idempotency_key, document, *of))
    told = await _told(shared, submission)
    return json_answer(told, 202, Location=told["links"]["self"])


@router.post("/count", response_model=models.ExportCount, responses=problems(400, 404, 413, 415))
async def count_export(body: models.ExportBody, shared: Shared, _: Reader) -> Response:
    """Count what an export would hold, without making it."""
    request = body.request()

    def work() -> dict[str, Any]:
        prepared = prepared_request(shared.snapshots, request)
        loaded = shared.snapshots.load(request.dataset, prepared.resolved.manifest.snapshot_id)
        is_there = find_finished(shared.snapshots.lake, prepared.id) is not None
        told = {"snapshot": loaded.manifest.snapshot_id, "export_id": prepared.id, "ready": is_there}
        return told | counted(loaded, prepared)

    return json_answer(await anyio.to_thread.run_sync(work, limiter=shared.queries))


@router.get("", response_model=models.ExportList, responses=problems(400))
async def list_exports(
    shared: Shared,
    principal: ExportReader,
    cursor: Annotated[
        str | None, Query(pattern=r"^[0-9a-f]{32}$", description="The `next` of the page before.")
    ] = None,
    limit: ListLimit = 20,
) -> Response:
    """List the exports that this key asked for, newest first."""
    registry, key_id = shared.workspace.registry, principal.key_id
    found = await anyio.to_thread.run_sync(submissions.newest, registry, "export", key_id, limit + 1, cursor)
    items = [await _told(shared, submission) for submission in found[:limit]]
    return json_answer({"items": items, "next": found[limit - 1].id if len(found) > limit else None})


@router.get("/{id}", response_model=models.Export, responses=problems(404))
async def show_export(id: IdPath, shared: Shared, principal: ExportReader) -> Response:  # noqa: A002
    """Show how far an export is."""
    submission = await owned(shared, "export", principal, id)
    return json_answer(await _told(shared, await _started(shared, submission)))


@router.delete(
    "/{id}",
    status_code=202,
    response_model=models.Export,
    responses=_ENDED,
)
async def cancel_export(id: IdPath, shared: Shared, principal: ExportReader) -> Response:  # noqa: A002
    """Cancel an export; one that has ended stays as it is."""
    submission = await owned(shared, "export", principal, id)
    told = await _told(shared, submission)
    if told["state"] in FINAL or submission.run_id is None:
        return json_answer(told)
    await shared.runs.cancel(submission.run_id)
    return json_answer(await _told(shared, submission), 202)


@router.get("/{id}/metadata.csv", response_class=Response, responses=_FILE | problems(404, 409, 410, 416))
async def show_metadata(id: IdPath, request: Request, shared: Shared, principal: ExportReader) -> Response:  # noqa: A002
    """Send the table of a finished export: a row for each image."""
    finished = await _finished(shared, await owned(shared, "export", principal, id))

    def listed() -> dict[str, Any]:
        finished.read("metadata.csv")  # what is damaged is not handed out
        names = finished.files["name"].to_pylist()
        row: dict[str, Any] = finished.files.slice(names.index("metadata.csv"), 1).to_pylist()[0]
        return row

    row = await anyio.to_thread.run_sync(listed)
    headers = {"Content-Type": "text/csv; charset=utf-8", "Cache-Control": "private, no-cache"}
    headers["Content-Disposition"] = f'attachment; filename="{finished.dataset}-{finished.id[:8]}.csv"'
    key = finished.place.file("metadata.csv")
    return await object_answer(request, shared.workspace.lake, key, row["size"], f'"{row["sha256"]}"', headers)


@router.get("/{id}/archive", response_class=Response, responses=_FILE | problems(404, 409, 410, 416))
async def show_archive(id: IdPath, request: Request, shared: Shared, principal: ExportReader) -> Response:  # noqa: A002
    """Send all files of a finished export as one ZIP archive; a broken download goes on by a range."""
    finished = await _finished(shared, await owned(shared, "export", principal, id))
    size = await anyio.to_thread.run_sync(lambda: finished.archive.size)
    etag = f'"{finished.files_sha256[:32]}-zip"'
    headers = {"ETag": etag, "Content-Type": "application/zip", "Cache-Control": "private, no-cache"}
    headers["Content-Disposition"] = f'attachment; filename="{finished.dataset}-{finished.id[:8]}.zip"'
    if is_known(request.headers, etag):
        return Response(status_code=304, headers=headers)
    part = wanted_part(request.headers, size, etag)
    status, headers = 206 if part.partial else 200, headers | part.headers
    if request.scope.get("is_head"):
        return Response(status_code=status, headers=headers)
    return StreamingResponse(finished.stream(part.start, part.end), status, headers)


async def _started(shared: Services, submission: Submission) -> Submission:
    """Return an export that has a run, or is there: also one whose run could not be started when it was asked for."""
    if submission.run_id is not None:
        return submission
    if await anyio.to_thread.run_sync(finished_already, shared.snapshots, str(submission.export_id)):
        return submission
    asked = submission.request | {"snapshot": submission.snapshot_id}
    executor = asked.pop("executor", "threads")
    request = ExportRequest.model_validate(asked)
    return await started(shared, submission, DEPLOYMENT, run_parameters(request, shared.workspace_name, executor))


async def _told(shared: Services, submission: Submission) -> dict[str, Any]:
    """Return an export as it is now."""
    finished = await anyio.to_thread.run_sync(find_finished, shared.workspace.lake, str(submission.export_id))
    state = await state_of(shared, submission)
    if submission.run_id is None and finished is not None:
        state = RunState("completed", "", submission.created_at, submission.created_at)
    links = {"self": f"{ROOT}/exports/{submission.id}"}
    done = finished is not None and state.state == "completed"
    if done:
        links |= {"metadata": f"{links['self']}/metadata.csv", "archive": f"{links['self']}/archive"}
    lost = state.state == "completed" and finished is None
    return {
        "id": submission.id,
        "state": "failed" if lost else state.state,
        "percent": state.percent,
        "progress": state.progress,
        "error": "Its files are gone, or its worker has other versions." if lost else state.message or None,
        "created_at": submission.created_at,
        "started_at": state.started_at,
        "ended_at": state.ended_at,
        "request": submission.request,
        "dataset": submission.request["dataset"],
        "snapshot": submission.snapshot_id,
        "export_id": submission.export_id,
        "counts": finished.books if done and finished else None,
        "links": links,
    }


async def _finished(shared: Services, submission: Submission) -> Finished:
    """Return the files of an export.

    Raises:
        Problem: it is not done, or they are gone.
    """
    told = await _told(shared, submission)
    found = await anyio.to_thread.run_sync(find_finished, shared.workspace.lake, str(submission.export_id))
    if found is not None and told["state"] == "completed":
        return found
    if told["state"] in FINAL:
        raise Problem(410, "gone", f"This export {told['state']}; its files are not there.", "Ask for it again.")
    raise Problem(409, "not-done", f"This export is {told['state']}.", "Ask again when its state is completed.")
