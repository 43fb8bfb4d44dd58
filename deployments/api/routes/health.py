"""Whether the service lives, whether it can work, and its figures."""

from __future__ import annotations

from typing import Any

import anyio.to_thread
from fastapi import APIRouter, Response

from lookbook.deployments.api.access import Reader
from lookbook.deployments.api.services import Shared
from lookbook.deployments.api.shown import json_answer

router = APIRouter(tags=["service"])


@router.get("/health", response_model=dict[str, str])
async def health() -> Response:
    """Say whether it lives. Asks nobody."""
    return json_answer({"status": "ok"})


@router.get("/ready", response_model=dict[str, Any], responses={503: {"description": "Something is out of reach."}})
async def ready(shared: Shared) -> Response:
    """Say whether lake, registry and Prefect answer: which does not, and not why."""
    parts = await shared.readiness.parts()
    good = all(parts.values())
    document = {"status": "ready" if good else "not ready", "parts": parts}
    return json_answer(document, 200 if good else 503)


@router.get(
    "/metrics", response_class=Response, responses={200: {"content": {"text/plain": {"schema": {"type": "string"}}}}}
)
async def metrics(shared: Shared, _: Reader) -> Response:
    """Figures for Prometheus; with keys set it needs one with the scope read."""
    shared.metrics.snapshots.set(shared.snapshots.number_held)
    await shared.queue.update()
    text = await anyio.to_thread.run_sync(shared.metrics.text)
    return Response(text, media_type="text/plain; version=0.0.4; charset=utf-8")
