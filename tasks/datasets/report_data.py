"""What a report tells: the data of one snapshot, and its counts as books that balance."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from lookbook.tasks.datasets.changes import Changes

#: Columns of the products table that Lookbook adds; all others are the catalogue's own.
PRODUCT_FIELDS = frozenset(
    ["file", "line", "product_key", "outcome", "missing_reason", "repaired", "image_key", "sha256"]
)

IMAGE_OUTCOMES = ("loaded", "unchanged", "duplicate", "rejected")
ROW_OUTCOMES = ("matched", "missing_image", "duplicate", "rejected")


@dataclass(frozen=True)
class ReportData:
    """Everything that the report of one snapshot is made from.

    Attributes:
        source: the URI that was ingested.
        summary: what `lookbook ingest --json` prints: counts of images and rows, outputs drawn, speed.
        recipe: the recipe as plain values.
        versions: versions of the libraries that made the pixels.
        digest: the snapshot's logical digest.
        images: one row per image key: outcome, content, sizes and measures (`ASSET_FIELDS`).
        products: one row per catalogue row: `PRODUCT_FIELDS` and the catalogue's own columns.
        outputs: one row per content and output, with the lake key of the object.
        rejects: one row per refused image or catalogue row.
    """

    dataset: str
    snapshot_id: str
    source: str
    created_at: datetime
    summary: dict[str, Any]
    recipe: dict[str, Any]
    versions: dict[str, str]
    digest: str
    images: pa.Table
    products: pa.Table
    outputs: pa.Table
    rejects: pa.Table
    changes: Changes


@dataclass(frozen=True)
class Book:
    """One line of the books: what was found, and the one outcome of each."""

    name: str
    found: int
    outcomes: dict[str, int]

    @property
    def total(self) -> int:
        """The sum of the outcomes."""
        return sum(self.outcomes.values())

    @property
    def balances(self) -> bool:
        """Whether every one that was found has its outcome."""
        return self.found == self.total

    @property
    def equation(self) -> str:
        """The line as it is written: found = the sum of the outcomes."""
        parts = (f"{number:,} {plain_name(outcome)}" for outcome, number in self.outcomes.items())
        return f"{self.found:,} found {'=' if self.balances else '≠'} {' + '.join(parts)}"


def books(summary: Mapping[str, Any]) -> list[Book]:
    """Return the books of the images and of the catalogue's rows, from a run's summary."""
    return [
        _book("Images", summary.get("images", {}), IMAGE_OUTCOMES),
        _book("Catalogue rows", summary.get("rows", {}), ROW_OUTCOMES),
    ]


def _book(name: str, counts: Mapping[str, int], outcomes: tuple[str, ...]) -> Book:
    return Book(name, counts.get("found", 0), {outcome: counts.get(outcome, 0) for outcome in outcomes})


def plain_name(name: str) -> str:
    """Return a column's or an outcome's name as it reads in a sentence: ``missing_image`` is ``missing image``."""
    spaced = "".join(f" {letter.lower()}" if letter.isupper() else letter for letter in name)
    return " ".join(spaced.replace("_", " ").split()) if not name.isupper() else name


def column(table: pa.Table, name: str) -> pa.ChunkedArray:
    """Return a column of a table, or nulls where the table has none of that name."""
    if name in table.column_names:
        return table[name]
    return pa.chunked_array([pa.nulls(table.num_rows)])


def with_outcome(table: pa.Table, outcome: str) -> pa.Table:
    """Return the rows of one outcome."""
    if table.num_rows == 0 or "outcome" not in table.column_names:
        return table.slice(0, 0)
    return table.filter(pc.equal(table["outcome"], outcome))


def named_column(table: pa.Table, names: tuple[str, ...]) -> str | None:
    """Return the catalogue's column that bears the first of these names, whatever its case and separators."""
    folded = {_folded(name): name for name in reversed(catalogue_columns(table))}
    return next((folded[_folded(name)] for name in names if _folded(name) in folded), None)


def catalogue_columns(products: pa.Table) -> list[str]:
    """Return the columns of the products table that come from the catalogue."""
    return [name for name in products.column_names if name not in PRODUCT_FIELDS]


def _folded(name: str) -> str:
    return name.replace("_", "").replace(" ", "").lower()
