"""What differs between two snapshots."""

from __future__ import annotations

from typing import Annotated, Any, Literal

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
from lookbook.deployments.api.services import Shared
from lookbook.deployments.api.shown import ImageLinks, json_answer
from lookbook.tasks.datasets.differences import KINDS, differing_making

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
    of: Annotated[
        Literal["images", "rows", "links", "rejects"] | None, Query(description="Only these. Without: all.")
    ] = None,
    kind: Annotated[Literal["added", "removed", "changed"] | None, Query(description="Only these.")] = None,
    cursor: CursorQuery = None,
    limit: LimitQuery = 50,
) -> Response:
    """Show what one snapshot has and another has not, and what changed: images, catalogue rows, links, other rejects.

    Items are those of `lookbook diff --json`, with the addresses of the images of both sides.
    """

    def work() -> Response:
        new = shared.snapshots.manifest(name, after)
        old_id = before or shared.snapshots.previous(new)
        if old_id is None:
            raise Problem(404, "no-snapshot", f"{new.snapshot_id} is the first one.", "Name two snapshots.")
        old = shared.snapshots.manifest(name, old_id)
        digest = query_digest("diff", old.snapshot_id, of, kind)
        given = read_cursor(cursor) if cursor else None
        if given is not None and given.snapshot_id != new.snapshot_id:
            raise Problem(400, "bad-cursor", "The cursor belongs to another snapshot.", "Give the same from and to.")
        found = shared.snapshots.differences(old, new, shared.workspace.scratch)
        kinds, start = (of,) if of else tuple(KINDS), start_of(given, digest)
        more = limit and found.total(kinds, kind) > start + limit
        links = {"before": ImageLinks(old), "after": ImageLinks(new)}
        return json_answer(
            {
                "from": old.snapshot_id,
                "to": new.snapshot_id,
                "made_by": differing_making(old, new),
                "counts": found.counts,
                "why": found.why,
                "columns": found.columns,
                "items": [item | {"images": _images(item, links)} for item in found.items(kinds, kind, start, limit)],
                "next": PageCursor(new.snapshot_id, digest, start + limit).text() if more else None,
            }
        )

    return await anyio.to_thread.run_sync(work, limiter=shared.queries)


def _images(item: dict[str, Any], links: dict[str, ImageLinks]) -> dict[str, dict[str, str]]:
    """Return the addresses of the images of both sides; a catalogue row has one only if it was matched."""
    sides = {side: item[side] or {} for side in links}
    return {side: links[side].of(row.get("sha256"), row.get("outcome")) for side, row in sides.items()}
