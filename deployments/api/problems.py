"""Errors as problem documents (RFC 9457), parameters and cursors that are checked, methods that an address takes."""

from __future__ import annotations

import base64
import hashlib
import json
import logging
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal
from http import HTTPStatus
from typing import Annotated, Any

import orjson
from fastapi import FastAPI, Path, Query, Request, Response
from fastapi.exceptions import RequestValidationError
from pydantic import BaseModel, Field
from starlette.exceptions import HTTPException
from starlette.routing import Match

from lookbook.blocks.errors import LookbookError, OutOfReachError, StatementTimeoutError, TransientError, UsageError

_ASKED = ("DELETE", "GET", "PATCH", "POST", "PUT")


def allowed_methods(request: Request) -> list[str]:
    """Return the methods of all routes that match a request's path, sorted."""
    found = {
        method
        for method in _ASKED
        for route in request.app.routes
        if route.matches({**request.scope, "method": method})[0] is Match.FULL
    }
    return sorted(found | ({"HEAD"} if "GET" in found else set()))


MEDIA_TYPE = "application/problem+json"
TYPE = "urn:lookbook:problem:"
#: Faults of a request's fields that are told at once.
MOST_ERRORS = 20
#: Seconds after which a client may ask again for what is out of reach.
RETRY_SECONDS = 5

logger = logging.getLogger("lookbook.api")


class Fault(BaseModel):
    """One field of a request that is wrong."""

    place: str
    message: str


class ProblemDocument(BaseModel):
    """What every error looks like (RFC 9457)."""

    type: str = Field(description="urn:lookbook:problem:NAME; docs/api.md lists the names.")
    title: str
    status: int
    detail: str = ""
    way_out: str = Field("", description="What can be done about it.")
    request_id: str = Field("", description="As in the answer's X-Request-ID and in the logs.")
    errors: list[Fault] | None = None


class Problem(Exception):  # noqa: N818 - the RFC's word
    """An error that the one who asked is told.

    Args:
        status: of HTTP.
        name: last part of the problem's type, such as ``unknown-column``.
        detail: what is wrong, naming the thing.
        way_out: what can be done about it.
        headers: of the answer.
        errors: the fields that are wrong.
    """

    def __init__(
        self,
        status: int,
        name: str,
        detail: str,
        way_out: str = "",
        *,
        headers: Mapping[str, str] | None = None,
        errors: Sequence[Fault] = (),
    ) -> None:
        super().__init__(detail)
        self.status, self.name, self.detail, self.way_out = status, name, detail, way_out
        self.headers, self.errors = dict(headers or {}), list(errors)


def answer(problem: Problem, request_id: str) -> Response:
    """Return the answer that tells a problem."""
    document: dict[str, Any] = {
        "type": TYPE + problem.name,
        "title": HTTPStatus(problem.status).phrase,
        "status": problem.status,
        "detail": problem.detail,
        "way_out": problem.way_out,
        "request_id": request_id,
    }
    if problem.errors:
        document["errors"] = [fault.model_dump() for fault in problem.errors]
    return Response(encoded(document), problem.status, problem.headers, MEDIA_TYPE)


def encoded(document: object) -> bytes:
    """Return a document as JSON; decimals are numbers with all their digits.

    What is no text in UTF-8, as half of a pair of surrogates, is replaced.
    """
    try:
        return orjson.dumps(document, default=_digits)
    except TypeError:
        return orjson.dumps(_in_utf8(document), default=_digits)


def _digits(value: object) -> orjson.Fragment | None:
    if isinstance(value, Decimal):
        return orjson.Fragment(str(value)) if value.is_finite() else None
    raise TypeError(f"JSON has no word for a {type(value).__name__}")


def _in_utf8(value: Any) -> Any:  # noqa: ANN401 - any JSON
    if isinstance(value, str):
        return value.encode("utf-8", "replace").decode()
    if isinstance(value, list):
        return [_in_utf8(each) for each in value]
    if isinstance(value, dict):
        return {_in_utf8(name): _in_utf8(each) for name, each in value.items()}
    return value


def problem_of(error: Exception) -> Problem:
    """Return what is told of an error; log faults of the inside, whose texts name paths and servers."""
    if isinstance(error, Problem):
        return error
    if isinstance(error, UsageError):
        return Problem(422, "invalid-request", error.problem, error.way_out)
    if isinstance(error, OutOfReachError | StatementTimeoutError | TransientError):
        logger.warning("out of reach: %s", ascii(str(error)))
        return Problem(
            503,
            "out-of-reach",
            "A service that this needs does not answer.",
            "Try again in a moment; /ready says which.",
            headers={"Retry-After": str(RETRY_SECONDS)},
        )
    if isinstance(error, LookbookError):
        logger.error("%s: %s", type(error).__name__, ascii(str(error)))
        return Problem(500, "damaged", "What is stored cannot be used as it is.", "The log says why, by request_id.")
    return Problem(500, "internal", "This is a fault of Lookbook.", "The log says more, by request_id; report it.")


def add_handlers(app: FastAPI) -> None:
    """Let an app tell all of its errors as problems."""

    async def told(request: Request, error: Exception) -> Response:
        return answer(problem_of(error), request.scope.get("request_id", ""))

    async def refused(request: Request, error: Exception) -> Response:
        faults = error.errors() if isinstance(error, RequestValidationError) else []
        return answer(_refused(faults), request.scope.get("request_id", ""))

    async def plain(request: Request, error: Exception) -> Response:
        problem = _plain(request, error if isinstance(error, HTTPException) else HTTPException(500))
        return answer(problem, request.scope.get("request_id", ""))

    app.add_exception_handler(Problem, told)
    app.add_exception_handler(LookbookError, told)
    app.add_exception_handler(TransientError, told)
    app.add_exception_handler(RequestValidationError, refused)
    app.add_exception_handler(HTTPException, plain)


def _refused(faults: Sequence[Mapping[str, Any]]) -> Problem:
    """Return what was sent is left out: it may be a secret in the wrong place."""
    if any(fault["type"] == "json_invalid" for fault in faults):
        return Problem(400, "no-json", "The body is no JSON.", "Send one JSON document.")
    errors = [
        Fault(place=".".join(map(str, fault["loc"]))[:200], message=fault["msg"].removeprefix("Value error, ")[:500])
        for fault in faults[:MOST_ERRORS]
    ]
    first = f"{errors[0].place}: {errors[0].message}" if errors else "It cannot be meant."
    return Problem(422, "invalid-request", first, "See /api/v1/docs for what it takes.", errors=errors)


def _plain(request: Request, error: HTTPException) -> Problem:
    """Return what the framework itself refuses."""
    if error.status_code == HTTPStatus.NOT_FOUND:
        return Problem(404, "not-found", "There is nothing under this address.", "See /api/v1/docs.")
    if error.status_code == HTTPStatus.METHOD_NOT_ALLOWED:
        methods = ", ".join(allowed_methods(request))
        detail = f"{request.scope['method']} is not for this address."[:100]
        return Problem(405, "method-not-allowed", detail, f"It takes {methods}.", headers={"Allow": methods})
    if error.status_code == HTTPStatus.BAD_REQUEST:
        return Problem(400, "no-json", "The body cannot be read as JSON.", "Send one JSON document in UTF-8.")
    return Problem(error.status_code, "refused", str(error.detail))


_NO_CONTROL = r"^[^\x00-\x1f\x7f]*$"

DatasetPath = Annotated[str, Path(pattern=r"^[a-z0-9][a-z0-9_-]{0,62}$", description="Name of a dataset.")]
#: An id of a snapshot, or a tag.
SNAPSHOT = r"^[A-Za-z0-9][A-Za-z0-9._-]{0,127}$"
SnapshotPath = Annotated[str, Path(pattern=SNAPSHOT, description="Id or tag of a snapshot; or current.")]
Sha256Path = Annotated[str, Path(pattern=r"^[0-9a-f]{64}$", description="SHA-256 of an original.")]
OutputPath = Annotated[
    str, Path(pattern=r"^[a-z][a-z0-9_-]{0,62}$", description="original, or the name of an output such as standard.")
]
ProductPath = Annotated[str, Path(min_length=1, max_length=1000, description="Key of a product.")]
SnapshotQuery = Annotated[
    str | None,
    Query(pattern=SNAPSHOT, description="Id or tag of a snapshot. Without: the current one."),
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


# A snapshot never changes, so that a place in its order is enough, and pages fit together while others are published.

LONGEST = 400
_SNAPSHOT = re.compile(r"[A-Za-z0-9._-]{1,128}")


@dataclass(frozen=True)
class PageCursor:
    """A place in the results of a query.

    Attributes:
        snapshot_id: that is asked.
        query: digest of the query.
        offset: rows before the place.
    """

    snapshot_id: str
    query: str
    offset: int

    def text(self) -> str:
        """Return it as it is given out."""
        plain = json.dumps([self.snapshot_id, self.query, self.offset], separators=(",", ":"))
        return base64.urlsafe_b64encode(plain.encode()).decode().rstrip("=")


def read_cursor(text: str) -> PageCursor:
    """Return the place that a cursor names. It may be made up: whoever does that finds a page that there is, or none.

    Raises:
        Problem: it is none.
    """
    found = _decoded(text) if len(text) <= LONGEST else None
    if found is None or not (_is_text(found[0]) and _is_text(found[1]) and type(found[2]) is int):
        raise Problem(400, "bad-cursor", "The cursor is none of ours.", "Begin again without one.")
    if not 0 <= found[2] < 2**53:
        raise Problem(400, "bad-cursor", "The cursor names no place.", "Begin again without one.")
    return PageCursor(*found)


def _decoded(text: str) -> list[Any] | None:
    try:
        found = json.loads(base64.b64decode(text + "=" * (-len(text) % 4), altchars=b"-_", validate=True))
    except (ValueError, RecursionError):
        return None
    return found if isinstance(found, list) and len(found) == 3 else None  # noqa: PLR2004 - see Cursor.text


def query_digest(*parts: Any) -> str:  # noqa: ANN401 - any JSON
    """Return what tells one query from another."""
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()[:16]


def start_of(cursor: PageCursor | None, digest: str) -> int:
    """Return the first row of a page.

    Raises:
        Problem: the cursor is one of another query.
    """
    if cursor is None:
        return 0
    if cursor.query != digest:
        raise Problem(
            400, "bad-cursor", "The cursor belongs to another query.", "Keep filter and sort the same, or begin again."
        )
    return cursor.offset


def _is_text(value: object) -> bool:
    return isinstance(value, str) and _SNAPSHOT.fullmatch(value) is not None
