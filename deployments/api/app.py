"""The app: its endpoints, and what every request passes through."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from fastapi import APIRouter, FastAPI
from starlette.types import ASGIApp, Scope

from lookbook.blocks.hosts import HostCheck, Refusal
from lookbook.blocks.workspace import Workspace
from lookbook.deployments.api.bodies import BodyCheck
from lookbook.deployments.api.config import ApiConfig
from lookbook.deployments.api.document import add_document
from lookbook.deployments.api.envelope import Envelope
from lookbook.deployments.api.problems import Problem, add_handlers, answer
from lookbook.deployments.api.routes import datasets, diffs, exports, health, images, ingests, page, products, rejects
from lookbook.deployments.api.runs import Runs
from lookbook.deployments.api.services import Services
from lookbook.deployments.api.shown import ROOT

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
    for module in (datasets, diffs, rejects, images, products, exports, ingests):
        api.include_router(module.router)
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
