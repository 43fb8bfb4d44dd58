"""The warehouse: the tables of every dataset's current snapshot, and the star schema made of them."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Container, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from prefect.blocks.core import Block

from lookbook.blocks.models import BuiltModel, FeedModel

if TYPE_CHECKING:
    import pyarrow as pa

#: The tables of a snapshot, each with the columns that name one of its rows.
STAGING_KEYS: dict[str, tuple[str, ...]] = {
    "products": ("file", "line"),
    "image_links": ("file", "line"),
    "images": ("key",),
    "outputs": ("sha256", "output"),
    "rejects": ("reject_id",),
}

#: Columns that stand in a table whether or not a snapshot's file has them, so that models work for any collection
#: and for snapshots that an earlier version published.
STANDING_COLUMNS: dict[str, dict[str, str]] = {
    "products": {
        "id": "BIGINT",
        "gender": "VARCHAR",
        "masterCategory": "VARCHAR",
        "subCategory": "VARCHAR",
        "articleType": "VARCHAR",
        "baseColour": "VARCHAR",
        "season": "VARCHAR",
        "year": "BIGINT",
        "usage": "VARCHAR",
        "productDisplayName": "VARCHAR",
    },
    # Snapshots of earlier versions have none of these.
    "images": {
        "is_dark_issue": "BOOLEAN",
        "is_light_issue": "BOOLEAN",
        "is_blurry_issue": "BOOLEAN",
        "is_low_information_issue": "BOOLEAN",
        "is_odd_aspect_ratio_issue": "BOOLEAN",
        "is_odd_size_issue": "BOOLEAN",
        "is_grayscale_issue": "BOOLEAN",
        "is_damaged_issue": "BOOLEAN",
        "near_duplicate_of": "VARCHAR",
    },
}

#: What every row of staging carries. `_loaded_at` is in UTC. A column of a user's file that has one of these names
#: gets an underscore behind it.
TAGS: dict[str, str] = {
    "dataset": "VARCHAR",
    "snapshot_id": "VARCHAR",
    "_load_id": "VARCHAR",
    "_loaded_at": "TIMESTAMP",
}


_MEGABYTE = 1 << 20

#: The schema (in BigQuery: the dataset) of the tables that feeds load and that models make.
FEEDS_SCHEMA = "feeds"

#: So many rows of one table that differ are named; of the rest, the number.
MOST_ROWS = 20


@dataclass(frozen=True)
class SnapshotLoad:
    """A published snapshot that is to be loaded.

    Attributes:
        load_id: names this load; every row written carries it.
        tables: for each table of `STAGING_KEYS`, the addresses of its Parquet files: absolute paths, or ``gs://…``.
    """

    dataset: str
    snapshot_id: str
    load_id: str
    tables: dict[str, list[str]]


@dataclass(frozen=True)
class StarModel:
    """A table made from the tables of one snapshot.

    Attributes:
        sql: one SELECT in DuckDB's dialect. It names the snapshot's tables, and models made before it, by
            their bare names, and sees one snapshot of one dataset.
        key: the columns that name one of its rows.
    """

    name: str
    sql: str
    key: tuple[str, ...]


@dataclass(frozen=True)
class QueryCost:
    """The cost of a query, by a dry run.

    Attributes:
        bytes_processed: what it reads; None where queries cost nothing.
        tables: that it reads, as ``dataset.table``.
        maximum_bytes_billed: more it may not bill; None: no limit.
    """

    bytes_processed: int | None
    tables: Sequence[str] = ()
    maximum_bytes_billed: int | None = None

    @property
    def bytes_billed(self) -> int | None:
        """Return the bytes billed at the least: whole megabytes, and ten of them for each table that it reads.

        https://cloud.google.com/bigquery/pricing#on_demand_pricing
        """
        if self.bytes_processed is None:
            return None
        whole = -(-self.bytes_processed // _MEGABYTE) * _MEGABYTE
        return max(whole, 10 * _MEGABYTE * len(self.tables))


@dataclass(frozen=True)
class WarehouseTable:
    """A table or view that readers may ask.

    Attributes:
        columns: with their types in the engine's words.
        rows: None where counting them would cost something.
        size: in bytes; None where the engine does not say.
    """

    columns: Mapping[str, str]
    rows: int | None = None
    size: int | None = None


class Warehouse(Block, ABC):
    """Where snapshots are queried.

    Schema ``staging`` holds the tables, schema ``warehouse`` a view over each that shows the current
    snapshot of every dataset. Readers need only the views.

    Attributes:
        reads_buckets: whether it loads files from ``gs://`` addresses; all load local files.
    """

    reads_buckets: ClassVar[bool] = False

    def compact(self) -> None:
        """Leave nothing in the engine's files of rows that were removed, as far as it can be told to.

        The caller holds the warehouse's lease: nobody loads meanwhile.

        Raises:
            LookbookError: the engine fails; what was loaded stands.
        """

    @property
    def readers_schema(self) -> str:
        """The schema of the views, as queries name it."""
        return "warehouse"

    @property
    def feeds_schema(self) -> str:
        """The schema of tables that feeds load and that models make, as queries name it."""
        return FEEDS_SCHEMA

    @abstractmethod
    def load_snapshot(self, load: SnapshotLoad, models: list[StarModel]) -> None:
        """Make a snapshot the current one of its dataset, in place of the one before.

        A reader sees the former snapshot or this one, never a mixture. Loading the same one again renews its rows.

        Args:
            load: the snapshot.
            models: what is made of it, each after the models that it reads.

        Raises:
            LeaseLostError: another run has taken a lease that is held here, and written.
            LookbookError: a file cannot be read, a model is wrong, or the warehouse cannot be written.
        """

    @abstractmethod
    def remove_dataset(self, dataset: str, models: list[StarModel]) -> None:
        """Remove all rows of a dataset: first, for readers, at once. Doing it twice changes nothing.

        Args:
            dataset: its name.
            models: what was made of its snapshots.

        Raises:
            LeaseLostError: as `load_snapshot`.
            LookbookError: the warehouse cannot be written.
        """

    @abstractmethod
    def current_snapshots(self) -> dict[str, str]:
        """Return the id of the current snapshot of each dataset; empty when nothing was loaded yet."""

    @abstractmethod
    def query(self, sql: str) -> pa.Table:
        """Return what a SELECT gives. Statements that write, or read files, are refused.

        Raises:
            LookbookError: nothing was loaded yet, or the statement failed; with the engine's message.
        """

    @abstractmethod
    def dry_run(self, sql: str) -> QueryCost:
        """Check a SELECT without running it.

        Raises:
            LookbookError: as `query`.
        """

    @abstractmethod
    def tables(self) -> dict[str, WarehouseTable]:
        """Return the tables and views for readers, by the names that queries use, as ``warehouse.images``.

        Raises:
            LookbookError: the warehouse cannot be opened or asked.
        """

    @abstractmethod
    def differences(self, load: SnapshotLoad, models: list[StarModel]) -> list[str]:
        """Return how the warehouse differs from a snapshot's files and from the models made of them.

        Returns:
            A line for each row, table or view that differs, at most 20 rows of one table; empty if all is well.
        """

    @abstractmethod
    def build_feed_models(self, models: Sequence[FeedModel]) -> list[BuiltModel]:
        """Make tables of schema ``feeds`` by SELECTs, aside, test them, and put them in place of the former ones.

        Args:
            models: each after the models that it reads.

        Raises:
            ModelTestsFailedError: a test does not hold: all former tables stand as they were.
            LeaseLostError: as `load_snapshot`.
            LookbookError: a SELECT fails or lacks a column, or the warehouse cannot be written; the same holds.
        """

    @abstractmethod
    def read_columns(self, table: str, columns: Sequence[str]) -> pa.Table:
        """Return columns of a table, in the order of their values.

        Args:
            table: ``feeds.name`` or ``warehouse.name``.
            columns: their names.

        Raises:
            LookbookError: as `query`.
        """


def free_names(names: Sequence[str], tags: Container[str]) -> list[str]:
    """Return the names that a file's columns get in staging: those of the tags are taken."""
    taken = {name.lower() for name in names}
    free = []
    for name in names:
        given = name
        if name.lower() in tags:
            while given.lower() in taken or given.lower() in tags:
                given += "_"
            taken.add(given.lower())
        free.append(given)
    return free


def row_fault(lost: bool, surplus: bool) -> str:
    """Return what is wrong with a row: one that should be there is lost, or one that should not is surplus, or both."""
    if lost and surplus:
        return "differs"
    return "is missing" if lost else "should not be there"
