"""What a snapshot refused, or the last run that published none, and why."""

from __future__ import annotations

from typing import Annotated, Any

import pyarrow as pa
import pyarrow.compute as pc
from fastapi import APIRouter, Query, Response

from lookbook.deployments.api import models
from lookbook.deployments.api.access import Reader
from lookbook.deployments.api.problems import (
    CursorQuery,
    DatasetPath,
    LimitQuery,
    PageCursor,
    Problem,
    SnapshotQuery,
    problems,
    query_digest,
    read_cursor,
    start_of,
)
from lookbook.deployments.api.services import Services, Shared
from lookbook.deployments.api.shown import json_answer
from lookbook.deployments.api.snapshots import names_another
from lookbook.tasks.datasets.manifest import read_published
from lookbook.tasks.datasets.unpublished import UnpublishedRun, read_unpublished

router = APIRouter(prefix="/datasets/{name}/rejects", tags=["rejects"])

#: Characters of a raw row that are shown.
LONGEST_RAW = 10_000

RuleQuery = Annotated[str | None, Query(max_length=200, description="Only those of this rule.")]
KindQuery = Annotated[
    str | None, Query(max_length=50, description="Only those of this kind: image, row, link, style …")
]


@router.get("", response_model=models.RejectPage, responses=problems(400, 404))
def list_rejects(
    name: DatasetPath,
    shared: Shared,
    _: Reader,
    snapshot: SnapshotQuery = None,
    kind: KindQuery = None,
    rule: RuleQuery = None,
    cursor: CursorQuery = None,
    limit: LimitQuery = 50,
) -> Response:
    """List the rejects of a snapshot, in the order in which they were found.

    Without `snapshot`: of the last run that ended; where it published nothing, `unpublished` says so.
    """
    given, digest = read_cursor(cursor) if cursor else None, query_digest("rejects", kind, rule)
    if given is not None and names_another(snapshot, given.snapshot_id):
        raise Problem(400, "bad-cursor", "The cursor belongs to another snapshot.", "Leave out one of the two.")
    last = _unpublished(shared, name, snapshot, given)
    run, place, table = None, "", pa.table({})
    if last is not None:
        run, table = last
        place = run.run_id
    else:
        loaded = shared.snapshots.load(name, given.snapshot_id if given else snapshot)
        place, table = loaded.manifest.snapshot_id, loaded.rejects
    start = start_of(given, digest)
    wanted = {column: value for column, value in (("kind", kind), ("rule", rule)) if value is not None}
    found = _only(table, wanted)
    page = found.slice(start, limit).to_pylist()
    more = limit and found.num_rows > start + limit
    return json_answer(
        {
            "snapshot": None if run else place,
            "unpublished": run.model_dump(mode="json", include=set(models.UnpublishedRun.model_fields))
            if run
            else None,
            "total": found.num_rows,
            "items": [row | {"raw": row["raw"][:LONGEST_RAW]} for row in page],
            "facets": {column: _counts(_only(table, wanted, column), column) for column in ("kind", "rule")},
            "next": PageCursor(place, digest, start + limit).text() if more else None,
        }
    )


def _unpublished(
    shared: Services, name: str, snapshot: str | None, given: PageCursor | None
) -> tuple[UnpublishedRun, pa.Table] | None:
    """Return the last run and its rejects, where it published nothing, and neither query nor cursor ask for others."""
    if snapshot is not None:
        return None
    published = read_published(shared.workspace.lake, name)
    last = read_unpublished(shared.workspace, name, published.manifest.snapshot_id if published else None)
    return None if last and given and given.snapshot_id != last[0].run_id else last


def _only(table: pa.Table, wanted: dict[str, str], without: str = "") -> pa.Table:
    for column, value in wanted.items():
        if column != without:
            table = table.filter(pc.equal(table[column], value))
    return table


def _counts(table: pa.Table, column: str) -> dict[str, Any]:
    counts = [{"value": each["values"], "count": each["counts"]} for each in pc.value_counts(table[column]).to_pylist()]
    return {"values": sorted(counts, key=lambda each: (-each["count"], each["value"] or "")), "others": 0}
