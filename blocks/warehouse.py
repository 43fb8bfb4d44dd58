"""The warehouse: the tables of every dataset's current snapshot, and the star schema made of them."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import TYPE_CHECKING

from prefect.blocks.core import Block

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


@dataclass(frozen=True)
class SnapshotLoad:
    """A published snapshot that is to be loaded.

    Attributes:
        load_id: names this load; every row written carries it.
        tables: for each table of `STAGING_KEYS`, the address of its Parquet file: an absolute path, or ``gs://…``.
    """

    dataset: str
    snapshot_id: str
    load_id: str
    tables: dict[str, str]


@dataclass(frozen=True)
class Model:
    """A table made from the tables of one snapshot.

    Attributes:
        sql: one SELECT in DuckDB's dialect. It names the snapshot's tables, and models made before it, by
            their bare names, and sees one snapshot of one dataset.
        key: the columns that name one of its rows.
    """

    name: str
    sql: str
    key: tuple[str, ...]


class Warehouse(Block, ABC):
    """Where snapshots are queried.

    Schema ``staging`` holds the tables, schema ``warehouse`` a view over each that shows the current
    snapshot of every dataset. Readers need only the views.
    """

    @abstractmethod
    def load_snapshot(self, load: SnapshotLoad, models: list[Model]) -> None:
        """Make a snapshot the current one of its dataset, in place of the one before.

        A reader sees the former snapshot or this one, never a mixture. Loading the same one again renews its rows.

        Args:
            load: the snapshot.
            models: what is made of it, each after the models that it reads.

        Raises:
            LookbookError: a file cannot be read, a model is wrong, or the warehouse cannot be written.
        """

    @abstractmethod
    def current_snapshots(self) -> dict[str, str]:
        """The id of the current snapshot of each dataset; empty when nothing was loaded yet."""

    @abstractmethod
    def query(self, sql: str) -> pa.Table:
        """What a SELECT gives. Statements that write, or read files, are refused.

        Raises:
            LookbookError: nothing was loaded yet, or the statement failed; with the engine's message.
        """

    @abstractmethod
    def differences(self, load: SnapshotLoad, models: list[Model]) -> list[str]:
        """How the warehouse differs from a snapshot's files and from the models made of them.

        Returns:
            A line for each row, table or view that differs, at most 20 rows of one table; empty if all is well.
        """
