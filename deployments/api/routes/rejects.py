"""What a snapshot refused, and why."""

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
from lookbook.deployments.api.services import Shared
from lookbook.deployments.api.shown import json_answer

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
    """List the rejects of a snapshot, in the order in which they were found."""
    given, digest = read_cursor(cursor) if cursor else None, query_digest("rejects", kind, rule)
    if given is not None and snapshot not in {None, given.snapshot_id}:
        raise Problem(400, "bad-cursor", "The cursor belongs to another snapshot.", "Leave out one of the two.")
    loaded = shared.snapshots.load(name, given.snapshot_id if given else snapshot)
    table, start = loaded.rejects, start_of(given, digest)
    wanted = {column: value for column, value in (("kind", kind), ("rule", rule)) if value is not None}
    found = _only(table, wanted)
    page = found.slice(start, limit).to_pylist()
    more = limit and found.num_rows > start + limit
    return json_answer(
        {
            "snapshot": loaded.manifest.snapshot_id,
            "total": found.num_rows,
            "items": [row | {"raw": row["raw"][:LONGEST_RAW]} for row in page],
            "facets": {column: _counts(_only(table, wanted, column), column) for column in ("kind", "rule")},
            "next": PageCursor(loaded.manifest.snapshot_id, digest, start + limit).text() if more else None,
        }
    )


def _only(table: pa.Table, wanted: dict[str, str], without: str = "") -> pa.Table:
    for column, value in wanted.items():
        if column != without:
            table = table.filter(pc.equal(table[column], value))
    return table


def _counts(table: pa.Table, column: str) -> dict[str, Any]:
    counts = [{"value": each["values"], "count": each["counts"]} for each in pc.value_counts(table[column]).to_pylist()]
    return {"values": sorted(counts, key=lambda each: (-each["count"], each["value"] or "")), "others": 0}
