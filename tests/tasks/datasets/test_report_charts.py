from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

import numpy as np
import pyarrow as pa
import pytest

from lookbook.tasks.datasets.report.charts import (
    BINS,
    PLOT_HEIGHT,
    WIDTH,
    ColumnChart,
    bar_chart,
    histogram,
    stacked_columns,
)
from lookbook.tasks.datasets.report.data import Counted, ReportTable
from tests.support.desks import shared_desk


def spread(values: Sequence[float | None], *, logarithmic: bool = False) -> ColumnChart | None:
    rows = ReportTable(shared_desk(), pa.table({"x": pa.array(values, pa.float64())}))
    return histogram("x", rows, rows.at("x"), logarithmic=logarithmic)


@pytest.mark.parametrize("logarithmic", [False, True])
def test_columns_of_a_histogram_stand_where_the_values_are(logarithmic: bool) -> None:
    values = np.random.default_rng(7).lognormal(3, 1, 500)
    chart = spread([*values, float("nan"), None], logarithmic=logarithmic)
    assert chart is not None
    scaled = np.log(values) if logarithmic else values
    low, high = scaled.min(), scaled.max()
    expected = [0] * BINS
    for value in scaled:
        expected[min(int((value - low) / (high - low) * BINS), BINS - 1)] += 1
    drawn = [0] * BINS
    for segment in chart.segments:
        assert segment.y + segment.height == pytest.approx(PLOT_HEIGHT)
        drawn[int((segment.x + segment.width / 2) / WIDTH * BINS)] = round(segment.height / PLOT_HEIGHT * chart.highest)
    assert sum(drawn) == 500
    assert drawn == expected


def test_zeros_stand_in_the_first_column_of_a_logarithmic_axis() -> None:
    chart = spread([0.0, 0.0, 1.0, 100.0], logarithmic=True)
    assert chart is not None
    assert chart.segments[0].x < WIDTH / BINS
    assert chart.segments[0].text.endswith(": 3")


@pytest.mark.parametrize("value", [0.0, 5.0])
def test_a_single_value_has_its_column(value: float) -> None:
    for logarithmic in (False, True):
        chart = spread([value, value], logarithmic=logarithmic)
        assert chart is not None
        assert [segment.height for segment in chart.segments] == [PLOT_HEIGHT]


def test_measures_that_are_all_null_have_no_chart() -> None:
    assert spread([float("nan"), None]) is None
    assert spread([]) is None


def test_bars_are_as_long_as_their_numbers_and_the_rest_is_counted() -> None:
    chart = bar_chart("x", Counted([("a", 40), ("b", 20)], kinds=4, total=64))
    first, second, rest = chart.bars
    assert first.length == pytest.approx(2 * second.length)
    assert (rest.label, rest.number, rest.share, rest.length) == ("2 others", 4, 4 / 64, 0)


def test_segments_of_a_stack_lie_on_each_other() -> None:
    chart = stacked_columns("x", [("2011", {"Fall": 3, "Winter": 1}), ("2012", {"Winter": 2})], ["Fall", "Winter"])
    tall = [segment for segment in chart.segments if segment.x < WIDTH / 2]
    assert [segment.height for segment in tall] == pytest.approx([PLOT_HEIGHT * 3 / 4, PLOT_HEIGHT / 4])
    assert all(upper.y + upper.height == pytest.approx(lower.y) for lower, upper in pairwise(tall))
    assert chart.segments[-1].height == pytest.approx(PLOT_HEIGHT / 2)


def test_labels_of_many_columns_do_not_overlap() -> None:
    chart = stacked_columns("x", [(f"year {n}", {"Fall": 1}) for n in range(16)], ["Fall"])
    assert all(after.x - before.x > 50 for before, after in pairwise(chart.ticks))
