"""Errors as problem documents (RFC 9457): what is wrong, the way out, and nothing of the inside."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from decimal import Decimal
from http import HTTPStatus
from typing import Any

import orjson
from fastapi import FastAPI, Request, Response
from fastapi.exceptions import RequestValidationError
from pydantic import BaseModel, Field
from starlette.exceptions import HTTPException

from lookbook.blocks.errors import LookbookError, OutOfReachError, StatementTimeoutError, TransientError, UsageError
from lookbook.deployments.api.methods import allowed_methods

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
