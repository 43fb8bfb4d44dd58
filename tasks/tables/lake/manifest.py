"""A table of the lake as readers find it: the manifests of its snapshots, and CURRENT, which names the one that holds.

    tables/<name>/CURRENT                                     the one mutable object
    tables/<name>/snapshots/<id>.json                         a snapshot: columns and files
    tables/<name>/data/<column>=<value>/…/<id>.parquet        immutable files
    tables/<name>/writing/<id>.json                           what a load that has not ended yet is about to write

A file that no manifest lists does not exist to a reader.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from datetime import datetime
from functools import partial
from urllib.parse import quote

from pydantic import BaseModel, ConfigDict, ValidationError

from lookbook.blocks.errors import LookbookError, ObjectNotFoundError
from lookbook.blocks.lake import Lake
from lookbook.tasks.datasets import manifest

FOLDER = "tables"
#: What Hive, DuckDB, Spark and Arrow name the folder of rows whose partition column is null.
NO_VALUE = "__HIVE_DEFAULT_PARTITION__"
#: File systems take no longer names: https://man7.org/linux/man-pages/man3/pathconf.3.html
MOST_BYTES = 255

_TABLE = re.compile(r"[a-z][a-z0-9_]{0,62}")


class DataFile(BaseModel):
    """A Parquet file of a table.

    Attributes:
        layout: which of the manifest's layouts its columns are.
        partition: values of the partition columns as text, which the file itself does not hold; None is null.
        load_id: of the load that brought its rows; None where several did.
    """

    key: str
    rows: int
    size: int
    sha256: str
    layout: int
    partition: tuple[str | None, ...] = ()
    load_id: str | None = None


class TableManifest(BaseModel):
    """A snapshot of a table.

    Attributes:
        previous: the snapshot that it followed.
        load_id: of the load that made it.
        columns: with their types in DuckDB's words, in order; partition columns included.
        layouts: the columns of files, without partition columns. A column that a file's layout lacks is null there.
    """

    model_config = ConfigDict(extra="ignore")

    format_version: int = 1
    table: str
    snapshot_id: str
    created_at: datetime
    previous: str | None
    load_id: str
    columns: dict[str, str]
    partition_by: tuple[str, ...]
    layouts: list[tuple[str, ...]]
    files: list[DataFile]

    @property
    def rows(self) -> int:
        """Return how many rows the table has."""
        return sum(file.rows for file in self.files)

    @property
    def size(self) -> int:
        """Bytes of all files."""
        return sum(file.size for file in self.files)

    def partitions(self) -> list[dict[str, str | int]]:
        """Return each partition's values, null as `NO_VALUE`, and its rows' number; none without partitions."""
        if not self.partition_by:
            return []
        counts: dict[tuple[str | None, ...], int] = {}
        for file in self.files:
            counts[file.partition] = counts.get(file.partition, 0) + file.rows
        return [
            {name: NO_VALUE if value is None else value for name, value in zip(self.partition_by, values, strict=True)}
            | {"rows": rows}
            for values, rows in sorted(counts.items(), key=lambda each: tuple((v is None, v or "") for v in each[0]))
        ]


CurrentTable = manifest.CurrentSnapshot[TableManifest]


def table_folder(table: str) -> str:
    """Return the lake's folder of a table.

    Raises:
        LookbookError: a table cannot have this name.
    """
    if not _TABLE.fullmatch(table):
        raise LookbookError(
            f"{table!r} is no name of a table.", "Lower-case letters, digits and _, 63 at the most; a letter first."
        )
    return f"{FOLDER}/{table}"


def current_key(table: str) -> str:
    """Return the one mutable object of a table."""
    return f"{table_folder(table)}/CURRENT"


def manifest_key(table: str, snapshot_id: str) -> str:
    """Return the manifest of a snapshot."""
    return f"{table_folder(table)}/snapshots/{snapshot_id}.json"


def data_key(table: str, partition_by: Sequence[str], values: Sequence[str | None], name: str) -> str:
    """Return where a data file lies: one folder a partition column, as Hive names them.

    Raises:
        LookbookError: a value is too long to name a folder.
    """
    folders = [f"{_encoded(column)}={_encoded(value)}" for column, value in zip(partition_by, values, strict=True)]
    for folder, column in zip(folders, partition_by, strict=True):
        if len(folder) > MOST_BYTES:
            raise LookbookError(
                f"{table}: a value of the partition column {column} is too long to name a folder: "
                f"{folder[:60]}… has {len(folder)} bytes, {MOST_BYTES} are possible.",
                "Partition by a column with short values, such as a date.",
            )
    return "/".join([table_folder(table), "data", *folders, f"{name}.parquet"])


def _encoded(value: str | None) -> str:
    if value is None:
        return NO_VALUE
    # A text that reads like the name of null is told from it: its first sign is written as an escape.
    return "%5F" + value[1:] if value == NO_VALUE else quote(value, safe="")


def read_current(lake: Lake, table: str) -> CurrentTable | None:
    """Return the snapshot that CURRENT names; None where there is no such table.

    Raises:
        LookbookError: CURRENT or the manifest is damaged or missing.
    """
    try:
        return manifest.read_current(lake, current_key(table), partial(manifest_key, table), TableManifest)
    except ValueError as error:
        raise LookbookError(
            f"lake.{table}: {error}.",
            f"Move {lake.uri(table_folder(table))} away, and load the table again: its raw rows are still staged.",
        ) from error


def read_manifest(lake: Lake, table: str, snapshot_id: str) -> TableManifest | None:
    """Return the manifest of a snapshot; None where it is gone or damaged."""
    try:
        return TableManifest.model_validate_json(lake.get(manifest_key(table, snapshot_id)))
    except (ObjectNotFoundError, ValidationError):
        return None


def require_table(lake: Lake, table: str) -> TableManifest:
    """Return the current snapshot of a table.

    Raises:
        LookbookError: there is no such table.
    """
    found = read_current(lake, table) if _TABLE.fullmatch(table) else None
    if found is None:
        raise LookbookError(
            f"lake.{table}: no such table in the lake.", '"lookbook tables" names those that there are.'
        )
    return found.manifest


def read_table(lake: Lake, table: str) -> list[str]:
    """Return the keys of the files that are a table now.

    Raises:
        LookbookError: there is no such table.
    """
    return [file.key for file in require_table(lake, table).files]
