"""The issues of a report: how many of the loaded images have each, and which have it worst."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from lookbook.tasks.datasets.issues import ISSUES
from lookbook.tasks.datasets.report_data import ReportData, column, plain_name, with_outcome

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


def hashes_of(issues: Iterable[Issue]) -> list[str]:
    """Return the contents of the pictures shown, for their thumbnails."""
    return [picture.sha256 for issue in issues for picture in issue.worst]


def _issue(images: pa.Table, name: str) -> Issue:
    flags = pc.cast(column(images, f"is_{name}_issue"), pa.bool_())
    flagged = images.filter(flags)
    number = flagged.num_rows
    worst = []
    if number:
        keys = [(f"{name}_score", "ascending"), ("key", "ascending")]
        rows = flagged.take(pc.select_k_unstable(flagged, min(number, MOST_PICTURES), keys))
        worst = [Picture(row["key"], row["sha256"], _fact(name, row)) for row in rows.to_pylist()]
    return Issue(plain_name(name), MEANINGS[name], number, len(flags) - flags.null_count, worst)


def _fact(name: str, row: dict[str, Any]) -> str:
    width, height = row["original_width"], row["original_height"]
    if name == "odd_size":
        return f"{width:,} × {height:,}"
    if name == "odd_aspect_ratio":
        return f"{max(width, height) / min(width, height):.3g} : 1"
    return "" if name == "grayscale" else f"score {row[f'{name}_score']:.2f}"
