"""The app: its endpoints, what every request passes through, and its own description in OpenAPI."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from html import escape
from typing import Any

from fastapi import APIRouter, FastAPI, Request, Response
from fastapi.openapi.utils import get_openapi
from starlette.types import ASGIApp, Scope

from lookbook.blocks.hosts import HostCheck, Refusal
from lookbook.blocks.workspace import Workspace
from lookbook.deployments.api.config import ApiConfig
from lookbook.deployments.api.middleware import BodyCheck, Envelope
from lookbook.deployments.api.problems import PROBLEM_SCHEMA, Fault, Problem, add_handlers, answer
from lookbook.deployments.api.routes import (
    cleanups,
    datasets,
    diffs,
    exports,
    health,
    images,
    ingests,
    page,
    products,
    rejects,
    replays,
    restores,
)
from lookbook.deployments.api.runs import Runs
from lookbook.deployments.api.services import Services
from lookbook.deployments.api.shown import ROOT, json_answer
from lookbook.tasks.exports.filters import filter_json_schema

DESCRIPTION = """Datasets of Lookbook: what is published, and exports, ingests, restores and more on request.

Times are in UTC. Errors are problem documents (RFC 9457). Lists have a `next`: the cursor of their next page. A key
goes into `Authorization: Bearer KEY`; on a machine where no key was made yet, none is asked for."""


def add_document(app: FastAPI) -> None:
    """Serve ``openapi.json`` and ``docs`` under the API's root."""

    async def openapi(_: Request) -> Response:
        return json_answer(app.openapi())

    async def page(_: Request) -> Response:
        return Response(_page(app.openapi()), media_type="text/html; charset=utf-8")

    async def style(_: Request) -> Response:
        return Response(STYLE, media_type="text/css; charset=utf-8")

    app.add_route(f"{ROOT}/openapi.json", openapi, methods=["GET"])
    app.add_route(f"{ROOT}/docs", page, methods=["GET"])
    app.add_route(f"{ROOT}/docs.css", style, methods=["GET"])
    app.openapi = lambda: _openapi(app)  # type: ignore[method-assign]


def _openapi(app: FastAPI) -> dict[str, Any]:
    if app.openapi_schema is None:
        document = get_openapi(title=app.title, version=app.version, description=DESCRIPTION, routes=app.routes)
        schemas = document.setdefault("components", {}).setdefault("schemas", {})
        schemas |= {"ProblemDocument": {k: v for k, v in PROBLEM_SCHEMA.items() if k != "$defs"}}
        schemas |= {"Fault": Fault.model_json_schema()}
        for name in ("HTTPValidationError", "ValidationError"):
            schemas.pop(name, None)
        document["x-filter"] = filter_json_schema()
        app.openapi_schema = document
    return app.openapi_schema


STYLE = """body { font: 1rem/1.5 system-ui, sans-serif; max-width: 60rem; margin: 2rem auto; padding: 0 1rem; }
h2 { border-top: 1px solid; padding-top: 1rem; font-size: 1.1rem; } code { font-size: .95em; }
table { border-collapse: collapse; } td, th { text-align: left; padding: .2rem 1rem .2rem 0; vertical-align: top; }
:root { color-scheme: light dark; }
"""


def _page(document: dict[str, Any]) -> str:
    parts = [
        "<!doctype html><html lang=en><meta charset=utf-8><meta name=viewport content='width=device-width'>",
        f"<title>{escape(document['info']['title'])}</title><link rel=stylesheet href='{ROOT}/docs.css'>",
        f"<h1>{escape(document['info']['title'])} {escape(document['info']['version'])}</h1>",
        *(f"<p>{escape(text)}</p>" for text in DESCRIPTION.split("\n\n")),
        f"<p>For tools: <a href='{ROOT}/openapi.json'>openapi.json</a> (OpenAPI {escape(document['openapi'])}).</p>",
    ]
    for path, methods in document["paths"].items():
        for method, operation in methods.items():
            parts += _operation(method, path, operation)
    return "\n".join([*parts, "</html>"])


def _operation(method: str, path: str, operation: dict[str, Any]) -> list[str]:
    told = operation.get("description", operation.get("summary", ""))
    parts = [f"<h2><code>{method.upper()} {escape(path)}</code></h2>", f"<p>{escape(told)}</p>"]
    if listed := operation.get("parameters"):
        parts.append("<table><tr><th>Parameter<th>In<th>Meaning")
        for each in listed:
            described = escape(each.get("description", each["schema"].get("description", "")))
            needed = " (needed)" if each.get("required") else ""
            parts.append(f"<tr><td><code>{escape(each['name'])}</code><td>{each['in']}{needed}<td>{described}")
        parts.append("</table>")
    body = operation.get("requestBody", {}).get("content", {}).get("application/json", {}).get("schema", {})
    if "$ref" in body:
        parts.append(f"<p>Body: <code>{escape(body['$ref'].rpartition('/')[2])}</code></p>")
    answers = (f"{status} {escape(each.get('description', ''))}" for status, each in operation["responses"].items())
    return [*parts, f"<p>Answers: {'; '.join(answers)}</p>"]


VERSION = "1.0"


def make_app(workspace: Workspace, name: str, config: ApiConfig, runs: Runs) -> FastAPI:
    """Return the API of a workspace.

    Args:
        workspace: that it reads.
        name: of the workspace, which runs are told.
        config: limits.
        runs: submits runs of the deployments.
    """
    services = Services.made(workspace, name, config, runs)

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        async with runs.opened():
            yield

    app = FastAPI(title="Lookbook", version=VERSION, docs_url=None, redoc_url=None, openapi_url=None, lifespan=lifespan)
    app.state.services = services
    app.include_router(health.router)
    app.include_router(page.router)
    api = APIRouter(prefix=ROOT)
    # A product's key may hold slashes: its route takes what the others leave.
    lists = (datasets, diffs, rejects, images, products)
    requests = (exports, ingests, restores, replays, cleanups)
    for module in (*lists, *requests):
        api.include_router(module.router)
    api.include_router(ingests.plans)
    api.include_router(restores.publications)
    app.include_router(api)
    add_document(app)
    add_handlers(app)
    # The last one that is added is the first that a request meets.
    app.add_middleware(BodyCheck, config=config, gate=services.gate)
    app.add_middleware(
        HostCheck,
        allowed=config.allowed_hosts,
        anywhere=not config.is_local,
        setting="LOOKBOOK_API_ALLOWED_HOSTS",
        refuse=_refused,
    )
    app.add_middleware(Envelope, metrics=services.metrics)
    return app


def _refused(scope: Scope, refusal: Refusal) -> ASGIApp:
    problem = Problem(refusal.status, refusal.name, refusal.detail, refusal.way_out)
    return answer(problem, scope.get("request_id", ""))
