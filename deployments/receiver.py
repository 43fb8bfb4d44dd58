"""The receiver of Pub/Sub push messages: what changed in a bucket becomes the event `lookbook.source.changed`.

Cloud Storage publishes a message for each object that is written or deleted, Pub/Sub posts it here, wrapped in JSON
(https://cloud.google.com/pubsub/docs/push#receive_push, https://cloud.google.com/storage/docs/pubsub-notifications).
A message is acknowledged (204) once the event is sent; any other answer makes Pub/Sub deliver it again: at least once.
"""

from __future__ import annotations

import asyncio
import logging
import secrets
from collections.abc import Callable
from typing import Annotated

from fastapi import FastAPI, HTTPException, Query, Request, Response
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from lookbook.blocks.errors import LookbookError
from lookbook.deployments.receiver_config import ReceiverConfig, WatchedPrefix
from lookbook.deployments.receiver_debounce import Debounce
from lookbook.tasks.runs.announcements import announce_change

#: What changes the images of a bucket: written, overwritten, deleted. New metadata of an object does not.
CHANGES = {"OBJECT_FINALIZE", "OBJECT_DELETE", "OBJECT_ARCHIVE"}
#: A Pub/Sub message holds 10 MB at the most; base64 and its envelope come on top.
LARGEST = 15 * 1024**2

logger = logging.getLogger("lookbook.receiver")


class Notification(BaseModel):
    """The attributes that Cloud Storage gives a message."""

    model_config = ConfigDict(extra="ignore")

    event_type: Annotated[str, Field(alias="eventType")]
    bucket: Annotated[str, Field(alias="bucketId", min_length=1)]
    object_name: Annotated[str, Field(alias="objectId", min_length=1)]


class Message(BaseModel):
    """The message; its data says nothing that its attributes don't."""

    attributes: Notification


class Envelope(BaseModel):
    """What Pub/Sub posts to a push endpoint."""

    message: Message


def make_app(config: ReceiverConfig, announce: Callable[[WatchedPrefix], None] | None = None) -> FastAPI:
    """Return the web app: ``POST /`` takes messages, ``GET /health`` answers while it runs.

    Args:
        config: what is watched, and how long to wait.
        announce: sends the event of a watched prefix and returns once it is taken.
    """
    app = FastAPI(title="Lookbook receiver", docs_url=None, redoc_url=None, openapi_url=None)
    debounce = Debounce(announce or _announce, config.quiet_seconds, config.longest_wait_seconds)

    @app.get("/health")
    async def health() -> dict[str, str]:
        return {"status": "ok"}

    @app.post("/", status_code=204)
    async def receive(request: Request, token: Annotated[str, Query()] = "") -> Response:
        _check_token(config, token)
        found = _read(await _body(request))
        watched = [prefix for prefix in config.watched if prefix.holds(found.bucket, found.object_name)]
        if not watched:
            logger.warning("nothing watches gs://%s/%s", *map(ascii, (found.bucket, found.object_name)))
        elif found.event_type in CHANGES:
            await _told(debounce, watched)
        return Response(status_code=204)

    return app


def _announce(prefix: WatchedPrefix) -> None:
    announce_change(prefix.uri, prefix.dataset, prefix.workspace)
    logger.info("announced a change of %s for %s in %s", prefix.uri, prefix.dataset, prefix.workspace)


async def _told(debounce: Debounce[WatchedPrefix], watched: list[WatchedPrefix]) -> None:
    """Wait until the event of each was sent; a fault of one leaves the message with Pub/Sub."""
    said = await asyncio.gather(*map(debounce.told, watched), return_exceptions=True)
    for fault in (each for each in said if each is not None):
        logger.error("not announced: %s", fault)
        if not isinstance(fault, LookbookError):
            raise fault
        raise HTTPException(503, "Prefect's API did not take the event; deliver this again")


def _check_token(config: ReceiverConfig, token: str) -> None:
    """Refuse who does not know the shared token. Compared in constant time: an answer's time must tell nothing."""
    if config.token is None:
        return
    if not secrets.compare_digest(token.encode(), config.token.get_secret_value().encode()):
        raise HTTPException(403, "the token is missing or wrong")


async def _body(request: Request) -> bytes:
    body = bytearray()
    async for chunk in request.stream():
        body += chunk
        if len(body) > LARGEST:
            raise HTTPException(413, f"more than {LARGEST} bytes: that is no message of Pub/Sub")
    return bytes(body)


def _read(body: bytes) -> Notification:
    try:
        return Envelope.model_validate_json(body).message.attributes
    except ValidationError as error:
        fault = error.errors(include_input=False, include_url=False)[0]
        place = ".".join(map(str, fault["loc"])) or "the body"
        raise HTTPException(400, f"no push message of a bucket's notification: {place}: {fault['msg']}") from error
