"""What is asked of exports and ingests, and what the API says of them."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from lookbook.tasks.exports.filters import read_conditions
from lookbook.tasks.exports.request import ExportRequest
from lookbook.tasks.images.recipe import Recipe
from lookbook.tasks.runs.parameters import (
    BATCH_SIZE,
    BatchSize,
    DatasetName,
    DropDownload,
    Executor,
    Limit,
    RejectLimit,
    SourceUri,
)

State = Literal["waiting", "running", "cancelling", "completed", "failed", "cancelled"]


class ExportBody(ExportRequest):
    """What is to be exported. Conditions in their short form, words, ids and a filter all have to hold."""

    where: list[str] = Field(default_factory=list, max_length=100, description="Conditions such as year>=2012.")
    text: Annotated[str | None, Field(max_length=1000, description="Words of the display name.")] = None
    ids: list[str] = Field(
        default_factory=list, max_length=100_000, description="Keys of products, or SHA-256 of images."
    )

    def request(self) -> ExportRequest:
        """Return the request with one filter.

        Raises:
            UsageError: a condition cannot be read.
        """
        wanted = read_conditions(self.where, self.text, self.ids, self.filter)
        values = {name: getattr(self, name) for name in ExportRequest.model_fields}
        return ExportRequest.model_validate(values | {"filter": wanted})


class IngestRequest(BaseModel):
    """What is to be ingested."""

    model_config = ConfigDict(extra="forbid")

    source: Annotated[SourceUri, Field(max_length=2000)]
    dataset: DatasetName
    recipe: Annotated[Recipe | None, Field(description="None: the default one.")] = None
    limit: Limit = None
    batch_size: BatchSize = BATCH_SIZE
    reject_limit: RejectLimit = 0.1
    executor: Executor = "threads"
    drop_download: DropDownload = False


class _Run(BaseModel):
    id: str
    state: State
    percent: float | None = Field(description="Of the work, while it runs.")
    progress: str | None = Field(description="The same in words, such as 200 of 500 images, 12.3 MB.")
    error: str | None
    created_at: datetime
    started_at: datetime | None
    ended_at: datetime | None
    request: dict[str, Any]


class Export(_Run):
    """An export that was asked for."""

    dataset: str
    snapshot: str
    export_id: str = Field(description="Equal for equal requests of equal snapshots.")
    counts: dict[str, Any] | None = Field(description="Rows selected, exported and left out; images, files, bytes.")
    links: dict[str, str] = Field(description="self; once it is completed metadata and archive.")


class ExportList(BaseModel):
    """Exports of a key, newest first."""

    items: list[Export]
    next: str | None


class ExportCount(BaseModel):
    """What an export would hold."""

    snapshot: str
    export_id: str
    ready: bool = Field(description="Whether it was made already.")
    selected: int
    exported: int
    left_out: dict[str, int]


class Ingest(_Run):
    """An ingest that was asked for."""

    dataset: str
    summary: dict[str, Any] | None = Field(description="Counts by outcome and the snapshot, once it has ended.")
    links: dict[str, str]
