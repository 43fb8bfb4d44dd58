"""What a collection costs: the formula, and that the documented table is what it gives."""

from __future__ import annotations

import pytest

from benchmarks.costs import Collection, billed_tib, gigabytes, reads, table, writes
from lookbook.tasks.datasets.estimate import Prices
from tests.support.command import ROOT


def test_the_documented_table_is_that_of_the_formula() -> None:
    text = (ROOT / "docs" / "costs.md").read_text(encoding="utf-8")
    assert table([Collection(44_000), Collection(10_000_000)], Prices()) in text


def test_an_image_is_written_once_for_itself_and_once_for_each_output() -> None:
    one, other = (Collection(1_000_000, outputs=outputs) for outputs in (3, 4))
    assert writes(other) - writes(one) == pytest.approx(1_000_000)
    assert writes(one) / one.images == pytest.approx(4, rel=0.01)
    assert reads(one) / one.images == pytest.approx(1, rel=0.01)


def test_all_grows_with_the_collection_and_nothing_is_free_of_charge_below_the_least_query() -> None:
    small, large = Collection(1_000), Collection(1_000_000)
    assert gigabytes(large) == pytest.approx(1000 * gigabytes(small))
    assert billed_tib(small) == pytest.approx(400 / 2**20)
    assert billed_tib(large) > billed_tib(small)
