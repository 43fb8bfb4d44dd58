"""The products of a snapshot: found by filters, in an order, page by page, with counts by value."""

from __future__ import annotations

import json
from typing import Annotated, Any

import anyio.to_thread
from fastapi import APIRouter, Query, Request, Response

from lookbook.blocks.errors import UsageError
from lookbook.deployments.api import models
from lookbook.deployments.api.access import Reader
from lookbook.deployments.api.config import ApiConfig
from lookbook.deployments.api.middleware import is_deeper
from lookbook.deployments.api.problems import (
    CursorQuery,
    DatasetPath,
    LimitQuery,
    PageCursor,
    Problem,
    ProductPath,
    SnapshotQuery,
    encoded,
    problems,
    read_cursor,
    start_of,
)
from lookbook.deployments.api.products import ProductQuery as Asked
from lookbook.deployments.api.products import count_values, find, make_query, product_detail
from lookbook.deployments.api.services import Services, Shared
from lookbook.deployments.api.shown import json_answer, product_rows, wanted_columns
from lookbook.deployments.api.snapshots import LoadedSnapshot, names_another
from lookbook.tasks.exports.filters import Filter, read_conditions, read_filter

router = APIRouter(prefix="/datasets/{name}/products", tags=["products"])

#: Parameters that are no columns.
RESERVED = frozenset(("snapshot", "filter", "where", "q", "sort", "cursor", "limit", "facets", "columns"))
MOST_PARAMETERS = 200
MOST_FACETS = 20

FilterQuery = Annotated[
    str | None,
    Query(
        max_length=200_000,
        description='A filter as JSON, such as {"column": "year", "op": ">=", "value": 2012}; the same as of an '
        "export.",
    ),
]
WhereQuery = Annotated[
    list[str],
    Query(max_length=100, description="Conditions in their short form, such as year>=2012: all have to hold."),
]
TextQuery = Annotated[str | None, Query(max_length=1000, description="Words of the display name.")]
SortQuery = Annotated[
    str | None, Query(max_length=600, description="Columns, with - before those that descend: -year,product_key.")
]
FacetsQuery = Annotated[str | None, Query(max_length=3000, description="Columns whose values are counted.")]
ColumnsQuery = Annotated[
    str | None, Query(max_length=20_000, description="Columns to show; * for all. Without: the catalogue's and a few.")
]


@router.get("", response_model=models.ProductPage, responses=problems(400, 404, 410))
async def list_products(
    name: DatasetPath,
    request: Request,
    shared: Shared,
    _: Reader,
    snapshot: SnapshotQuery = None,
    filter: FilterQuery = None,  # noqa: A002 - its name in the address
    where: WhereQuery = [],  # noqa: B006 - FastAPI copies it
    q: TextQuery = None,
    sort: SortQuery = None,
    facets: FacetsQuery = None,
    columns: ColumnsQuery = None,
    cursor: CursorQuery = None,
    limit: LimitQuery = 50,
) -> Response:
    """Products that a filter finds. Any other parameter is a column with the value that it has to have.

    Several values of one column mean one of them; an empty one means that there is none. A facet's counts are made
    without the condition of its own column. Pages of one cursor are all of one snapshot.
    """
    values: dict[str, list[str]] = {}
    items = request.query_params.multi_items()
    if len(items) > MOST_PARAMETERS:
        raise Problem(422, "invalid-request", f"More than {MOST_PARAMETERS} parameters.", "Send a filter as JSON.")
    for column, value in items:
        if column not in RESERVED:
            values.setdefault(column, []).append(value)
    base = read_conditions(where, q or None, (), _filter(filter, shared.config))

    def work() -> Response:
        given = read_cursor(cursor) if cursor else None
        loaded = _snapshot_of(shared, name, snapshot, given)
        query = make_query(loaded, base, values, sort)
        start = start_of(given, query.digest)
        page = ("page", query.digest, start, limit, columns, facets)
        body = loaded.kept(page, lambda: encoded(_page(loaded, query, start, limit, columns, _names(facets))))
        return Response(body, media_type="application/json")

    return await anyio.to_thread.run_sync(work, limiter=shared.queries)


@router.get("/{key:path}", response_model=models.ProductDetail, responses=problems(404))
async def show_product(
    name: DatasetPath, key: ProductPath, shared: Shared, _: Reader, snapshot: SnapshotQuery = None
) -> Response:
    """Show a product: catalogue rows, images with measures, EXIF, outputs and near duplicates, and its history."""

    def work() -> Response:
        loaded = shared.snapshots.load(name, snapshot)
        return json_answer(product_detail(shared.snapshots, loaded, key))

    return await anyio.to_thread.run_sync(work, limiter=shared.queries)


def _page(
    loaded: LoadedSnapshot, query: Asked, start: int, limit: int, columns: str | None, facets: list[str]
) -> dict[str, Any]:
    places = find(loaded, query)
    more = limit and len(places) > start + limit
    return {
        "snapshot": loaded.manifest.snapshot_id,
        "total": len(places),
        "items": product_rows(loaded, places[start : start + limit], wanted_columns(loaded, columns)),
        "facets": {column: count_values(loaded, query, column) for column in facets},
        "next": PageCursor(loaded.manifest.snapshot_id, query.digest, start + limit).text() if more else None,
    }


def _filter(text: str | None, config: ApiConfig) -> Filter | None:
    if not text:
        return None
    if is_deeper(text.encode("utf-8", "replace"), config.body_levels):
        raise Problem(422, "too-deep", f"The filter is deeper than {config.body_levels} levels.")
    try:
        document = json.loads(text)
    except ValueError as error:
        raise UsageError("The filter is no JSON.", 'One is {"column": "year", "op": ">=", "value": 2012}.') from error
    return read_filter(document)


def _snapshot_of(shared: Services, name: str, snapshot: str | None, given: PageCursor | None) -> LoadedSnapshot:
    """Return the snapshot that is asked; a cursor names it."""
    if given is None:
        return shared.snapshots.load(name, snapshot)
    if names_another(snapshot, given.snapshot_id):
        raise Problem(400, "bad-cursor", "The cursor belongs to another snapshot.", "Leave out one of the two.")
    try:
        return shared.snapshots.load(name, given.snapshot_id)
    except Problem as problem:
        if problem.name != "no-snapshot":
            raise
        raise Problem(410, "gone", "The snapshot of this cursor is gone.", "Begin again without a cursor.") from problem


def _names(listed: str | None) -> list[str]:
    names = list(dict.fromkeys(name.strip() for name in (listed or "").split(",") if name.strip()))
    if len(names) > MOST_FACETS:
        raise UsageError(f"facets: more than {MOST_FACETS} columns.", "Name fewer.")
    return names
