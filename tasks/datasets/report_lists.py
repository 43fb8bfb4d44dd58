"""The lists of a report: the first rejects, duplicates, missing images and orphans, and the count of all."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from lookbook.tasks.datasets.report_charts import Counts
from lookbook.tasks.datasets.report_data import ReportData, column, with_outcome
from lookbook.tasks.datasets.report_plots import counts_of

MOST_REJECTS = 200
MOST_GROUPS = 24
MOST_COPIES = 8
MOST_NAMES = 60


@dataclass(frozen=True)
class FirstOf:
    """The first rows of a list, how many there are in all, and how many of each kind."""

    rows: list[dict[str, Any]]
    total: int
    kinds: Counts

    @property
    def left_out(self) -> int:
        """How many rows are not shown."""
        return self.total - len(self.rows)


@dataclass(frozen=True)
class DuplicateGroup:
    """One content that stands under several keys: the one that was drawn, and its copies."""

    canonical: str
    sha256: str
    copies: list[str]
    total: int


def rejects(data: ReportData) -> FirstOf:
    """Return what was refused, in the order of the rejects' table."""
    return _first(data.rejects, "rule", MOST_REJECTS)


def missing_images(data: ReportData) -> FirstOf:
    """Return catalogue rows without an image."""
    return _first(_sorted(with_outcome(data.products, "missing_image"), "line"), "missing_reason", MOST_NAMES)


def repeated_rows(data: ReportData) -> FirstOf:
    """Return catalogue rows that repeat the id of an earlier one."""
    return _first(_sorted(with_outcome(data.products, "duplicate"), "line"), "file", MOST_NAMES)


def orphans(data: ReportData) -> FirstOf:
    """Return images without a catalogue row."""
    images = data.images
    flagged = images.filter(pc.fill_null(pc.cast(column(images, "orphan"), pa.bool_()), False))
    return _first(_sorted(flagged, "key"), "outcome", MOST_NAMES)


def duplicate_groups(data: ReportData) -> tuple[list[DuplicateGroup], int]:
    """Return the largest groups of images with the same bytes, and the number of all groups."""
    copies = with_outcome(data.images, "duplicate")
    if copies.num_rows == 0:
        return [], 0
    groups = copies.group_by("duplicate_of").aggregate([("key", "count"), ("sha256", "min")])
    order = [("key_count", "descending"), ("duplicate_of", "ascending")]
    largest = groups.sort_by(order).slice(0, MOST_GROUPS)
    shown = copies.filter(pc.is_in(copies["duplicate_of"], value_set=largest["duplicate_of"]))
    names: dict[str, list[str]] = {}
    for row in _sorted(shown.select(["key", "duplicate_of"]), "key").to_pylist():
        names.setdefault(row["duplicate_of"], []).append(row["key"])
    return [
        DuplicateGroup(
            row["duplicate_of"], row["sha256_min"], names[row["duplicate_of"]][:MOST_COPIES], row["key_count"]
        )
        for row in largest.to_pylist()
    ], groups.num_rows


def hashes_of(groups: Iterable[DuplicateGroup]) -> list[str]:
    """Return the contents of the groups, for their thumbnails."""
    return [group.sha256 for group in groups]


def _first(table: pa.Table, kind: str, limit: int) -> FirstOf:
    if table.num_rows == 0:
        return FirstOf([], 0, [])
    return FirstOf(table.slice(0, limit).to_pylist(), table.num_rows, counts_of(column(table, kind)))


def _sorted(table: pa.Table, name: str) -> pa.Table:
    return table.sort_by(name) if name in table.column_names else table
