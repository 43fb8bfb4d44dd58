"""The near duplicates of a report: the largest groups of images that look the same, and the count of all."""

from __future__ import annotations

from dataclasses import dataclass

import pyarrow as pa
import pyarrow.compute as pc

from lookbook.tasks.datasets.report_data import ReportData, column, with_outcome
from lookbook.tasks.datasets.report_pictures import ReadObject, thumbnails

MOST_GROUPS = 12
MOST_PICTURES = 6


@dataclass(frozen=True)
class Member:
    """One image of a group: its key, its thumbnail as a data URI, "" where there is none, and its score.

    The canonical image has no score: the others have theirs by comparison with it.
    """

    key: str
    uri: str
    score: float | None


@dataclass(frozen=True)
class NearGroup:
    """Images that look the same: the canonical one, then those nearest to it; and how many there are in all."""

    members: list[Member]
    total: int


@dataclass(frozen=True)
class NearDuplicates:
    """The groups that are shown, the number of all groups, and of the images in them."""

    groups: list[NearGroup]
    total_groups: int
    total_images: int


def near_duplicates(data: ReportData, read_object: ReadObject) -> NearDuplicates:
    """Return the largest groups; images with the same bytes count once.

    Raises:
        ObjectNotFoundError: the lake lacks an object that the outputs name.
    """
    images = with_outcome(data.images, "loaded")
    images = images.filter(pc.is_valid(column(images, "near_duplicate_of")))
    if images.num_rows == 0:
        return NearDuplicates([], 0, 0)
    groups = images.group_by("near_duplicate_of").aggregate([("key", "count")])
    order = [("key_count", "descending"), ("near_duplicate_of", "ascending")]
    largest = groups.sort_by(order).slice(0, MOST_GROUPS).to_pylist()
    scores = {row["near_duplicate_of"]: _nearest(images, row["near_duplicate_of"]) for row in largest}
    pictures = _pictures(data, [key for shown in scores.values() for key in shown], read_object)
    shown = [
        NearGroup(
            [Member(key, pictures.get(key, ""), score) for key, score in scores[row["near_duplicate_of"]].items()],
            row["key_count"] + 1,
        )
        for row in largest
    ]
    return NearDuplicates(shown, groups.num_rows, images.num_rows + groups.num_rows)


def _nearest(images: pa.Table, canonical: str) -> dict[str, float | None]:
    """Return the scores of those that are shown, by key; the canonical one comes first, and has none."""
    members = images.filter(pc.equal(images["near_duplicate_of"], canonical))
    nearest = members.sort_by([("near_duplicates_score", "ascending"), ("key", "ascending")])
    shown = nearest.slice(0, MOST_PICTURES - 1)
    scores: dict[str, float | None] = {canonical: None}
    scores.update(zip(shown["key"].to_pylist(), shown["near_duplicates_score"].to_pylist(), strict=True))
    return scores


def _pictures(data: ReportData, keys: list[str], read_object: ReadObject) -> dict[str, str]:
    """Thumbnails by key."""
    rows = data.images.filter(pc.is_in(data.images["key"], value_set=pa.array(keys, pa.string())))
    hashes = dict(zip(rows["key"].to_pylist(), rows["sha256"].to_pylist(), strict=True))
    uris = thumbnails(data.outputs, hashes.values(), read_object)
    return {key: uris[sha256] for key, sha256 in hashes.items() if sha256 in uris}
