"""Figures of several runs: ratios within a round, and aims that are met or short by the median."""

from __future__ import annotations

import pytest

from benchmarks.series import Aim, Series, spread


def test_ratios_compare_the_runs_of_one_round() -> None:
    ours = Series({"wall_ms": [1.0, 2.0, 4.0]})
    theirs = Series({"wall_ms": [3.0, 4.0]})  # it takes part in fewer rounds
    assert theirs.ratios("wall_ms", ours) == [3.0, 2.0]
    assert ours.ratios("wall_ms", theirs) == [1 / 3, 0.5]


def test_spread_is_median_minimum_and_maximum() -> None:
    assert spread([3.0, 1.0, 2.0], 1) == "2.0 (1.0–3.0)"
    assert spread([3.0], 1) == "3.0"


@pytest.mark.parametrize(
    ("values", "at_least", "met"),
    [([1.0, 1.2, 9.0], False, True), ([1.3, 1.3, 1.0], False, False), ([8.0], True, True), ([7.9], True, False)],
)
def test_an_aim_is_met_or_short_by_the_median(values: list[float], at_least: bool, met: bool) -> None:
    aim = Aim("it", values, 8 if at_least else 1.2, at_least=at_least)
    assert aim.met == met
    assert aim.row().endswith("| met |" if met else "| short |")


def test_what_was_not_measured_has_no_figure() -> None:
    assert Aim("it", [], 2).row() == "| it | at most 2 | not measured | |"
