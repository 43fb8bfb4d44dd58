"""How the API behaves: from the environment, variables that start with ``LOOKBOOK_API_``."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field, ValidationError
from pydantic_settings import BaseSettings, SettingsConfigDict

from lookbook.blocks.errors import UsageError
from lookbook.blocks.hosts import is_loopback

MEGABYTE = 2**20


class ApiConfig(BaseSettings):
    """Limits of the API, and what it keeps in memory."""

    model_config = SettingsConfigDict(env_prefix="LOOKBOOK_API_", env_ignore_empty=True, extra="ignore", frozen=True)

    host: Annotated[str, Field(description="Where it listens.")] = "127.0.0.1"
    allowed_hosts: Annotated[
        tuple[str, ...],
        Field(description="Names in the Host header, as JSON; empty: this machine's, or any elsewhere."),
    ] = ()
    source_roots: Annotated[
        tuple[str, ...], Field(description="Folders of workers that may be ingested, as JSON; other sources are named.")
    ] = ()
    reads_per_second: Annotated[float, Field(gt=0, description="Of one key, or of one address without keys.")] = 1000
    reads_at_once: Annotated[int, Field(ge=1, description="How many of them may come together.")] = 2000
    submits_per_minute: Annotated[float, Field(gt=0, description="Exports and ingests of one key or address.")] = 60
    submits_at_once: Annotated[int, Field(ge=1, description="How many of them may come together.")] = 100
    refusals_per_minute: Annotated[float, Field(gt=0, description="Wrong keys from one address.")] = 12
    refusals_at_once: Annotated[int, Field(ge=1, description="How many of them may come together.")] = 20
    body_bytes: Annotated[int, Field(ge=1024, description="The largest body.")] = MEGABYTE
    body_levels: Annotated[int, Field(ge=4, le=500, description="The deepest JSON.")] = 40
    snapshots: Annotated[int, Field(ge=1, description="Snapshots held in memory, at the most.")] = 4
    snapshot_bytes: Annotated[int, Field(ge=MEGABYTE, description="Their bytes, at the most, but for one.")] = (
        1024 * MEGABYTE
    )
    query_threads: Annotated[int, Field(ge=1, le=64, description="Queries answered at the same time.")] = 4
    key_seconds: Annotated[float, Field(ge=0, description="Keys are read again after so long.")] = 5

    @property
    def is_local(self) -> bool:
        """Return whether nobody but this machine can reach it."""
        return is_loopback(self.host)


def read_config(**given: object) -> ApiConfig:
    """Return the configuration of the environment; what is given wins.

    Raises:
        UsageError: a variable has a value that it cannot take; the message names it.
    """
    try:
        return ApiConfig.model_validate(ApiConfig().model_dump() | given)
    except ValidationError as error:
        first = error.errors(include_input=False)[0]
        name = "LOOKBOOK_API_" + "_".join(map(str, first["loc"])).upper()
        raise UsageError(f"{name}: {first['msg']}.", "Correct or unset this environment variable.") from error
