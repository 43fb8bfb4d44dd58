"""Runs that are asked for: an export, an ingest or another one as a request says it, submitted once, and noted."""

from __future__ import annotations

import hashlib
import json
import posixpath
import uuid
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Annotated, Any, Literal

import anyio.to_thread
import asyncpg
from fastapi import Header

from lookbook.blocks.errors import LookbookError, MissingError, UsageError
from lookbook.blocks.registry import Registry
from lookbook.deployments.api.access import Principal
from lookbook.deployments.api.config import ApiConfig
from lookbook.deployments.api.problems import RETRY_SECONDS, Problem
from lookbook.deployments.api.runs import RunState
from lookbook.deployments.api.services import Services
from lookbook.deployments.api.snapshots import LoadedSnapshot, Snapshots
from lookbook.tasks.exports.export import PreparedExport, count_rows, prepare
from lookbook.tasks.exports.filter_columns import columns_of
from lookbook.tasks.exports.finished import Finished, find_finished
from lookbook.tasks.exports.plan import resolve
from lookbook.tasks.exports.request import ExportRequest
from lookbook.tasks.exports.rows import EXIF
from lookbook.tasks.runs.parameters import Executor

#: Addresses that name no folder of a worker's machine.
NAMED = ("sample://", "inbox://", "kaggle://", "gs://")


def check_source(source: str, config: ApiConfig, *, is_open: bool) -> str:
    """Return the source, if it may be ingested. Before the first key the machine's own user asks: any folder may.

    Only the worker, whose links it may lead through, can see where it lies: the run is told the roots (`run_roots`).

    Raises:
        Problem: it is a folder or an archive that is below none of the roots.
    """
    if any(ord(letter) < ord(" ") for letter in source):
        raise Problem(422, "invalid-request", "The source has control characters.")
    if source.startswith(NAMED) and ".." not in source.split("/"):
        return source
    path = source.removeprefix("file://")
    if posixpath.isabs(path) and "://" not in path:
        path = posixpath.normpath(path)
        if (is_open and not config.source_roots) or any(_is_below(path, root) for root in config.source_roots):
            return path
    raise Problem(
        403,
        "no-source",
        "This source may not be ingested through the API.",
        f"It takes {', '.join(NAMED)} and folders below those of LOOKBOOK_API_SOURCE_ROOTS.",
    )


def run_roots(source: str, config: ApiConfig) -> list[str]:
    """Return the folders in which the run has to find the source, links followed; empty: any, or it is no folder."""
    return [] if source.startswith(NAMED) else list(config.source_roots)


def _is_below(path: str, root: str) -> bool:
    root = posixpath.normpath(root)
    return path == root or path.startswith(root.rstrip("/") + "/")


DEPLOYMENT = "export-dataset/local"
#: A finished export of so many files and bytes is read before it is called done; a larger one by a run.
MOST_FILES, MOST_BYTES = 10_000, 256 * 1024 * 1024


def prepared_request(snapshots: Snapshots, request: ExportRequest) -> PreparedExport:
    """Return a request that names its snapshot, with its columns and values found there.

    Raises:
        Problem: there is no such dataset or snapshot.
        UsageError: a column, a value, an output or a recipe cannot be meant.
    """
    loaded = snapshots.load(request.dataset, request.snapshot)
    pinned = request.model_copy(update={"snapshot": loaded.manifest.snapshot_id})
    named = {*(pinned.columns or ()), pinned.label, pinned.stratify}
    named |= columns_of(pinned.filter, None) if pinned.filter else set()
    if EXIF in named or pinned.predictions:
        return prepare(snapshots.lake, pinned)
    return PreparedExport(resolve(pinned, loaded.manifest, loaded.rows, loaded.table), loaded.rows)


def counted(loaded: LoadedSnapshot, prepared: PreparedExport) -> dict[str, Any]:
    """Return what an export would hold; counted once for equal requests."""
    return loaded.kept(("count", prepared.id), lambda: count_rows(prepared))


def finished_already(snapshots: Snapshots, export_id: str) -> Finished | None:
    """Return the export, if it is there and whole."""
    found = find_finished(snapshots.lake, export_id)
    if found is None or found.books["files"] > MOST_FILES or found.books["bytes"] > MOST_BYTES:
        return None
    return found if found.is_whole() else None


def run_parameters(request: ExportRequest, workspace: str, executor: Executor) -> dict[str, Any]:
    """Return what a run of the deployment is told."""
    values = request.model_dump(mode="json", by_alias=True, exclude={"predictions"})
    values |= {"workspace": workspace, "executor": executor}
    sides = ",".join(f"{name}={share!r}" for name, share in (request.split or {}).items())
    told = {"predictions": request.predictions} if request.predictions else {}
    return values | told | {"split": sides or None, "columns": request.columns or []}


Kind = Literal[
    "export", "ingest", "restore", "publication", "plan", "replay", "rename", "cleanup", "removal", "erasure"
]

_COLUMNS = "id, kind, key_id, request_digest, request, snapshot_id, export_id, run_id, created_at"


@dataclass(frozen=True)
class Submission:
    """A request.

    Attributes:
        id: by which the API names it.
        key_id: of the key that it belongs to.
        request_digest: tells it from another one.
        snapshot_id: of the snapshot that it is of.
        export_id: of the export that it asks for.
        run_id: of Prefect's run; None where none was needed, or none could be started.
    """

    id: str
    kind: str
    key_id: str
    request_digest: str
    request: dict[str, Any]
    snapshot_id: str | None
    export_id: str | None
    run_id: str | None
    created_at: datetime


def submit(
    registry: Registry,
    kind: Kind,
    key_id: str,
    idempotency_key: str | None,
    request: dict[str, Any],
    snapshot_id: str | None = None,
    export_id: str | None = None,
) -> tuple[Submission, bool]:
    """Note a request, unless one with the same idempotency key is there; returns it, and whether it is new."""
    text = _text(request)

    async def work(connection: asyncpg.Connection[asyncpg.Record]) -> tuple[Submission, bool]:
        row = await connection.fetchrow(
            "INSERT INTO api_runs"  # noqa: S608 - our own names
            " (id, kind, key_id, idempotency_key, request_digest, request, snapshot_id, export_id)"
            " VALUES ($1, $2, $3, $4, $5, $6::json, $7, $8)"
            f" ON CONFLICT (key_id, kind, idempotency_key) DO NOTHING RETURNING {_COLUMNS}",
            uuid.uuid4().hex,
            kind,
            key_id,
            idempotency_key,
            digest_of(request),
            text,
            snapshot_id,
            export_id,
        )
        if row is not None:
            return _read(row), True
        row = await connection.fetchrow(
            f"SELECT {_COLUMNS} FROM api_runs"  # noqa: S608 - our own names
            " WHERE key_id = $1 AND kind = $2 AND idempotency_key = $3",
            key_id,
            kind,
            idempotency_key,
        )
        assert row is not None  # noqa: S101 - it was in the way just now, and nothing is removed that has a key
        return _read(row), False

    return registry.run(work)


def digest_of(request: dict[str, Any]) -> str:
    """Return what tells a request from another one."""
    return hashlib.sha256(_text(request).encode()).hexdigest()


def _text(request: dict[str, Any]) -> str:
    """Return a request as JSON in its own order: that of the sides of a split decides which images each side gets."""
    return json.dumps(request)


def note_run(registry: Registry, submission_id: str, run_id: str) -> None:
    """Note the run that a request became."""
    registry.execute("UPDATE api_runs SET run_id = $2 WHERE id = $1", submission_id, run_id)


def forget(registry: Registry, submission_id: str) -> None:
    """Remove a request that became nothing, and that nobody can ask for again."""
    registry.execute("DELETE FROM api_runs WHERE id = $1 AND idempotency_key IS NULL", submission_id)


def find(registry: Registry, kind: Kind, key_id: str, submission_id: str) -> Submission | None:
    """Return a request of a key; None where there is none, or it is another key's."""
    row = registry.fetchrow(
        f"SELECT {_COLUMNS} FROM api_runs WHERE id = $1 AND kind = $2 AND key_id = $3",  # noqa: S608
        submission_id,
        kind,
        key_id,
    )
    return _read(row) if row is not None else None


def newest(registry: Registry, kind: Kind, key_id: str, limit: int, before: str | None = None) -> list[Submission]:
    """Return the requests of a key, newest first, those before one of them."""
    rows = registry.fetch(
        f"SELECT {_COLUMNS} FROM api_runs WHERE kind = $1 AND key_id = $2"  # noqa: S608
        " AND ($3::text IS NULL OR (created_at, id) <"
        " (SELECT created_at, id FROM api_runs WHERE id = $3 AND key_id = $2))"
        " ORDER BY created_at DESC, id DESC LIMIT $4",
        kind,
        key_id,
        before,
        limit,
    )
    return [_read(row) for row in rows]


def ingest_summary(registry: Registry, run_id: str) -> dict[str, Any] | None:
    """Return what the books say of a run, once it has ended."""
    text = registry.fetchval("SELECT summary FROM runs WHERE run_id = $1", run_id)
    found: dict[str, Any] | None = json.loads(text) if text else None
    return found


def _read(row: asyncpg.Record) -> Submission:
    values = dict(row)
    return Submission(**values | {"request": json.loads(values["request"])})


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
    found, is_new = await anyio.to_thread.run_sync(submit, *given)
    if not is_new and found.request_digest != digest_of(request):
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
        await anyio.to_thread.run_sync(forget, registry, submission.id)
        if isinstance(error, MissingError):
            headers = {"Retry-After": str(RETRY_SECONDS)}
            raise Problem(503, "no-deployment", error.problem, error.way_out, headers=headers) from error
        if isinstance(error, UsageError):
            raise Problem(422, "invalid-request", error.problem, error.way_out) from error
        raise
    await anyio.to_thread.run_sync(note_run, registry, submission.id, run_id)
    return Submission(**vars(submission) | {"run_id": run_id})


async def owned(shared: Services, kind: Kind, principal: Principal, submission_id: str) -> Submission:
    """Return a request of the key that asks.

    Raises:
        Problem: there is none of this id, or it is another key's: nobody is told which.
    """
    registry = shared.workspace.registry
    found = await anyio.to_thread.run_sync(find, registry, kind, principal.key_id, submission_id)
    if found is None:
        raise Problem(404, f"no-{kind}", f"There is no such {kind}.", "Ask with the key that it was made with.")
    return found


async def state_of(shared: Services, submission: Submission) -> RunState:
    """Return how far its run is; one that Prefect has forgotten, as it does after a while, has ended."""
    if submission.run_id is None:
        return RunState("waiting", "", None, None)
    found = await shared.runs.look(submission.run_id)
    return found or RunState("failed", "Prefect knows nothing of its run any more.", None, None)
