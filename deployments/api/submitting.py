"""From a request to a run: noted first, then started once, however often it is asked for."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any

import anyio.to_thread
from fastapi import Header

from lookbook.blocks.errors import LookbookError, MissingError, UsageError
from lookbook.deployments.api import submissions
from lookbook.deployments.api.access import Principal
from lookbook.deployments.api.problems import RETRY_SECONDS, Problem
from lookbook.deployments.api.runs import RunState
from lookbook.deployments.api.services import Services
from lookbook.deployments.api.submissions import Kind, Submission

IdempotencyKey = Annotated[
    str | None,
    Header(
        alias="Idempotency-Key",
        pattern=r"^[\x21-\x7e]{1,255}$",
        description="Any text of your own: the same one with the same body is one request, however often it is sent.",
    ),
]


async def noted(
    shared: Services,
    kind: Kind,
    principal: Principal,
    idempotency_key: str | None,
    request: dict[str, Any],
    snapshot_id: str | None = None,
    export_id: str | None = None,
) -> Submission:
    """Return a request, noted.

    Raises:
        Problem: its idempotency key came with another request before.
    """
    registry = shared.workspace.registry
    given = (registry, kind, principal.key_id, idempotency_key, request, snapshot_id, export_id)
    found, is_new = await anyio.to_thread.run_sync(submissions.submit, *given)
    if not is_new and found.request_digest != submissions.digest_of(request):
        raise Problem(
            422, "other-request", "This Idempotency-Key came with another body before.", "Take another key for it."
        )
    return found


async def started(
    shared: Services, submission: Submission, deployment: str, parameters: Mapping[str, Any]
) -> Submission:
    """Return a request with its run; one that has a run starts no other.

    Raises:
        Problem: no worker could ever take it: the deployment is not there, or refuses the parameters.
        OutOfReachError: Prefect does not answer; the same request may be sent again.
    """
    if submission.run_id is not None:
        return submission
    registry = shared.workspace.registry
    try:
        run_id = await shared.runs.submit(deployment, parameters, submission.id)
    except LookbookError as error:
        await anyio.to_thread.run_sync(submissions.forget, registry, submission.id)
        if isinstance(error, MissingError):
            headers = {"Retry-After": str(RETRY_SECONDS)}
            raise Problem(503, "no-deployment", error.problem, error.way_out, headers=headers) from error
        if isinstance(error, UsageError):
            raise Problem(422, "invalid-request", error.problem, error.way_out) from error
        raise
    await anyio.to_thread.run_sync(submissions.note_run, registry, submission.id, run_id)
    return submissions.Submission(**vars(submission) | {"run_id": run_id})


async def owned(shared: Services, kind: Kind, principal: Principal, submission_id: str) -> Submission:
    """Return a request of the key that asks.

    Raises:
        Problem: there is none of this id, or it is another key's: nobody is told which.
    """
    registry = shared.workspace.registry
    found = await anyio.to_thread.run_sync(submissions.find, registry, kind, principal.key_id, submission_id)
    if found is None:
        raise Problem(404, f"no-{kind}", f"There is no such {kind}.", "Ask with the key that it was made with.")
    return found


async def state_of(shared: Services, submission: Submission) -> RunState:
    """Return how far its run is; one that Prefect has forgotten, as it does after a while, has ended."""
    if submission.run_id is None:
        return RunState("waiting", "", None, None)
    found = await shared.runs.look(submission.run_id)
    return found or RunState("failed", "Prefect knows nothing of its run any more.", None, None)
