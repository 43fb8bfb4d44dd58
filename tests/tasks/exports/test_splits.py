"""Splits: no group on two sides, no group moved by growth, shares as near as is promised."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lookbook.blocks.errors import UsageError
from lookbook.tasks.exports.request import read_shares
from lookbook.tasks.exports.rows import DatasetRows
from lookbook.tasks.exports.splits import choose_sides, colourless, find_groups, position, stratum_counts
from tests.support.export_rows import image, product, rows_of

SHARES = {"train": 0.8, "validation": 0.1, "test": 0.1}


def sides_by_key(rows: DatasetRows, seed: int = 0, strata: str | None = None) -> dict[str, int]:
    chosen = np.ones(rows.table.num_rows, np.bool_)
    values = rows.table[strata].to_pylist() if strata else None
    sides = choose_sides(find_groups(rows), chosen, SHARES, seed, values)
    return dict(zip(rows.table["image_key"].to_pylist(), sides.tolist(), strict=True))


def groups_by_key(rows: DatasetRows) -> dict[str, str]:
    groups = find_groups(rows)
    names = groups.identities.take(pa.array(groups.labels)).to_pylist()
    return dict(zip(rows.table["image_key"].to_pylist(), names, strict=True))


@pytest.mark.parametrize(
    ("one", "other", "same"),
    [
        (("Nike Men Navy Blue Tee", "Navy Blue"), ("Nike Men Red Tee", "Red"), True),
        (("Murcia Women Gold Bag", "Gold"), ("MURCIA women  Bag", None), True),
        (("Lee Saffron Shirt", "Saffron"), ("Lee White Shirt", "White"), True),  # a colour of its own
        (("Nike Men Tee", "Red"), ("Puma Men Tee", "Red"), False),
        (("Blue", "Blue"), ("Red", "Red"), False),  # nothing is left of the name
        ((None, "Red"), (None, "Red"), False),
    ],
)
def test_colourways_of_a_product_are_one_group(one: Any, other: Any, same: bool) -> None:
    rows = rows_of([product(n, name, baseColour=colour) for n, (name, colour) in enumerate((one, other))])
    groups = groups_by_key(rows)
    assert (groups["0.jpg"] == groups["1.jpg"]) is same


def test_colourways_agree_in_gender_and_article_type() -> None:
    rows = rows_of([product(n, "Nike Tee", gender=gender) for n, gender in enumerate(("Men", "Women", "Men"))])
    groups = groups_by_key(rows)
    assert groups["0.jpg"] == groups["2.jpg"] != groups["1.jpg"]


def test_all_images_of_a_product_copies_and_near_duplicates_are_one_group_by_however_many_steps() -> None:
    products = [product(1, "A"), product(2, "B"), product(3, "C"), product(4, "D")]
    images = [image(f"{n}.jpg", product_key=str(n)) for n in (1, 2, 3, 4)]
    images.append(image("more/1.jpg", product_key="1", near_duplicate_of="2.jpg"))  # joins 1 and 2
    images.append(images[1] | {"key": "x/3.jpg", "product_key": "3", "outcome": "duplicate", "duplicate_of": "2.jpg"})
    images.append(image("stray.jpg", orphan=True))
    groups = groups_by_key(rows_of(products, images))
    joined = {groups[key] for key in ("1.jpg", "2.jpg", "3.jpg", "more/1.jpg", "x/3.jpg")}
    assert len(joined) == 1
    assert len({groups["4.jpg"], groups["stray.jpg"], *joined}) == 3


@st.composite
def catalogues(draw: st.DrawFn) -> list[dict[str, Any]]:
    names = st.sampled_from(["Tee Red", "Tee Blue", "Shoe Black", "Shoe", "Cap", "Bag Gold", None])
    count = draw(st.integers(1, 40))
    return [product(n, draw(names), gender=draw(st.sampled_from(["Men", "Women"]))) for n in range(count)]


@given(catalogues(), st.data())
@settings(deadline=None)
def test_no_group_is_on_two_sides_and_growth_moves_only_groups_that_it_touches(
    products: list[dict[str, Any]], data: st.DataObject
) -> None:
    keys = [f"{each['product_key']}.jpg" for each in products]
    near = data.draw(st.lists(st.sampled_from([None, *keys]), min_size=len(keys), max_size=len(keys)))
    images = [
        image(key, product_key=key.removesuffix(".jpg"), near_duplicate_of=other if other != key else None)
        for key, other in zip(keys, near, strict=True)
    ]
    before = rows_of(products, images)
    more = [product(1000 + n, name) for n, name in enumerate(("Tee Green", "Jacket", "Cap White"))]
    link = data.draw(st.sampled_from([None, *keys]))
    new = [image(f"{each['product_key']}.jpg", product_key=each["product_key"]) for each in more]
    new[0]["near_duplicate_of"] = link
    after = rows_of(products + more, images + new)
    groups, grown = groups_by_key(before), groups_by_key(after)
    sides, moved = sides_by_key(before), sides_by_key(after)
    for strata in (None, "gender"):
        by_group: dict[str, set[int]] = {}
        for key, side in sides_by_key(after, strata=strata).items():
            by_group.setdefault(grown[key], set()).add(side)
        assert all(len(found) == 1 for found in by_group.values())
    touched = {grown[f"{each['product_key']}.jpg"] for each in more}
    for key in keys:
        if grown[key] not in touched:
            assert (groups[key], sides[key]) == (grown[key], moved[key])


def test_more_images_of_a_known_product_move_nothing() -> None:
    products = [product(n, f"Thing {n} Blue") for n in range(200)]
    before = sides_by_key(rows_of(products))
    colours = [product(1000 + n, f"Thing {n} Red") for n in range(200)]  # a second colourway of each
    after = sides_by_key(rows_of(products + colours))
    assert {key: after[key] for key in before} == before


def test_shares_are_met_within_what_chance_allows_and_another_seed_draws_others() -> None:
    rows = rows_of([product(n, f"Thing {n}") for n in range(5000)])
    sides = sides_by_key(rows)
    for number, share in enumerate(SHARES.values()):
        found = sum(side == number for side in sides.values()) / 5000
        assert abs(found - share) < 4 * math.sqrt(share * (1 - share) / 5000)
    assert sides_by_key(rows, seed=1) != sides


@pytest.mark.parametrize("count", [100, 1000])
def test_exact_shares_hold_in_each_stratum_and_growth_moves_few(count: int) -> None:
    def catalogue(size: int) -> DatasetRows:
        return rows_of([product(n, f"Thing {n}", gender="Men" if n % 4 else "Women") for n in range(size)])

    rows, grown = catalogue(count), catalogue(count + count // 10)
    sides, later = sides_by_key(rows, strata="gender"), sides_by_key(grown, strata="gender")
    for gender, size in (("Men", count * 3 // 4), ("Women", count // 4)):
        keys = rows.table.filter(pa.compute.equal(rows.table["gender"], gender))["image_key"].to_pylist()
        for number, share in enumerate(SHARES.values()):
            assert abs(sum(sides[key] == number for key in keys) - share * size) <= 1
    moved = sum(later[key] != sides[key] for key in sides) / count
    # A cut at the share p of n groups moves by sqrt(p (1 - p) (1 / n - 1 / n')) in the mean square, in each stratum.
    strata = [(count * 3 / 4, 0.75), (count / 4, 0.25)]
    expected = sum(
        weight * math.sqrt(cut * (1 - cut) * (1 / n - 1 / (1.1 * n))) for n, weight in strata for cut in (0.8, 0.9)
    )
    assert moved < 4 * expected + 2 / count


def test_strata_are_told_with_the_deviation_that_chance_may_cause() -> None:
    sides = pa.array(["train", "train", "test", "train"])
    counts = stratum_counts(
        sides, pa.chunked_array([["a", "a", "a", None]]), np.array([0, 1, 2, 3]), {"train": 0.5, "test": 0.5}
    )
    assert counts["a"] == {"train": 2, "test": 1, "deviation": round(0.5 / math.sqrt(3), 4)}
    assert counts[""]["train"] == 1


def test_a_position_is_a_number_of_the_seed_and_the_identity_alone() -> None:
    assert position(7, "x") == position(7, "x") != position(8, "x")
    assert all(0 <= position(seed, "group") < 1 for seed in range(1000))


@pytest.mark.parametrize(
    ("text", "shares"),
    [
        ("0.8,0.1,0.1", SHARES),
        ("0.9, 0.1", {"train": 0.9, "test": 0.1}),
        ("1", {"train": 1.0}),
        ("train=0.5,holdout=0.5", {"train": 0.5, "holdout": 0.5}),
    ],
)
def test_shares_are_read_in_their_short_form(text: str, shares: dict[str, float]) -> None:
    assert read_shares(text) == shares


@pytest.mark.parametrize("text", ["", "a,b", "0.5,0.3,0.1,0.1", "train=0.5,train=0.5", "train=,x=1"])
def test_what_are_no_shares_say_what_is_taken(text: str) -> None:
    with pytest.raises(UsageError, match="--split"):
        read_shares(text)


def test_words_of_colour_go_and_all_others_stay() -> None:
    assert colourless("Lotto Men Brighton White-Blue Shoe", "White") == "lotto men brighton shoe"
    assert colourless("Redtape Men Whitehouse Shirt", "Red") == "redtape men whitehouse shirt"
    assert colourless("Thing 12", "") == "thing 12"
    assert colourless("Off White", "Off White") == ""
