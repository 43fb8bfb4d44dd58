"""Flags by threshold, and odd sizes, against the rule written out and by what they must tell apart."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from PIL import Image

from lookbook.blocks.workspace import Workspace
from lookbook.tasks.datasets.manifest import read_table, require_published
from lookbook.tasks.datasets.schemas import IMAGES_SCHEMA
from lookbook.tasks.datasets.snapshot import ISSUES, THRESHOLDS, UsualSize, issue_columns, odd_sizes
from lookbook.tasks.images.measure import SCORES
from lookbook.tasks.images.recipe import Recipe
from tests.support.pictures import encoded, natural
from tests.support.pipeline import request, run, write_collection


def edges(values: Sequence[int | None]) -> pa.ChunkedArray:
    return pa.chunked_array([pa.array(values, pa.int32())])


USUAL = UsualSize(100.0, 50.0)


def judged(width: Sequence[int | None], height: Sequence[int | None]) -> tuple[pa.Array, pa.Array]:
    sizes = [math.sqrt(w * h) for w, h in zip(width, height, strict=True) if w is not None and h is not None]
    return odd_sizes(edges(width), edges(height), UsualSize.of(np.array(sizes)))


def scores(value: float | None) -> pa.Table:
    """One image, all of whose scores are this."""
    columns = {name: pa.array([value], pa.float64()) for name in SCORES}
    size = pa.array([None if value is None else 100], pa.int32())
    warnings = pa.array([None if value is None else 0], pa.int32())
    return pa.table(columns | {"original_width": size, "original_height": size, "decode_warnings": warnings})


@pytest.mark.parametrize(("issue", "threshold"), THRESHOLDS.items())
def test_an_image_has_an_issue_below_the_threshold_and_not_on_it(issue: str, threshold: float) -> None:
    name = f"is_{issue}_issue"
    assert issue_columns(scores(threshold), Recipe(), USUAL)[name].to_pylist() == [False]
    assert issue_columns(scores(np.nextafter(threshold, 0)), Recipe(), USUAL)[name].to_pylist() == [True]


def test_what_was_rejected_has_no_flags() -> None:
    columns = issue_columns(scores(None), Recipe(), USUAL)
    assert {name: column.to_pylist() for name, column in columns.items()} == {name: [None] for name in columns}


def test_the_columns_are_those_of_the_schema() -> None:
    made = {f"is_{issue}_issue" for issue in ISSUES} | {"odd_size_score"}
    assert set(issue_columns(scores(1.0), Recipe(), USUAL)) == made
    of_issues = {
        name for name in IMAGES_SCHEMA.names if name.endswith(("_issue", "_score")) and "duplicates" not in name
    }
    assert made | set(SCORES) == of_issues


def test_sizes_are_scored_by_their_distance_from_the_middle_of_the_usual_ones() -> None:
    sizes = np.random.default_rng(5).integers(50, 150, 200)
    sizes[:3] = (1, 900, 5000)
    found, odd = judged(sizes.tolist(), sizes.tolist())
    first, third = np.round(np.percentile(sizes, [25, 75]))
    low, high = first - 3 * (third - first), third + 3 * (third - first)
    expected = [max(0.0, 1 - abs(size - (low + high) / 2) / (high - low)) for size in sizes]
    assert found.to_pylist() == pytest.approx(expected)
    assert odd.to_pylist() == [not low <= size <= high for size in sizes]


def test_where_nearly_all_have_one_size_far_smaller_and_larger_ones_are_odd() -> None:
    _, odd = judged([600] * 20 + [601, 290, 310, 880, 920], [600] * 20 + [601, 290, 310, 880, 920])
    assert odd.to_pylist() == [False] * 20 + [False, True, False, False, True]
    found, odd = judged([60] * 9 + [61], [80] * 10)
    assert found.to_pylist()[:9] == [1.0] * 9
    assert odd.to_pylist() == [False] * 10


def test_sizes_of_one_shape_or_the_other_are_the_same_size() -> None:
    _, odd = judged([60, 80, 40], [80, 60, 120])
    assert odd.to_pylist() == [False] * 3


def test_rejects_are_no_measure_of_sizes() -> None:
    found, odd = judged([100, None, 100], [100, None, 100])
    assert found.to_pylist() == [1.0, None, 1.0]
    assert odd.to_pylist() == [False, None, False]


def test_no_images_have_no_flags() -> None:
    assert {len(column) for column in issue_columns(scores(1.0).slice(0, 0), Recipe(), USUAL).values()} == {0}


def test_a_run_flags_its_images(workspace: Workspace, tmp_path: Path) -> None:
    size = (90, 120)
    files = {f"images/{n}.jpg": encoded(natural(*size, seed=n), "JPEG") for n in range(4)}
    files |= {
        "images/dark.jpg": encoded(natural(*size).point(lambda level: level // 8), "JPEG"),
        "images/grey.png": encoded(natural(*size).convert("L"), "PNG"),
        "images/large.png": encoded(Image.new("RGB", (1200, 300), "white"), "PNG"),
        "images/broken.jpg": b"<html>not found</html>",
    }
    run(request(workspace, write_collection(tmp_path / "source", files, [])))
    images = read_table(workspace.lake, require_published(workspace.lake, "things").manifest, "images")
    flags = {
        row["key"].rpartition("/")[2]: {issue for issue in ISSUES if row[f"is_{issue}_issue"]}
        for row in images.to_pylist()
    }
    assert flags["dark.jpg"] >= {"dark"}
    assert flags["grey.png"] == {"grayscale"}
    assert flags["large.png"] == {"light", "low_information", "odd_aspect_ratio", "odd_size"}
    assert [flags[f"{n}.jpg"] for n in range(4)] == [set()] * 4
    broken = next(row for row in images.to_pylist() if row["key"].endswith("broken.jpg"))
    assert {broken[f"is_{issue}_issue"] for issue in ISSUES} == {None}
    found = workspace.warehouse.query("SELECT issue, images, share FROM warehouse.agg_image_issues")
    assert {row["issue"]: row["images"] for row in found.to_pylist()} == {
        issue: sum(issue in having for having in flags.values()) for issue in ISSUES
    }
    assert all(row["share"] == pytest.approx(row["images"] / 7) for row in found.to_pylist())
