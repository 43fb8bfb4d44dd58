"""What differs between two snapshots."""

from __future__ import annotations

from typing import Annotated

import anyio.to_thread
from fastapi import APIRouter, Query, Response

from lookbook.deployments.api import models
from lookbook.deployments.api.access import Reader
from lookbook.deployments.api.problems import (
    SNAPSHOT,
    CursorQuery,
    DatasetPath,
    LimitQuery,
    PageCursor,
    Problem,
    problems,
    query_digest,
    read_cursor,
    start_of,
)
from lookbook.deployments.api.products import ProductChanges
from lookbook.deployments.api.services import Shared
from lookbook.deployments.api.shown import json_answer

router = APIRouter(prefix="/datasets/{name}/diff", tags=["datasets"])


@router.get("", response_model=models.Diff, responses=problems(400, 404))
async def show_diff(
    name: DatasetPath,
    shared: Shared,
    _: Reader,
    before: Annotated[
        str | None, Query(alias="from", pattern=SNAPSHOT, description="Id or tag. Without: the one before.")
    ] = None,
    after: Annotated[
        str | None, Query(alias="to", pattern=SNAPSHOT, description="Id or tag. Without: the current one.")
    ] = None,
    cursor: CursorQuery = None,
    limit: LimitQuery = 50,
) -> Response:
    """Products and images that one snapshot has and another has not, or that differ in content, outcome or values."""

    def work() -> Response:
        new = shared.snapshots.manifest(name, after)
        old_id = before or new.previous
        if old_id is None:
            raise Problem(404, "no-snapshot", f"{new.snapshot_id} is the first one.", "Name two snapshots.")
        old = shared.snapshots.manifest(name, old_id)
        digest = query_digest("diff", old.snapshot_id)
        given = read_cursor(cursor) if cursor else None
        if given is not None and given.snapshot_id != new.snapshot_id:
            raise Problem(400, "bad-cursor", "The cursor belongs to another snapshot.", "Give the same from and to.")
        loaded = shared.snapshots.loaded(new)
        older = shared.snapshots.loaded(old)
        changes = loaded.kept(("diff", old.snapshot_id), lambda: ProductChanges(older, loaded))
        start = start_of(given, digest)
        more = limit and changes.total > start + limit
        return json_answer(
            {
                "from": old.snapshot_id,
                "to": new.snapshot_id,
                "counts": changes.counts,
                "items": changes.page(older, loaded, start, limit),
                "next": PageCursor(new.snapshot_id, digest, start + limit).text() if more else None,
            }
        )

    return await anyio.to_thread.run_sync(work, limiter=shared.queries)
