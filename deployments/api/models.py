"""What the API takes and answers, for its document; tests hold that answers are of these models."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from lookbook.tasks.datasets.checks import Check
from lookbook.tasks.exports.filters import read_conditions
from lookbook.tasks.exports.request import ExportRequest
from lookbook.tasks.images.recipe import Recipe
from lookbook.tasks.runs.parameters import (
    BATCH_SIZE,
    BatchSize,
    CandidateName,
    DatasetName,
    DropDownload,
    Executor,
    ImageColumn,
    KeyColumn,
    Keys,
    Limit,
    NewName,
    RejectLimit,
    Rules,
    SnapshotName,
    SourceUri,
)
from lookbook.tasks.runs.removal import Age, DryRun, Keep

Sha256 = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]


class Dataset(BaseModel):
    """Show a dataset with its current snapshot."""

    name: str
    snapshot: str | None
    created_at: datetime | None
    images: int | None = Field(description="Image files found.")
    rows: int | None = Field(description="Catalogue rows found.")
    fault: str | None = Field(description="Why its snapshot cannot be read.")
    href: str


class Datasets(BaseModel):
    """All datasets of the workspace."""

    items: list[Dataset]


class CheckResult(BaseModel):
    """What a check found of a snapshot before it was published."""

    name: str
    level: Literal["stop", "warn"]
    says: str | None = Field(description="What is wrong where it finds rows.")
    outcome: Literal["passed", "warned", "failed"]
    rows: int | None = Field(description="That break it. None: it could not be run.")
    first: list[dict[str, Any]] = Field(description="The first of these rows.")
    error: str | None = Field(description="Why it could not be run.")


class Snapshot(BaseModel):
    """A snapshot in a list."""

    id: str
    current: bool
    created_at: datetime
    source: str
    digest: str = Field(description="Equal for equal contents, whatever the time.")
    previous: str | None
    restored_from: str | None = Field(description="The older snapshot that it equals, where it was restored.")
    tags: list[str] = Field(description="Its tags: each works wherever its id does.")
    checks: list[CheckResult] = Field(description="The checks that were run before it was published.")
    images: dict[str, int] = Field(description="Image files by outcome.")
    rows: dict[str, int] = Field(description="Catalogue rows by outcome.")
    href: str


class SnapshotPage(BaseModel):
    """Snapshots, newest first."""

    items: list[Snapshot]
    candidates: list[Snapshot] = Field(description="Not published, because checks failed; with the first page alone.")
    next: str | None = Field(description="Cursor of the next page.")


class Tag(BaseModel):
    """A name that somebody gave to a snapshot."""

    tag: str
    snapshot: str
    tagged_at: datetime
    href: str = Field(description="Of the snapshot.")


class Tags(BaseModel):
    """The tags of a dataset, by name."""

    items: list[Tag]


class ChecksBody(BaseModel):
    """The checks that hold for each ingest of a dataset; none: what is ingested is published."""

    checks: list[Check]


class TagBody(BaseModel):
    """What a tag is to name."""

    model_config = ConfigDict(extra="forbid")

    snapshot: Annotated[SnapshotName | None, Field(description="Id or tag of it. None: the current one.")] = None
    move: bool = Field(False, description="The tag may name another snapshot until now.")


class Column(BaseModel):
    """A column that can be filtered, sorted and shown."""

    name: str
    type: Literal["text", "integer", "number", "boolean", "time", "other"]
    catalogue: bool = Field(description="Whether it is one of the catalogue's own.")
    facet: bool = Field(description="Whether its values can be counted.")


class SnapshotDetail(Snapshot):
    """A snapshot with its recipe and columns."""

    dataset: str
    outputs: list[str] = Field(description="Names of what was drawn of each image.")
    recipe: dict[str, Any]
    versions: dict[str, str]
    columns: list[Column]
    display_name: str | None = Field(description="The column that q searches.")
    label: str | None = Field(description="The column of the class.")
    products: int = Field(description="Rows that /products lists without a filter.")


class Product(BaseModel):
    """A catalogue row with its image; an image without one has no product_key."""

    product_key: str | None
    sha256: Sha256 | None
    values: dict[str, Any]
    images: dict[str, str] = Field(description="Addresses of the original and of each output.")
    href: str | None


class FacetValue(BaseModel):
    """A value and how many rows have it."""

    value: str | int | bool | None
    count: int


class Facet(BaseModel):
    """The values of a column, most frequent first."""

    values: list[FacetValue]
    others: int = Field(description="Rows of the values that are not listed.")


class ProductPage(BaseModel):
    """A page of products."""

    snapshot: str
    total: int = Field(description="Rows that the filter finds.")
    items: list[Product]
    facets: dict[str, Facet]
    next: str | None = Field(description="Cursor of the next page.")


class DrawnOutput(BaseModel):
    """What was drawn of an image."""

    output: str
    width: int
    height: int
    bytes: int
    sha256: Sha256
    href: str


class ProductImage(BaseModel):
    """An image of a product: the file, what was measured, what was drawn."""

    image_key: str
    sha256: Sha256 | None
    outcome: str
    catalogue_row: bool = Field(description="Whether a catalogue row was matched with it.")
    measures: dict[str, Any]
    exif: Any = Field(description="As the recipe kept it.")
    original: str | None
    outputs: list[DrawnOutput]
    near_duplicates: list[Product]


class Past(BaseModel):
    """What became of a product in a snapshot."""

    snapshot: str
    created_at: datetime
    outcome: str | None = Field(description="None: it was not there.")
    reason: str | None
    sha256: Sha256 | None
    changed: bool = Field(description="Whether this differs from the snapshot before.")


class ProductDetail(BaseModel):
    """A product: its catalogue rows, its images, its history."""

    snapshot: str
    product_key: str
    rows: list[dict[str, Any]]
    images: list[ProductImage]
    history: list[Past] = Field(description="Newest first.")


class Reject(BaseModel):
    """What was refused, by which rule."""

    reject_id: str
    kind: str
    locator: str
    rule: str
    message: str
    raw: str = Field(description="The text as it stood; its first 10,000 characters.")


class UnpublishedRun(BaseModel):
    """A run that published nothing."""

    run_id: str
    started_at: datetime
    source: str
    why: str | None = Field(description="Null where it broke off without a word.")


class RejectPage(BaseModel):
    """A page of rejects: of a snapshot, or of the last run, where that published nothing."""

    snapshot: str | None
    unpublished: UnpublishedRun | None
    total: int
    items: list[Reject]
    facets: dict[str, Facet]
    next: str | None


class ChangedImages(BaseModel):
    """The images of both sides of a difference: addresses by output."""

    before: dict[str, str]
    after: dict[str, str]


class Change(BaseModel):
    """An image, a catalogue row, a line of images.csv or another reject that differs."""

    of: Literal["images", "rows", "links", "rejects"]
    kind: Literal["added", "removed", "changed"]
    key: str | None = Field(description="An image's key, a product's, a file name, or where a reject stands.")
    why: list[str] = Field(description="moved, content, outcome, outputs, match, described; image, values.")
    columns: list[str] = Field(description="Columns that differ.")
    before: dict[str, Any] | None = Field(description="Values by column.")
    after: dict[str, Any] | None
    images: ChangedImages


class Diff(BaseModel):
    """What differs between two snapshots. The counts are of images, rows, links and rejects."""

    from_: str = Field(alias="from")
    to: str
    made_by: dict[str, dict[str, list[Any]]] = Field(description="Source, recipe, outputs, versions: both values.")
    counts: dict[str, dict[str, int]] = Field(description="before, after, unchanged, added, removed, changed.")
    why: dict[str, dict[str, int]] = Field(description="How many changed for which reason.")
    columns: dict[str, dict[str, int]] = Field(description="In how many rows which column changed.")
    items: list[Change]
    next: str | None


State = Literal["waiting", "running", "cancelling", "completed", "failed", "cancelled"]


class ExportBody(ExportRequest):
    """What is to be exported. Conditions in their short form, words, ids and a filter all have to hold."""

    where: list[str] = Field(default_factory=list, max_length=100, description="Conditions such as year>=2012.")
    text: Annotated[str | None, Field(max_length=1000, description="Words of the display name.")] = None
    ids: list[str] = Field(
        default_factory=list, max_length=100_000, description="Keys of products, or SHA-256 of images."
    )
    executor: Executor = "threads"

    def request(self) -> ExportRequest:
        """Return the request with one filter.

        Raises:
            UsageError: a condition cannot be read.
        """
        wanted = read_conditions(self.where, self.text, self.ids, self.filter)
        values = {name: getattr(self, name) for name in ExportRequest.model_fields}
        return ExportRequest.model_validate(values | {"filter": wanted})


class PlanRequest(BaseModel):
    """What is to be planned: an ingest, with its options that change what it does."""

    model_config = ConfigDict(extra="forbid")

    source: Annotated[SourceUri, Field(max_length=2000)]
    dataset: DatasetName
    recipe: Annotated[Recipe | None, Field(description="None: the default one.")] = None
    limit: Limit = None
    batch_size: BatchSize = BATCH_SIZE
    reject_limit: RejectLimit = 0.1
    key: KeyColumn = None
    image_column: ImageColumn = None


class IngestRequest(PlanRequest):
    """What is to be ingested."""

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


class RestoreRequest(BaseModel):
    """What is to be restored."""

    model_config = ConfigDict(extra="forbid")

    dataset: DatasetName
    snapshot: SnapshotName


class Restore(Ingest):
    """A restore that was asked for."""


class CleanupRequest(BaseModel):
    """What may go."""

    model_config = ConfigDict(extra="forbid")

    dataset: DatasetName | None = Field(default=None, description="The one whose snapshots may go. None: all.")
    keep: Keep = 10
    older_than: Age = "30d"
    dry_run: DryRun = False


class Cleanup(_Run):
    """A clean-up that was asked for."""

    dataset: str | None
    summary: dict[str, Any] | None = Field(description="Snapshots, kinds with objects and bytes, once it has ended.")
    links: dict[str, str]


class Removal(Ingest):
    """A removal of a dataset that was asked for."""


class RenameRequest(BaseModel):
    """Which dataset is to have another name."""

    model_config = ConfigDict(extra="forbid")

    dataset: DatasetName
    new_name: NewName


class Rename(Ingest):
    """A rename of a dataset that was asked for."""


Conditions = Annotated[
    list[str], Field(max_length=100, description="Conditions on the current snapshot, as those of an export.")
]


class ErasureRequest(BaseModel):
    """What is to be forgotten: keys are not kept once it is done."""

    model_config = ConfigDict(extra="forbid")

    dataset: DatasetName
    keys: Keys = []
    where: Conditions = []
    dry_run: DryRun = False


class Erasure(Ingest):
    """A deletion on request that was asked for; its summary is the receipt."""


class PublicationRequest(BaseModel):
    """Which candidate is to be published although checks failed."""

    model_config = ConfigDict(extra="forbid")

    dataset: DatasetName
    candidate: CandidateName = None


class Publication(Ingest):
    """The publication of a candidate that was asked for."""


class Plan(_Run):
    """A plan that was asked for."""

    dataset: str
    plan: dict[str, Any] | None = Field(description="What `lookbook plan --json` prints, once it is completed.")
    lines: list[list[str]] | None = Field(description="The same for people: a name and a text each.")
    links: dict[str, str]


class ReplayRequest(BaseModel):
    """What is to be judged again."""

    model_config = ConfigDict(extra="forbid")

    dataset: DatasetName
    rules: Rules = []
    recipe: Annotated[
        Recipe | None, Field(description="That of the snapshot with limits lifted. None: that of the snapshot.")
    ] = None
    executor: Executor = "threads"


class Replay(Ingest):
    """A replay that was asked for."""
