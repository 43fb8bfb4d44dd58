"""What the receiver watches: buckets and prefixes, each with the dataset that it becomes."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import yaml
from pydantic import BaseModel, ConfigDict, Field, SecretStr, ValidationError, model_validator
from pydantic_settings import BaseSettings, SettingsConfigDict

from lookbook.blocks.errors import UsageError
from lookbook.blocks.hosts import is_loopback
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
