"""Parameters of addresses and queries: one annotated type each. Names are checked before anything looks for them."""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import Path, Query

from lookbook.deployments.api.problems import ProblemDocument

_NO_CONTROL = r"^[^\x00-\x1f\x7f]*$"

DatasetPath = Annotated[str, Path(pattern=r"^[a-z0-9][a-z0-9_-]{0,62}$", description="Name of a dataset.")]
SnapshotPath = Annotated[str, Path(pattern=r"^[A-Za-z0-9][A-Za-z0-9_-]{0,127}$", description="Id of a snapshot.")]
Sha256Path = Annotated[str, Path(pattern=r"^[0-9a-f]{64}$", description="SHA-256 of an original.")]
OutputPath = Annotated[
    str, Path(pattern=r"^[a-z][a-z0-9_-]{0,62}$", description="original, or the name of an output such as standard.")
]
ProductPath = Annotated[str, Path(min_length=1, max_length=1000, description="Key of a product.")]
SnapshotQuery = Annotated[
    str | None,
    Query(pattern=r"^[A-Za-z0-9][A-Za-z0-9_-]{0,127}$", description="Id of a snapshot. Without: the current one."),
]
CursorQuery = Annotated[
    str | None, Query(max_length=400, pattern=r"^[A-Za-z0-9_-]*$", description="The `next` of the page before.")
]
LimitQuery = Annotated[int, Query(ge=0, le=500, description="Rows of a page, at the most; 0 for counts alone.")]
ListLimit = Annotated[int, Query(ge=1, le=500, description="Entries of a page, at the most.")]


def problems(*statuses: int) -> dict[int | str, dict[str, Any]]:
    """Return the errors of an endpoint, for the document; those that any may have are added."""
    content = {"application/problem+json": {"schema": {"$ref": "#/components/schemas/ProblemDocument"}}}
    listed = sorted({401, 403, 421, 422, 429, 500, 503, *statuses})
    return {status: {"description": _MEANINGS[status], "content": content} for status in listed}


_MEANINGS = {
    400: "What was sent cannot be read.",
    401: "A key is needed.",
    403: "The key has no such scope, or another site asks.",
    404: "There is no such thing, or it is another key's.",
    409: "It is in no state for this.",
    410: "It was there, and is gone.",
    413: "The body is too large.",
    415: "The body is of another type.",
    416: "There are no such bytes.",
    421: "The Host header names another server.",
    422: "It cannot be meant; errors names the fields.",
    429: "Too many requests; Retry-After says when.",
    500: "A fault of Lookbook.",
    503: "A service that is needed does not answer.",
}

#: Documented by reference: FastAPI would name it with `application/json`.
PROBLEM_SCHEMA = ProblemDocument.model_json_schema(ref_template="#/components/schemas/{model}")
