"""What a report tells: the data of one snapshot, its counts as books that balance, and how many images have issues."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import cached_property
from itertools import count
from pathlib import Path
from typing import Any, NamedTuple

import pyarrow as pa

from lookbook.blocks.sql_text import literal
from lookbook.tasks.datasets.desk import Desk
from lookbook.tasks.datasets.differences import ImageChanges, PlacedRows, Tables, count_rows, schema_of
from lookbook.tasks.datasets.schemas import PRODUCTS_SCHEMA
from lookbook.tasks.datasets.snapshot import ISSUES
from lookbook.tasks.images.tombstones import FORGOTTEN

#: Columns of the products table that Lookbook adds; all others are the catalogue's own.
PRODUCT_FIELDS = frozenset(PRODUCTS_SCHEMA.names)

FILE_OUTCOMES = ("images", "beyond_limit", "catalogue", "rejected", "ignored")
IMAGE_OUTCOMES = ("loaded", "unchanged", "duplicate", "rejected")
ROW_OUTCOMES = ("matched", "missing_image", "ambiguous_image", "duplicate", "rejected")

Counts = list[tuple[str, int]]

NOT_GIVEN = "not given"
#: What Python and Arrow trim from a text; DuckDB by itself trims spaces alone.
_BLANKS = literal("".join(letter for letter in map(chr, range(0x3001)) if letter.isspace()))
_NUMBERS = count()


def given(value: str) -> str:
    """Return SQL for a value as text, with a name for nulls and blanks."""
    text = f"({value})::VARCHAR"
    return f"CASE WHEN trim({text}, {_BLANKS}) <> '' THEN {text} ELSE '{NOT_GIVEN}' END"


class Counted(NamedTuple):
    """The most frequent values with their counts; and of all values, how many kinds there are and how often in all."""

    first: Counts
    kinds: int
    total: int


class ReportTable:
    """A table of a snapshot as a report asks it: by SQL, since the whole of it may not fit into memory.

    Attributes:
        desk: answers.
        num_rows: of the table.
        names: of its columns.
        types: DuckDB's type of each column.
        view: what the table is called in SQL. Its columns are called as `at` says, and ``place`` numbers its rows.
    """

    def __init__(self, desk: Desk, table: Sequence[Path] | pa.Table) -> None:
        """Give the table a name on a desk."""
        self.desk, self.view = desk, f"rows_{next(_NUMBERS)}"
        self.num_rows, self._schema = count_rows(table), schema_of(table)
        self._source = PlacedRows(desk.connection, self.view, table)
        self.names, self.types = self._source.names, self._source.types

    def at(self, name: str) -> str:
        """Return SQL for a column; NULL where there is none of that name."""
        return self._source.at(name) if name in self.names else "NULL::VARCHAR"  # a bare NULL orders nothing

    def ended(self, outcome: str) -> str:
        """Return SQL for whether a row has an outcome."""
        return f"{self.at('outcome')} = {literal(outcome)}"

    def answer(self, columns: str, rest: str = "", *values: object) -> list[tuple[Any, ...]]:
        """Return a small answer of the table.

        Args:
            columns: SQL, with the names of `at`.
            rest: what follows the table's name.
            values: for each ``?``.
        """
        return self.desk.rows(f"SELECT {columns} FROM {self.view} {rest}", *values)  # noqa: S608 - names of ours

    def first(self, columns: Sequence[str], rest: str, *values: object) -> list[dict[str, Any]]:
        """Return some columns of a few rows, by name: None where there is no such column. `rest` as in `answer`."""
        there = [name for name in columns if name in self.names]
        chosen = ", ".join(self.at(name) for name in there) or "place"
        found = self.desk.table(f"SELECT {chosen} FROM {self.view} {rest}", *values)  # noqa: S608 - names of ours
        if not there:
            return [dict.fromkeys(columns)] * found.num_rows
        typed = found.rename_columns(there).cast(pa.schema([(name, self._schema.field(name).type) for name in there]))
        return [dict.fromkeys(columns) | row for row in typed.to_pylist()]

    def counts(self, value: str, where: str = "true", limit: int | None = None) -> Counted:
        """Count the values of rows: the most frequent first, equal ones by name; nulls and blanks by a name of theirs.

        Args:
            value: SQL.
            where: SQL for the rows.
            limit: values that are returned; None: all.
        """
        found = self.desk.rows(
            f"WITH kinds AS MATERIALIZED (SELECT {given(value)} AS kind, count(*) AS number FROM {self.view}"  # noqa: S608
            f" WHERE {where} GROUP BY kind) SELECT kind, number, (SELECT count(*) FROM kinds),"
            " (SELECT sum(number) FROM kinds) FROM kinds ORDER BY number DESC, kind LIMIT ?",
            limit,
        )
        kinds, total = found[0][2:] if found else (0, 0)
        return Counted([(kind, number) for kind, number, *_ in found], kinds, total)


@dataclass(frozen=True)
class ReportData:
    """Everything that the report of one snapshot is made from.

    Attributes:
        source: the URI that was ingested.
        summary: what `lookbook ingest --json` prints: counts of images and rows, outputs drawn, speed.
        recipe: the recipe as plain values.
        versions: versions of the libraries that made the pixels.
        digest: the snapshot's logical digest.
        tables: of the snapshot: ``images``, a row per image key; ``products``, a row per catalogue row, with
            `PRODUCT_FIELDS` and the catalogue's own columns; ``outputs``, a row per content and output; ``rejects``, a
            row per refused image or catalogue row, and per ignored file.
        desk: reads them.
    """

    dataset: str
    snapshot_id: str
    source: str
    created_at: datetime
    summary: dict[str, Any]
    recipe: dict[str, Any]
    versions: dict[str, str]
    digest: str
    tables: Tables
    desk: Desk
    changes: ImageChanges

    @cached_property
    def images(self) -> ReportTable:
        """Return the images."""
        return ReportTable(self.desk, self.tables["images"])

    @cached_property
    def products(self) -> ReportTable:
        """Return the catalogue's rows."""
        return ReportTable(self.desk, self.tables["products"])

    @cached_property
    def outputs(self) -> ReportTable:
        """Return the outputs."""
        return ReportTable(self.desk, self.tables["outputs"])

    @cached_property
    def rejects(self) -> ReportTable:
        """Return what was refused or ignored."""
        return ReportTable(self.desk, self.tables["rejects"])


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


def named_column(columns: Sequence[str], names: tuple[str, ...]) -> str | None:
    """Return the catalogue's column that bears the first of these names, whatever its case and separators.

    Args:
        columns: of the products table.
        names: the likeliest first.
    """
    folded = {_folded(name): name for name in reversed(catalogue_columns(columns))}
    return next((folded[_folded(name)] for name in names if _folded(name) in folded), None)


def catalogue_columns(columns: Sequence[str]) -> list[str]:
    """Return those of the products table's columns that come from the catalogue."""
    return [name for name in columns if name not in PRODUCT_FIELDS]


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
    images = data.images
    flags = [f"{images.at(f'is_{name}_issue')}::BOOLEAN" for name in ISSUES]
    counted = ", ".join(f"count(*) FILTER ({flag}), count({flag})" for flag in flags)
    (counts,) = images.answer(counted, f"WHERE {images.ended('loaded')}")
    found = [
        Issue(plain_name(name), MEANINGS[name], number, looked_at, _worst(images, name, flag) if number else [])
        for name, flag, number, looked_at in zip(ISSUES, flags, counts[::2], counts[1::2], strict=True)
    ]
    return sorted((issue for issue in found if issue.looked_at), key=lambda issue: -issue.images)


def hashes_of_issues(issues: Iterable[Issue]) -> list[str]:
    """Return the contents of the pictures shown, for their thumbnails."""
    return [picture.sha256 for issue in issues for picture in issue.worst]


def _worst(images: ReportTable, name: str, flag: str) -> list[Picture]:
    score = f"{name}_score"
    worst_first = f"{images.at('decode_warnings')} DESC" if name == "damaged" else images.at(score)
    rows = images.first(
        ["key", "sha256", "original_width", "original_height", "decode_warnings", score],
        f"WHERE {images.ended('loaded')} AND {flag} ORDER BY {worst_first} NULLS LAST, {images.at('key')} LIMIT ?",
        MOST_PICTURES,
    )
    return [Picture(row["key"], row["sha256"], _fact(name, row)) for row in rows]


def _fact(name: str, row: dict[str, Any]) -> str:
    width, height = row["original_width"], row["original_height"]
    if name == "odd_size":
        return f"{width:,} × {height:,}"
    if name == "odd_aspect_ratio":
        return f"{max(width, height) / min(width, height):.3g} : 1"
    if name == "damaged":
        return f"warnings: {row['decode_warnings']}"
    return "" if name == "grayscale" else f"score {row[f'{name}_score']:.2f}"
