"""What a report tells: the data of one snapshot, its counts as books that balance, and how many images have issues."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from lookbook.tasks.datasets.differences import ImageChanges
from lookbook.tasks.datasets.schemas import PRODUCTS_SCHEMA
from lookbook.tasks.datasets.snapshot import ISSUES
from lookbook.tasks.images.tombstones import FORGOTTEN

#: Columns of the products table that Lookbook adds; all others are the catalogue's own.
PRODUCT_FIELDS = frozenset(PRODUCTS_SCHEMA.names)

FILE_OUTCOMES = ("images", "beyond_limit", "catalogue", "rejected", "ignored")
IMAGE_OUTCOMES = ("loaded", "unchanged", "duplicate", "rejected")
ROW_OUTCOMES = ("matched", "missing_image", "ambiguous_image", "duplicate", "rejected")


#: Columns of the images and outputs that a report reads: the others are most of the bytes.
SHOWN_OF_IMAGES = [
    *("key", "outcome", "duplicate_of", "rule", "sha256", "bytes", "orphan", "product_key"),
    *("original_width", "original_height", "mode", "format", "decode_warnings", "camera_model", "dominant_colour"),
    *("brightness", "contrast", "sharpness", "near_duplicates_score", "near_duplicate_of"),
    *(f"{name}_score" for name in ISSUES if name != "damaged"),
    *(f"is_{name}_issue" for name in ISSUES),
]
SHOWN_OF_OUTPUTS = ["sha256", "output", "object_key", "bytes"]


@dataclass(frozen=True)
class ReportData:
    """Everything that the report of one snapshot is made from.

    Attributes:
        source: the URI that was ingested.
        summary: what `lookbook ingest --json` prints: counts of images and rows, outputs drawn, speed.
        recipe: the recipe as plain values.
        versions: versions of the libraries that made the pixels.
        digest: the snapshot's logical digest.
        images: one row per image key: the columns `SHOWN_OF_IMAGES`.
        products: one row per catalogue row: `PRODUCT_FIELDS` and the catalogue's own columns.
        outputs: one row per content and output: the columns `SHOWN_OF_OUTPUTS`.
        rejects: one row per refused image or catalogue row, and per ignored file.
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
    changes: ImageChanges


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
        """Return whether every one that was found has its outcome."""
        return self.found == self.total

    @property
    def equation(self) -> str:
        """The line as it is written: found = the sum of the outcomes."""
        parts = (f"{number:,} {plain_name(outcome)}" for outcome, number in self.outcomes.items())
        return f"{self.found:,} found {'=' if self.balances else '≠'} {' + '.join(parts)}"


def books(summary: Mapping[str, Any]) -> list[Book]:
    """Return the books of the source's files, of the images and of the catalogue's rows, from a run's summary."""
    return [
        *([_book("Files", summary["files"], FILE_OUTCOMES)] if "files" in summary else []),
        _book("Images", summary.get("images", {}), IMAGE_OUTCOMES),
        _book("Catalogue rows", summary.get("rows", {}), ROW_OUTCOMES),
    ]


def _book(name: str, counts: Mapping[str, int], outcomes: tuple[str, ...]) -> Book:
    told = {outcome: counts.get(outcome, 0) for outcome in outcomes}
    gone = {FORGOTTEN: counts[FORGOTTEN]} if counts.get(FORGOTTEN) else {}
    return Book(name, counts.get("found", 0), told | gone)


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


MOST_PICTURES = 8

#: What an image with the issue is like.
MEANINGS = {
    "dark": "Nearly all pixels are dark.",
    "light": "Nearly all pixels are light.",
    "blurry": "Hardly an edge is to be seen.",
    "low_information": "Little is to be seen: few colours or levels, such as a small thing on plain white.",
    "odd_aspect_ratio": "One edge is about three times the other, or more.",
    "odd_size": "Far larger or smaller than most.",
    "grayscale": "The file holds greys only.",
    "damaged": "Its decoder warned of damage within the file: parts of the picture may be wrong.",
}


@dataclass(frozen=True)
class Picture:
    """One image that has an issue, and what shows it: its size, its ratio of edges, or its score."""

    key: str
    sha256: str
    fact: str


@dataclass(frozen=True)
class Issue:
    """One issue: how many of the images that were looked at have it, and the few with the lowest score."""

    name: str
    meaning: str
    images: int
    looked_at: int
    worst: list[Picture]

    @property
    def share(self) -> str:
        """The share of the images that have it, as it is written."""
        percent = 100 * self.images / self.looked_at
        return f"{percent:.1f} %" if not self.images or percent >= 0.1 else "below 0.1 %"  # noqa: PLR2004


def image_issues(data: ReportData) -> list[Issue]:
    """Return all issues of the loaded images, the most frequent first; empty where no image was looked at."""
    images = with_outcome(data.images, "loaded")
    found = [_issue(images, name) for name in ISSUES]
    return sorted((issue for issue in found if issue.looked_at), key=lambda issue: -issue.images)


def hashes_of_issues(issues: Iterable[Issue]) -> list[str]:
    """Return the contents of the pictures shown, for their thumbnails."""
    return [picture.sha256 for issue in issues for picture in issue.worst]


def _issue(images: pa.Table, name: str) -> Issue:
    flags = pc.cast(column(images, f"is_{name}_issue"), pa.bool_())
    flagged = images.filter(flags)
    number = flagged.num_rows
    worst = []
    if number:
        worst_first = ("decode_warnings", "descending") if name == "damaged" else (f"{name}_score", "ascending")
        keys = [worst_first, ("key", "ascending")]
        rows = flagged.take(pc.select_k_unstable(flagged, min(number, MOST_PICTURES), keys))
        worst = [Picture(row["key"], row["sha256"], _fact(name, row)) for row in rows.to_pylist()]
    return Issue(plain_name(name), MEANINGS[name], number, len(flags) - flags.null_count, worst)


def _fact(name: str, row: dict[str, Any]) -> str:
    width, height = row["original_width"], row["original_height"]
    if name == "odd_size":
        return f"{width:,} × {height:,}"
    if name == "odd_aspect_ratio":
        return f"{max(width, height) / min(width, height):.3g} : 1"
    if name == "damaged":
        return f"warnings: {row['decode_warnings']}"
    return "" if name == "grayscale" else f"score {row[f'{name}_score']:.2f}"
