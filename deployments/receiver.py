"""The receiver of a bucket's notifications: a service that turns them into events, settled and signed."""

from __future__ import annotations

import asyncio
import logging
import secrets
from collections.abc import Callable, Hashable
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Generic, TypeVar

import yaml
from fastapi import FastAPI, HTTPException, Query, Request, Response
from pydantic import BaseModel, ConfigDict, Field, SecretStr, ValidationError, model_validator
from pydantic_settings import BaseSettings, SettingsConfigDict

from lookbook.blocks.errors import LookbookError, UsageError
from lookbook.blocks.hosts import is_loopback
from lookbook.tasks.runs.announcements import announce_change
from lookbook.tasks.runs.parameters import DatasetName, SourceUri, WorkspaceName


class WatchedPrefix(BaseModel):
    """Objects of a bucket whose names start with a prefix, and the dataset that they become."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    bucket: Annotated[str, Field(min_length=3, max_length=222, description="Name of the bucket, without gs://.")]
    prefix: Annotated[str, Field(description="Start of the objects' names; empty for the whole bucket.")] = ""
    dataset: DatasetName
    workspace: WorkspaceName = "local"
    source: Annotated[SourceUri | None, Field(description="Source of the ingest; by default gs://bucket/prefix.")] = (
        None
    )

    @property
    def uri(self) -> str:
        """The source that is ingested."""
        return self.source or f"gs://{self.bucket}/{self.prefix}"

    def holds(self, bucket: str, name: str) -> bool:
        """Return whether an object belongs to it."""
        return bucket == self.bucket and name.startswith(self.prefix)


class Token(BaseSettings):
    """A token that who posts has to know, from LOOKBOOK_RECEIVER_TOKEN: never from a file that is shared."""

    model_config = SettingsConfigDict(env_prefix="LOOKBOOK_RECEIVER_", env_ignore_empty=True, extra="ignore")

    token: SecretStr | None = None


class ReceiverConfig(BaseModel):
    """The configuration file of the receiver."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    watched: Annotated[list[WatchedPrefix], Field(min_length=1)]
    quiet_seconds: Annotated[
        float, Field(ge=0, le=300, description="A change is announced when nothing came for so long.")
    ] = 5
    longest_wait_seconds: Annotated[
        float, Field(gt=0, le=590, description="And no later than this: less than the subscription's ack deadline.")
    ] = 45
    token: Annotated[SecretStr | None, Field(exclude=True)] = None

    @model_validator(mode="after")
    def _quiet_within_longest(self) -> ReceiverConfig:
        if self.quiet_seconds > self.longest_wait_seconds:
            raise ValueError("quiet_seconds is more than longest_wait_seconds")
        return self


def read_config(path: Path) -> ReceiverConfig:
    """Read the YAML file, and the token from the environment.

    Raises:
        UsageError: there is no such file, or it says what it cannot mean.
    """
    try:
        content = yaml.safe_load(path.read_text(encoding="utf-8"))
        if isinstance(content, dict) and "token" in content:
            raise UsageError(f"{path}: a token has no place in it.", "Set LOOKBOOK_RECEIVER_TOKEN.")
        config = ReceiverConfig.model_validate(content)
    except OSError as error:
        raise UsageError(f"{path} cannot be read: {error.strerror}.", "See docs/events.md for an example.") from error
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise UsageError(f"{path} is no YAML: {error}.", "See docs/events.md for an example.") from error
    except ValidationError as error:
        fault = error.errors(include_input=False)[0]
        place = ".".join(map(str, fault["loc"])) or "its content"
        raise UsageError(f"{path}: {place}: {fault['msg']}.", "See docs/events.md for an example.") from error
    return config.model_copy(update={"token": Token().token})


def check_guarded(host: str, token: SecretStr | None, *, unauthenticated: bool) -> None:
    """Whoever can post starts ingests: a receiver that others can reach has to know them, or be told not to care.

    Raises:
        UsageError: it would listen for more than this machine, with no token, and nobody said that this is meant.
    """
    if token is None and not unauthenticated and not is_loopback(host):
        raise UsageError(
            f"--host {host}: without a token anybody who reaches it could start ingests.",
            "Set LOOKBOOK_RECEIVER_TOKEN; or give --unauthenticated where Cloud Run's IAM or a proxy checks who posts.",
        )


Key = TypeVar("Key", bound=Hashable)


@dataclass
class _Burst:
    """Calls that wait together: when the first and the last of them came."""

    first: float
    last: float


class Debounce(Generic[Key]):
    """Holds calls with the same key until none came for a while, then announces them all at once.

    Args:
        announce: called in a thread, once for all that waited; what it raises, each of them raises.
        quiet: seconds without a further call after which it is called.
        longest: seconds after which it is called however many still come.
    """

    def __init__(self, announce: Callable[[Key], None], quiet: float, longest: float) -> None:
        self._announce = announce
        self._quiet = quiet
        self._longest = longest
        self._bursts: dict[Key, tuple[_Burst, asyncio.Task[None]]] = {}

    async def told(self, key: Key) -> None:
        """Return once `key` was announced after this call began."""
        now = asyncio.get_running_loop().time()
        if key not in self._bursts:
            burst = _Burst(now, now)
            self._bursts[key] = burst, asyncio.create_task(self._announced(key, burst))
        burst, announced = self._bursts[key]
        burst.last = now
        await asyncio.shield(announced)  # who hangs up must not take the others' event along

    async def _announced(self, key: Key, burst: _Burst) -> None:
        loop = asyncio.get_running_loop()
        while (left := min(burst.last + self._quiet, burst.first + self._longest) - loop.time()) > 0:
            await asyncio.sleep(left)
        del self._bursts[key]  # whoever comes from here on is not covered by the event that is sent now
        await asyncio.to_thread(self._announce, key)


# Cloud Storage publishes a message for each object that is written or deleted, Pub/Sub posts it here, wrapped in JSON
# (https://cloud.google.com/pubsub/docs/push#receive_push,
# https://cloud.google.com/storage/docs/pubsub-notifications). A message is acknowledged (204) once the event is sent;
# any other answer makes Pub/Sub deliver it again: at least once.

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


class PushMessage(BaseModel):
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
        return PushMessage.model_validate_json(body).message.attributes
    except ValidationError as error:
        fault = error.errors(include_input=False, include_url=False)[0]
        place = ".".join(map(str, fault["loc"])) or "the body"
        raise HTTPException(400, f"no push message of a bucket's notification: {place}: {fault['msg']}") from error
